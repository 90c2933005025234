"""Jobs that wait for their time: delayed ones, and retries that back off."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from core.pure.jobs import Job, Now
from core.pure.timers import Timer, Timers

TICK_MAX_COUNT: Final = 1_000
"""Taken out at once; messages come between one thousand and the next."""


class DueTimes:
    """A timer per scheduled job; wall times become monotonic ones when they are armed."""

    def __init__(self) -> None:
        self._timers: Timers[Job] = Timers()
        self._armed: dict[bytes, Timer[Job]] = {}

    def arm(self, job: Job, now: Now) -> None:
        """The job may run at its ``due_ms``."""
        self._armed[job.key] = self._timers.arm(now.mono_ms + max(0, job.due_ms - now.wall_ms), job)

    def cancel(self, key: bytes) -> bool:
        """The job waits no longer; whether it did."""
        timer = self._armed.pop(key, None)
        if timer is not None:
            self._timers.cancel(timer)
        return timer is not None

    def pop_some(self, now: Now) -> Iterator[Job]:
        """Jobs whose time has come, a thousand at most; each waits no longer when it is given."""
        for job in self._timers.pop_some(now.mono_ms, TICK_MAX_COUNT):
            del self._armed[job.key]
            yield job

    def next_deadline(self) -> int | None:
        """Monotonic milliseconds when :meth:`pop_some` has something, or None."""
        return self._timers.next_deadline()
