"""How fast a follower that was away is sent what it missed: so that nobody else waits long (P6)."""

from __future__ import annotations

from typing import Final

CLOSE_ENOUGH: Final = 2_000
"""A follower this many records behind is asked to be in sync: the gate waits for the rest."""
SLICE_COUNT: Final = 128
PACE_MS: Final = 5
"""One further behind gets so many records at a time, no sooner than that while clients are served."""


class Pace:
    """Tells a sender how many records are due. While nobody is served the follower sets the pace."""

    def __init__(self) -> None:
        self._close = False  # once it was, it is sent what there is at once
        self._sliced_ms = -PACE_MS
        self._sliced_seq = 0  # the last record that there was when a slice was sent

    def begin(self, last_seq: int) -> None:
        """A follower asks for what it lacks."""
        self._close, self._sliced_seq = False, last_seq

    def due_count(self, sent_seq: int, last_seq: int, now_ms: int, *, flying: bool) -> int:
        """How many of the records behind ``sent_seq`` may be sent now; ``flying``: some are on their way.

        At least twice as many as have come since the last slice, so that it catches up under any load.
        """
        behind_count = last_seq - sent_seq
        self._close |= behind_count <= CLOSE_ENOUGH
        if self._close:
            return behind_count
        fresh_count = last_seq - self._sliced_seq
        if now_ms < self._sliced_ms + PACE_MS if fresh_count else flying:
            return 0
        self._sliced_ms, self._sliced_seq = now_ms, last_seq
        return min(behind_count, max(SLICE_COUNT if fresh_count else 2 * SLICE_COUNT, 2 * fresh_count))
