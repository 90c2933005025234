"""The one place that reads the clocks and sets timers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from core.pure.jobs import Now


class Clock:
    """Both clocks as one reading; wall time never runs backwards within a process (R16)."""

    def __init__(self) -> None:
        self._wall_ms = 0

    def now(self) -> Now:
        """Monotonic and wall time in whole milliseconds."""
        self._wall_ms = max(self._wall_ms, time.time_ns() // 1_000_000)
        return Now(time.monotonic_ns() // 1_000_000, self._wall_ms)


def earliest(*deadlines: int | None) -> int | None:
    """The first of these deadlines, None where there is none."""
    armed = [deadline for deadline in deadlines if deadline is not None]
    return min(armed) if armed else None


class Alarm:
    """One timer on the running loop that follows a deadline which keeps changing."""

    def __init__(self, clock: Clock, on_due: Callable[[], None]) -> None:
        self._clock = clock
        self._on_due = on_due
        self._handle: asyncio.TimerHandle | None = None
        self._deadline_ms: int | None = None

    def set(self, deadline_ms: int | None) -> None:
        """``on_due`` is called at this monotonic time and no other; None: never."""
        if deadline_ms == self._deadline_ms:
            return
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._deadline_ms = deadline_ms
        if deadline_ms is not None:
            delay_s = max(0, deadline_ms - self._clock.now().mono_ms) / 1_000
            self._handle = asyncio.get_running_loop().call_later(delay_s, self._fire)

    def _fire(self) -> None:
        self._handle = self._deadline_ms = None
        self._on_due()
