"""Clients that wait for the end of a job, each for a limited time."""

from __future__ import annotations

from core.pure.jobs import Job, Now
from core.pure.ports import Path
from core.pure.timers import Timer, Timers


class Waiter:
    """One client that waits for the end of a job."""

    __slots__ = ("job", "path", "service", "timer")

    def __init__(self, path: Path, service: bytes, job: Job) -> None:
        self.path = path
        self.service = service
        self.job = job
        self.timer: Timer[Waiter] | None = None


class Waiters:
    """Who waits for which job."""

    def __init__(self) -> None:
        self._waiters: dict[bytes, list[Waiter]] = {}
        self._timers: Timers[Waiter] = Timers()

    def __len__(self) -> int:
        return len(self._timers)

    def __contains__(self, key: bytes) -> bool:
        return key in self._waiters

    def add(self, path: Path, service: bytes, job: Job, wait_ms: int, now: Now) -> None:
        """The client at ``path`` waits ``wait_ms`` at most."""
        waiter = Waiter(path, service, job)
        waiter.timer = self._timers.arm(now.mono_ms + wait_ms, waiter)
        self._waiters.setdefault(job.key, []).append(waiter)

    def take(self, key: bytes) -> list[Waiter]:
        """All that wait for the job; they wait no longer."""
        waiters = self._waiters.pop(key, None)
        if waiters is None:
            return []
        for waiter in waiters:
            if waiter.timer is not None:
                self._timers.cancel(waiter.timer)
        return waiters

    def pop_due(self, now: Now) -> Waiter | None:
        """One whose time is over, or None; it waits no longer."""
        waiter = self._timers.pop_due(now.mono_ms)
        if waiter is not None:
            others = self._waiters[waiter.job.key]
            others.remove(waiter)
            if not others:
                del self._waiters[waiter.job.key]
        return waiter

    def next_deadline(self) -> int | None:
        """Monotonic milliseconds when pop_due() has something, or None."""
        return self._timers.next_deadline()
