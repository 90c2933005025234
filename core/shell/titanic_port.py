"""A Titanic service at work on a journal: the shell shared by the node and the standalone process.

A pump: it reads records when an effect says so, hands them to the pure side, and sends what comes back.
"""

from __future__ import annotations

import logging
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Protocol, TypeVar, cast

from core.errors import DamagedRecordError
from core.pure import tsp
from core.pure.answering import error as answer_error
from core.pure.ids import RANDOM_BITS, Mint
from core.pure.jobs import Job, Kind, Now, RequestMeta, decode_key, decode_reply, decode_request
from core.pure.keys import MEMORY_BYTES
from core.pure.mdp import NOT_STARTED
from core.pure.notes import Notes
from core.pure.ports import (
    Advance,
    AdvanceAll,
    Answer,
    AnswerBatch,
    AnswerBound,
    AnswerCalls,
    AnswerReplay,
    AnswerReply,
    AnswerService,
    AnswerState,
    AnswerStatus,
    Effect,
    Journal,
    Path,
    Tell,
    Work,
)
from core.pure.store_heads import StorePort
from core.pure.titanic import Titanic, TitanicLimits, attempt_address
from core.pure.traces import pack
from core.shell.bodies import Bodies, said
from core.shell.clock import Clock
from core.shell.store_services import ImageDue, StoreServices
from core.shell.telling import Telling

log = logging.getLogger("titanic.service")
E = TypeVar("E", bound=Effect)
M = TypeVar("M")


class Recovered(Protocol):
    """What a journal found when it was opened."""

    @property
    def jobs(self) -> Iterable[Job]:
        """The live jobs in acceptance order."""
        ...

    @property
    def notes(self) -> Notes:
        """What else is known of them; shared with the fold, which writes it into relocated jobs."""
        ...


class AttemptSpans(Protocol):
    """Who wants to know of attempts as they begin and of all else that happens, for a trace."""

    def started(self, job: Job, meta: RequestMeta) -> str:
        """An attempt of the job begins; the ``traceparent`` its worker gets, "" for none."""
        ...

    def happened(self, step: int, job: Job, detail: str) -> None:
        """See :class:`core.pure.events.Step`."""
        ...


