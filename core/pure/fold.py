"""From records back to jobs: what a journal's records say about each job when it is opened again.

:class:`Fold` satisfies the store's ``Owner`` by its shape; the store is not imported here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from core.pure.jobs import (
    DELIVERED,
    ENDED,
    GIVEN_UP,
    NOBODY,
    AttemptMeta,
    CallMeta,
    EndTimes,
    Job,
    Kind,
    Outcome,
    RequestMeta,
    Share,
    State,
    StateMeta,
    decode_attempt,
    decode_close,
    decode_key,
    decode_reply,
    decode_request,
    decode_setting,
    decode_state,
    encode_meta,
    unreadable,
)
from core.pure.notes import Binding, Ending, Notes
from core.pure.owners import counted_bytes

REQUEST: Final = int(Kind.REQUEST)
QUEUED: Final = int(State.QUEUED)
SCHEDULED: Final = int(State.SCHEDULED)
STATE_MAX_BYTES: Final = 1 << 16
STATE_EXTRA_BYTES: Final = 88
"""A state beside its reasons and its progress."""


class Fold:
    """Makes jobs and brings them up to date, record by record, in the order of the log.

    Afterwards a job stands where its last durable record left it; one that was running is still
    ``RUNNING``: what becomes of it is for the Titanic service to say. Entries of KEY and SETTING are
    ``BINDING``; a KEY's ``due_ms`` is when it expires. Equal service names and owners are one object.
    ``notes`` then belong to the lifecycle as well, so that :meth:`snapshot` knows what it knows.
    """

    def __init__(self) -> None:
        self.notes = Notes()
        self._end_times = EndTimes()
        self._services: dict[bytes, bytes] = {}
        self._owners: dict[Share, Share] = {}

    def begin(self) -> None:
        """Nothing is noted yet. The notes stay the same objects: the lifecycle may have them."""
        for noted in vars(self.notes).values():
            noted.clear()

    def unreadable(self, kind: int, meta: bytes) -> str:
        """See core.pure.jobs.unreadable."""
        return unreadable(kind, meta)

    def awaits_reply(self, job: Job) -> bool:
        """An idempotency key and a setting never get a reply."""
        return job.state != State.BINDING

    def open(self, kind: int, key: bytes, request_at: int, meta: bytes, origin_seq: int) -> Job:
        """A new entry, brought up to date with the record that opened it; a start is a million of these."""
        if kind != REQUEST:
            job = self.new(kind, key)
            job.request_at = request_at
            self.fold(job, kind, meta, origin_seq)
            return job
        found = decode_request(meta)
        service, due_ms = found.service, found.not_before_ms
        if found.expires_ms or found.callback or found.idempotency:
            self._remember(key, found)
        return Job(
            key, request_at, 0, self._services.setdefault(service, service), SCHEDULED if due_ms else QUEUED,
            0, found.priority, due_ms, self._share(found) if found.owner else NOBODY, found.retention_ms,
        )  # fmt: skip

    def open_all(self, kind: int, keys: Sequence[bytes], meta: bytes, origin_seq: int) -> list[Job]:
        """See :meth:`open`: one request's meta stands for all that came in one pack."""
        if kind != REQUEST:
            return [self.open(kind, key, 0, meta, seq) for seq, key in enumerate(keys, origin_seq)]
        found = decode_request(meta)
        if found.expires_ms or found.callback or found.idempotency:
            for key in keys:
                self._remember(key, found)
        service, due_ms, priority = found.service, found.not_before_ms, found.priority
        service, retention_ms = self._services.setdefault(service, service), found.retention_ms
        owner, state = self._share(found) if found.owner else NOBODY, SCHEDULED if due_ms else QUEUED
        return [Job(key, 0, 0, service, state, 0, priority, due_ms, owner, retention_ms) for key in keys]

    def new(self, kind: int, key: bytes) -> Job:
        """An empty entry for ``key``."""
        if kind in (Kind.KEY, Kind.SETTING):
            return Job(key, state=State.BINDING)
        return Job(key)

    def fold(self, job: Job, kind: int, meta: bytes, origin_seq: int) -> None:
        """Bring ``job`` up to date with one record. ValueError if its meta is unreadable."""
        if kind == Kind.REQUEST:
            self._request(job, decode_request(meta))
        elif kind == Kind.ATTEMPT:
            self._attempt(job, decode_attempt(meta))
        elif kind == Kind.REPLY:
            self._end(job, State.SUCCEEDED, decode_reply(meta).replied_ms)
        elif kind == Kind.CANCEL:
            if job.state not in ENDED:
                self._end(job, State.CANCELLED, decode_close(meta).at_ms)
        elif kind == Kind.JOB:
            if job.state != State.BINDING:
                self._state(job, decode_state(meta))
        elif kind == Kind.KEY:
            job.due_ms = decode_key(meta).expires_ms
        elif kind == Kind.SETTING:
            self.notes.settings[job.key] = decode_setting(meta)

    def _request(self, job: Job, meta: RequestMeta) -> None:
        job.service = self._services.setdefault(meta.service, meta.service)
        job.owner = self._share(meta) if meta.owner else NOBODY
        job.priority = meta.priority
        job.retention_ms = meta.retention_ms
        job.due_ms = meta.not_before_ms
        job.attempt = 0
        job.state = SCHEDULED if meta.not_before_ms else QUEUED
        self._remember(job.key, meta)

    def _share(self, meta: RequestMeta) -> Share:
        share = Share(meta.owner, counted_bytes(meta.body_bytes))
        return self._owners.setdefault(share, share)

    def _remember(self, key: bytes, meta: RequestMeta) -> None:
        """What a request asks for beside its index entry."""
        if meta.expires_ms:
            self.notes.expiries[key] = meta.expires_ms
        if meta.callback:
            self.notes.calls[key] = CallMeta()
        if meta.idempotency:
            expires_ms = meta.accepted_ms + meta.key_lifetime_ms
            self.notes.asked[meta.idempotency] = Binding(key, meta.fingerprint, expires_ms)

    def _attempt(self, job: Job, meta: AttemptMeta) -> None:
        """A step of the running attempt; a job that has ended is no longer moved by one."""
        outcome = meta.outcome
        if outcome >= Outcome.CALLED:
            self._called(job, meta)
            return
        if outcome == Outcome.RETRIED:
            if job.state == State.FAILED:
                job.state, job.attempt, job.due_ms = State.QUEUED, 0, 0
                self.notes.reasons.pop(job.key, None)
                call = self.notes.calls.get(job.key)
                if call is not None:
                    self.notes.calls[job.key] = CallMeta(round=call.round + 1)
            return
        if job.state in ENDED:
            return
        if outcome == Outcome.PROGRESS:
            self.notes.progress[job.key] = meta.progress
            return
        self.notes.expiries.pop(job.key, None)
        job.attempt = meta.attempt
        job.due_ms = meta.due_ms
        if outcome == Outcome.STARTED:
            job.state = State.RUNNING
        elif outcome == Outcome.FAILED:
            job.state = State.SCHEDULED if meta.due_ms else State.QUEUED
        else:
            self._end(job, State.FAILED, meta.at_ms)
            self.notes.reasons[job.key] = meta.reason

    def _called(self, job: Job, meta: AttemptMeta) -> None:
        """A delivery of the job's callback; of an end that a RETRIED undid, it says nothing any more."""
        call = self.notes.calls.get(job.key)
        if call is None or job.state not in ENDED:
            return
        call.tries, call.at_ms, call.due_ms, call.reason = meta.attempt, meta.at_ms, meta.due_ms, meta.reason
        if meta.outcome != Outcome.CALL_FAILED:
            call.settled = DELIVERED if meta.outcome == Outcome.CALLED else GIVEN_UP

    def _end(self, job: Job, state: int, at_ms: int) -> None:
        job.state, job.due_ms = state, self._end_times.shared(at_ms)
        self.notes.forget(job.key)

    def _state(self, job: Job, meta: StateMeta) -> None:
        """A reply found before its relocated job is newer than the state written with the job."""
        notes = self.notes
        if not meta.expires:
            notes.expiries.pop(job.key, None)
        job.state = State.SUCCEEDED if job.reply_at else meta.state
        job.attempt, job.due_ms = meta.attempt, meta.due_ms
        if meta.state == State.FAILED:
            notes.reasons[job.key] = meta.reason
        if meta.progress:
            notes.progress[job.key] = meta.progress
        if meta.call is not None:
            notes.calls[job.key] = meta.call

    def snapshot(self, job: Job, max_bytes: int = STATE_MAX_BYTES) -> bytes:
        """What :meth:`fold` needs to restore ``job`` without the ATTEMPT and CANCEL records so far.

        A record of the job that is on its way comes before the snapshot in the log, so its effect is in it.
        What does not fit is left out at the end of the reason or the progress: nothing else is long.
        """
        notes, key = self.notes, job.key
        state, attempt, due_ms, reason = job.state, job.attempt, job.due_ms, notes.reasons.get(key, "")
        ending: Ending | None = notes.endings.get(key)
        if ending is not None:
            state, reason = ending.state, ending.reason
            if state == State.QUEUED:  # put back by hand
                attempt, due_ms = 0, 0
        elif state == State.ACCEPTING:
            state = State.SCHEDULED if due_ms else State.QUEUED
        if state != State.FAILED:
            reason = ""
        progress, call = notes.progress.get(key, b""), notes.calls.get(key)
        if call is not None and state == State.QUEUED and ending is not None:
            call = CallMeta(round=call.round + 1)
        expires = key in notes.expiries
        meta = StateMeta(int(state), attempt, due_ms, reason, expires, progress, call)
        raw = encode_meta(meta)
        return raw if len(raw) <= max_bytes else encode_meta(_shortened(meta, max_bytes))


def _shortened(meta: StateMeta, max_bytes: int) -> StateMeta:
    """``meta`` in so many bytes: what is long in it loses its end."""
    call = meta.call
    parts = (meta.reason.encode(), meta.progress, call.reason.encode() if call is not None else b"")
    share = (max_bytes - STATE_EXTRA_BYTES) // sum(map(bool, parts))
    reason, progress, why = (part[:share] for part in parts)
    if call is not None:
        call = msgspec.structs.replace(call, reason=why.decode(errors="ignore"))
    short = reason.decode(errors="ignore")
    return msgspec.structs.replace(meta, reason=short, progress=progress, call=call)
