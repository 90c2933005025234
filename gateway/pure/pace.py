"""Retry-After, computed from a service's measured pace, its queue and its workers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from core.pure.tsp import Stats

RETRY_MIN_S: Final = 1
RETRY_MAX_S: Final = 60
NO_WORKER_S: Final = 10  # nobody knows when one comes: ask again at a leisurely pace
READING_MIN_MS: Final = 1_000
SERVICES_MAX: Final = 10_000


class _Reading(NamedTuple):
    at_ms: int
    ended: int
    waiting: int
    workers: int  # -1: not known
    per_s: float  # jobs ended per second, 0.0: not known


class Paces:
    """What the node's statistics say of each service's speed, from one reading to the next."""

    def __init__(self) -> None:
        self._readings: dict[str, _Reading] = {}

    def update(self, stats: Stats, now_ms: int) -> None:
        """Take a reading.

        Of a row count ``queued``, ``running``, ``workers`` (registered now) and ``ended`` (jobs of the
        service that succeeded or failed since the node started); what is missing is unknown.
        """
        before, after = self._readings, {}
        for service, row in list(stats.services.items())[:SERVICES_MAX]:
            after[service] = _read(row, before.get(service), now_ms)
        self._readings = after

    def retry_after_s(self, service: str, queued_before: int = -1) -> int:
        """Seconds until the job is likely done; ``queued_before`` jobs are ahead of it (-1: the whole queue).

        A service never seen gets the minimum: it may be fast, and asking once too often is cheap.
        """
        reading = self._readings.get(service)
        if reading is None:
            return RETRY_MIN_S
        if reading.workers == 0:
            return NO_WORKER_S
        if reading.per_s <= 0:
            return RETRY_MIN_S
        ahead = reading.waiting if queued_before < 0 else queued_before
        return max(RETRY_MIN_S, min(RETRY_MAX_S, round((ahead + 1) / reading.per_s)))


def _read(row: Mapping[str, int], last: _Reading | None, now_ms: int) -> _Reading:
    ended = row.get("ended", 0)
    waiting = row.get("queued", 0) + row.get("running", 0)
    workers = row.get("workers", -1)
    if last is None:
        return _Reading(now_ms, ended, waiting, workers, 0.0)
    if now_ms - last.at_ms < READING_MIN_MS:
        return last._replace(waiting=waiting, workers=workers)
    done = ended - last.ended
    if done < 0:  # the node was started again
        return _Reading(now_ms, ended, waiting, workers, 0.0)
    pace = done * 1000 / (now_ms - last.at_ms)
    if waiting == 0 and done == 0:
        pace = last.per_s  # an idle service is as fast as it was
    elif last.per_s > 0:
        pace = (pace + last.per_s) / 2
    return _Reading(now_ms, ended, waiting, workers, pace)
