"""The life of a job: scheduled -> queued -> running -> succeeded | failed | cancelled -> closed.

Every step that a client could be told of is a record first: the state moves on when the shell hands
the record's :class:`Advance` back after the sync. ``messaging.md`` in the design, D1 and X1 in the promises.

    ACCEPTING --synced--> QUEUED | SCHEDULED --take--> RUNNING --reply--> ENDING --synced--> SUCCEEDED
    RUNNING --lost, timeout--> QUEUED | SCHEDULED, or ENDING --synced--> FAILED when attempts are used up
    QUEUED | SCHEDULED --expired--> ENDING --synced--> FAILED --retried, synced--> QUEUED
    any before its end --cancel--> ENDING --synced--> CANCELLED
    any --close--> CLOSING --synced--> gone
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from core.errors import JournalFullError
from core.pure.attempts import Attempts
from core.pure.callbacks import Callbacks
from core.pure.due import TICK_MAX_COUNT, DueTimes
from core.pure.events import EventLog, Step
from core.pure.jobs import (
    NOBODY,
    AttemptMeta,
    CloseMeta,
    EndTimes,
    Job,
    Kind,
    Now,
    Outcome,
    ReplyMeta,
    RequestMeta,
    State,
    encode_meta,
)
from core.pure.keys import Keys
from core.pure.life_limits import COUNTER_OF, COUNTERS, LifeLimits, ServiceLimits, backoff_ms
from core.pure.mdp import NOT_STARTED
from core.pure.notes import Ending, Notes
from core.pure.owners import Owners
from core.pure.pauses import Pauses
from core.pure.ports import Abandon, Advance, Effect, Port
from core.pure.progress import Progress
from core.pure.retention import Retention
from core.pure.roster import Roster
from core.pure.shelf import Shelf
from core.pure.timers import Timers, earliest

__all__ = ["LifeLimits", "Lifecycle", "ServiceLimits"]

WAITING: Final = (State.QUEUED, State.SCHEDULED)
REASON_MAX_CHARS: Final = 1_000
EXPIRED: Final = "expired: it was not started in time"


class Lifecycle:
    """All live jobs of a node: which may run, which run, and what their records must say.

    ``index`` is the journal's, read-only. ``ended(job, now)`` is called once a job's end is durable:
    its state is SUCCEEDED, FAILED, CANCELLED, or CLOSING when it is gone.
    """

    def __init__(
        self,
        index: Mapping[bytes, Job],
        port: Port,
        limits: LifeLimits,
        events: EventLog,
        keys: Keys,
        ended: Callable[[Job, Now], None],
    ) -> None:
        self._index = index
        self._port = port
        self._limits = limits
        self._events = events
        self._keys = keys
        self._ended = ended
        self.attempts = Attempts()
        self._due = DueTimes()
        self._expiry_timers: Timers[Job] = Timers()
        self._end_times = EndTimes()
        self.notes = Notes()
        self.roster = Roster()
        self.owners = Owners()
        self.shelf = Shelf(port)
        self.queues = self.shelf.queues
        self.pauses = Pauses(port, events, self.shelf.queue)
        self._progress = Progress(port, events)
        self.counters: dict[str, int] = dict.fromkeys(COUNTERS, 0)
        self.calls = Callbacks(index, port, limits, events, self.counters, self.notes.calls)
        self.retention = Retention(index, self.roster, self.calls.keep_until, self._close_kept)
        self.calls.settled = self.retention.ended

    # -- start

    def restore(self, jobs: Iterable[Job], notes: Notes, now: Now) -> None:
        """Take over the jobs found in the journal, in acceptance order.

        A job that ran when the node ended is queued again in its place; its attempt stays counted.
        """
        self.notes = notes
        bindings: list[Job] = []
        for job in jobs:
            if job.state == State.BINDING:
                if job.key not in notes.settings:
                    bindings.append(job)
                continue
            self._restore_job(job, now)
        self.pauses.restore(self._index, notes.settings)
        self._keys.restore(bindings, notes, now)
        notes.keep_only(self._index)
        self.calls.restore(notes.calls, now)

    def _restore_job(self, job: Job, now: Now) -> None:
        queue = self.shelf.queue(job.service)
        job.service = queue.name
        job.owner = self.owners.opened(job.owner.name, job.owner.size_bytes)
        queue.roster.add(job.key)
        self.roster.add(job.key)
        state = job.state
        if state == State.RUNNING or (state == State.SCHEDULED and job.due_ms <= now.wall_ms):
            state = job.state = State.QUEUED
        queue.counts[state] += 1
        if state == State.QUEUED:
            queue.push(job)
        elif state == State.SCHEDULED:
            self._due.arm(job, now)
        else:
            job.due_ms = job.due_ms or now.wall_ms
            self.retention.ended(job, now)
            return
        self._arm_expiry(job, now)

    # -- acceptance

    def accept(
        self, key: bytes, meta: RequestMeta, frames: Sequence[bytes], answers: tuple[Effect, ...], now: Now
    ) -> Job:
        """Write the request, and its idempotency key; ``answers`` leave, and the job may run, once durable.

        JournalFullError: a request that was written before its key found no room is closed again.
        """
        queue = self.shelf.queue(meta.service)
        job = Job(
            key, 0, 0, queue.name, State.ACCEPTING, 0, meta.priority, meta.not_before_ms, NOBODY,
            meta.retention_ms,
        )  # fmt: skip
        state = State.SCHEDULED if meta.not_before_ms > now.wall_ms else State.QUEUED
        after_sync = (*answers, Advance(job, state))
        try:
            number = self._port.append(
                Kind.REQUEST, job, encode_meta(meta), frames, () if meta.idempotency else after_sync
            )
        except BaseException:
            self.shelf.maybe_rest(queue, now)
            raise
        queue.counts[State.ACCEPTING] += 1
        queue.accepted.hit(now.mono_ms)
        queue.roster.add(key)
        self.roster.add(key)
        self.counters["jobs_accepted"] += 1
        self._events.add(number, Step.ACCEPTED, job, now.wall_ms)
        job.owner = self.owners.opened(meta.owner, meta.body_bytes) if meta.owner else NOBODY
        if meta.expires_ms:
            self.notes.expiries[key] = meta.expires_ms
        if meta.callback:
            self.calls.accepted(job)
        if meta.idempotency:
            try:
                self._keys.bind_job(job, meta, after_sync, now)
            except JournalFullError:
                self.close(job, (), now)
                raise
        return job

    def advance(self, step: Advance, now: Now) -> None:
        """The record behind ``step`` is durable: the job is where the step says."""
        job, state = step.job, step.state
        if job.state == State.CLOSING and state != State.CLOSING:
            return
        if state == State.QUEUED:
            if job.state == State.ACCEPTING:
                self._arm_expiry(job, now)
                self._enqueue(job)
            elif job.state == State.FAILED:
                self._retried(job)
        elif state == State.SCHEDULED:
            if job.state == State.ACCEPTING:
                self._move(job, State.SCHEDULED)
                self._arm_expiry(job, now)
                self._due.arm(job, now)
        elif job.state == State.BINDING:
            queue = self.pauses.resumed(job.service)
            if queue is not None:
                self.shelf.maybe_rest(queue, now)
        else:
            self._end(job, state, now)

    def _end(self, job: Job, state: int, now: Now) -> None:
        queue, notes = self.queues[job.service], self.notes
        if state == State.CLOSING:
            queue.counts[State.CLOSING] -= 1
            queue.roster.discard(job.key)
            self.roster.discard(job.key)
            self.owners.closed(job.owner)
            notes.forget(job.key)
            self.calls.closed(job.key)
            self.counters["jobs_closed"] += 1
            self.shelf.maybe_rest(queue, now)
        else:
            self._move(job, state)
            ending = notes.endings.pop(job.key, None) if notes.endings else None
            if notes.progress:
                notes.progress.pop(job.key, None)
            if notes.expiries:
                notes.expiries.pop(job.key, None)
            self.counters[COUNTER_OF[state]] += 1
            if state == State.SUCCEEDED:
                queue.succeeded.hit(now.mono_ms)
            elif state == State.FAILED:
                assert ending is not None, "a job fails for a reason"
                notes.reasons[job.key] = ending.reason
            self.calls.ended(job, now)
            self.retention.ended(job, now)
        self._ended(job, now)

    # -- work

    def take(self, service: bytes, worker: bytes, now: Now) -> Job | None:
        """The next job of ``service``, RUNNING at ``worker``; the caller reads it and says :meth:`started`.

        The ATTEMPT record rides with the next commit: should it be lost in a crash, the job runs again
        without this attempt being counted, which at-least-once allows.
        """
        queue = self.queues.get(service)
        job = queue.pop() if queue is not None and not queue.paused else None
        if job is None:
            return None
        job.attempt += 1
        if self.notes.expiries:
            self.notes.expiries.pop(job.key, None)
        self._move(job, State.RUNNING)
        self.attempts.start(job, worker)
        self.counters["jobs_dispatched"] += 1
        meta = AttemptMeta(Outcome.STARTED, job.attempt, now.wall_ms, worker=worker)
        number = self._port.append(Kind.ATTEMPT, job, encode_meta(meta), (), ())
        self._events.add(number, Step.STARTED, job, now.wall_ms)
        return job

    def started(self, job: Job, meta: RequestMeta, now: Now) -> None:
        """The attempt is on its way with the limits its request asked for."""
        timeout_ms, attempts_max = self._limits.of_service(job.service)
        if meta.attempts_max >= 0:
            attempts_max = meta.attempts_max
        self.attempts.limit(job, meta.timeout_ms or timeout_ms, attempts_max, now)

    def progress(self, key: bytes, attempt: int, frames: Sequence[bytes], now: Now) -> None:
        """The worker of the current attempt sent a PARTIAL; of any other it is dropped."""
        running = self.attempts.maybe_get(key, attempt)
        if running is not None:
            self._progress.report(running.job, frames, self.notes, now)

    def done(self, key: bytes, attempt: int, frames: Sequence[bytes], now: Now) -> None:
        """A worker replied. The first valid reply of the current attempt is stored, and no other.

        A late reply of an older attempt is taken only while the job waits: work done is work done.
        """
        job = self._index.get(key)
        state = State.CLOSING if job is None else job.state
        if job is None or not (state in WAITING or (state == State.RUNNING and attempt == job.attempt)):
            self.counters["replies_late"] += 1
            return
        if state == State.RUNNING:
            self.attempts.stop(key)
        else:
            self.counters["replies_late_taken"] += 1
            self._leave_waiting(job, State.ENDING)
        sizes = tuple(len(frame) for frame in frames)
        if (reason := self._limits.reply_refusal(sizes)) is not None:
            self.counters["replies_too_large"] += 1
            self._bury(job, attempt, reason, now)
            return
        self._move(job, State.ENDING)
        job.due_ms = self._end_times.shared(now.wall_ms)
        meta = ReplyMeta(now.wall_ms, attempt, sizes if len(sizes) != 1 else ())
        after_sync = (Advance(job, State.SUCCEEDED),)
        try:
            number = self._port.append(Kind.REPLY, job, encode_meta(meta), frames, after_sync)
        except JournalFullError as full:  # more than is kept for each, and the store is full (R8)
            self.counters["replies_without_room"] += 1
            self._bury(job, attempt, self._limits.no_room(sum(sizes), full), now)
            return
        self._events.add(number, Step.SUCCEEDED, job, now.wall_ms)

    def lost(self, key: bytes, attempt: int, reason: str, now: Now, *, stated: bool = False) -> None:
        """The attempt failed: its worker is gone, or (``stated``) said that it could not do it.

        The first lost worker costs no delay: the job is first in its queue again. After that, and after a
        stated failure, retries back off. What crossed a worker's leaving (``NOT_STARTED``) has not failed.
        """
        running = self.attempts.maybe_get(key, attempt)
        if running is None:
            return
        self.attempts.stop(key)
        job = running.job
        started = reason != NOT_STARTED
        if started:
            self.counters["attempts_failed"] += 1
            self.queues[job.service].failed.hit(now.mono_ms)
        reason = reason[:REASON_MAX_CHARS]
        if started and running.attempts_max and job.attempt >= running.attempts_max:
            self._bury(job, attempt, reason, now)
            return
        delay_ms = backoff_ms(key, attempt, self._limits) if (stated and started) or attempt > 1 else 0
        job.due_ms = now.wall_ms + delay_ms if delay_ms else 0
        meta = AttemptMeta(Outcome.FAILED, attempt, now.wall_ms, reason, job.due_ms, running.worker)
        self._note(job, meta, (), Step.RETRYING)
        if delay_ms:
            self._later(job, job.due_ms, now)
        else:
            self._enqueue(job, front=True)

    def damaged(self, job: Job, where: str, now: Now) -> None:
        """The request of a job just taken cannot be read: it is a dead letter that says so (D3)."""
        self.attempts.stop(job.key)
        self.counters["requests_damaged"] += 1
        self._bury(job, job.attempt, f"its request cannot be read: {where}", now)

    def _bury(self, job: Job, attempt: int, reason: str, now: Now) -> None:
        if job.state != State.ENDING:
            self._move(job, State.ENDING)
        job.due_ms = self._end_times.shared(now.wall_ms)
        self.notes.endings[job.key] = Ending(State.FAILED, reason)
        meta = AttemptMeta(Outcome.DEAD, attempt, now.wall_ms, reason)
        self._note(job, meta, (Advance(job, State.FAILED),), Step.FAILED)

    def _note(self, job: Job, meta: AttemptMeta, after: tuple[Effect, ...], step: int) -> None:
        number = self._port.append(Kind.ATTEMPT, job, encode_meta(meta), (), after)
        self._events.add(number, step, job, meta.at_ms, meta.reason)

    # -- by hand

    def retry(self, job: Job, answer: Effect, now: Now) -> None:
        """A FAILED job is put back, with attempts anew and no expiry; ``answer`` leaves once durable."""
        assert job.state == State.FAILED, "only a dead letter is retried"
        self.notes.endings[job.key] = Ending(State.QUEUED)
        meta = AttemptMeta(Outcome.RETRIED, 0, now.wall_ms)
        self._note(job, meta, (Advance(job, State.QUEUED), answer), Step.RETRIED)

    def _retried(self, job: Job) -> None:
        job.attempt = job.due_ms = 0
        self.notes.forget(job.key)
        self.calls.retried(job.key)
        self.counters["jobs_retried"] += 1
        self._enqueue(job)

    def cancel(self, job: Job, answers: tuple[Effect, ...], now: Now) -> None:
        """A job that has not ended will not run (again); ``answers`` leave once that is durable."""
        self._withdraw(job, State.ENDING)
        job.due_ms = self._end_times.shared(now.wall_ms)
        self.notes.endings[job.key] = Ending(State.CANCELLED)
        after_sync = (Advance(job, State.CANCELLED), *answers)
        number = self._port.append(Kind.CANCEL, job, encode_meta(CloseMeta(now.wall_ms)), (), after_sync)
        self._events.add(number, Step.CANCELLED, job, now.wall_ms)

    def close(self, job: Job, answers: tuple[Effect, ...], now: Now, *, cause: str = "client") -> None:
        """Write the close; ``answers`` leave once it is durable. Not for a job that is CLOSING already."""
        self._withdraw(job, State.CLOSING)
        meta = encode_meta(CloseMeta(now.wall_ms, cause))
        number = self._port.append(Kind.CLOSE, job, meta, (), (*answers, Advance(job, State.CLOSING)))
        self._events.add(number, Step.CLOSED, job, now.wall_ms, cause)

    def _close_kept(self, job: Job, now: Now) -> None:
        self.counters["jobs_retention_ended"] += 1
        self.close(job, (), now, cause="retention")

    def _withdraw(self, job: Job, state: int) -> None:
        """Whatever the job was doing or waiting for is over; a running attempt is abandoned."""
        if job.state == State.RUNNING:
            self._port.perform(Abandon(job, job.attempt))
            self.attempts.stop(job.key)
            self._move(job, state)
        elif job.state in WAITING:
            self._leave_waiting(job, state)
        else:
            self._move(job, state)

    # -- time

    def on_tick(self, now: Now) -> None:
        """Time out attempts, queue what has become due, give up what expired, close what was kept enough.

        A thousand of each at most: what is left keeps the deadline in the past, and messages come between.
        """
        while (running := self.attempts.pop_due(now)) is not None:
            self.counters["attempts_timed_out"] += 1
            self._port.perform(Abandon(running.job, running.attempt))
            key = running.job.key
            self.lost(key, running.attempt, "the attempt timed out", now, stated=True)
        for job in self._expiry_timers.pop_some(now.mono_ms, TICK_MAX_COUNT):
            if job.state in WAITING and job.key in self.notes.expiries:
                self._leave_waiting(job, State.ENDING)
                self.counters["jobs_expired"] += 1
                self._bury(job, job.attempt, EXPIRED, now)
        for job in self._due.pop_some(now):
            self._enqueue(job)
        self.retention.on_tick(now)
        self.calls.on_tick(now)
        self.shelf.on_tick(now)

    def next_deadline(self) -> int | None:
        """Monotonic milliseconds of the next :meth:`on_tick`, or None."""
        return earliest(
            (self.attempts, self._expiry_timers, self._due, self.retention, self.calls, self.shelf)
        )

    # -- small steps

    def _move(self, job: Job, state: int) -> None:
        counts = self.queues[job.service].counts
        counts[job.state] -= 1
        counts[state] += 1
        job.state = state

    def _enqueue(self, job: Job, *, front: bool = False) -> None:
        self._move(job, State.QUEUED)
        queue = self.queues[job.service]
        if front:
            queue.push_front(job)
        else:
            queue.push(job)
        self.shelf.wake(queue)

    def _later(self, job: Job, due_ms: int, now: Now) -> None:
        job.due_ms = due_ms
        self._move(job, State.SCHEDULED)
        self._due.arm(job, now)

    def _arm_expiry(self, job: Job, now: Now) -> None:
        """Only for a job that was never started."""
        if self.notes.expiries and (expires_ms := self.notes.expiries.get(job.key)) is not None:
            self._expiry_timers.arm(now.mono_ms + max(0, expires_ms - now.wall_ms), job)

    def _leave_waiting(self, job: Job, state: int) -> None:
        """A waiting job gets another state: its timer or its place in the queue is given up."""
        self._move(job, state)
        if not self._due.cancel(job.key):
            self.queues[job.service].left()
