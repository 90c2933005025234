"""Many jobs of one request, accepted as one step: what makes a job of a crowd cheap.

The same as accepting them one by one (:meth:`Lifecycle.accept`), which the tests compare; but what is the
same for all is looked up, counted, encoded and waited for once.
"""

from __future__ import annotations

from collections.abc import Sequence

from core.pure.events import EventLog, Step
from core.pure.jobs import Job, Kind, Now, RequestMeta, State, encode_meta
from core.pure.lifecycle import Lifecycle
from core.pure.ports import Advance, AdvanceAll, Effect, Port


class Crowds:
    """Hands crowds to the journal, and to ``life`` once they are durable."""

    def __init__(self, life: Lifecycle, port: Port, events: EventLog) -> None:
        self._life = life
        self._port = port
        self._events = events

    def accept(
        self, keys: Sequence[bytes], meta: RequestMeta, bodies: Sequence[bytes], answer: Effect, now: Now
    ) -> bool:
        """Write the requests; ``answer`` leaves, and the jobs may run, once all are durable.

        ``keys`` ascend and are new; ``meta`` has no idempotency key. False, and nothing has changed: the
        journal wants them one by one.
        """
        life = self._life
        queue = life.shelf.queue(meta.service)
        owner = life.owners.opened(meta.owner, meta.body_bytes, len(keys))
        name, priority, due_ms = queue.name, meta.priority, meta.not_before_ms
        retention_ms, accepting = meta.retention_ms, State.ACCEPTING
        jobs = tuple(
            [Job(key, 0, 0, name, accepting, 0, priority, due_ms, owner, retention_ms) for key in keys]
        )
        state = State.SCHEDULED if due_ms > now.wall_ms else State.QUEUED
        after_sync = (answer, AdvanceAll(jobs, state))
        first = 0
        try:
            first = self._port.append_all(Kind.REQUEST, jobs, encode_meta(meta), bodies, after_sync)
        finally:
            if not first:
                life.owners.closed(owner, len(keys))
                life.shelf.maybe_rest(queue, now)
        if not first:
            return False
        queue.counts[State.ACCEPTING] += len(keys)
        queue.accepted.hit(now.mono_ms, len(keys))
        queue.roster.add_all(keys)
        life.roster.add_all(keys)
        life.counters["jobs_accepted"] += len(keys)
        self._events.add_all(first, Step.ACCEPTED, jobs, now.wall_ms)
        if meta.expires_ms:
            life.notes.expiries.update(dict.fromkeys(keys, meta.expires_ms))
        if meta.callback:
            for job in jobs:
                life.calls.accepted(job)
        return True

    def advance(self, step: AdvanceAll, now: Now) -> None:
        """The records of the crowd are durable: its jobs are where the step says."""
        life, jobs = self._life, step.jobs
        if step.state != State.QUEUED or life.notes.expiries:
            for job in jobs:
                life.advance(Advance(job, step.state), now)
            return
        waiting = [job for job in jobs if job.state == State.ACCEPTING]  # the others were closed meanwhile
        if not waiting:
            return
        queued = State.QUEUED
        for job in waiting:
            job.state = queued
        queue = life.queues[waiting[0].service]
        queue.counts[State.ACCEPTING] -= len(waiting)
        queue.counts[State.QUEUED] += len(waiting)
        queue.push_all(waiting)
        life.shelf.wake(queue)
