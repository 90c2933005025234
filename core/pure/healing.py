"""Healing a split, the winner's side (P7): records of the other side become steps of jobs here.

Jobs are independent and have unique ids, so nothing conflicts but the end of one and the same job: the
further state wins, one reply is stored, closed stays closed. Three passes, each once the one before is
durable: requests, then replies and cancellations, then closes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
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
)
from core.pure.notes import Binding
from core.pure.peer import Record
from core.pure.titanic import Titanic

OPENS: Final = (Kind.REQUEST, Kind.KEY)
ENDS: Final = (Kind.REPLY, Kind.CANCEL)
PASSES: Final = (OPENS, ENDS, (Kind.CLOSE,))


class Healing:
    """One part of a merge. ``report(outcome, key)`` is told of every job it touches.

    ``later(step)`` calls ``step`` once all that was appended so far is durable.
    """

    def __init__(
        self,
        titanic: Titanic,
        find: Callable[[bytes], Job | None],
        closed: Set[bytes],
        report: Callable[[str, bytes], None],
        later: Callable[[Callable[[], None]], None],
        clock: Callable[[], Now],
    ) -> None:
        self._titanic = titanic
        self._find = find
        self._closed = closed
        self._report = report
        self._later = later
        self._clock = clock

    def run(self, records: Sequence[Record], done: Callable[[], None], turn: int = 0) -> None:
        """Take the records in; ``done`` once they are durable here. JournalFullError: not all of them are."""
        if turn == len(PASSES):
            done()
            return
        now = self._clock()
        for record in records:
            if record.kind in PASSES[turn] and record.key not in self._closed:
                self._take(record, now)
        self._later(lambda: self.run(records, done, turn + 1))

    def _take(self, record: Record, now: Now) -> None:
        job = self._find(record.key)
        if record.kind == Kind.REQUEST:
            if job is None:
                meta = decode_request(record.meta)
                if meta.idempotency and self._titanic.keys.find(meta.idempotency, now) is not None:
                    meta = msgspec.structs.replace(meta, idempotency=b"")  # its key has another job here
                    self._report("key taken", record.key)
                frames = split_frames(b"".join(record.body), meta.frame_sizes)
                try:
                    self._titanic.life.accept(record.key, meta, frames, (), now)
                except JournalFullError:
                    self._report("refused", record.key)
                    raise
                self._report("accepted", record.key)
        elif record.kind == Kind.KEY:
            self._bind(record, job)
        elif job is None or job.state in (State.CLOSING, State.BINDING):
            return
        elif record.kind == Kind.REPLY:
            if job.state in (State.QUEUED, State.SCHEDULED, State.RUNNING):
                reply = decode_reply(record.meta)
                frames = split_frames(b"".join(record.body), reply.frame_sizes)
                self._titanic.life.done(job.key, job.attempt, frames, now)
                self._report("replied", record.key)
            elif job.state == State.SUCCEEDED:
                self._report("reply kept", record.key)
        elif record.kind == Kind.CANCEL:
            self._report("cancel kept aside", record.key)
        else:
            self._titanic.life.close(job, (), now, cause="merge")
            self._report("closed", record.key)

    def _bind(self, record: Record, job: Job | None) -> None:
        """An idempotency key that is free here is bound as it was there."""
        meta = decode_key(record.meta)
        if job is None and self._find(meta.job) is not None:
            binding = Binding(meta.job, meta.fingerprint, meta.expires_ms)
            self._titanic.keys.bind(record.key, binding, (), self._clock())
            self._report("key bound", record.key)


def closed_since(records: Sequence[Record]) -> set[bytes]:
    """The keys that these records close."""
    return {record.key for record in records if record.kind == Kind.CLOSE}
