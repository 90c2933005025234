"""The two machines of a simulated pair, and the runs of their processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from core.errors import PeerError
from core.pure import peer as wire_format
from core.pure.fold import Fold
from core.pure.pair import ACTIVE, State
from core.pure.peer import Beat, Record
from core.pure.ports import Abandon, Wake
from core.pure.twin import TwinOptions
from core.pure.watch import Times
from core.shell.titanic_port import TitanicShell
from gateway.composition.pair_host import Call, MergeRow, PairHost, call
from gateway.composition.replica import PairJournal
from tests.simulation import checks
from tests.simulation.clients import PASSIVE, SERVICE
from tests.simulation.memory_ring import MemoryDisk
from titanic_store import Flag

if TYPE_CHECKING:
    from tests.simulation.clients import Client
    from tests.simulation.world import World

TICK_MS = 100
SCRUB_MS = 1_000
TIMES = Times()


class Host(PairHost):
    """A PairHost whose merges the ledger is told of."""

    world: World

    def merge(self, records: Sequence[Record], common: int, *, done: Callable[[], None]) -> None:
        ours = {epoch for epoch, _ in self.journal.epochs()}
        self.world.ledger.split_epochs |= {record.epoch for record in records} - ours
        super().merge(records, common, done=done)


class Process:
    """One run of one node."""

    def __init__(self, node: Node) -> None:
        world = node.world
        self.node = node
        self.random = node.random
        self.clock = node.clock
        self.met_epoch = 0  # the highest of an active peer, or brought by a client
        self.commit_due = False
        self._scrub_ms = 0
        ring, fold = node.open_ring()
        self.host = Host(
            PairJournal(ring, fold.notes),
            clock=self.clock.now,
            make_shell=self.make_shell,
            drop_shell=lambda: None,
            again=self.again,
            aside=lambda journal, seq: None,
            report=self.report,
            send=self.send,
            deliver=self.deliver,
            tell=lambda event, text: world.note(f"{node.name}: {text}"),
            halt=lambda why: world.at(0, node.kill),
        )
        self.host.world = world
        self.twin = self.host.twin = world.twin_class(
            lambda: self.host.journal,
            self.host,
            TwinOptions(
                backup=node.backup,
                sync=world.sync,
                serve_alone=world.serve_alone,
                lag_max_count=world.lag_max_count,
                times=TIMES,
            ),
            session=self.random.getrandbits(48) + 1,
            epoch=ring.epoch,
            flags=ring.flags,
            peer_seq=ring.peer_seq,
            now_ms=self.clock.now().mono_ms,
        )

    def make_shell(self, journal: PairJournal) -> TitanicShell:
        shell = TitanicShell(
            journal,
            self.clock,
            self.reply,
            {Wake: lambda effect: None, Abandon: lambda effect: None, Call: call},
            id_secret=journal.id_secret,
        )
        shell.titanic.restore(journal.jobs, journal.notes, self.clock.now())
        return shell

    def again(self, journal: PairJournal, first_seq: int, id_secret: bytes) -> PairJournal:
        flags, epoch = journal.flags, journal.epoch
        self.node.new_disk(id_secret, first_seq, epoch)
        ring, fold = self.node.open_ring()
        clear = Flag.PAIR_NEW & ~Flag(flags)
        ring.set_role_flags(set=Flag(flags), clear=clear, token=0)
        ring.commit()
        return PairJournal(ring, fold.notes)

    def report(self, rows: Sequence[MergeRow], epoch: int) -> None:
        del epoch
        self.node.world.ledger.named |= {row.key for row in rows if row.service == SERVICE}

    # -- to the outside

    def send(self, frames: list[bytes]) -> None:
        world, peer = self.node.world, self.node.peer
        world.over(self.node.wire, lambda: peer.receive(frames))

    def reply(self, path: Any, service: bytes, frames: Any) -> None:
        del service
        self.twin.answer((*path, tuple(frames)), self.clock.now().mono_ms)

    def deliver(self, answer: object) -> None:
        client, number, frames = cast("tuple[Client, int, Any]", answer)
        checks.on_answer(self, client.asked[number], frames)
        wire = client.wires[self.node.number]
        self.node.world.over(wire, lambda: client.receive(self.node.number, frames, number))

    # -- from the outside

    def guarded(self, work: Callable[[], None]) -> None:
        """Do it now; then let the disk have what was appended, and the peer what is to be shipped."""
        work()
        self.settle()

    def settle(self) -> None:
        node, ring = self.node, cast("Any", self.host.journal.ring)
        if node.process is not self:
            return
        self.twin.flush(self.clock.now().mono_ms)
        if ring.busy and not self.commit_due:
            self.commit_due = ring.committing = True
            slow = self.random.random() < node.slow_disk
            delay_ms = self.random.randint(1, 6) + slow * self.random.randint(100, 3_000)
            node.world.at(delay_ms, self.commit)

    def commit(self) -> None:
        node, ring = self.node, cast("Any", self.host.journal.ring)
        if node.process is not self:
            return
        if node.paused or node.stuck:
            node.asleep.append(self.commit)
            return
        self.commit_due = ring.committing = False
        ring.commit()
        self.guarded(self.host.on_synced)

    def tick(self) -> None:
        node = self.node
        if node.process is not self:
            return
        node.world.at(TICK_MS, self.tick)
        if node.paused:
            return
        now = self.clock.now()
        self.guarded(lambda: self.twin.on_tick(now.mono_ms))
        shell = self.host.shell
        if shell is not None:
            self.guarded(lambda: shell.titanic.on_tick(now))
            self.work()
        if node.world.now_ms >= self._scrub_ms and isinstance(node.disk, MemoryDisk):
            self._scrub_ms = node.world.now_ms + SCRUB_MS
            cast("Any", self.host.journal.ring).scrub()
        if node.process is self:
            checks.on_tick(self)

    def work(self) -> None:
        """A worker takes a job now and then, and answers some time later."""
        world, shell = self.node.world, self.host.shell
        if shell is None or not self.twin.active or self.random.random() < 0.3:
            return
        found = shell.take(SERVICE, b"worker", self.clock.now())
        if found is None:
            return
        self.settle()
        world.ledger.executed += 1
        text = b"%d/" % self.random.getrandbits(32) + found.frames[0]

        def done() -> None:
            if self.node.process is self and self.host.shell is shell:
                shell.titanic.done(found.address, [text], self.clock.now())
                self.settle()

        world.at(self.random.randint(5, 300), lambda: self.node.act(done))

    def request(self, client: Client, number: int, service: bytes, body: list[bytes]) -> None:
        """A client asks; only an active node does anything about it."""
        shell = self.host.shell
        if shell is None or not self.twin.active or self.twin.state is State.HANDING:
            wire = client.wires[self.node.number]
            self.node.world.over(wire, lambda: client.receive(self.node.number, PASSIVE, number))
            return
        shell.handle(service, cast("Any", (client, number)), body, self.clock.now())

    def hello(self, client: Client, epoch: int, stamp_ms: int) -> None:
        """A client says hello: the vote."""
        now_ms = self.clock.now().mono_ms
        self.met_epoch = max(self.met_epoch, epoch)
        self.twin.on_vote(epoch, now_ms, stamp_ms)
        said = (b"hello", self.twin.active and self.host.shell is not None, self.twin.epoch, now_ms)
        self.node.world.over(client.wires[self.node.number], lambda: client.receive(self.node.number, said))

    def message(self, frames: list[bytes]) -> None:
        """The peer says something."""
        try:
            said = wire_format.decode(frames)
        except PeerError:
            said = None
        if isinstance(said, Beat) and State(said.state) in ACTIVE:
            self.met_epoch = max(self.met_epoch, said.epoch)
        self.twin.on_message(frames, self.clock.now().mono_ms)


class Node:
    """A machine: its disk stays, its process comes and goes."""

    def __init__(self, world: World, number: int) -> None:
        self.world, self.number, self.name = world, number, "AB"[number]
        self.backup = bool(number)
        self.random = world.stream(f"node {self.name}")
        self.clock = world.clock(self.random.randint(1, 1_000_000), self.random.uniform(-0.001, 0.001))
        self.wire = world.wire(f"from {self.name}")  # to the peer
        self.disk: Any = world.disk_class(self.random.randbytes(32))
        self.process: Process | None = None
        self.paused = self.stuck = self.lost = False
        self.asleep: list[Callable[[], None]] = []
        self.slow_disk = 0.0

    @property
    def peer(self) -> Node:
        return self.world.nodes[1 - self.number]

    def new_disk(self, secret: bytes, first_seq: int, epoch: int) -> None:
        self.disk = self.world.disk_class(secret, first_seq=first_seq, epoch=epoch)

    def open_ring(self) -> tuple[Any, Fold]:
        fold = Fold()
        return self.disk.open(fold), fold

    def start(self) -> None:
        """A new process, unless there is one, or the disk hangs or is gone."""
        if self.process is None and not self.stuck and not self.lost:
            self.world.note(f"{self.name}: starts")
            self.process = Process(self)
            self.world.at(self.random.randint(0, TICK_MS), self.process.tick)

    def kill(self) -> None:
        """The power of this machine fails."""
        if self.process is not None:
            self.world.note(f"{self.name}: killed")
            self.process = None
            self.disk.crash(self.random)
            self.asleep.clear()
            self.paused = False

    def stop(self) -> None:
        """A planned stop of a node that is not active: it says goodbye (P4)."""
        process = self.process
        assert process is not None, "somebody is there"
        process.send(wire_format.encode(wire_format.Goodbye(process.twin.watch.session)))
        process.host.journal.ring.commit()
        self.kill()

    def lose_disk(self) -> None:
        """The machine is gone, and comes back with an empty disk once all is healed."""
        self.kill()
        self.world.note(f"{self.name}: its disk is lost")
        self.lost = True
        self.disk = self.world.disk_class(self.random.randbytes(32))

    def rot(self, count: int, *, sound: MemoryDisk) -> None:
        """Some records of this disk fail their checksums from now on."""
        self.world.note(f"{self.name}: {count} records rot")
        self.disk.rot(count, sound, self.random)

    def pause(self) -> None:
        if self.process is not None and not self.paused:
            self.world.note(f"{self.name}: paused")
            self.paused = True

    def resume(self) -> None:
        """Everything that waited in buffers comes at once, in order."""
        if self.paused:
            self.world.note(f"{self.name}: resumed")
            self.paused = False
            self._wake()

    def stick(self) -> None:
        """No sync of this disk comes back; the process goes on."""
        self.world.note(f"{self.name}: its disk hangs")
        self.stuck = True

    def unstick(self) -> None:
        if self.stuck:
            self.world.note(f"{self.name}: its disk works again")
            self.stuck = False
            if not self.paused:
                self._wake()

    def _wake(self) -> None:
        waiting, self.asleep = self.asleep, []
        for act in waiting:
            act()

    def act(self, work: Callable[[], None]) -> None:
        """Something arrives: now, or in a buffer while the process sleeps."""
        if self.paused:
            self.asleep.append(lambda: self.act(work))
        elif self.process is not None:
            work()

    def receive(self, frames: list[bytes]) -> None:
        def take() -> None:
            process = self.process
            assert process is not None, "somebody is there"
            process.guarded(lambda: process.message(frames))

        self.act(take)

    def refused(self) -> None:
        """The peer's port is closed."""

        def take() -> None:
            process = self.process
            assert process is not None, "somebody is there"
            process.guarded(lambda: process.twin.on_refused(process.clock.now().mono_ms))

        self.act(take)
