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

import msgspec

from core.pure.jobs import (
    DEFAULT_ATTEMPTS_MAX,
    AttemptMeta,
    CloseMeta,
    Job,
    Kind,
    Now,
    Outcome,
    ReplyMeta,
    RequestMeta,
    State,
    encode_meta,
)
from core.pure.ports import Abandon, Advance, Answer, Port, Wake
from core.pure.queues import ServiceQueue
from core.pure.timers import Timer, Timers

REASON_MAX_CHARS: Final = 1_000
WAITING: Final = (State.QUEUED, State.SCHEDULED)


class LifeLimits(msgspec.Struct, frozen=True):
    """What bounds the life of a job unless the job itself says otherwise."""

    attempt_timeout_ms: int = 30 * 60_000
    attempts_max: int = DEFAULT_ATTEMPTS_MAX
    backoff_first_ms: int = 1_000
    backoff_max_ms: int = 5 * 60_000
    reply_max_bytes: int = 8 * 1024 * 1024


class Running:
    """One attempt in a worker's hands."""

    __slots__ = ("attempt", "attempts_max", "job", "timer", "worker")

    def __init__(self, job: Job, worker: bytes, attempts_max: int) -> None:
        self.job = job
        self.attempt = job.attempt
        self.worker = worker
        self.attempts_max = attempts_max
        self.timer: Timer[Running] | None = None


