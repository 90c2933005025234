"""The Titanic service: RFC 9/TSP and our extended services, over the life of jobs. Pure.

Requests come in by :meth:`Titanic.handle`, work goes out by :meth:`take` and comes back by
:meth:`done` or :meth:`lost`; durable steps come back by :meth:`advance`; time by :meth:`on_tick`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from core.errors import JournalFullError
from core.pure import tsp
from core.pure.answering import STATE_NAMES, Answering, error
from core.pure.crowds import Crowds
from core.pure.desk import Desk
from core.pure.events import EventLog, Watch, WatchedEventLog
from core.pure.ids import Mint, parse_id
from core.pure.intake import Intake
from core.pure.jobs import ENDED, Job, Now, ReplyMeta, RequestMeta, State
from core.pure.keys import Keys
from core.pure.lifecycle import WAITING, Lifecycle, LifeLimits
from core.pure.notes import Notes
from core.pure.ports import ADDRESS_BYTES, Advance, Answer, AnswerReply, AnswerStatus, Path, Port
from core.pure.timers import earliest
from core.pure.traces import TRACE_BYTES
from core.pure.waiters import Waiters
from core.pure.watch_heads import WATCH
from core.pure.watching import Watching

ADDRESS_TAG: Final = b"J"
HOUR_MS: Final = 3_600_000
SOON_MAX_COUNT: Final = 1_000
"""With more jobs before it a request is read back when its turn has come."""


class TitanicLimits(msgspec.Struct, frozen=True):
    """What bounds one Titanic service."""

    life: LifeLimits = LifeLimits()
    request_max_bytes: int = 8 * 1024 * 1024
    frames_max_count: int = 1_000
    waiters_max_count: int = 20_000
    key_lifetime_ms: int = 24 * HOUR_MS
    key_lifetime_max_ms: int = 7 * 24 * HOUR_MS


def attempt_address(job: Job) -> bytes:
    """The client-address frame of a job's REQUEST: ``J``, 16 bytes of job id, attempt as u32 big-endian.

    A trace context may follow (:mod:`core.pure.traces`): what a worker cannot read it sends back as it came.
    """
    return ADDRESS_TAG + job.key + job.attempt.to_bytes(4, "big")


def parse_address(address: bytes) -> tuple[bytes, int] | None:
    """(job id, attempt) of an address made by :func:`attempt_address`, else None."""
    if address[:1] != ADDRESS_TAG or len(address) not in (ADDRESS_BYTES, ADDRESS_BYTES + TRACE_BYTES):
        return None
    return address[1:17], int.from_bytes(address[17:21], "big")


class Titanic:
    """Answers ``titanic.*``; owns the waiters, and the life of the jobs through :class:`Lifecycle`.

    ``new_key`` makes an id for requests of plain TSP clients, which bring none. ``durability`` and
    ``epoch`` label every acknowledgement. ``last_seq`` is the journal's, at the start. ``watch`` is told of
    every event when its record is written.
    """

    def __init__(
        self,
        index: Mapping[bytes, Job],
        port: Port,
        mint: Mint,
        *,
        new_key: Callable[[Now], bytes],
        durability: str,
        epoch: int,
        last_seq: int,
        limits: TitanicLimits = TitanicLimits(),
        watch: Watch | None = None,
    ) -> None:
        self._index = index
        self._port = port
        self._new_key = new_key
        self._limits = limits
        self._waiters = Waiters()
        self.keys = Keys(
            index, port, lifetime_ms=limits.key_lifetime_ms, lifetime_max_ms=limits.key_lifetime_max_ms
        )
        self.events = EventLog(last_seq) if watch is None else WatchedEventLog(last_seq, watch)
        self.life = Lifecycle(index, port, limits.life, self.events, self.keys, self._ended)
        self.crowds = Crowds(self.life, port, self.events)
        self._answering = answering = Answering(index, port, mint)
        self.watching = Watching(index, port, answering, limits.waiters_max_count)
        self.desk = desk = Desk(index, port, self.life, self.events, answering, mint)
        self.intake = Intake(
            index, port, mint, self.life, self.crowds, self.keys, answering,
            request_max_bytes=limits.request_max_bytes, frames_max_count=limits.frames_max_count,
            durability=durability, epoch=epoch,
        )  # fmt: skip
        self._services: dict[bytes, Callable[[Path, Sequence[bytes], Now], None]] = {
            tsp.SUBMIT: self.intake.submit,
            tsp.BATCH: self.intake.batch,
            tsp.PACK: self.intake.pack,
            tsp.FETCH: self._fetch,
            WATCH: self.watching.watch,
            tsp.STATUS: self._status,
            tsp.CANCEL: desk.cancel,
            tsp.RETRY: desk.retry,
            tsp.DELETE: desk.delete,
            tsp.LIST: desk.list_jobs,
            tsp.SERVICES: desk.list_services,
            tsp.PAUSE: desk.pause,
            tsp.RESUME: desk.resume,
            tsp.EVENTS: desk.follow,
            tsp.CALLBACKS: self.life.calls.take,
            tsp.CALLED: self.life.calls.called,
            tsp.REQUEST: self._plain_request,
            tsp.REPLY: self._plain_reply,
            tsp.CLOSE: self._plain_close,
        }

    # -- events

    def handle(self, service: bytes, path: Path, body: Sequence[bytes], now: Now) -> None:
        """Answer a request to a ``titanic.*`` service, now or after a sync. Never raises on its bytes."""
        handler = self._services.get(service)
        if handler is None:
            self._answer(path, service, *error(b"501", "no such titanic service"))
            return
        handler(path, body, now)

    def restore(self, jobs: Iterable[Job], notes: Notes, now: Now) -> None:
        """See :meth:`Lifecycle.restore`."""
        self.life.restore(jobs, notes, now)

    def advance(self, step: Advance, now: Now) -> None:
        """See :meth:`Lifecycle.advance`."""
        self.life.advance(step, now)

    def take(self, service: bytes, worker: bytes, now: Now) -> Job | None:
        """See :meth:`Lifecycle.take`."""
        return self.life.take(service, worker, now)

    def done(self, address: bytes, frames: Sequence[bytes], now: Now) -> None:
        """The worker that was given ``address`` replied."""
        attempt = parse_address(address)
        if attempt is not None:
            self.life.done(*attempt, frames, now)

    def orphan(self, address: bytes) -> bytes | None:
        """The service of the job, if ``address`` is an attempt at one that waits for its next."""
        attempt = parse_address(address)
        job = self._index.get(attempt[0]) if attempt is not None else None
        return job.service if job is not None and job.state in WAITING else None

    def lost(self, address: bytes, reason: str, now: Now, *, stated: bool = False) -> None:
        """The worker that was given ``address`` is gone, or (``stated``) gave up."""
        attempt = parse_address(address)
        if attempt is not None:
            self.life.lost(*attempt, reason, now, stated=stated)

    def progress(self, address: bytes, frames: Sequence[bytes], now: Now) -> None:
        """The worker that was given ``address`` sent a PARTIAL."""
        attempt = parse_address(address)
        if attempt is not None:
            self.life.progress(*attempt, frames, now)

    def on_tick(self, now: Now) -> None:
        """Let time pass: attempts, due jobs, housekeeping, waiters."""
        self.life.on_tick(now)
        self.keys.on_tick(now)
        self.desk.on_tick(now)
        self.watching.on_tick(now)
        while (waiter := self._waiters.pop_due(now)) is not None:
            self._answer_state(waiter.path, waiter.service, waiter.job)

    def next_deadline(self) -> int | None:
        """Monotonic milliseconds of the next :meth:`on_tick`, or None."""
        return earliest((self.life, self.keys, self.desk, self._waiters, self.watching))

    @property
    def jobs_count(self) -> int:
        """How many jobs are open: what else is in the index are keys and settings."""
        return len(self._index) - self.keys.count - len(self.life.pauses)

    @property
    def waiters_count(self) -> int:
        """How many clients wait for the end of a job."""
        return len(self._waiters) + self.watching.count

    def awaits(self, key: bytes) -> bool:
        """Whether somebody waits for the end of this job."""
        return key in self.watching or key in self._waiters

    def soon(self, service: bytes) -> bool:
        """Whether a request for ``service`` that is written now is likely to be given out in a moment."""
        directory, queue = self.desk.directory, self.life.queues.get(service)
        if queue is not None and queue.queued_count >= SOON_MAX_COUNT:
            return False
        there = directory.row(service) if directory is not None else None
        return directory is None or (there is not None and there.workers > 0)

    # -- looking at a job

    def _fetch(self, path: Path, body: Sequence[bytes], now: Now) -> None:
        self._look(path, tsp.FETCH, body, now)

    def _status(self, path: Path, body: Sequence[bytes], now: Now) -> None:
        self._look(path, tsp.STATUS, body, now)

    def _look(self, path: Path, service: bytes, body: Sequence[bytes], now: Now) -> None:
        try:
            head = tsp.decode_fetch(body[0])
        except (msgspec.MsgspecError, IndexError) as wrong:
            self._answer(path, service, *error(tsp.UNKNOWN, f"head: {wrong}"))
            return
        job = self._answering.maybe_find(path, service, head.key, head.owner)
        if job is None:
            return
        room = len(self._waiters) < self._limits.waiters_max_count
        if head.wait_ms > 0 and room and job.state not in ENDED:
            self._waiters.add(path, service, job, min(head.wait_ms, tsp.WAIT_MAX_MS), now)
            return
        self._answer_state(path, service, job)

    def describe(
        self, job: Job, request: RequestMeta, request_bytes: int, reply: ReplyMeta | None, reply_bytes: int
    ) -> tsp.JobStatus:
        """Everything there is to say about a job, from its entry and its records."""
        notes = self.life.notes
        attempts_max = self._limits.life.of_service(job.service)[1]
        return tsp.JobStatus(
            key=job.key,
            service=request.service.decode("ascii", "backslashreplace"),
            state=STATE_NAMES[job.state],
            attempt=job.attempt,
            created_ms=request.accepted_ms,
            content_type=request.content_type,
            request_bytes=request_bytes,
            reply_bytes=reply_bytes,
            due_ms=job.due_ms if job.state == State.SCHEDULED else 0,
            attempts_max=attempts_max if request.attempts_max < 0 else request.attempts_max,
            reason=notes.reasons.get(job.key, ""),
            replied_ms=reply.replied_ms if reply is not None else 0,
            priority=job.priority,
            ended_ms=max(_ended_ms(job, reply), request.accepted_ms) if job.state in ENDED else 0,
            keep_until_ms=self._limits.life.keep_until(job),
            expires_ms=request.expires_ms,
            owner=request.owner,
            progress=notes.progress.get(job.key, b""),
            traceparent=request.traceparent,
            callback=request.callback,
            call=notes.calls.get(job.key),
        )

    # -- plain TSP (RFC 9)

    def _plain_request(self, path: Path, body: Sequence[bytes], now: Now) -> None:
        meta = RequestMeta(body[0] if body else b"", 0)
        frames = body[1:]
        refusal = self.intake.refusal(meta, frames) if body else "no service name"
        if refusal is None and not frames:
            refusal = "no request body"
        if refusal is not None:
            self._answer(path, tsp.REQUEST, b"400 " + refusal.encode())
            return
        key = self._new_key(now)
        answer = Answer(path, tsp.REQUEST, (tsp.OK, key.hex().encode()))
        try:
            self.intake.stamp(meta, frames, now)
            self.life.accept(key, meta, frames, (answer,), now)
        except JournalFullError as full:
            self._answer(path, tsp.REQUEST, b"500 the store is full: " + str(full).encode())

    def _plain_reply(self, path: Path, body: Sequence[bytes], now: Now) -> None:
        del now
        key = _plain_key(body)
        job = self._index.get(key) if key is not None else None
        if job is None or job.state in (State.BINDING, State.CLOSING):
            self._answer(path, tsp.REPLY, b"400 unknown id" if key else b"400 malformed id")
        elif job.state == State.SUCCEEDED:
            self._port.perform(AnswerReply(path, tsp.REPLY, job, extended=False))
        elif job.state == State.FAILED:
            reason = self.life.notes.reasons.get(job.key, "")
            self._answer(path, tsp.REPLY, b"500 the job failed: " + reason.encode())
        elif job.state == State.CANCELLED:
            self._answer(path, tsp.REPLY, b"500 the job was cancelled")
        else:
            self._answer(path, tsp.REPLY, tsp.PENDING)

    def _plain_close(self, path: Path, body: Sequence[bytes], now: Now) -> None:
        key = _plain_key(body)
        if key is None:
            self._answer(path, tsp.CLOSE, b"400 malformed id")
            return
        answer = Answer(path, tsp.CLOSE, (tsp.OK,))
        job = self._index.get(key)
        if job is None:
            self.desk.close_unknown(key, answer, now)
        elif job.state == State.BINDING:
            self._port.perform(answer)
        elif job.state == State.CLOSING:
            self._port.barrier((answer,))
        else:
            self.life.close(job, (answer,), now)

    # -- small steps

    def _answer(self, path: Path, service: bytes, *frames: bytes) -> None:
        self._port.perform(Answer(path, service, frames))

    def _answer_state(self, path: Path, service: bytes, job: Job) -> None:
        if job.state == State.CLOSING:
            self._answer(path, service, *error(tsp.GONE, "the job is closed"))
        elif service == tsp.STATUS:
            self._port.perform(AnswerStatus(path, service, job, tsp.OK))
        elif job.state == State.SUCCEEDED:
            self._port.perform(AnswerReply(path, service, job, extended=True))
        elif job.state in (State.FAILED, State.CANCELLED):
            self._port.perform(AnswerStatus(path, service, job, tsp.CONFLICT))
        else:
            self._port.perform(AnswerStatus(path, service, job, tsp.PENDING))

    def _ended(self, job: Job, now: Now) -> None:
        del now
        for waiter in self._waiters.take(job.key):
            self._answer_state(waiter.path, waiter.service, job)
        self.watching.ended(job)


def _ended_ms(job: Job, reply: ReplyMeta | None) -> int:
    """To the millisecond with a reply, else as the entry has it: see EndTimes."""
    return reply.replied_ms if reply is not None else job.due_ms


def _plain_key(body: Sequence[bytes]) -> bytes | None:
    if len(body) != 1 or len(body[0]) != 32 or not body[0].isascii():
        return None
    return parse_id(body[0].decode("ascii"))
