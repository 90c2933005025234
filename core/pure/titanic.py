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
from core.pure.ids import Mint, parse_id
from core.pure.jobs import Job, Now, ReplyMeta, RequestMeta, State
from core.pure.lifecycle import Lifecycle, LifeLimits
from core.pure.ports import Advance, Answer, AnswerReplay, AnswerReply, AnswerStatus, Path, Port
from core.pure.timers import Timer, Timers

ADDRESS_TAG: Final = b"J"
ADDRESS_BYTES: Final = 21

STATE_NAMES: Final[dict[int, str]] = {
    State.ACCEPTING: "queued",
    State.SCHEDULED: "scheduled",
    State.QUEUED: "queued",
    State.RUNNING: "running",
    State.ENDING: "running",
    State.SUCCEEDED: "succeeded",
    State.FAILED: "failed",
    State.CANCELLED: "cancelled",
    State.CLOSING: "closed",
}


class TitanicLimits(msgspec.Struct, frozen=True):
    """What bounds one Titanic service."""

    life: LifeLimits = LifeLimits()
    request_max_bytes: int = 8 * 1024 * 1024
    frames_max_count: int = 1_000
    waiters_max_count: int = 20_000


class Waiter:
    """One client that waits for the end of a job."""

    __slots__ = ("job", "path", "service", "timer")

    def __init__(self, path: Path, service: bytes, job: Job) -> None:
        self.path = path
        self.service = service
        self.job = job
        self.timer: Timer[Waiter] | None = None


def attempt_address(job: Job) -> bytes:
    """The client-address frame of a job's REQUEST: ``J``, 16 bytes of job id, attempt as u32 big-endian."""
    return ADDRESS_TAG + job.key + job.attempt.to_bytes(4, "big")


def parse_address(address: bytes) -> tuple[bytes, int] | None:
    """(job id, attempt) of an address made by :func:`attempt_address`, else None."""
    if len(address) != ADDRESS_BYTES or address[:1] != ADDRESS_TAG:
        return None
    return address[1:17], int.from_bytes(address[17:], "big")


def _error(status: bytes, detail: str) -> tuple[bytes, bytes]:
    return status, tsp.encode_head(tsp.ErrorHead(detail))


