"""From records back to jobs: what a journal's records say about each job when it is opened again.

:class:`Fold` satisfies the store's ``Owner`` by its shape; the store is not imported here.
"""

from __future__ import annotations

from core.pure.jobs import (
    AttemptMeta,
    Job,
    Kind,
    Outcome,
    RequestMeta,
    State,
    StateMeta,
    decode_attempt,
    decode_key,
    decode_request,
    decode_state,
    encode_meta,
)


class Fold:
    """Makes jobs and brings them up to date, record by record, in the order of the log.

    Afterwards a job stands where its last durable record left it; one that was running is still
    ``RUNNING``: what becomes of it is for the Titanic service to say. Entries of KEY and SETTING are
    ``BINDING``; a KEY's ``due_ms`` is when it expires. Equal service names are one object.
    """

    def __init__(self) -> None:
        self.reasons: dict[bytes, str] = {}  # last error of every job that failed; closed ones too
        self._services: dict[bytes, bytes] = {}

    def new(self, kind: int, key: bytes) -> Job:
        """An empty entry for ``key``."""
        if kind in (Kind.KEY, Kind.SETTING):
            return Job(key, state=State.BINDING)
        return Job(key)

    def fold(self, job: Job, kind: int, meta: bytes, origin_seq: int) -> None:
        """Bring ``job`` up to date with one record. Raises msgspec.DecodeError on a meta that is none."""
        if kind == Kind.REQUEST:
            self._request(job, decode_request(meta))
        elif kind == Kind.ATTEMPT:
            self._attempt(job, decode_attempt(meta))
        elif kind == Kind.REPLY:
            job.state = State.SUCCEEDED
        elif kind == Kind.CANCEL:
            job.state = State.CANCELLED
        elif kind == Kind.JOB:
            if job.state != State.BINDING:
                self._state(job, decode_state(meta))
        elif kind == Kind.KEY:
            job.due_ms = decode_key(meta).expires_ms

    def _request(self, job: Job, meta: RequestMeta) -> None:
        job.service = self._services.setdefault(meta.service, meta.service)
        job.priority = meta.priority
        job.due_ms = meta.not_before_ms
        job.attempt = 0
        job.state = State.SCHEDULED if meta.not_before_ms else State.QUEUED

    def _attempt(self, job: Job, meta: AttemptMeta) -> None:
        """A step of the running attempt; a job that has ended is no longer moved by one."""
        outcome = meta.outcome
        if outcome == Outcome.PROGRESS:
            return
        if outcome == Outcome.RETRIED:
            if job.state == State.FAILED:
                job.state, job.attempt, job.due_ms = State.QUEUED, 0, 0
                self.reasons.pop(job.key, None)
            return
        if job.state in (State.SUCCEEDED, State.CANCELLED, State.FAILED):
            return
        job.attempt = meta.attempt
        job.due_ms = meta.due_ms
        if outcome == Outcome.STARTED:
            job.state = State.RUNNING
        elif outcome == Outcome.FAILED:
            job.state = State.SCHEDULED if meta.due_ms else State.QUEUED
        else:
            job.state = State.FAILED
            self.reasons[job.key] = meta.reason

    def _state(self, job: Job, meta: StateMeta) -> None:
        """A reply found before its relocated job is newer than the state written with the job."""
        job.state = State.SUCCEEDED if job.reply_at else meta.state
        job.attempt, job.due_ms = meta.attempt, meta.due_ms
        if meta.state == State.FAILED:
            self.reasons[job.key] = meta.reason

    def snapshot(self, job: Job) -> bytes:
        """What :meth:`fold` needs to restore ``job`` without the ATTEMPT and CANCEL records so far.

        Not for a job with a record on its way to the disk.
        """
        assert job.state not in (State.ACCEPTING, State.CLOSING, State.ENDING), "a record is on its way"
        reason = self.reasons.get(job.key, "") if job.state == State.FAILED else ""
        return encode_meta(StateMeta(int(job.state), job.attempt, job.due_ms, reason))
