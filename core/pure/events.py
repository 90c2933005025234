"""The last events in the lives of jobs, kept in memory for those who follow along."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final

from core.pure.jobs import Job
from core.pure.tsp import Event

KEPT_COUNT: Final = 10_000


class Step:
    """What an event says, as plain numbers: an enum's members would make the cycle collector track events."""

    ACCEPTED: Final = 0
    STARTED: Final = 1
    RETRYING: Final = 2
    PROGRESS: Final = 3
    SUCCEEDED: Final = 4
    FAILED: Final = 5
    CANCELLED: Final = 6
    RETRIED: Final = 7
    CLOSED: Final = 8
    PAUSED: Final = 9
    RESUMED: Final = 10
    CALLED: Final = 11
    PAIR: Final = 12


NAMES: Final = (
    "accepted", "started", "retrying", "progress", "succeeded", "failed", "cancelled", "retried", "closed",
    "paused", "resumed", "callback", "pair",
)  # fmt: skip
_Kept = tuple[int, int, Job, int, int, str]


class EventLog:
    """A ring of the last events, in the order of their ids; ``base`` is the last id used before them."""

    def __init__(self, base: int) -> None:
        self._kept: deque[_Kept] = deque(maxlen=KEPT_COUNT)
        self._forgotten = base
        self.last = base

    def add(self, number: int, step: int, job: Job, at_ms: int, detail: str = "") -> None:
        """The record ``number`` is written; the event is told once all that is to be told before it is."""
        kept = self._kept
        if len(kept) == KEPT_COUNT:
            self._forgotten = kept[0][0]
        self.last = number
        kept.append((number, step, job, job.attempt, at_ms, detail))

    def add_all(self, first: int, step: int, jobs: Sequence[Job], at_ms: int) -> None:
        """The same of many jobs, whose records follow each other from number ``first`` on."""
        kept = self._kept
        over = len(kept) + len(jobs) - KEPT_COUNT
        if over > 0:
            self._forgotten = kept[over - 1][0] if over <= len(kept) else first + over - len(kept) - 1
        self.last = first + len(jobs) - 1
        kept.extend(
            [(number, step, job, job.attempt, at_ms, "") for number, job in enumerate(jobs, start=first)]
        )

    def newest(self, settled: int) -> int:
        """The id of the last event that may be told when everything up to ``settled`` is."""
        if self.last <= settled:
            return self.last
        at = bisect_right(self._kept, settled, key=_number)
        return self._kept[at - 1][0] if at else min(settled, self._forgotten)

    def after(
        self, since: int, settled: int, limit: int, service: bytes = b"", owner: str = ""
    ) -> tuple[tuple[Event, ...], int, int]:
        """(events, the ``since`` to go on with, up to where nothing is known any more or -1).

        An id that was never given out here is answered as a gap. One that was given out is none, even if
        an acknowledgement now waits for its record again: a repeated submit waits for the first one's.
        """
        newest = self.newest(settled)
        gap_to = -1
        if since < self._forgotten:
            since = gap_to = self._forgotten
        elif since > self.last and since > settled:
            since = gap_to = newest
        found: list[Event] = []
        for kept in self._from(since):
            if kept[0] > newest or len(found) >= limit:
                break
            since = kept[0]
            job = kept[2]
            if (not service or job.service == service) and (not owner or job.owner.name == owner):
                found.append(_event(kept))
        return tuple(found), since, gap_to

    def _from(self, since: int) -> list[_Kept]:
        """Those after ``since``, oldest first; costs what is new, for those who keep up."""
        new_count = len(self._kept) - bisect_right(self._kept, since, key=_number)
        found = list(islice(reversed(self._kept), new_count))
        found.reverse()
        return found


Watch = Callable[[int, Job, str], None]


class WatchedEventLog(EventLog):
    """The same for somebody inside the process: ``watch(step, job, detail)`` at each event of one job."""

    def __init__(self, base: int, watch: Watch) -> None:
        super().__init__(base)
        self._watch = watch

    def add(self, number: int, step: int, job: Job, at_ms: int, detail: str = "") -> None:
        """See EventLog."""
        super().add(number, step, job, at_ms, detail)
        self._watch(step, job, detail)


def _number(kept: _Kept) -> int:
    return kept[0]


def _event(kept: _Kept) -> Event:
    number, step, job, attempt, at_ms, detail = kept
    key = b"" if step in (Step.PAUSED, Step.RESUMED, Step.PAIR) else job.key
    return Event(
        number, at_ms, NAMES[step], key, job.service.decode("ascii"), attempt, detail, job.owner.name
    )