class Titanic:
    """Answers ``titanic.*``; owns the waiters, and the life of the jobs through :class:`Lifecycle`.

    ``new_key`` makes an id for requests of plain TSP clients, which bring none. ``durability`` and
    ``epoch`` label every acknowledgement.
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
        limits: TitanicLimits = TitanicLimits(),
    ) -> None:
        self._index = index
        self._port = port
        self._mint = mint
        self._new_key = new_key
        self._durability = durability
        self._epoch = epoch
        self._limits = limits
        self.life = Lifecycle(index, port, limits.life, self._ended)
        self._waiters: dict[bytes, list[Waiter]] = {}
        self._waiter_timers: Timers[Waiter] = Timers()
        self._services: dict[bytes, Callable[[Path, Sequence[bytes], Now], None]] = {
            tsp.SUBMIT: self._submit,
            tsp.FETCH: self._fetch,
            tsp.STATUS: self._status,
            tsp.REQUEST: self._plain_request,
            tsp.REPLY: self._plain_reply,
            tsp.CLOSE: self._plain_close,
        }

    # -- events

    def handle(self, service: bytes, path: Path, body: Sequence[bytes], now: Now) -> None:
        """Answer a request to a ``titanic.*`` service, now or after a sync. Never raises on its bytes."""
        handler = self._services.get(service)
        if handler is None:
            self._answer(path, service, *_error(b"501", "no such titanic service"))
            return
        handler(path, body, now)

    def restore(self, jobs: Iterable[Job], reasons: Mapping[bytes, str], now: Now) -> None:
        """See :meth:`Lifecycle.restore`."""
        self.life.restore(jobs, reasons, now)

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

    def lost(self, address: bytes, reason: str, now: Now, *, stated: bool = False) -> None:
        """The worker that was given ``address`` is gone, or (``stated``) gave up."""
        attempt = parse_address(address)
        if attempt is not None:
            self.life.lost(*attempt, reason, now, stated=stated)

    def on_tick(self, now: Now) -> None:
        """Let time pass: attempts, due jobs, waiters."""
        self.life.on_tick(now)
        while (waiter := self._waiter_timers.pop_due(now.mono_ms)) is not None:
            self._drop_waiter(waiter)
            self._answer_state(waiter.path, waiter.service, waiter.job)

    def next_deadline(self) -> int | None:
        """Monotonic milliseconds of the next :meth:`on_tick`, or None."""
        first, second = self.life.next_deadline(), self._waiter_timers.next_deadline()
        if first is None or second is None:
            return second if first is None else first
        return min(first, second)

    @property
    def waiters_count(self) -> int:
        """How many clients wait for the end of a job."""
        return len(self._waiter_timers)

    # -- extended services

    def _submit(self, path: Path, body: Sequence[bytes], now: Now) -> None:
        try:
            head = tsp.decode_submit(body[0])
        except (msgspec.MsgspecError, IndexError) as error:
            self._answer(path, tsp.SUBMIT, *_error(tsp.UNKNOWN, f"submit head: {error}"))
            return
        frames = body[1:]
        refusal = self._refusal(head.meta, frames)
        if refusal is not None:
            self._answer(path, tsp.SUBMIT, *_error(tsp.UNKNOWN, refusal))
            return
        if not self._mint.issued(head.key):
            detail = "the id was not made with this node's secret; ask titanic.hello"
            self._answer(path, tsp.SUBMIT, *_error(tsp.NOT_FOUND, detail))
            return
        existing = self._index.get(head.key)
        if existing is not None:
            replay = AnswerReplay(path, existing, head.meta.service, frames)
            self._port.barrier((replay,))
            return
        meta = self._stamped(head.meta, frames, now)
        state = "scheduled" if meta.not_before_ms > now.wall_ms else "queued"
        ack = tsp.SubmitAck(head.key, state, now.wall_ms, self._durability, self._epoch)
        answer = Answer(path, tsp.SUBMIT, (tsp.OK, tsp.encode_head(ack)))
        try:
            self.life.accept(head.key, meta, frames, answer, now)
        except JournalFullError as error:
            self._answer(path, tsp.SUBMIT, *_error(tsp.FULL, f"the store is full: {error}"))

    def judge_replay(self, effect: AnswerReplay, meta: RequestMeta, body: bytes) -> Answer:
        """The answer to a submit whose id exists: the same request again, or another under its id."""
        if meta.service != effect.service or body != b"".join(effect.frames):
            detail = "the id belongs to another request"
            return Answer(effect.path, tsp.SUBMIT, _error(tsp.CONFLICT, detail))
        name = STATE_NAMES[effect.job.state]
        ack = tsp.SubmitAck(
            effect.job.key, name, meta.accepted_ms, self._durability, self._epoch, replayed=True
        )
        return Answer(effect.path, tsp.SUBMIT, (tsp.OK, tsp.encode_head(ack)))

    def _fetch(self, path: Path, body: Sequence[bytes], now: Now) -> None:
        self._look(path, tsp.FETCH, body, now)

    def _status(self, path: Path, body: Sequence[bytes], now: Now) -> None:
        self._look(path, tsp.STATUS, body, now)

    def _look(self, path: Path, service: bytes, body: Sequence[bytes], now: Now) -> None:
        try:
            head = tsp.decode_fetch(body[0])
        except (msgspec.MsgspecError, IndexError) as error:
            self._answer(path, service, *_error(tsp.UNKNOWN, f"head: {error}"))
            return
        job = self._index.get(head.key)
        if job is None or job.state == State.BINDING:
            self._answer_missing(path, service, head.key)
            return
        if job.state == State.CLOSING:
            gone = Answer(path, service, _error(tsp.GONE, "the job is closed"))
            self._port.barrier((gone,))
            return
        pending = job.state not in (State.SUCCEEDED, State.FAILED, State.CANCELLED)
        if pending and head.wait_ms > 0 and self.waiters_count < self._limits.waiters_max_count:
            waiter = Waiter(path, service, job)
            wait_ms = min(head.wait_ms, tsp.WAIT_MAX_MS)
            waiter.timer = self._waiter_timers.arm(now.mono_ms + wait_ms, waiter)
            self._waiters.setdefault(job.key, []).append(waiter)
            return
        self._answer_state(path, service, job)

    def describe(
        self, job: Job, request: RequestMeta, request_bytes: int, reply: ReplyMeta | None, reply_bytes: int
    ) -> tsp.JobStatus:
        """Everything there is to say about a job, from its entry and its records."""
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
            attempts_max=self._limits.life.attempts_max if request.attempts_max < 0 else request.attempts_max,
            reason=self.life.reasons.get(job.key, ""),
            replied_ms=reply.replied_ms if reply is not None else 0,
        )

    # -- plain TSP (RFC 9)

    def _plain_request(self, path: Path, body: Sequence[bytes], now: Now) -> None:
        meta = RequestMeta(body[0] if body else b"", 0)
        frames = body[1:]
        refusal = self._refusal(meta, frames) if body else "no service name"
        if refusal is None and not frames:
            refusal = "no request body"
        if refusal is not None:
            self._answer(path, tsp.REQUEST, b"400 " + refusal.encode())
            return
        key = self._new_key(now)
        answer = Answer(path, tsp.REQUEST, (tsp.OK, key.hex().encode()))
        try:
            self.life.accept(key, self._stamped(meta, frames, now), frames, answer, now)
        except JournalFullError as error:
            self._answer(path, tsp.REQUEST, b"500 the store is full: " + str(error).encode())

    def _plain_reply(self, path: Path, body: Sequence[bytes], now: Now) -> None:
        del now
        key = _plain_key(body)
        job = self._index.get(key) if key is not None else None
        if job is None or job.state in (State.BINDING, State.CLOSING):
            self._answer(path, tsp.REPLY, b"400 unknown id" if key else b"400 malformed id")
        elif job.state == State.SUCCEEDED:
            self._port.perform(AnswerReply(path, tsp.REPLY, job, extended=False))
        elif job.state == State.FAILED:
            reason = self.life.reasons.get(job.key, "")
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
        if job is None or job.state == State.BINDING:
            self._port.perform(answer)
        elif job.state == State.CLOSING:
            self._port.barrier((answer,))
        else:
            self.life.close(job, answer, now)

    # -- small steps

    def _answer(self, path: Path, service: bytes, *frames: bytes) -> None:
        self._port.perform(Answer(path, service, frames))

    def _answer_state(self, path: Path, service: bytes, job: Job) -> None:
        if job.state == State.CLOSING:
            self._answer(path, service, *_error(tsp.GONE, "the job is closed"))
        elif service == tsp.STATUS:
            self._port.perform(AnswerStatus(path, service, job, tsp.OK))
        elif job.state == State.SUCCEEDED:
            self._port.perform(AnswerReply(path, service, job, extended=True))
        elif job.state in (State.FAILED, State.CANCELLED):
            self._port.perform(AnswerStatus(path, service, job, tsp.CONFLICT))
        else:
            self._port.perform(AnswerStatus(path, service, job, tsp.PENDING))

    def _answer_missing(self, path: Path, service: bytes, key: bytes) -> None:
        if self._mint.issued(key):
            self._answer(path, service, *_error(tsp.GONE, "the job is closed"))
        else:
            self._answer(path, service, *_error(tsp.NOT_FOUND, "this id was never issued here"))

    def _ended(self, job: Job, now: Now) -> None:
        del now
        for waiter in self._waiters.pop(job.key, ()):
            if waiter.timer is not None:
                self._waiter_timers.cancel(waiter.timer)
            self._answer_state(waiter.path, waiter.service, job)

    def _drop_waiter(self, waiter: Waiter) -> None:
        others = self._waiters[waiter.job.key]
        others.remove(waiter)
        if not others:
            del self._waiters[waiter.job.key]

    def _refusal(self, meta: RequestMeta, frames: Sequence[bytes]) -> str | None:
        error = tsp.service_error(meta.service)
        if error is not None:
            return error
        if len(frames) > self._limits.frames_max_count:
            return f"the request has {len(frames)} frames; the limit is {self._limits.frames_max_count}"
        size = len(frames[0]) if len(frames) == 1 else sum(map(len, frames))
        if size > self._limits.request_max_bytes:
            return f"the request has {size} bytes; the limit is {self._limits.request_max_bytes}"
        if not 0 <= meta.priority <= 2:
            return f"priority {meta.priority} is not 0, 1 or 2"
        return None

    def _stamped(self, meta: RequestMeta, frames: Sequence[bytes], now: Now) -> RequestMeta:
        """``meta`` with this node's own time and the true sizes of ``frames``."""
        return RequestMeta(
            meta.service,
            now.wall_ms,
            meta.content_type,
            () if len(frames) == 1 else tuple(map(len, frames)),
            meta.priority,
            meta.timeout_ms,
            meta.attempts_max,
            meta.not_before_ms,
            meta.expires_ms,
            meta.retention_ms,
            meta.owner,
            meta.idempotency,
            meta.traceparent,
            meta.callback,
        )


def _plain_key(body: Sequence[bytes]) -> bytes | None:
    if len(body) != 1 or len(body[0]) != 32 or not body[0].isascii():
        return None
    return parse_id(body[0].decode("ascii"))
