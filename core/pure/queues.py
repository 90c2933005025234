"""The queue of one service: jobs that could run now, by priority and acceptance, and counts by state."""

from __future__ import annotations

from collections import deque
from typing import Final

from core.pure.jobs import Job, State

PRIORITIES: Final = (2, 1, 0)
SWEEP_MIN: Final = 64


class ServiceQueue:
    """Jobs of one service. Entries of jobs that left the queue are skipped, and swept when they prevail."""

    __slots__ = ("_lanes", "_stale", "counts", "name")

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.counts = [0] * len(State)
        self._lanes: tuple[deque[Job], deque[Job], deque[Job]] = (deque(), deque(), deque())
        self._stale = 0

    def push(self, job: Job) -> None:
        """The job is last of its priority. Its state must be QUEUED already."""
        self._lanes[job.priority].append(job)

    def push_front(self, job: Job) -> None:
        """The job is first of its priority: it was accepted before all that wait."""
        self._lanes[job.priority].appendleft(job)

    def pop(self) -> Job | None:
        """Take the next job, or None."""
        for priority in PRIORITIES:
            lane = self._lanes[priority]
            while lane:
                job = lane.popleft()
                if job.state == State.QUEUED:
                    return job
                self._stale -= 1
        return None

    def left(self) -> None:
        """One queued job is no longer QUEUED (closed, cancelled, answered late) and stays behind as stale."""
        self._stale += 1
        if self._stale > SWEEP_MIN and self._stale > self.counts[State.QUEUED]:
            self.sweep()

    def sweep(self) -> None:
        """Drop every stale entry now."""
        for lane in self._lanes:
            alive = [job for job in lane if job.state == State.QUEUED]
            lane.clear()
            lane.extend(alive)
        self._stale = 0

    @property
    def queued_count(self) -> int:
        """How many jobs could be taken now."""
        return self.counts[State.QUEUED]

    @property
    def idle(self) -> bool:
        """Whether the service has no job left in any state, so that its queue may be forgotten."""
        return not any(self.counts)
