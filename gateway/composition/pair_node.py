"""One node of a pair: a node that serves only while its twin says so, and the wire to its peer."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path as FilePath
from typing import Final, cast

import msgspec

from core.errors import JournalFailedError, PeerError
from core.pure import mdp, pair_view, peer, tsp
from core.pure.jobs import Now
from core.pure.limits import BrokerLimits
from core.pure.mdp_messages import ClientRequest, WorkerReady, WorkerReply
from core.pure.pair import ACKNOWLEDGES, Event, IllegalStepError, State
from core.pure.pair_heads import (
    PAIR,
    PairCommand,
    PairStatus,
    decode_command,
    maybe_vote,
)
from core.pure.pair_story import story
from core.pure.ports import Path, Work
from core.pure.receipts import worth
from core.pure.twin import Twin, TwinOptions
from core.shell.clock import earliest
from core.shell.node import Node, NodeOptions
from core.shell.peer import PeerLink
from core.shell.titanic_port import TitanicShell
from gateway.composition.pair_host import Call, MergeRow, PairHost, call
from gateway.composition.replica import PairJournal
from gateway.composition.storefile import RingStore

log = logging.getLogger("titanic.pair")

TICK_S: Final = 0.1
STEP_DOWN_S: Final = 7.0
SEEN_S: Final = 2.0
SESSION_BITS: Final = 62
WORKING: Final = ACKNOWLEDGES - {State.HANDING}
"""Hands out work, takes new requests."""


def link_message_max_bytes(limits: BrokerLimits) -> int:
    """What the link lets through: a batch, and one record of the largest size behind it."""
    return limits.message_max_bytes + (2 << 20)


class PairOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Where the two nodes of a pair talk to each other, and how this one behaves."""

    bind: str
    peer: str
    twin: TwinOptions