def backoff_ms(key: bytes, attempt: int, limits: LifeLimits) -> int:
    """Exponential from ``backoff_first_ms``, capped, with jitter of ±25 % drawn from the random key."""
    base: int = min(limits.backoff_max_ms, limits.backoff_first_ms << min(attempt - 1, 30))
    spread = (key[attempt % 6 + 7] - 128) / 512
    return max(1, round(base * (1 + spread)))


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
        ended: Callable[[Job, Now], None],
    ) -> None:
        self._index = index
        self._port = port
        self._limits = limits
        self._ended = ended
        self._running: dict[bytes, Running] = {}
        self._attempt_timers: Timers[Running] = Timers()
        self._due_timers: Timers[Job] = Timers()
        self._due: dict[bytes, Timer[Job]] = {}
        self.queues: dict[bytes, ServiceQueue] = {}
        self.reasons: dict[bytes, str] = {}
        self.counters: dict[str, int] = dict.fromkeys(
            (
                "jobs_accepted",
                "jobs_dispatched",
                "jobs_succeeded",
                "jobs_failed",
                "jobs_closed",
                "attempts_failed",
                "attempts_timed_out",
                "replies_late",
                "replies_late_taken",
                "replies_too_large",
                "requests_damaged",
            ),
            0,
        )

    # -- start

    def restore(self, jobs: Iterable[Job], reasons: Mapping[bytes, str], now: Now) -> None:
        """Take over the jobs found in the journal, in acceptance order.

        A job that ran when the node ended is queued again in its place; its attempt stays counted.
        """
        self.reasons.update(reasons)
        for job in jobs:
            if job.state == State.BINDING:
                continue
            queue = self.queue(job.service)
            job.service = queue.name
            state = job.state
            if state == State.RUNNING:
                state = State.QUEUED
            if state == State.SCHEDULED and job.due_ms <= now.wall_ms:
                state = State.QUEUED
            job.state = state
            queue.counts[state] += 1
            if state == State.QUEUED:
                queue.push(job)
            elif state == State.SCHEDULED:
                self._arm_due(job, now)

    # -- acceptance

    def accept(self, key: bytes, meta: RequestMeta, frames: Sequence[bytes], answer: Answer, now: Now) -> Job:
        """Write the request; ``answer`` leaves and the job may run once it is durable. JournalFullError."""
        job = Job(key)
        queue = self.queue(meta.service)
        job.service = queue.name
        job.priority = meta.priority
        job.due_ms = meta.not_before_ms
        state = State.SCHEDULED if meta.not_before_ms > now.wall_ms else State.QUEUED
        try:
            self._port.append(Kind.REQUEST, job, encode_meta(meta), frames, (answer, Advance(job, state)))
        except BaseException:
            self._forget_if_idle(queue)
            raise
        queue.counts[State.ACCEPTING] += 1
        self.counters["jobs_accepted"] += 1
        return job

    def advance(self, step: Advance, now: Now) -> None:
        """The record behind ``step`` is durable: the job is where the step says."""
        job, state = step.job, step.state
        if job.state == State.CLOSING and state != State.CLOSING:
            return
        if state == State.QUEUED:
            self._enqueue(job)
        elif state == State.SCHEDULED:
            self._move(job, State.SCHEDULED)
            self._arm_due(job, now)
        else:
            self._end(job, state, step.detail, now)

    def _end(self, job: Job, state: int, detail: str, now: Now) -> None:
        queue = self.queues[job.service]
        if state == State.CLOSING:
            queue.counts[State.CLOSING] -= 1
            self.reasons.pop(job.key, None)
            self.counters["jobs_closed"] += 1
            self._forget_if_idle(queue)
        else:
            self._move(job, state)
            if state == State.FAILED:
                self.reasons[job.key] = detail
                self.counters["jobs_failed"] += 1
            else:
                self.counters["jobs_succeeded"] += 1
        self._ended(job, now)

    # -- work

    def take(self, service: bytes, worker: bytes, now: Now) -> Job | None:
        """The next job of ``service``, RUNNING at ``worker``; the caller reads it and says :meth:`started`.

        The ATTEMPT record rides with the next commit: should it be lost in a crash, the job runs again
        without this attempt being counted, which at-least-once allows.
        """
        queue = self.queues.get(service)
        job = queue.pop() if queue is not None else None
        if job is None:
            return None
        job.attempt += 1
        self._move(job, State.RUNNING)
        self._running[job.key] = Running(job, worker, self._limits.attempts_max)
        self.counters["jobs_dispatched"] += 1
        meta = AttemptMeta(Outcome.STARTED, job.attempt, now.wall_ms, worker=worker)
        self._port.append(Kind.ATTEMPT, job, encode_meta(meta), (), ())
        return job

    def started(self, job: Job, meta: RequestMeta, now: Now) -> None:
        """The attempt is on its way with the limits its request asked for."""
        running = self._running[job.key]
        if meta.attempts_max >= 0:
            running.attempts_max = meta.attempts_max
        timeout_ms = meta.timeout_ms or self._limits.attempt_timeout_ms
        running.timer = self._attempt_timers.arm(now.mono_ms + timeout_ms, running)

    def done(self, key: bytes, attempt: int, frames: Sequence[bytes], now: Now) -> None:
        """A worker replied. The first valid reply of the current attempt is stored, and no other.

        A late reply of an older attempt is taken only while the job waits: work done is work done.
        """
        job = self._index.get(key)
        if job is None or job.state not in (State.RUNNING, *WAITING):
            self.counters["replies_late"] += 1
            return
        if job.state == State.RUNNING:
            if attempt != job.attempt:
                self.counters["replies_late"] += 1
                return
            self._stop_running(key)
        else:
            self.counters["replies_late_taken"] += 1
            self._leave_waiting(job, State.ENDING)
        sizes = tuple(len(frame) for frame in frames)
        if sum(sizes) > self._limits.reply_max_bytes:
            self.counters["replies_too_large"] += 1
            reason = f"the reply has {sum(sizes)} bytes; the limit is {self._limits.reply_max_bytes}"
            self._bury(job, attempt, reason, now)
            return
        self._move(job, State.ENDING)
        meta = ReplyMeta(now.wall_ms, attempt, sizes if len(sizes) != 1 else ())
        self._port.append(Kind.REPLY, job, encode_meta(meta), frames, (Advance(job, State.SUCCEEDED),))

    def lost(self, key: bytes, attempt: int, reason: str, now: Now, *, stated: bool = False) -> None:
        """The attempt failed: its worker is gone, or (``stated``) said that it could not do it.

        The first lost worker costs no delay: the job is first in its queue again. After that, and
        after a stated failure, retries back off.
        """
        running = self._running.get(key)
        if running is None or running.attempt != attempt:
            return
        self._stop_running(key)
        job = running.job
        self.counters["attempts_failed"] += 1
        reason = reason[:REASON_MAX_CHARS]
        if running.attempts_max and job.attempt >= running.attempts_max:
            self._bury(job, attempt, reason, now)
            return
        delay_ms = backoff_ms(key, attempt, self._limits) if stated or attempt > 1 else 0
        job.due_ms = now.wall_ms + delay_ms if delay_ms else 0
        meta = AttemptMeta(Outcome.FAILED, attempt, now.wall_ms, reason, job.due_ms, running.worker)
        self._port.append(Kind.ATTEMPT, job, encode_meta(meta), (), ())
        if delay_ms:
            self._move(job, State.SCHEDULED)
            self._arm_due(job, now)
        else:
            self._enqueue(job, front=True)

    def damaged(self, job: Job, where: str, now: Now) -> None:
        """The request of a job just taken cannot be read: it is a dead letter that says so (D3)."""
        self._stop_running(job.key)
        self.counters["requests_damaged"] += 1
        self._bury(job, job.attempt, f"its request cannot be read: {where}", now)

    def _bury(self, job: Job, attempt: int, reason: str, now: Now) -> None:
        self._move(job, State.ENDING)
        meta = AttemptMeta(Outcome.DEAD, attempt, now.wall_ms, reason)
        self._port.append(Kind.ATTEMPT, job, encode_meta(meta), (), (Advance(job, State.FAILED, reason),))

    # -- closing

    def close(self, job: Job, answer: Answer, now: Now, *, cause: str = "client") -> None:
        """Write the close; ``answer`` leaves once it is durable. Not for a job that is CLOSING already."""
        if job.state == State.RUNNING:
            self._stop_running(job.key)
            self._move(job, State.CLOSING)
        elif job.state in WAITING:
            self._leave_waiting(job, State.CLOSING)
        else:
            self._move(job, State.CLOSING)
        self._port.append(
            Kind.CLOSE,
            job,
            encode_meta(CloseMeta(now.wall_ms, cause)),
            (),
            (answer, Advance(job, State.CLOSING)),
        )

    # -- time

    def on_tick(self, now: Now) -> None:
        """Time out attempts and queue what has become due."""
        while (running := self._attempt_timers.pop_due(now.mono_ms)) is not None:
            self.counters["attempts_timed_out"] += 1
            self._port.perform(Abandon(running.job, running.attempt))
            key = running.job.key
            self.lost(key, running.attempt, "the attempt timed out", now, stated=True)
        while (job := self._due_timers.pop_due(now.mono_ms)) is not None:
            del self._due[job.key]
            self._enqueue(job)

    def next_deadline(self) -> int | None:
        """Monotonic milliseconds of the next :meth:`on_tick`, or None."""
        first, second = self._attempt_timers.next_deadline(), self._due_timers.next_deadline()
        if first is None or second is None:
            return second if first is None else first
        return min(first, second)

    def summary(self) -> dict[str, dict[str, int]]:
        """Service -> state -> number of jobs, for services that have any."""
        return {
            name.decode("ascii"): {
                "scheduled": queue.counts[State.SCHEDULED],
                "queued": queue.counts[State.ACCEPTING] + queue.counts[State.QUEUED],
                "running": queue.counts[State.RUNNING] + queue.counts[State.ENDING],
                "succeeded": queue.counts[State.SUCCEEDED],
                "failed": queue.counts[State.FAILED],
                "cancelled": queue.counts[State.CANCELLED],
            }
            for name, queue in self.queues.items()
        }

    # -- small steps

    def queue(self, service: bytes) -> ServiceQueue:
        """The queue of ``service``, made if new."""
        queue = self.queues.get(service)
        if queue is None:
            queue = self.queues[service] = ServiceQueue(service)
        return queue

    @property
    def running_count(self) -> int:
        """How many attempts are in workers' hands."""
        return len(self._running)

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
        self._port.perform(Wake(job.service))

    def _arm_due(self, job: Job, now: Now) -> None:
        due_mono_ms = now.mono_ms + max(0, job.due_ms - now.wall_ms)
        self._due[job.key] = self._due_timers.arm(due_mono_ms, job)

    def _stop_running(self, key: bytes) -> Running:
        running = self._running.pop(key)
        if running.timer is not None:
            self._attempt_timers.cancel(running.timer)
        return running

    def _leave_waiting(self, job: Job, state: int) -> None:
        """A waiting job gets another state: its timer or its place in the queue is given up."""
        self._move(job, state)
        timer = self._due.pop(job.key, None)
        if timer is not None:
            self._due_timers.cancel(timer)
        else:
            self.queues[job.service].left()

    def _forget_if_idle(self, queue: ServiceQueue) -> None:
        if queue.idle:
            self.queues.pop(queue.name, None)
