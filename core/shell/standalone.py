"""Broker and Titanic as processes of their own, as in the guide: ``titanic broker``, ``titanic service``.

The separate Titanic is a worker for ``titanic.*`` and a client at any MDP/0.1 broker. The pure service
is the same as in the node. What it cannot have there: the broker gives workers no job id, so they cannot
recognise a job that is delivered again, and a worker that dies is noticed by the attempt's timeout.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import signal
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path as FilePath
from typing import Any, Final

from core.errors import JournalFailedError, ServerUnreachableError
from core.pure import tsp
from core.pure.broker import Broker, BrokerLimits
from core.pure.courier import Courier
from core.pure.jobs import Now
from core.pure.ports import ADDRESS_BYTES, Abandon, Effect, Journal, Path, Wake, Work
from core.pure.store_heads import BACKUP, STORE, StorePort
from core.pure.titanic import TitanicLimits, attempt_address
from core.pure.worker_job import AttemptFailedError, WorkerJob
from core.shell.clock import Alarm, Clock, earliest
from core.shell.curve import ClientKeys
from core.shell.dealer import NodeDealer
from core.shell.door import Door
from core.shell.link import TraceLine
from core.shell.titanic_port import Recovered, TitanicShell
from core.shell.worker import Worker

log = logging.getLogger("titanic.service")

SLOTS: Final = {
    tsp.REQUEST: 16,
    tsp.REPLY: 4,
    tsp.CLOSE: 8,
    tsp.SUBMIT: 32,
    tsp.FETCH: 32,
    tsp.STATUS: 8,
    tsp.BATCH: 4,
    tsp.DELETE: 8,
    tsp.CANCEL: 2,
    tsp.RETRY: 2,
    tsp.LIST: 2,
    tsp.SERVICES: 2,
    tsp.PAUSE: 1,
    tsp.RESUME: 1,
    tsp.EVENTS: 4,
    tsp.HELLO: 2,
    tsp.STATS: 1,
    STORE: 1,
    BACKUP: 2,
}
"""Registrations per service: a MDP worker answers one request at a time, and an answer waits for a sync."""
MMI_TIMEOUT_S: Final = 2.5
CALL_TIMEOUT_S: Final = 7 * 24 * 3_600.0
"""Longer than any attempt: the attempt's own timeout gives a call up."""


class BrokerShell:
    """A plain Majordomo broker on one ROUTER socket; ``curve`` is the folder with its keys."""

    def __init__(
        self, bind: str, trace: TraceLine | None, curve: FilePath | None = None, *, by_libzmq: bool = False
    ) -> None:
        self._clock = Clock()
        self._turn: Now | None = None  # one reading of the clocks for all messages of a turn
        self._alarm = Alarm(self._clock, self._tick)
        limits = BrokerLimits()
        self._door = door = Door(
            self._clock,
            self._receive,
            self._gone,
            self._refused,
            self._settle,
            message_max_bytes=limits.message_max_bytes,
            frames_max=limits.frames_max_count,
            curve=curve,
            accounted_bytes=self._accounted_bytes,
            on_lost=self._lost,
            on_bytes=self._read,
            by_libzmq=by_libzmq,
            trace=trace,
        )
        self._broker = Broker(door, limits=limits, admission=door.admission, forward=door.forward)
        self.endpoint = door.open(bind)

    def close(self) -> None:
        """Stop serving."""
        self._alarm.set(None)
        self._door.close()

    def _receive(self, frames: list[bytes]) -> None:
        now = self._turn
        if now is None:
            now = self._turn = self._clock.now()
        self._broker.receive(frames, now)

    def _read(self, identity: bytes, data: bytes) -> int:
        now = self._turn
        if now is None:
            now = self._turn = self._clock.now()
        return self._broker.read(identity, data, now)

    def _gone(self, identity: bytes, now: Now) -> None:
        self._broker.unreachable(identity, now)

    def _lost(self, identity: bytes, now: Now) -> None:
        self._broker.lost(identity, now)

    def _refused(self, identity: bytes, now: Now) -> None:
        self._broker.refuse(identity, now)

    def _tick(self) -> None:
        now = self._clock.now()
        self._broker.on_tick(now)
        self._door.expire(now)
        self._rearm()

    def _settle(self) -> None:
        self._turn = None
        self._rearm()

    def _rearm(self) -> None:
        self._alarm.set(earliest(self._broker.next_deadline(), self._door.next_deadline()))

    def _accounted_bytes(self) -> int:
        return self._broker.gauges["requests_waiting_bytes"]


