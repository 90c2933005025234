"""The attempts in workers' hands, each with its own time."""

from __future__ import annotations

from core.pure.jobs import Job, Now
from core.pure.timers import Timer, Timers


class Running:
    """One attempt in a worker's hands; with ``attempts_max`` 0 there may be any number after it."""

    __slots__ = ("attempt", "attempts_max", "job", "timer", "worker")

    def __init__(self, job: Job, worker: bytes) -> None:
        self.job = job
        self.attempt = job.attempt
        self.worker = worker
        self.attempts_max = 0
        self.timer: Timer[Running] | None = None


class Attempts:
    """At most one attempt per job."""

    def __init__(self) -> None:
        self._running: dict[bytes, Running] = {}
        self._timers: Timers[Running] = Timers()

    def __len__(self) -> int:
        return len(self._running)

    def start(self, job: Job, worker: bytes) -> None:
        """The job's current attempt is on its way to ``worker``."""
        self._running[job.key] = Running(job, worker)

    def limit(self, job: Job, timeout_ms: int, attempts_max: int, now: Now) -> None:
        """From now on the attempt has this long."""
        running = self._running[job.key]
        running.attempts_max = attempts_max
        running.timer = self._timers.arm(now.mono_ms + timeout_ms, running)

    def maybe_get(self, key: bytes, attempt: int) -> Running | None:
        """The attempt of that number, if it is running."""
        running = self._running.get(key)
        return running if running is not None and running.attempt == attempt else None

    def stop(self, key: bytes) -> None:
        """The job's attempt is over."""
        running = self._running.pop(key)
        if running.timer is not None:
            self._timers.cancel(running.timer)

    def pop_due(self, now: Now) -> Running | None:
        """An attempt whose time is over, or None; it still runs until :meth:`stop`."""
        return self._timers.pop_due(now.mono_ms)

    def next_deadline(self) -> int | None:
        """Monotonic milliseconds when pop_due() has something, or None."""
        return self._timers.next_deadline()