class PairNode(Node):
    """A :class:`Node` whose journal is replicated and that serves while it is active."""

    def __init__(
        self,
        journal: PairJournal,
        options: NodeOptions,
        pair: PairOptions,
        *,
        again: Callable[[PairJournal, int, bytes], PairJournal],
        aside: Callable[[PairJournal, int], None],
        report: Callable[[Sequence[MergeRow], int], None],
        trace: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(journal, journal, options, id_secret=journal.id_secret, trace=trace, serve=False)
        self._pair = pair
        self._started_ms = self._now.wall_ms
        self._unanswered: dict[Path, bytes] = {}
        self._worked = False
        self.halted = False
        self._link = PeerLink(
            pair.bind,
            pair.peer,
            self._on_peer,
            self._on_refused,
            self._settle,
            message_max_bytes=link_message_max_bytes(options.limits),
            curve=options.curve,
        )
        self.peer_endpoint = self._link.endpoint
        self.link_encrypted = self._link.encrypted
        self.host = PairHost(
            journal,
            clock=self._clock.now,
            make_shell=self._begin,
            drop_shell=self._end,
            again=again,
            aside=aside,
            report=report,
            send=self._link.send,
            deliver=self._deliver,
            tell=lambda event, text: log.warning("%s", text),
            halt=self._halt,
            announces=True,
            describe=lambda twin, before, event, after: story(twin, before, event, after, pair.peer),
        )
        self.twin = self.host.twin = Twin(
            lambda: self.host.journal,
            self.host,
            pair.twin,
            session=secrets.randbits(SESSION_BITS) + 1,
            epoch=journal.epoch,
            flags=journal.flags,
            peer_seq=journal.peer_seq,
            now_ms=self._now.mono_ms,
        )

    # -- life

    def start(self) -> str:
        """See Node.start; the peer is looked for from now on."""
        endpoint = self.twin.nodes = super().start()
        self._link.start()
        asyncio.get_running_loop().call_later(TICK_S, self._beat)
        return endpoint

    def close(self) -> None:
        """See Node.close."""
        self._link.close()
        super().close()

    async def step_down(self) -> None:
        """Before a planned stop: hand over if there is somebody in sync, or say goodbye (P9)."""
        if self.twin.state is State.PAIRED:
            self.twin.command(Event.HANDOVER, self._clock.now().mono_ms)
            await self._until(lambda: not self.twin.active, STEP_DOWN_S)
            await self._until(lambda: self.twin.state is not State.YIELDING, SEEN_S)
        elif not self.twin.active:
            self._link.send(peer.encode(peer.Goodbye(self.twin.watch.session)))
            await asyncio.sleep(0)

    async def _until(self, condition: Callable[[], bool], limit_s: float) -> None:
        end = time.monotonic() + limit_s
        while not condition() and time.monotonic() < end and not self.finished.done():
            await asyncio.sleep(TICK_S / 4)

    def _halt(self, why: str) -> None:
        log.critical("the node ends: %s", why)
        self.halted = True
        self.stop(1)

    # -- time and news

    def _beat(self) -> None:
        if self.finished.done():
            return
        asyncio.get_running_loop().call_later(TICK_S, self._beat)
        self._now = now = self._clock.now()
        self._guarded(lambda: self.twin.on_tick(now.mono_ms))

    def _on_peer(self, frames: list[bytes]) -> None:
        self._now = now = self._clock.now()
        try:
            self._guarded(lambda: self.twin.on_message(frames, now.mono_ms), settle=False)
        except Exception:
            if self.twin.active:
                raise  # one message of the peer is lost, and comes again
            log.exception("a message of the peer cannot be dealt with")
            self._halt("it follows nobody like this; a fresh start begins the join anew")

    def _on_refused(self) -> None:
        now_ms = self._clock.now().mono_ms
        self._guarded(lambda: self.twin.on_refused(now_ms))

    def on_synced(self) -> None:
        """See Node.on_synced."""
        self._now = self._clock.now()
        self._guarded(self.host.on_synced)

    def _guarded(self, work: Callable[[], None], *, settle: bool = True) -> None:
        try:
            work()
        except JournalFailedError as error:
            self._fail(error)
            return
        except IllegalStepError as error:  # our own mistake: better one node than a guess
            self._halt(str(error))
            return
        if settle:
            self._settle()

    def _settle(self) -> None:
        working = self.twin.state in WORKING
        if working and not self._worked and self._shell is not None:
            for service in list(self._shell.titanic.life.queues):
                self._woken[service] = None
        self._worked = working
        if not working:
            self._woken.clear()
        self.twin.flush(self._now.mono_ms)
        super()._settle()

    def _rearm(self) -> None:
        shell = self._shell
        titanic = shell.titanic.next_deadline() if shell is not None else None
        self._alarm.set(earliest(self.broker.next_deadline(), titanic, self._door.next_deadline()))

    def _tick(self) -> None:
        self._now = now = self._clock.now()

        def work() -> None:
            self.broker.on_tick(now)
            if self._shell is not None and self.twin.state in WORKING:
                self._shell.titanic.on_tick(now)
            self._door.expire(now)

        self._guarded(work)

    def _accounted_bytes(self) -> int:
        return self.broker.gauges["requests_waiting_bytes"] + 600 * len(self.host.journal.index)

    # -- serving

    def _begin(self, journal: PairJournal) -> TitanicShell:
        store = RingStore(journal.ring)
        return self.serve(journal, journal, id_secret=journal.id_secret, store=store, more={Call: call})

    def _end(self) -> None:
        """Whoever waits for an answer is told to ask the other node."""
        self._shell = None
        self.broker.dismiss("this node is passive now", self._now)
        unanswered, self._unanswered = self._unanswered, {}
        for path, service in unanswered.items():
            self._refuse(path, service)

    def _refuse(self, path: Path, service: bytes) -> None:
        detail = f"this node is passive ({self.twin.state.value})"
        frames = (tsp.PASSIVE, tsp.encode_head(tsp.ErrorHead(detail)))
        super()._reply(path, service, frames)

    def _read(self, identity: bytes, data: bytes) -> int:
        """See Node._read; a passive node looks at every message."""
        return super()._read(identity, data) if self.twin.active else 0

    def _receive(self, frames: list[bytes]) -> None:
        """Everything while active. A passive node answers ``titanic.*`` and sends workers away.

        Plain requests get no answer, as in the guide: their clients ask the other node after a while. Both
        are votes of somebody who knows no epoch (P3): a system without a gateway fails over too. A reply that
        is handed in where it cannot be taken yet goes back to its worker, who asks the other node.
        """
        try:
            message = None if self.twin.state in WORKING else mdp.parse(frames)
        except PeerError:
            message = None  # counted below
        if isinstance(message, WorkerReply) and not self.broker.knows(message.identity):
            self._send_away(message)
        elif self.twin.active or message is None:
            super()._receive(frames)
        elif isinstance(message, WorkerReady):
            self._send_away(message)
        elif isinstance(message, ClientRequest) and not message.service.startswith(tsp.RESERVED):
            self._vote()
        else:
            super()._receive(frames)

    def _send_away(self, message: WorkerReady | WorkerReply) -> None:
        self.send(mdp.to_worker_disconnect(message.identity, version=message.version, reason=mdp.PASSIVE))
        self._vote()

    def _vote(self) -> None:
        now_ms = self._clock.now().mono_ms
        self._guarded(lambda: self.twin.on_vote(0, now_ms))

    def handle(self, service: bytes, path: Path, body: Sequence[bytes], now: Now) -> None:
        """A ``titanic.*`` request: hello and the pair's own here, jobs in the Titanic service."""
        if service == tsp.HELLO:
            self._hello(path, body, now)
        elif service == PAIR:
            self._command(path, body, now)
        elif self._shell is None or self.twin.state is State.HANDING:
            self._refuse(path, service)
        else:
            self._unanswered[path] = service
            self._shell.handle(service, path, body, now)

    def _reply(self, path: Path, service: bytes, frames: Sequence[bytes]) -> None:
        """An answer of the Titanic service: it leaves when it is true on both disks (P2)."""
        self.twin.answer((path, service, frames), self._clock.now().mono_ms)

    def _deliver(self, answer: object) -> None:
        path, service, frames = cast("tuple[Path, bytes, Sequence[bytes]]", answer)
        self._unanswered.pop(path, None)
        if not self.twin.shares:  # made while the pair was whole, perhaps: it is worth less now
            frames = worth(service, frames, self.host.durability)
        super()._reply(path, service, frames)

    def take(self, service: bytes, worker: bytes, now: Now) -> Work | None:
        """See Backlog.take."""
        if self._shell is None or self.twin.state not in WORKING:
            return None
        return super().take(service, worker, now)

    def done(self, address: bytes, frames: Sequence[bytes], now: Now) -> None:
        """See Backlog.done."""
        if self._shell is not None:
            super().done(address, frames, now)

    def lost(self, address: bytes, reason: str, now: Now, *, stated: bool = False) -> None:
        """See Backlog.lost."""
        if self._shell is not None:
            super().lost(address, reason, now, stated=stated)

    def progress(self, address: bytes, frames: Sequence[bytes], now: Now) -> None:
        """See Backlog.progress."""
        if self._shell is not None:
            super().progress(address, frames, now)

    def waiting(self, service: bytes) -> int:
        """See Backlog.waiting."""
        return super().waiting(service) if self._shell is not None else 0

    def orphan(self, address: bytes) -> bytes | None:
        """See Backlog.orphan."""
        if self._shell is None or self.twin.state not in WORKING:
            return None
        return super().orphan(address)

    # -- what clients and operators ask of a pair

    def _hello(self, path: Path, body: Sequence[bytes], now: Now) -> None:
        """Who this node is. The question is the client's vote (P3), and brings the highest epoch it met."""
        vote = maybe_vote(body)
        if vote is not None:
            self._guarded(lambda: self.twin.on_vote(vote.epoch, now.mono_ms, vote.stamp_ms))
        twin, journal = self.twin, self.host.journal
        active = twin.active and self._shell is not None
        hello = tsp.Hello(
            version=self._options.version,
            role="active" if active else "passive",
            epoch=twin.epoch,
            ready=active and twin.state in ACKNOWLEDGES,
            reason=pair_view.why_not(twin, self._pair.peer, now.mono_ms),
            durability=self.host.durability,
            id_secret=journal.id_secret,
            max_body_bytes=self._options.titanic.request_max_bytes,
            started_ms=self._started_ms,
            jobs=len(journal.index),
            key_lifetime_ms=self._options.titanic.key_lifetime_ms,
            key_lifetime_max_ms=self._options.titanic.key_lifetime_max_ms,
            state=twin.state.value,
            active_at=pair_view.active_at(twin, self._pair.peer),
            stamp_ms=now.mono_ms,
        )
        super()._reply(path, tsp.HELLO, (tsp.OK, tsp.encode_head(hello)))

    def _command(self, path: Path, body: Sequence[bytes], now: Now) -> None:
        try:
            command = decode_command(body[0]) if body else PairCommand()
        except msgspec.MsgspecError as error:
            head = tsp.encode_head(tsp.ErrorHead(f"pair head: {error}"))
            super()._reply(path, PAIR, (tsp.UNKNOWN, head))
            return
        status = tsp.OK
        if command.action == "handover":
            done = self.twin.command(Event.HANDOVER, now.mono_ms)
            status = tsp.OK if done else tsp.CONFLICT
        elif command.action == "promote":
            done = command.force and self.twin.command(Event.PROMOTE, now.mono_ms)
            status = tsp.OK if done else tsp.CONFLICT
        super()._reply(path, PAIR, (status, tsp.encode_head(self.status(now))))

    def status(self, now: Now) -> PairStatus:
        """What an operator wants to know of this node."""
        return pair_view.pair_status(
            self.twin,
            self.host.journal,
            now,
            backup=self._pair.twin.backup,
            replication="sync" if self._pair.twin.sync else "local",
            broker=self.twin.nodes,
            link=self._pair.peer,
            link_up=self._link.up,
            encrypted=self._link.encrypted,
            merged=self.host.merged,
        )

    def _counters(self) -> dict[str, int]:
        twin = self.twin
        return {
            **super()._counters(),
            **twin.counters,
            "pair_held_dropped": twin.held_dropped_count,
            "pair_records_mended": twin.mending.mended_count,
            "pair_records_not_mended": twin.mending.vain_count,
            "pair_records_lent": twin.mending.lent_count,
            "pair_link_refused": self._link.refused_count,
        }


async def run_pair_node(
    node: PairNode,
    *,
    bind_notify: Callable[[Callable[[], None]], None],
    ready: Callable[[str], None],
) -> int:
    """Serve until SIGTERM or SIGINT (after stepping down), or until the journal fails; the exit code."""
    loop = asyncio.get_running_loop()

    def notify() -> None:
        loop.call_soon_threadsafe(node.on_synced)

    bind_notify(notify)
    loop.call_soon(node.on_synced)  # what was synced before anybody listened
    stopping: list[asyncio.Task[None]] = []

    async def stop() -> None:
        await node.step_down()
        node.stop()

    def asked() -> None:
        if stopping:
            node.stop()  # the second time: at once
        else:
            stopping.append(asyncio.ensure_future(stop()))

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked)
    try:
        ready(node.start())
        return await node.finished
    finally:
        node.close()
        if node.halted:
            logging.shutdown()
            os._exit(1)  # a sync that hangs cannot be waited for


def write_aside(folder: FilePath, journal: PairJournal, seq: int) -> FilePath | None:
    """Keep the records behind ``seq`` in a file of their own before they are cut (P6)."""
    if journal.last_seq <= seq:
        return None
    path = folder / f"aside-{journal.epoch}-{seq + 1}.msgpack"
    rows = [(*record[:6], b"".join(record.body)) for record in journal.records_after(seq)]
    path.write_bytes(msgspec.msgpack.encode(rows))
    return path
