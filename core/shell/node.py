"""The node: one ROUTER socket, the broker, the Titanic service as its internal service, and the journal.

One thread reads, asks and sends; the journal's own thread syncs and calls back through the loop.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path as FilePath
from typing import Final

import msgspec

from core.errors import JournalFailedError
from core.pure import mdp
from core.pure.broker import Broker, BrokerLimits
from core.pure.jobs import Now
from core.pure.keeping import KeepLimits
from core.pure.ports import Abandon, Effect, Journal, Path, Wake, Work
from core.pure.store_heads import StorePort
from core.pure.titanic import TitanicLimits, attempt_address
from core.shell.clock import Alarm, Clock, earliest
from core.shell.door import Door
from core.shell.titanic_port import AttemptSpans, Recovered, TitanicShell

log = logging.getLogger("titanic.node")

JOB_BYTES: Final = 600
"""What an open job may take in memory, generously (B2)."""


class NodeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a node listens and what bounds it."""

    broker: str = "tcp://127.0.0.1:5555"
    version: str = ""
    titanic: TitanicLimits = TitanicLimits()
    limits: BrokerLimits = BrokerLimits()
    keep: KeepLimits = KeepLimits()
    curve: FilePath | None = None  # folder with the broker's keys and allow-list
    by_libzmq: bool = False  # peers are served by libzmq also where our own ROUTER could
    spans: AttemptSpans | None = None


