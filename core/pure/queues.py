"""One service: jobs that could run now, by priority and acceptance, counts by state, and how it goes."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from core.pure.ids import made_at_ms
from core.pure.jobs import Job, State
from core.pure.rates import Rate
from core.pure.roster import Roster

LANES: Final = (2, 1, 0)
SWEEP_MIN: Final = 64


class ServiceQueue:
    """Jobs of one service. Entries of jobs that left the queue are skipped, and swept when they prevail.

    ``roster`` has the ids of all its jobs in whatever state. While ``paused`` no job is to be taken.
    """

    __slots__ = ("_lanes", "_stale", "accepted", "counts", "failed", "name", "paused", "roster", "succeeded")

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.counts = [0] * len(State)
        self.roster = Roster()
        self.paused = False
        self.accepted, self.succeeded, self.failed = Rate(), Rate(), Rate()  # failed: attempts
        self._lanes: list[deque[Job] | None] = [None, None, None]  # most services use one
        self._stale = 0

    def _lane(self, priority: int) -> deque[Job]:
        lane = self._lanes[priority]
        if lane is None:
            lane = self._lanes[priority] = deque()
        return lane

    def push(self, job: Job) -> None:
        """The job is last of its priority. Its state must be QUEUED already."""
        self._lane(job.priority).append(job)

    def push_all(self, jobs: Sequence[Job]) -> None:
        """The jobs, all of one priority, are last of it, in this order. Their state is QUEUED already."""
        self._lane(jobs[0].priority).extend(jobs)

    def push_front(self, job: Job) -> None:
        """The job is first of its priority: it was accepted before all that wait."""
        self._lane(job.priority).appendleft(job)

    def pop(self) -> Job | None:
        """Take the next job, or None."""
        for priority in LANES:
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
        for priority in LANES:
            lane = self._lanes[priority]
            if lane:
                self._lanes[priority] = deque(job for job in lane if job.state == State.QUEUED)
        self._stale = 0

    @property
    def entries_count(self) -> int:
        """How many entries the lanes have, stale ones included."""
        return sum(len(lane) for lane in self._lanes if lane)

    @property
    def queued_count(self) -> int:
        """How many jobs could be taken now."""
        return 0 if self.paused else self.counts[State.QUEUED]

    @property
    def oldest_ms(self) -> int:
        """When the oldest job at the head of a lane was made; 0 if none waits."""
        heads = []
        for lane in self._lanes:
            while lane and lane[0].state != State.QUEUED:
                lane.popleft()
                self._stale -= 1
            if lane:
                heads.append(made_at_ms(lane[0].key))
        return min(heads, default=0)

    @property
    def idle(self) -> bool:
        """Whether the service has no job left in any state and no setting, so that it may be forgotten."""
        return not (self.paused or any(self.counts))
