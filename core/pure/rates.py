"""How often something happens, per minute and in all, in four numbers."""

from __future__ import annotations

from typing import Final

MINUTE_MS: Final = 60_000


class Rate:
    """Counts by the minute; the rate is this minute's count and the fitting share of the last one's."""

    __slots__ = ("_before", "_count", "_minute", "total")

    def __init__(self) -> None:
        self._minute = 0
        self._count = 0
        self._before = 0
        self.total = 0

    def hit(self, mono_ms: int, count: int = 1) -> None:
        """It happened, ``count`` times."""
        minute = mono_ms // MINUTE_MS
        if minute != self._minute:
            self._roll(minute)
        self._count += count
        self.total += count

    def _roll(self, minute: int) -> None:
        self._before = self._count if minute == self._minute + 1 else 0
        self._minute = minute
        self._count = 0

    def per_minute(self, mono_ms: int) -> float:
        """The average over the last minute, the minute before taken as even."""
        minute, since_ms = divmod(mono_ms, MINUTE_MS)
        if minute != self._minute:
            self._roll(minute)
        return self._count + self._before * (1 - since_ms / MINUTE_MS)
