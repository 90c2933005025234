"""Healing a split, the winner's side (P7): records of the other side become steps of jobs here.

Jobs are independent and have unique ids, so nothing conflicts but the end of one and the same job: the
further state wins, one reply is stored, closed stays closed. Three passes, each once the one before is
durable: requests, then replies and cancellations, then closes. Every job is reported, with what was done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from enum import StrEnum
from typing import Final

import msgspec

from core.errors import JournalFullError
from core.pure.jobs import (
    Job,
    Kind,
    Now,
    State,
    decode_key,
    decode_reply,
    decode_request,
    split_frames,
    unreadable,
)
from core.pure.notes import Binding
from core.pure.peer import Record
from core.pure.titanic import Titanic

OPENS: Final = (Kind.REQUEST, Kind.KEY)
ENDS: Final = (Kind.REPLY, Kind.CANCEL)
NOT_ENDED: Final = (State.QUEUED, State.SCHEDULED, State.RUNNING)
PASSES: Final = (OPENS, ENDS, (Kind.CLOSE,))


class Outcome(StrEnum):
    """What was done with one record of the other side; the words of the report."""

    ACCEPTED = "accepted"  # unknown here: it is a job of ours now
    KNOWN = "known"  # open here as well
    CLOSED_HERE = "closed here"  # closed stays closed
    REFUSED = "refused"  # no room; the other side tries again
    KEY_TAKEN = "accepted without its idempotency key"  # the key has another job here
    KEY_BOUND = "idempotency key bound"
    REPLIED = "reply stored"
    REPLY_KEPT = "reply set aside"  # there is one here, or the job ended otherwise
    CANCELLED = "cancelled"
    CANCEL_KEPT = "cancellation set aside"  # it has ended here
    CLOSED = "closed"
    UNREADABLE = "set aside: it cannot be read"  # it, or the request of its job


class Healing:
    """One part of a merge. ``report(outcome, key, service)`` is told of every record about a job.

    ``later(step)`` calls ``step`` once all that was appended so far is durable.
    """

    def __init__(
        self,
        titanic: Titanic,
        find: Callable[[bytes], Job | None],
        closed: Set[bytes],
        report: Callable[[Outcome, bytes, bytes], None],
        later: Callable[[Callable[[], None]], None],
        clock: Callable[[], Now],
    ) -> None:
        self._titanic = titanic
        self._find = find
        self._closed = closed
        self._report = report
        self._later = later
        self._clock = clock
        self._services: dict[bytes, bytes] = {}
        self._lost: set[bytes] = set()  # their requests cannot be read

    def run(self, records: Sequence[Record], done: Callable[[], None], turn: int = 0) -> None:
        """Take the records in; ``done`` once they are durable here. JournalFullError: not all of them are."""
        if turn == len(PASSES):
            done()
            return
        now = self._clock()
        for record in records:
            if record.kind in PASSES[turn]:
                if unreadable(record.kind, record.meta) or record.key in self._lost:
                    self._say(Outcome.UNREADABLE, record)
                    if record.kind == Kind.REQUEST:
                        self._lost.add(record.key)
                    continue
                if record.kind == Kind.REQUEST:
                    self._services[record.key] = decode_request(record.meta).service
                if record.key in self._closed:
                    self._say(Outcome.CLOSED_HERE, record)
                else:
                    self._take(record, now)
        self._later(lambda: self.run(records, done, turn + 1))

    def _say(self, outcome: Outcome, record: Record) -> None:
        job = self._find(record.key)
        service = job.service if job is not None and job.service else self._services.get(record.key, b"")
        self._report(outcome, record.key, service)

    def _take(self, record: Record, now: Now) -> None:
        job = self._find(record.key)
        if record.kind == Kind.REQUEST:
            if job is None:
                self._accept(record, now)
            else:
                self._say(Outcome.KNOWN, record)
        elif record.kind == Kind.KEY:
            self._bind(record, job)
        elif job is None or job.state in (State.CLOSING, State.BINDING):
            self._say(Outcome.CLOSED_HERE, record)
        elif record.kind == Kind.REPLY:
            self._reply(record, job, now)
        elif record.kind == Kind.CANCEL:
            self._cancel(record, job, now)
        else:
            self._say(Outcome.CLOSED, record)
            self._titanic.life.close(job, (), now, cause="merge")

    def _accept(self, record: Record, now: Now) -> None:
        meta, outcome = decode_request(record.meta), Outcome.ACCEPTED
        if meta.idempotency and self._titanic.keys.find(meta.idempotency, now) is not None:
            meta = msgspec.structs.replace(meta, idempotency=b"")
            outcome = Outcome.KEY_TAKEN
        frames = split_frames(b"".join(record.body), meta.frame_sizes)
        try:
            self._titanic.life.accept(record.key, meta, frames, (), now)
        except JournalFullError:
            self._say(Outcome.REFUSED, record)
            raise
        self._say(outcome, record)

    def _reply(self, record: Record, job: Job, now: Now) -> None:
        """One reply is stored: what this side has is what its clients may have seen."""
        if job.state not in NOT_ENDED:
            self._say(Outcome.REPLY_KEPT, record)
            return
        reply = decode_reply(record.meta)
        frames = split_frames(b"".join(record.body), reply.frame_sizes)
        self._titanic.life.done(job.key, job.attempt, frames, now)
        self._say(Outcome.REPLIED, record)

    def _cancel(self, record: Record, job: Job, now: Now) -> None:
        """Somebody was told that this job will not run (again)."""
        if job.state not in NOT_ENDED:
            self._say(Outcome.CANCEL_KEPT, record)
            return
        self._titanic.life.cancel(job, (), now)
        self._say(Outcome.CANCELLED, record)

    def _bind(self, record: Record, job: Job | None) -> None:
        """An idempotency key that is free here is bound as it was there."""
        meta = decode_key(record.meta)
        if job is None and self._find(meta.job) is not None:
            binding = Binding(meta.job, meta.fingerprint, meta.expires_ms)
            self._titanic.keys.bind(record.key, binding, (), self._clock())
            self._say(Outcome.KEY_BOUND, record)


def closed_since(records: Sequence[Record]) -> set[bytes]:
    """The keys that these records close."""
    return {record.key for record in records if record.kind == Kind.CLOSE}
