"""The queues of all services. An empty one rests for two minutes, with its rates, and is forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Final

from core.pure.jobs import Now, State
from core.pure.ports import Port, Wake
from core.pure.queues import ServiceQueue

REST_MS: Final = 120_000
RESTING_MAX_COUNT: Final = 1_000
SUMMARY_MAX_COUNT: Final = 1_000


class Shelf:
    """Finds and makes queues; strangers cannot fill memory with names that had one job each."""

    def __init__(self, port: Port) -> None:
        self._port = port
        self._resting: dict[bytes, int] = {}  # since when, oldest first
        self._sorted: list[bytes] | None = []
        self.queues: dict[bytes, ServiceQueue] = {}

    def queue(self, service: bytes) -> ServiceQueue:
        """The queue of ``service``, made if new; put something in, or call :meth:`maybe_rest`."""
        queue = self.queues.get(service)
        if queue is None:
            queue = self.queues[service] = ServiceQueue(service)
            self._sorted = None
        elif self._resting:
            self._resting.pop(service, None)
        return queue

    def wake(self, queue: ServiceQueue) -> None:
        """There is a job to hand out."""
        if not queue.paused:
            self._port.perform(Wake(queue.name))

    def maybe_rest(self, queue: ServiceQueue, now: Now) -> None:
        """If nothing is left in it, the queue is forgotten in a while."""
        if not queue.idle:
            return
        self._resting.pop(queue.name, None)
        self._resting[queue.name] = now.mono_ms
        if len(self._resting) > RESTING_MAX_COUNT:
            self._forget(next(iter(self._resting)))

    def _forget(self, service: bytes) -> None:
        del self._resting[service]
        del self.queues[service]
        self._sorted = None

    def on_tick(self, now: Now) -> None:
        """Forget what has rested long enough."""
        while self._resting:
            service, since_ms = next(iter(self._resting.items()))
            if since_ms + REST_MS > now.mono_ms:
                return
            self._forget(service)

    def next_deadline(self) -> int | None:
        """Monotonic milliseconds of the next :meth:`on_tick`, or None."""
        return next(iter(self._resting.values())) + REST_MS if self._resting else None

    def names(self) -> Sequence[bytes]:
        """All services that have a queue, sorted."""
        if self._sorted is None:
            self._sorted = sorted(self.queues)
        return self._sorted

    def summary(self) -> dict[str, dict[str, int]]:
        """Service -> state -> number of jobs, for a thousand services; ``titanic.services`` has all.

        ``ended`` counts those that succeeded since the start, closed ones included.
        """
        return {
            name.decode("ascii"): {
                "scheduled": queue.counts[State.SCHEDULED],
                "queued": queue.counts[State.ACCEPTING] + queue.counts[State.QUEUED],
                "running": queue.counts[State.RUNNING] + queue.counts[State.ENDING],
                "succeeded": queue.counts[State.SUCCEEDED],
                "failed": queue.counts[State.FAILED],
                "cancelled": queue.counts[State.CANCELLED],
                "ended": queue.succeeded.total,
            }
            for name, queue in islice(self.queues.items(), SUMMARY_MAX_COUNT)
        }
