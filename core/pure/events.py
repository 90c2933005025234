"""The last events in the lives of jobs, kept in memory for those who follow along."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from enum import IntEnum
from itertools import islice
from typing import Final

from core.pure.jobs import Job
from core.pure.tsp import Event

KEPT_COUNT: Final = 10_000
LOOK_MAX_COUNT: Final = 2_000


class Step(IntEnum):
    """What an event says; its public name is the member's in lower case."""

    ACCEPTED = 0
    STARTED = 1
    RETRYING = 2
    PROGRESS = 3
    SUCCEEDED = 4
    FAILED = 5
    CANCELLED = 6
    RETRIED = 7
    CLOSED = 8
    PAUSED = 9
    RESUMED = 10


NAMES: Final = tuple(step.name.lower() for step in Step)
_Kept = tuple[int, int, int, bytes, bytes, int, str, str]


class EventLog:
    """A ring of the last events, in the order of their ids; ``base`` is the last id used before them."""

    def __init__(self, base: int) -> None:
        self._kept: deque[_Kept] = deque(maxlen=KEPT_COUNT)
        self._forgotten = base
        self._last = base

    def add(self, number: int, step: int, job: Job, at_ms: int, detail: str = "") -> None:
        """The record ``number`` is written; the event is told once all that is to be told before it is."""
        kept = self._kept
        if len(kept) == KEPT_COUNT:
            self._forgotten = kept[0][0]
        self._last = number
        kept.append((number, at_ms, step, job.key, job.service, job.attempt, detail, job.owner))

    def newest(self, settled: int) -> int:
        """The id of the last event that may be told when everything up to ``settled`` is."""
        if self._last <= settled:
            return self._last
        at = bisect_right(self._kept, settled, key=_number)
        return self._kept[at - 1][0] if at else min(settled, self._forgotten)

    def after(
        self, since: int, settled: int, limit: int, service: bytes = b"", owner: str = ""
    ) -> tuple[tuple[Event, ...], int, int]:
        """(events, the ``since`` to go on with, up to where nothing is known any more or -1).

        Looks at 2,000 events at most. An id that was never given out here is answered as a gap.
        """
        newest = self.newest(settled)
        gap_to = -1
        if since < self._forgotten:
            since = gap_to = self._forgotten
        elif since > newest and since > settled:
            since = gap_to = newest
        found: list[Event] = []
        for kept in self._from(since):
            if kept[0] > newest or len(found) >= limit:
                break
            since = kept[0]
            if (not service or kept[4] == service) and (not owner or kept[7] == owner):
                found.append(_event(kept))
        return tuple(found), since, gap_to

    def _from(self, since: int) -> Iterator[_Kept]:
        start = bisect_right(self._kept, since, key=_number)
        return islice(self._kept, start, start + LOOK_MAX_COUNT)


def _number(kept: _Kept) -> int:
    return kept[0]


def _event(kept: _Kept) -> Event:
    number, at_ms, step, key, service, attempt, detail, owner = kept
    if step in (Step.PAUSED, Step.RESUMED):
        key = b""
    return Event(number, at_ms, NAMES[step], key, service.decode("ascii"), attempt, detail, owner)