def _until_signal() -> asyncio.Future[int]:
    """A future that SIGTERM and SIGINT resolve with 0."""
    loop = asyncio.get_running_loop()
    finished: asyncio.Future[int] = loop.create_future()

    def stop() -> None:
        if not finished.done():
            finished.set_result(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    return finished


async def run_broker(
    bind: str,
    trace: TraceLine | None = None,
    ready: Callable[[str], None] | None = None,
    *,
    curve: FilePath | None = None,
    by_libzmq: bool = False,
) -> int:
    """Serve as a plain broker until SIGTERM or SIGINT. zmq.ZMQError if the address is taken; CurveError."""
    finished = _until_signal()
    broker = BrokerShell(bind, trace, curve, by_libzmq=by_libzmq)
    try:
        if ready is not None:
            ready(broker.endpoint)
        return await finished
    finally:
        broker.close()


class TitanicService:
    """Titanic as worker and client of the broker at ``endpoint``."""

    def __init__(
        self,
        endpoint: str,
        journal: Journal,
        recovered: Recovered,
        *,
        id_secret: bytes,
        version: str,
        limits: TitanicLimits,
        trace: TraceLine | None,
        keys: ClientKeys | None = None,
        store: StorePort | None = None,
        by_libzmq: bool = False,
    ) -> None:
        self._clock = Clock()
        self._keys = keys
        self._by_libzmq = by_libzmq
        self._alarm = Alarm(self._clock, self._tick)
        self._courier = Courier()
        self._dealer = NodeDealer([endpoint], keys=keys, trace=trace, by_libzmq=by_libzmq)
        self._tags = itertools.count()
        self._asked: dict[bytes, asyncio.Future[list[bytes]]] = {}
        self._calls: dict[bytes, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._woken: dict[bytes, None] = {}
        self._workers = [self._worker(endpoint, name, count, trace) for name, count in SLOTS.items()]
        self.finished = _until_signal()
        self.shell = TitanicShell(
            journal,
            self._clock,
            self._reply,
            {Wake: self._wake, Abandon: self._abandon},
            id_secret=id_secret,
            version=version,
            limits=limits,
            store=store,
        )
        self.shell.titanic.restore(recovered.jobs, recovered.notes, self._clock.now())

    def _worker(self, endpoint: str, service: bytes, count: int, trace: TraceLine | None) -> Worker:
        worker = Worker(
            [endpoint], concurrency=count, keys=self._keys, trace=trace, by_libzmq=self._by_libzmq
        )

        async def answer(job: WorkerJob) -> Sequence[bytes]:
            tag = next(self._tags).to_bytes(8, "big")
            future: asyncio.Future[list[bytes]] = asyncio.get_running_loop().create_future()
            self._asked[tag] = future
            try:
                self._guard(lambda: self.shell.handle(service, (tag,), job.frames, self._clock.now()))
                return await future
            finally:
                del self._asked[tag]

        worker.add(service.decode(), answer)
        return worker

    async def run(self) -> int:
        """Serve until a signal or a failed journal; the exit code."""
        self._dealer.start()
        serving = [asyncio.ensure_future(worker.serve()) for worker in self._workers]
        queues = self.shell.titanic.life.queues
        self._woken.update({name: None for name, queue in queues.items() if queue.queued_count})
        self._settle()
        try:
            return await self.finished
        finally:
            self._alarm.set(None)
            for worker in self._workers:
                worker.drain()
            for future in self._asked.values():
                if not future.done():
                    future.set_exception(AttemptFailedError("titanic is stopping; ask again"))
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await asyncio.gather(*serving)
            self._dealer.close()

    def on_synced(self) -> None:
        """The journal made something durable, or failed: called on the loop."""
        self._guard(self.shell.on_synced)

    def _guard(self, step: Callable[[], None]) -> None:
        """Run one step and hand out what it woke; a failed journal ends the process."""
        try:
            step()
            self._pursue_all()
        except JournalFailedError as error:
            log.critical("the journal failed, nothing more is acknowledged: %s", error)
            if not self.finished.done():
                self.finished.set_result(1)
            return
        self._alarm.set(earliest(self.shell.titanic.next_deadline(), self._courier.next_deadline()))

    def _settle(self) -> None:
        self._guard(lambda: None)

    def _tick(self) -> None:
        now = self._clock.now()
        while (service := self._courier.due(now)) is not None:
            self._woken[service] = None
        self._guard(lambda: self.shell.titanic.on_tick(now))

    # -- answers to clients of titanic.*

    def _reply(self, path: Path, service: bytes, frames: Sequence[bytes]) -> None:
        del service
        future = self._asked.get(path[0])
        if future is not None and not future.done():
            future.set_result(list(frames))

    # -- work to the broker

    def _wake(self, effect: Effect) -> None:
        assert isinstance(effect, Wake)
        self._woken[effect.service] = None

    def _abandon(self, effect: Effect) -> None:
        assert isinstance(effect, Abandon)
        call = self._calls.get(attempt_address(effect.job))
        if call is not None:
            call.cancel()

    def _pursue_all(self) -> None:
        while self._woken:
            service, _ = self._woken.popitem()
            self._pursue(service)

    def _pursue(self, service: bytes) -> None:
        queue = self.shell.titanic.life.queues.get(service)
        if (queue is not None and queue.queued_count) and self._courier.should_ask(service):
            self._spawn(self._ask(service))
        for _ in range(self._courier.room(service)):
            work = self.shell.take(service, b"", self._clock.now())
            if work is None:
                self._courier.exhausted(service)
                return
            self._courier.sent(service)
            self._calls[work.address[:ADDRESS_BYTES]] = self._spawn(self._carry(service, work))

    async def _ask(self, service: bytes) -> None:
        try:
            answer = await self._dealer.call(b"mmi.service", [service], MMI_TIMEOUT_S)
            available = answer[0][:3] == b"200"
        except (ServerUnreachableError, IndexError):
            available = False
        self._courier.answered(service, self._clock.now(), available=available)
        self._woken[service] = None
        self._settle()

    async def _carry(self, service: bytes, work: Work) -> None:
        reply: list[bytes] | None = None
        reason = "the attempt was given up"
        try:
            reply = await self._dealer.call(service, list(work.frames), CALL_TIMEOUT_S)
        except ServerUnreachableError as error:
            reason = str(error)
        finally:
            del self._calls[work.address[:ADDRESS_BYTES]]
            self._courier.returned(service, replied=reply is not None)
            self._woken[service] = None
            now = self._clock.now()
            if reply is not None:
                frames = reply
                self._guard(lambda: self.shell.titanic.done(work.address, frames, now))
            elif not self.finished.done():
                self._guard(lambda: self.shell.titanic.lost(work.address, reason, now))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def run_service(
    broker_endpoint: str,
    journal: Journal,
    recovered: Recovered,
    *,
    id_secret: bytes,
    bind_notify: Callable[[Callable[[], None]], None],
    version: str = "",
    limits: TitanicLimits | None = None,
    keys: ClientKeys | None = None,
    trace: TraceLine | None = None,
    ready: Callable[[str], None] | None = None,
    store: StorePort | None = None,
    by_libzmq: bool = False,
) -> int:
    """Run Titanic at somebody's broker until SIGTERM, SIGINT or a failed journal; the exit code."""
    loop = asyncio.get_running_loop()
    service = TitanicService(
        broker_endpoint,
        journal,
        recovered,
        id_secret=id_secret,
        version=version,
        limits=limits or TitanicLimits(),
        keys=keys,
        trace=trace,
        store=store,
        by_libzmq=by_libzmq,
    )

    def notify() -> None:
        loop.call_soon_threadsafe(service.on_synced)

    bind_notify(notify)
    if ready is not None:
        ready(broker_endpoint)
    return await service.run()