class Node:
    """A running node. :meth:`start` binds and serves; :meth:`stop` ends it; :attr:`finished` tells why."""

    def __init__(
        self,
        journal: Journal,
        recovered: Recovered,
        options: NodeOptions,
        *,
        id_secret: bytes,
        trace: Callable[[str], None] | None = None,
        store: StorePort | None = None,
        serve: bool = True,
    ) -> None:
        """Without ``serve`` workers may come, but nobody is served before :meth:`serve`."""
        self._options = options
        self._clock = Clock()
        self._now = self._clock.now()
        self._in_turn = False
        self._alarm = Alarm(self._clock, self._tick)
        self._woken: dict[bytes, None] = {}
        self._door = door = Door(
            self._clock,
            self._receive,
            self._gone,
            self._refused,
            self._settle,
            message_max_bytes=options.limits.message_max_bytes,
            frames_max=options.limits.frames_max_count,
            curve=options.curve,
            keep=options.keep,
            accounted_bytes=self._accounted_bytes,
            on_lost=self._lost,
            on_bytes=self._read,
            by_libzmq=options.by_libzmq,
            trace=trace,
        )
        self.send = door.send
        self.finished: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.broker = Broker(
            door,
            internal=self,
            backlog=self,
            limits=options.limits,
            admission=door.admission,
            forward=door.forward,
        )
        self._shell: TitanicShell | None = None
        if serve:
            self.serve(journal, recovered, id_secret=id_secret, store=store)

    @property
    def shell(self) -> TitanicShell:
        """The Titanic service; only while it serves."""
        assert self._shell is not None, "asked of a node that serves"
        return self._shell

    def serve(
        self,
        journal: Journal,
        recovered: Recovered,
        *,
        id_secret: bytes,
        store: StorePort | None = None,
        more: Mapping[type[Effect], Callable[[Effect], None]] | None = None,
    ) -> TitanicShell:
        """Serve what is in the journal from now on; ``more`` performs further effects."""
        self._shell = shell = TitanicShell(
            journal,
            self._clock,
            self._reply,
            {Wake: self._wake, Abandon: self._abandon, **(more or {})},
            id_secret=id_secret,
            version=self._options.version,
            limits=self._options.titanic,
            counters=self._counters,
            store=store,
            spans=self._options.spans,
        )
        shell.titanic.desk.directory = self.broker
        shell.titanic.restore(recovered.jobs, recovered.notes, self._now)
        return shell

    # -- life of the node

    def start(self) -> str:
        """Bind and serve; returns the endpoint bound. zmq.ZMQError if it is taken."""
        endpoint = self._door.open(self._options.broker)
        self._rearm()
        return endpoint

    def stop(self, code: int = 0) -> None:
        """End the node with this exit code; the first call wins."""
        if not self.finished.done():
            self.finished.set_result(code)

    def close(self) -> None:
        """Let go of socket and timer; answers already given are sent for up to a second."""
        self._alarm.set(None)
        self._door.close()

    def on_synced(self) -> None:
        """The journal made something durable, or failed: called on the loop."""
        try:
            self._now = self._clock.now()
            self.shell.on_synced()
        except JournalFailedError as error:
            self._fail(error)
            return
        self._settle()

    def _fail(self, error: JournalFailedError) -> None:
        log.critical("the journal failed, nothing more is acknowledged: %s", error)
        self.stop(1)

    # -- messages in

    def _read(self, identity: bytes, data: bytes) -> int:
        if not self._in_turn:
            self._in_turn = True
            self._now = self._clock.now()
        try:
            return self.broker.read(identity, data, self._now)
        except JournalFailedError as error:
            self._fail(error)
            return len(data)  # nobody is served any more

    def _receive(self, frames: list[bytes]) -> None:
        if not self._in_turn:  # one reading of the clocks for all messages of a turn
            self._in_turn = True
            self._now = self._clock.now()
        try:
            self.broker.receive(frames, self._now)
        except JournalFailedError as error:
            self._fail(error)

    def _gone(self, identity: bytes, now: Now) -> None:
        self._now = now
        try:
            self.broker.unreachable(identity, now)
        except JournalFailedError as error:
            self._fail(error)

    def _lost(self, identity: bytes, now: Now) -> None:
        self._now = now
        try:
            self.broker.lost(identity, now)
        except JournalFailedError as error:
            self._fail(error)

    def _refused(self, identity: bytes, now: Now) -> None:
        self._now = now
        try:
            self.broker.refuse(identity, now)
        except JournalFailedError as error:
            self._fail(error)

    # -- the broker's Internal

    def handle(self, service: bytes, path: Path, body: Sequence[bytes], now: Now) -> None:
        """See TitanicShell.handle."""
        self.shell.handle(service, path, body, now)

    # -- the broker's Backlog

    def take(self, service: bytes, worker: bytes, now: Now) -> Work | None:
        """See Backlog.take."""
        return self.shell.take(service, worker, now)

    def done(self, address: bytes, frames: Sequence[bytes], now: Now) -> None:
        """See Backlog.done."""
        self.shell.titanic.done(address, frames, now)

    def lost(self, address: bytes, reason: str, now: Now, *, stated: bool = False) -> None:
        """See Backlog.lost."""
        self.shell.titanic.lost(address, reason, now, stated=stated)

    def progress(self, address: bytes, frames: Sequence[bytes], now: Now) -> None:
        """See Backlog.progress."""
        self.shell.titanic.progress(address, frames, now)

    def waiting(self, service: bytes) -> int:
        """See Backlog.waiting."""
        queue = self.shell.titanic.life.queues.get(service)
        return queue.queued_count if queue is not None else 0

    def orphan(self, address: bytes) -> bytes | None:
        """See Backlog.orphan."""
        return self.shell.titanic.orphan(address)

    # -- messages out

    def _reply(self, path: Path, service: bytes, frames: Sequence[bytes]) -> None:
        self.send(mdp.to_client(path, service, frames))

    def _wake(self, effect: Effect) -> None:
        assert isinstance(effect, Wake)
        self._woken[effect.service] = None  # handed out by _settle: the broker may be in mid-step now

    def _settle(self) -> None:
        """After a batch of events: hand out the work they made available, then set the timer."""
        self._in_turn = False
        try:
            while self._woken:
                service, _ = self._woken.popitem()
                self.broker.wake(service, self._now)
        except JournalFailedError as error:
            self._fail(error)
            return
        self._rearm()

    def _abandon(self, effect: Effect) -> None:
        assert isinstance(effect, Abandon)
        self.broker.abandon(attempt_address(effect.job), self._now)

    # -- time

    def _rearm(self) -> None:
        self._alarm.set(
            earliest(
                self.broker.next_deadline(), self.shell.titanic.next_deadline(), self._door.next_deadline()
            )
        )

    def _tick(self) -> None:
        self._now = self._clock.now()
        try:
            self.broker.on_tick(self._now)
            self.shell.titanic.on_tick(self._now)
            self._door.expire(self._now)
        except JournalFailedError as error:
            self._fail(error)
            return
        self._settle()

    def _counters(self) -> dict[str, int]:
        return {**self.broker.counters, **self._door.counters}

    def _accounted_bytes(self) -> int:
        """Memory that jobs and waiting requests are known to take (B2)."""
        waiting_bytes = self.broker.gauges["requests_waiting_bytes"]
        return waiting_bytes + JOB_BYTES * len(self.shell.journal.index)


async def run_node(
    journal: Journal,
    recovered: Recovered,
    options: NodeOptions,
    *,
    id_secret: bytes,
    bind_notify: Callable[[Callable[[], None]], None],
    trace: Callable[[str], None] | None = None,
    ready: Callable[[str], None] | None = None,
    store: StorePort | None = None,
) -> int:
    """Serve until SIGTERM or SIGINT, or until the journal fails; returns the exit code.

    ``bind_notify`` is given the callable that the journal's sync thread must call after each commit.
    ``ready`` is told the endpoint once the socket is bound. ``store`` is the journal's file, if it has one.
    """
    loop = asyncio.get_running_loop()
    node = Node(journal, recovered, options, id_secret=id_secret, trace=trace, store=store)

    def notify() -> None:
        loop.call_soon_threadsafe(node.on_synced)

    bind_notify(notify)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, node.stop)
    try:
        endpoint = node.start()
        if ready is not None:
            ready(endpoint)
        return await node.finished
    finally:
        node.close()
