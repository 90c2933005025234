"""Telling somebody outside that a job has ended: what is due, who has taken it, what came of it.

The node decides and remembers; whoever asks ``titanic.callbacks`` delivers (the gateways do) and reports by
``titanic.called``. A delivery that was taken and not reported is due again when its lease ends, so it is
made at least once, whatever dies. Nothing is written before the first report: an open callback follows from
the job's request and its end.

    waiting --the job ends--> due --taken--> leased --ok, synced--> delivered
                               ^              |  `--failed, final or too often--> given up
                               `--lease over, or failed and its pause is over
    delivered, given up, any --the job is put back by hand--> waiting, in the next round
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Final

import msgspec

from core.pure import tsp
from core.pure.answering import error
from core.pure.events import EventLog, Step
from core.pure.jobs import (
    DELIVERED,
    ENDED,
    GIVEN_UP,
    AttemptMeta,
    CallMeta,
    Job,
    Kind,
    Now,
    Outcome,
    encode_meta,
)
from core.pure.life_limits import LifeLimits
from core.pure.ports import Answer, AnswerCalls, Path, Port
from core.pure.timers import Timer, Timers, earliest

TAKERS_MAX_COUNT: Final = 1_000
LEASE_MAX_MS: Final = 10 * 60_000
REASON_MAX_CHARS: Final = 500


class Taker:
    """One client that waits for a delivery to be due."""

    __slots__ = ("head", "path", "timer")

    def __init__(self, path: Path, head: tsp.CallbacksHead) -> None:
        self.path = path
        self.head = head
        self.timer: Timer[Taker] | None = None


class Callbacks:
    """All open callbacks of a node. ``settled(job, now)`` is called when one is delivered or given up."""

    def __init__(
        self,
        index: Mapping[bytes, Job],
        port: Port,
        limits: LifeLimits,
        events: EventLog,
        counters: MutableMapping[str, int],
        calls: dict[bytes, CallMeta],
    ) -> None:
        self._index = index
        self._port = port
        self._limits = limits
        self._events = events
        self._counters = counters
        self._calls = calls
        self.settled: Callable[[Job, Now], None] = lambda job, now: None
        self._timers: Timers[bytes] = Timers()  # of those that are due later, and of leases
        self._armed: dict[bytes, Timer[bytes]] = {}
        self._due: dict[bytes, None] = {}
        self._takers: dict[Taker, None] = {}
        self._taker_timers: Timers[Taker] = Timers()

    def restore(self, calls: dict[bytes, CallMeta], now: Now) -> None:
        """Take over what the journal says; ``calls`` is kept up to date, for the fold's snapshots."""
        self._calls = calls
        for key, call in calls.items():
            if not call.settled and self._index[key].state in ENDED:
                self._arm(key, now.mono_ms + max(0, call.due_ms - now.wall_ms))

    @property
    def open_count(self) -> int:
        """Deliveries that are due, leased, or will be tried again."""
        return len(self._due) + len(self._armed)

    def keep_until(self, job: Job) -> int:
        """When the job's retention is over, wall ms (0: never): not before its callback is settled."""
        until_ms = self._limits.keep_until(job)
        if until_ms and (job.key in self._due or job.key in self._armed):
            return max(until_ms, self._calls[job.key].due_ms + LEASE_MAX_MS)
        return until_ms

    # -- the life of the job

    def accepted(self, job: Job) -> None:
        """The job has a callback."""
        self._calls[job.key] = CallMeta()

    def ended(self, job: Job, now: Now) -> None:
        """The end of the job is durable: if it has a callback, that is due."""
        call = self._calls.get(job.key)
        if call is not None and not call.settled:
            call.due_ms = now.wall_ms
            self._ready(job.key)

    def retried(self, key: bytes) -> None:
        """The job will run, and end, again."""
        call = self._calls.get(key)
        if call is not None:
            self._forget(key)
            self._calls[key] = CallMeta(round=call.round + 1)

    def closed(self, key: bytes) -> None:
        """The job is gone: nobody needs to be told any more."""
        if self._calls.pop(key, None) is not None:
            self._forget(key)

    def _forget(self, key: bytes) -> None:
        self._due.pop(key, None)
        timer = self._armed.pop(key, None)
        if timer is not None:
            self._timers.cancel(timer)

    def _arm(self, key: bytes, at_mono_ms: int) -> None:
        self._forget(key)
        self._armed[key] = self._timers.arm(at_mono_ms, key)

    def _ready(self, key: bytes) -> None:
        self._forget(key)
        self._due[key] = None

    # -- those who deliver

    def take(self, path: Path, body: Sequence[bytes], now: Now) -> None:
        """``titanic.callbacks``."""
        try:
            head = tsp.decode_callbacks(body[0])
        except (msgspec.MsgspecError, IndexError) as wrong:
            self._port.perform(Answer(path, tsp.CALLBACKS, error(tsp.UNKNOWN, f"head: {wrong}")))
            return
        if self._due or head.wait_ms <= 0 or len(self._takers) >= TAKERS_MAX_COUNT:
            self._hand_out(path, head, now)
            return
        taker = Taker(path, head)
        taker.timer = self._taker_timers.arm(now.mono_ms + min(head.wait_ms, tsp.WAIT_MAX_MS), taker)
        self._takers[taker] = None

    def _hand_out(self, path: Path, head: tsp.CallbacksHead, now: Now) -> None:
        limit = max(1, min(head.limit, tsp.CALLS_MAX_COUNT))
        lease_ms = max(1, min(head.lease_ms, LEASE_MAX_MS))
        jobs = []
        for key in list(self._due)[:limit] if self._due else ():
            self._arm(key, now.mono_ms + lease_ms)
            jobs.append(self._index[key])
        self._port.perform(AnswerCalls(path, tuple(jobs)))

    def called(self, path: Path, body: Sequence[bytes], now: Now) -> None:
        """``titanic.called``: of an older round, or of a callback that is settled, it changes nothing."""
        try:
            head = tsp.decode_called(body[0])
        except (msgspec.MsgspecError, IndexError) as wrong:
            self._port.perform(Answer(path, tsp.CALLED, error(tsp.UNKNOWN, f"head: {wrong}")))
            return
        answer = Answer(path, tsp.CALLED, (tsp.OK, tsp.encode_head(tsp.Deleted(head.key))))
        job, call = self._index.get(head.key), self._calls.get(head.key)
        if job is None or job.state not in ENDED or call is None or call.settled or call.round != head.round:
            self._port.barrier((answer,))
            return
        call.tries += 1
        call.at_ms, call.due_ms, call.reason = (
            now.wall_ms,
            0,
            "" if head.ok else head.reason[:REASON_MAX_CHARS],
        )
        if head.ok:
            outcome, call.settled, said = Outcome.CALLED, DELIVERED, "delivered"
        elif head.final or call.tries >= self._limits.calls.tries_max:
            outcome, call.settled, said = Outcome.CALL_GIVEN_UP, GIVEN_UP, f"given up: {call.reason}"
        else:
            outcome, said = Outcome.CALL_FAILED, f"failed: {call.reason}"
            call.due_ms = now.wall_ms + self._limits.calls.delay_ms(head.key, call.tries)
        self._counters[_COUNTER_OF[outcome]] += 1
        if call.settled:
            self._forget(head.key)
        else:
            self._arm(head.key, now.mono_ms + call.due_ms - now.wall_ms)
        meta = AttemptMeta(outcome, call.tries, now.wall_ms, call.reason, call.due_ms)
        number = self._port.append(Kind.ATTEMPT, job, encode_meta(meta), (), (answer,))
        self._events.add(number, Step.CALLED, job, now.wall_ms, said)
        if call.settled:
            self.settled(job, now)

    # -- time

    def on_tick(self, now: Now) -> None:
        """What is due now, or was taken and not reported in time, is for those who wait."""
        while (key := self._timers.pop_due(now.mono_ms)) is not None:
            del self._armed[key]
            self._due[key] = None
        while (taker := self._taker_timers.pop_due(now.mono_ms)) is not None:
            del self._takers[taker]
            self._hand_out(taker.path, taker.head, now)
        while self._due and self._takers:
            taker = next(iter(self._takers))
            del self._takers[taker]
            assert taker.timer is not None, "whoever waits has a timer"
            self._taker_timers.cancel(taker.timer)
            self._hand_out(taker.path, taker.head, now)

    def next_deadline(self) -> int | None:
        """Monotonic milliseconds of the next :meth:`on_tick`, or None."""
        if self._due and self._takers:
            return 0
        return earliest((self._timers, self._taker_timers))


_COUNTER_OF: Final = {
    Outcome.CALLED: "callbacks_delivered",
    Outcome.CALL_FAILED: "callbacks_failed",
    Outcome.CALL_GIVEN_UP: "callbacks_given_up",
}