class TitanicShell:
    """Performs what its :class:`Titanic` asks, on ``journal``.

    ``spans`` is told of attempts. ``reply(path, service, frames)`` sends an answer; ``others`` performs the
    effects that are not about records (Wake, Abandon). ``counters`` are the shell's own, for
    ``titanic.stats``.
    """

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        reply: Callable[[Path, bytes, Sequence[bytes]], None],
        others: Mapping[type[Effect], Callable[[Effect], None]],
        *,
        id_secret: bytes,
        version: str = "",
        limits: TitanicLimits | None = None,
        counters: Callable[[], Mapping[str, int]] = dict,
        store: StorePort | None = None,
        spans: AttemptSpans | None = None,
    ) -> None:
        limits = limits or TitanicLimits()
        self._spans = spans
        self.journal = journal
        self.bodies = Bodies(journal)
        self.damaged_count = 0
        self.mend: Callable[[int, Callable[[bool], None]], bool] = lambda at, done: False
        """Asks for a damaged record elsewhere; True: the callable is told later whether it is whole again."""
        self._id_secret = id_secret
        self._version = version
        self._limits = limits
        self._counters = counters
        self._started_ms = clock.now().wall_ms
        self._clock = clock
        self._reply = reply
        self._awaited: deque[int] = deque()  # sequences of the records that somebody waits for
        mint = Mint(id_secret)
        self.titanic = Titanic(
            journal.index,
            self,
            mint,
            new_key=lambda now: mint.make(now.wall_ms, secrets.randbits(RANDOM_BITS)),
            durability=journal.durability,
            epoch=journal.epoch,
            last_seq=journal.last_seq,
            limits=limits,
            watch=spans.happened if spans is not None else None,
        )
        self._performers: dict[type[Effect], Callable[[Effect], None]] = dict(others)
        self._on(Answer, self._answer)
        self._on(Advance, self._advance)
        self._on(AdvanceAll, self._advance_all)
        self._on(AnswerReply, self._answer_reply)
        self._telling = Telling(self.bodies, reply)
        self._on(Tell, self._telling.tell)
        self._on(AnswerStatus, self._answer_status)
        self._on(AnswerReplay, self._answer_replay)
        self._on(AnswerBound, self._answer_bound)
        self._on(AnswerBatch, self._answer_batch)
        self._on(AnswerState, self.titanic.desk.answer_state)
        self._on(AnswerService, self._answer_service)
        self._on(AnswerCalls, self._answer_calls)

        self._store = StoreServices(store, self.barrier, reply)
        self._on(ImageDue, self._store.on_image_due)

    def _on(self, kind: type[E], perform: Callable[[E], None]) -> None:
        self._performers[kind] = cast("Callable[[Effect], None]", perform)

    # -- the Titanic service's Port

    @property
    def settled_seq(self) -> int:
        """See Port.settled_seq."""
        return self._awaited[0] - 1 if self._awaited else self.journal.last_seq

    def append(
        self, kind: int, job: Job, meta: bytes, body: Sequence[bytes], after_sync: tuple[Effect, ...]
    ) -> int:
        """See Journal.append."""
        number = self.journal.append(kind, job, meta, body, after_sync)
        if after_sync:
            self._awaited.append(number)
        if kind == Kind.REPLY:
            if self.titanic.awaits(job.key):
                self.bodies.replied(job.key, meta, body)
            else:
                self.bodies.superseded(job.key)
        elif kind == Kind.REQUEST and self.titanic.soon(job.service):
            self.bodies.requested(job.key, meta, body)
        return number

    def awaits(self, number: int) -> None:
        """A record that somebody else appended hands effects back; in the order of the appends."""
        self._awaited.append(number)

    def append_all(
        self,
        kind: int,
        jobs: Sequence[Job],
        meta: bytes,
        bodies: Sequence[bytes],
        after_sync: tuple[Effect, ...],
    ) -> int:
        """See Journal.append_all."""
        number = self.journal.append_all(kind, jobs, meta, bodies, after_sync)
        if number:
            self._awaited.append(number)
            if kind == Kind.REQUEST and self.titanic.soon(jobs[0].service):
                for job, body in zip(jobs, bodies, strict=True):
                    self.bodies.requested(job.key, meta, [body])
        return number

    def barrier(self, after_sync: tuple[Effect, ...]) -> None:
        """See Journal.barrier."""
        self.journal.barrier(after_sync)
        self._awaited.append(self.journal.last_seq)

    def perform(self, effect: Effect) -> None:
        """Do it now; an effect nobody performs is our own mistake and raises KeyError."""
        self._performers[type(effect)](effect)

    # -- the shell's side

    def on_synced(self) -> None:
        """Perform what became durable since the last call, in append order. JournalFailedError."""
        performers, awaited = self._performers, self._awaited
        for after_sync in self.journal.completed():
            awaited.popleft()
            for effect in after_sync:
                performers[type(effect)](effect)
        self._telling.flush()

    def handle(self, service: bytes, path: Path, body: Sequence[bytes], now: Now) -> None:
        """Answer a ``titanic.*`` request: facts of this process here, jobs in the Titanic service."""
        if service == tsp.HELLO:
            self._reply(path, service, (tsp.OK, tsp.encode_head(self._hello())))
        elif service == tsp.STATS:
            self._reply(path, service, (tsp.OK, tsp.encode_head(self._stats())))
        elif service in StoreServices.services:
            self._store.handle(service, path, body)
        else:
            self.titanic.handle(service, path, body, now)
            self._telling.flush()

    def _hello(self) -> tsp.Hello:
        return tsp.Hello(
            version=self._version,
            role="single",
            epoch=self.journal.epoch,
            ready=True,
            reason="",
            durability=self.journal.durability,
            id_secret=self._id_secret,
            max_body_bytes=self._limits.request_max_bytes,
            started_ms=self._started_ms,
            jobs=self.titanic.jobs_count,
            key_lifetime_ms=self._limits.key_lifetime_ms,
            key_lifetime_max_ms=self._limits.key_lifetime_max_ms,
        )

    def _stats(self) -> tsp.Stats:
        titanic, life, keys = self.titanic, self.titanic.life, self.titanic.keys
        counters = {
            **self._counters(),
            **self.journal.counters(),
            **life.counters,
            "keys_expired": keys.expired_count,
            "records_damaged": self.damaged_count,
        }
        gauges: dict[str, float] = {
            **self.journal.gauges(),
            "jobs_open": titanic.jobs_count,
            "attempts_running": len(life.attempts),
            "waiters": titanic.waiters_count,
            "followers": titanic.desk.followers_count,
            "services": len(life.queues),
            "callbacks_open": life.calls.open_count,
            "keys_open": keys.count,
            "keys_memory_bytes": keys.count * MEMORY_BYTES,
        }
        return tsp.Stats(
            counters,
            gauges,
            titanic.desk.summary(),
            dict(life.owners.open_counts),
            dict(life.owners.open_bytes),
        )

    def take(self, service: bytes, worker: bytes, now: Now) -> Work | None:
        """The next attempt with its frames; a request that cannot be read is buried."""
        while (job := self.titanic.take(service, worker, now)) is not None:
            try:
                meta, frames = self.bodies.request(job)
            except DamagedRecordError as error:
                if self.mend(error.at, lambda good: None):
                    self.titanic.life.lost(job.key, job.attempt, NOT_STARTED, now)  # again a moment later
                else:
                    self._report_damage(job, error)
                    self.titanic.life.damaged(job, error.where, now)
                continue
            self.titanic.life.started(job, meta, now)
            trace = meta.traceparent
            if self._spans is not None:
                trace = self._spans.started(job, meta)
            address = attempt_address(job)
            return Work(address + pack(trace) if trace else address, frames)
        return None

    def _report_damage(self, job: Job, error: DamagedRecordError) -> None:
        self.damaged_count += 1
        log.error("job %s: %s; run 'titanic store check' on the store", job.key.hex(), error)

    def _answer(self, effect: Answer) -> None:
        self._reply(effect.path, effect.service, effect.frames)

    def _advance(self, effect: Advance) -> None:
        self.titanic.advance(effect, self._clock.now())

    def _advance_all(self, effect: AdvanceAll) -> None:
        self.titanic.crowds.advance(effect, self._clock.now())

    def _answer_reply(self, effect: AnswerReply) -> None:
        try:
            meta, frames = self.bodies.reply(effect.job)
        except DamagedRecordError as error:
            self._mend_first(
                effect.path, effect.service, effect.job, error, partial(self._answer_reply, effect)
            )
            return
        if effect.extended:
            head = tsp.encode_head(tsp.ReplyHead(meta.content_type, meta.attempt, meta.replied_ms))
            self._reply(effect.path, effect.service, (tsp.OK, head, *frames))
        else:
            self._reply(effect.path, effect.service, (tsp.OK, *frames))

    def _answer_status(self, effect: AnswerStatus) -> None:
        job = effect.job
        try:
            raw_request, request_bytes = self.journal.read_request_meta(job)
            request = said(decode_request, raw_request, job.request_at)
            reply, reply_bytes = None, 0
            if job.reply_at:
                raw_reply, reply_bytes = self.journal.read_reply_meta(job)
                reply = said(decode_reply, raw_reply, job.reply_at)
        except DamagedRecordError as error:
            self._mend_first(effect.path, effect.service, job, error, partial(self._answer_status, effect))
            return
        status = self.titanic.describe(job, request, request_bytes, reply, reply_bytes)
        self._reply(effect.path, effect.service, (effect.code, tsp.encode_head(status)))

    def _answer_calls(self, effect: AnswerCalls) -> None:
        calls = []
        for job in effect.jobs:
            try:
                raw, size = self.journal.read_request_meta(job)
                request, reply = said(decode_request, raw, job.request_at), None
                if job.reply_at:
                    reply = said(decode_reply, self.journal.read_reply_meta(job)[0], job.reply_at)
            except DamagedRecordError as error:
                self._report_damage(job, error)  # tried again when its lease is over, and said again
                continue
            calls.append(self.titanic.describe(job, request, size, reply, 0))
        page = tsp.encode_head(tsp.CallbacksPage(tuple(calls)))
        self._reply(effect.path, tsp.CALLBACKS, (tsp.OK, page))

    def _answer_replay(self, effect: AnswerReplay) -> None:
        try:
            raw_meta, body = self.journal.read_request(effect.job)
            meta = said(decode_request, raw_meta, effect.job.request_at)
        except DamagedRecordError as error:
            self._mend_first(effect.path, tsp.SUBMIT, effect.job, error, partial(self._answer_replay, effect))
            return
        self._answer(self.titanic.intake.judge_replay(effect, meta, body))

    def _answer_bound(self, effect: AnswerBound) -> None:
        try:
            raw_meta, _ = self.journal.read_request(effect.entry)
            meta = said(decode_key, raw_meta, effect.entry.request_at)
        except DamagedRecordError as error:
            self._mend_first(
                effect.path, tsp.SUBMIT, effect.entry, error, partial(self._answer_bound, effect)
            )
            return
        self._answer(self.titanic.intake.judge_bound(effect, meta))

    def _answer_batch(self, effect: AnswerBatch) -> None:
        lines = [
            self._judged_line(line, effect.fingerprint) if isinstance(line, Job) else line
            for line in effect.lines
        ]
        self._answer(self.titanic.intake.batch_answer(effect, lines))

    def _judged_line(self, entry: Job, fingerprint: bytes) -> tsp.BatchLine:
        try:
            raw_meta, _ = self.journal.read_request(entry)
            meta = said(decode_key, raw_meta, entry.request_at)
        except DamagedRecordError as error:
            self._report_damage(entry, error)
            return tsp.BatchLine(500, b"", detail=f"its stored key is damaged: {error.where}")
        return self.titanic.intake.judge_line(meta, fingerprint)

    def _answer_service(self, effect: AnswerService) -> None:
        self.titanic.desk.answer_service(effect, self._clock.now())

    def _mend_first(
        self, path: Path, service: bytes, job: Job, error: DamagedRecordError, again: Callable[[], None]
    ) -> None:
        """Answer once the record is mended; at once, and with the damage, if nobody can help (D3)."""

        def told(good: bool) -> None:
            if self.journal.index.get(job.key) is not job:  # what is at its place now is another's
                self._reply(path, service, answer_error(tsp.GONE, "the job is closed"))
            elif good:
                again()
            else:
                self._answer_damaged(path, service, job, error)

        if not self.mend(error.at, told):
            self._answer_damaged(path, service, job, error)

    def _answer_damaged(self, path: Path, service: bytes, job: Job, error: DamagedRecordError) -> None:
        self._report_damage(job, error)
        head = tsp.encode_head(tsp.ErrorHead(f"the stored bytes of this job are damaged: {error.where}"))
        self._reply(path, service, (tsp.ERROR, head))
