"""A pair, its network, its clients and workers in one thread under virtual time, all from one seed.

Real: Twin, Sender, Receiver, Gate, the Titanic service, PairHost and PairJournal. Simulated: clocks, disks,
wires, and the processes' deaths and sleeps.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any, cast

from core.pure import tsp
from core.pure.fold import Fold
from core.pure.ids import RANDOM_BITS, Mint
from core.pure.jobs import Now, RequestMeta, State
from core.pure.pair import Event
from core.pure.ports import Abandon, Wake
from core.pure.twin import Twin, TwinOptions
from core.pure.watch import Times
from core.shell.clock import Clock
from core.shell.titanic_port import TitanicShell
from gateway.composition.pair_host import Call, PairHost, call
from gateway.composition.replica import PairJournal
from tests.simulation.memory_ring import MemoryDisk
from titanic_store import Flag

SERVICE = b"echo"
TICK_MS = 100
PASSIVE = (b"503",)
TIMES = Times()


class WorldClock(Clock):
    """The world's time, as a node sees it: monotonic clocks of two machines need not agree."""

    def __init__(self, world: World, skew_ms: int, drift: float) -> None:
        super().__init__()
        self._world, self._skew_ms, self._drift = world, skew_ms, drift

    def now(self) -> Now:
        mono_ms = int(self._world.now_ms * (1 + self._drift)) + self._skew_ms
        return Now(mono_ms, 1_700_000_000_000 + self._world.now_ms)


@dataclass(slots=True)
class Wire:
    """One direction of one connection."""

    low_ms: int = 1
    high_ms: int = 20
    drop: float = 0.0
    double: float = 0.0
    cut: bool = False
    ordered: bool = False  # as over one TCP connection
    last_at_ms: int = 0


@dataclass(slots=True)
class Ledger:
    """What was said and seen, for the checkers."""

    tried: set[bytes] = field(default_factory=set)
    acked: dict[bytes, int] = field(default_factory=dict)
    seen: set[bytes] = field(default_factory=set)
    close_tried: set[bytes] = field(default_factory=set)
    closed: set[bytes] = field(default_factory=set)
    replies: dict[bytes, set[bytes]] = field(default_factory=dict)
    spoken: list[tuple[int, int, int]] = field(default_factory=list)  # (time, epoch, node)
    executed: int = 0
    problems: list[str] = field(default_factory=list)
    story: list[str] = field(default_factory=list)


class Process:
    """One run of one node."""

    def __init__(self, node: Node) -> None:
        world = node.world
        self.node = node
        self.clock = WorldClock(world, node.skew_ms, node.drift)
        ring, fold = node.open_ring()
        journal = PairJournal(ring, fold.notes)
        self.host = PairHost(
            journal,
            clock=self.clock.now,
            make_shell=self.make_shell,
            drop_shell=lambda: None,
            again=self.again,
            aside=lambda journal, seq: None,
            send=self.send,
            deliver=self.deliver,
            tell=lambda event, text: world.note(f"{node.name}: {text}"),
            halt=lambda why: world.at(0, node.kill),
        )
        self.twin = self.host.twin = world.twin_class(
            lambda: self.host.journal,
            self.host,
            TwinOptions(backup=node.backup, sync=world.sync, serve_alone=world.serve_alone, times=TIMES),
            session=world.random.getrandbits(48) + 1,
            epoch=ring.epoch,
            flags=ring.flags,
            peer_seq=ring.peer_seq,
            now_ms=self.clock.now().mono_ms,
        )
        self.commit_due = False

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

    # -- to the outside

    def send(self, frames: list[bytes]) -> None:
        world, peer = self.node.world, self.node.peer
        world.over(self.node.wire, lambda: peer.receive(frames))

    def reply(self, path: Any, service: bytes, frames: Any) -> None:
        del service
        self.twin.answer((*path, tuple(frames)), self.clock.now().mono_ms)

    def deliver(self, answer: object) -> None:
        client, number, frames = cast("tuple[Client, int, Any]", answer)
        world = self.node.world
        world.ledger.spoken.append((world.now_ms, self.twin.epoch, self.node.number))
        world.over(client.wires[self.node.number], lambda: client.receive(self.node.number, frames, number))

    # -- from the outside

    def guarded(self, work: Callable[[], None]) -> None:
        """Do it now; then let the disk have what was appended, and the peer what is to be shipped."""
        work()
        self.settle()

    def settle(self) -> None:
        world, node = self.node.world, self.node
        if node.process is not self:
            return
        self.twin.flush(self.clock.now().mono_ms)
        if self.host.journal.ring.busy and not self.commit_due:  # type: ignore[attr-defined]
            self.commit_due = True
            slow = world.random.random() < node.slow_disk
            world.at(world.random.randint(1, 6) + slow * world.random.randint(100, 3_000), self.commit)

    def commit(self) -> None:
        if self.node.process is not self:
            return
        if self.node.paused:
            self.node.asleep.append(self.commit)
            return
        self.commit_due = False
        self.host.journal.ring.commit()
        self.guarded(self.host.on_synced)

    def tick(self) -> None:
        if self.node.process is not self:
            return
        self.node.world.at(TICK_MS, self.tick)
        if self.node.paused:
            return
        now = self.clock.now()
        self.guarded(lambda: self.twin.on_tick(now.mono_ms))
        if self.host.shell is not None:
            shell = self.host.shell
            self.guarded(lambda: shell.titanic.on_tick(now))
            self.work()

    def work(self) -> None:
        """A worker takes a job now and then, and answers some time later."""
        world, shell = self.node.world, self.host.shell
        if shell is None or not self.twin.active or world.random.random() < 0.3:
            return
        found = shell.take(SERVICE, b"worker", self.clock.now())
        if found is None:
            return
        self.settle()
        world.ledger.executed += 1
        text = b"%d/" % world.random.getrandbits(32) + found.frames[0]

        def done() -> None:
            if self.node.process is self and self.host.shell is shell:
                shell.titanic.done(found.address, [text], self.clock.now())
                self.settle()

        world.at(world.random.randint(5, 300), lambda: self.node.act(done))

    def request(self, client: Any, number: int, service: bytes, body: list[bytes]) -> None:
        """A client asks; only an active node does anything about it."""
        if self.host.shell is None or not self.twin.active or self.twin.state.value == "handing":
            self.node.world.over(
                client.wires[self.node.number], lambda: client.receive(self.node.number, PASSIVE, number)
            )
            return
        self.host.shell.handle(service, cast("Any", (client, number)), body, self.clock.now())

    def hello(self, client: Any, epoch: int) -> None:
        """A client says hello: the vote."""
        self.twin.on_vote(epoch, self.clock.now().mono_ms)
        said = (b"hello", self.twin.active and self.host.shell is not None, self.twin.epoch)
        self.node.world.over(client.wires[self.node.number], lambda: client.receive(self.node.number, said))


class Node:
    """A machine: its disk stays, its process comes and goes."""

    def __init__(self, world: World, number: int) -> None:
        self.world, self.number, self.name = world, number, "AB"[number]
        self.backup = bool(number)
        self.skew_ms = world.random.randint(1, 1_000_000)
        self.drift = world.random.uniform(-0.001, 0.001)
        self.wire = Wire()  # to the peer
        self.disk: Any = world.disk_class(world.random.randbytes(32))
        self.process: Process | None = None
        self.paused = False
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
        if self.process is None:
            self.world.note(f"{self.name}: starts")
            self.process = Process(self)
            self.world.at(self.world.random.randint(0, TICK_MS), self.process.tick)

    def kill(self) -> None:
        if self.process is not None:
            self.world.note(f"{self.name}: killed")
            self.process = None
            self.disk.crash(self.world.random)
            self.asleep.clear()
            self.paused = False

    def pause(self) -> None:
        if self.process is not None:
            self.world.note(f"{self.name}: paused")
            self.paused = True

    def resume(self) -> None:
        """Everything that waited in buffers comes at once, in order."""
        if self.paused:
            self.world.note(f"{self.name}: resumed")
            self.paused = False
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
            process.guarded(lambda: process.twin.on_message(frames, process.clock.now().mono_ms))

        self.act(take)

    def refused(self) -> None:
        """The peer's port is closed."""

        def take() -> None:
            process = self.process
            assert process is not None, "somebody is there"
            process.guarded(lambda: process.twin.on_refused(process.clock.now().mono_ms))

        self.act(take)


class Client:
    """A gateway with its callers: submits, looks, closes; one thing at a time, each until it is answered."""

    def __init__(self, world: World, number: int) -> None:
        self.world, self.number = world, number
        self.wires = [Wire(ordered=True), Wire(ordered=True)]  # both directions of each
        self.target = 0
        self.active = -1
        self.epoch = 0
        self.job: bytes = b""
        self.busy = False
        self.submitting = True
        self.jobs: list[bytes] = []
        self._call = 0
        self._answered: Callable[[Any], None] | None = None
        self.world.at(self.world.random.randint(1, 250), self.poll)
        self.world.at(self.world.random.randint(1, 100), self.next)

    def poll(self) -> None:
        """Ask both who they are: often while nobody is active, now and then otherwise."""
        self.world.at(250, self.poll)
        for number, node in enumerate(self.world.nodes):
            self.world.over(self.wires[number], partial(self._ask_hello, node))

    def _ask_hello(self, node: Node) -> None:
        def arrive() -> None:
            process = node.process
            assert process is not None, "somebody is there"
            process.guarded(lambda: process.hello(self, self.epoch))

        node.act(arrive)

    def receive(self, number: int, frames: Any, call_number: int = 0) -> None:
        if frames[0] == b"hello":
            if frames[1]:
                if frames[2] >= self.epoch:
                    self.epoch = frames[2]
                    self.target = self.active = number
            elif self.active == number:
                self.active = -1
            return
        if frames == PASSIVE:
            self.target = 1 - number
            return
        if call_number != self._call:
            return
        answered, self._answered = self._answered, None
        if answered is not None:
            answered(frames)

    def ask(self, service: bytes, body: list[bytes], answered: Callable[[Any], None]) -> None:
        """Until it is answered, at whatever node; the same request each time (X2)."""
        self.busy = True
        self._call += 1
        mine = self._call

        def done(frames: Any) -> None:
            self.busy = False
            answered(frames)

        def attempt() -> None:
            if self._call != mine or not self.busy:
                return
            self._answered = done
            node = self.world.nodes[self.target]
            process = node.process

            def arrive() -> None:
                if process is not None and node.process is process:
                    node.act(lambda: process.guarded(lambda: process.request(self, mine, service, body)))

            self.world.over(self.wires[self.target], arrive)
            self.world.at(self.world.random.randint(300, 700), attempt)

        attempt()

    def next(self) -> None:
        """Do one thing, if nothing is under way."""
        random, ledger = self.world.random, self.world.ledger
        self.world.at(random.randint(20, 400), self.next)
        if self.busy:
            return
        choice = random.random()
        if self.submitting and (choice < 0.5 or not self.jobs):
            self.submit()
        elif self.jobs:
            key = random.choice(self.jobs)
            if choice < 0.8:
                head = tsp.encode_head(tsp.FetchHead(key))
                self.ask(tsp.FETCH, [head], lambda frames: self.looked(key, frames))
            elif self.submitting and choice < 0.9:
                ledger.close_tried.add(key)
                self.ask(tsp.CLOSE, [key.hex().encode()], lambda frames: self.has_closed(key, frames))

    def submit(self) -> None:
        world = self.world
        key = world.mint().make(world.now_ms + 1_700_000_000_000, world.random.getrandbits(RANDOM_BITS))
        world.ledger.tried.add(key)
        meta = RequestMeta(SERVICE, 0)
        body = [tsp.encode_head(tsp.SubmitHead(key, meta)), key.hex().encode()]

        def answered(frames: Any) -> None:
            if frames[0] == tsp.OK:
                ack = tsp.decode_ack(frames[1])
                world.ledger.acked[key] = ack.epoch
                self.jobs.append(key)
            elif frames[0] == tsp.NOT_FOUND:
                world.ledger.problems.append(f"an id of this pair is not recognised: {key.hex()}")

        self.ask(tsp.SUBMIT, body, answered)

    def looked(self, key: bytes, frames: Any) -> None:
        ledger = self.world.ledger
        if frames[0] in (tsp.OK, tsp.PENDING):
            ledger.seen.add(key)
            if key in ledger.closed:
                ledger.problems.append(f"resurrected: {key.hex()} was closed, and is seen again")
        elif frames[0] in (tsp.GONE, tsp.NOT_FOUND) and key not in ledger.close_tried:
            ledger.problems.append(f"lost: {key.hex()} was acknowledged, and the answer is {frames[0]!r}")
        if frames[0] == tsp.OK and frames[-1] != b"":
            ledger.replies.setdefault(key, set()).add(frames[-1])

    def has_closed(self, key: bytes, frames: Any) -> None:
        if frames[0][:3] == tsp.OK:
            self.world.ledger.closed.add(key)
            if key in self.jobs:
                self.jobs.remove(key)


class World:
    """Everything there is. ``run`` plays a script of faults, heals, and checks."""

    def __init__(
        self, seed: int, *, twin_class: type[Twin] = Twin, sync: bool = True, disk_class: Any = MemoryDisk
    ) -> None:
        self.seed = seed
        self.disk_class = disk_class
        self.random = Random(seed)
        self.twin_class = twin_class
        self.sync = sync
        self.serve_alone = True
        self.now_ms = 0
        self.ledger = Ledger()
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        self.nodes = [Node(self, 0), Node(self, 1)]
        self.clients: list[Client] = []
        self.islands = False

    def note(self, text: str) -> None:
        self.ledger.story.append(f"{self.now_ms:>7} {text}")

    def mint(self) -> Mint:
        for node in self.nodes:
            process = node.process
            if process is not None and process.twin.active:
                return Mint(process.host.journal.id_secret)
        return Mint(self.nodes[0].disk.secret)

    def at(self, delay_ms: int, work: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (self.now_ms + delay_ms, self._count, work))

    def over(self, wire: Wire, work: Callable[[], None]) -> None:
        """Send something over a wire."""
        if wire.cut or self.random.random() < wire.drop:
            return
        delay_ms = self.random.randint(wire.low_ms, wire.high_ms)
        if wire.ordered:
            wire.last_at_ms = max(self.now_ms + delay_ms, wire.last_at_ms)
            delay_ms = wire.last_at_ms - self.now_ms
        self.at(delay_ms, work)
        if self.random.random() < wire.double:
            self.at(self.random.randint(wire.low_ms, 3 * wire.high_ms), work)

    def run_until(self, end_ms: int) -> None:
        while self._events and self._events[0][0] <= end_ms:
            at_ms, _, work = heapq.heappop(self._events)
            self.now_ms = at_ms
            work()
        self.now_ms = end_ms

    # -- checks

    def check(self) -> list[str]:
        """Everything that is wrong at the end."""
        ledger = self.ledger
        problems = list(ledger.problems)
        actives = [node for node in self.nodes if node.process is not None and node.process.twin.active]
        states = [node.process.twin.state.value if node.process else "dead" for node in self.nodes]
        if len(actives) != 1 or sorted(states) != ["paired", "passive"]:
            return [*problems, f"not one active and one passive at the end: {states}"]
        process = actives[0].process
        assert process is not None, "it is active"
        index = process.host.journal.index
        alive = {key for key, job in index.items() if job.state not in (State.BINDING, State.CLOSING)}
        must = (set(ledger.acked) | ledger.seen) - ledger.close_tried
        problems += [f"lost: {key.hex()}" for key in must - alive]
        problems += [f"resurrected: {key.hex()}" for key in ledger.closed & alive]
        problems += [f"phantom: {key.hex()}" for key in alive - ledger.tried]
        if not self.islands:
            problems += [
                f"reply changed: {key.hex()}" for key, all_ in ledger.replies.items() if len(all_) > 1
            ]
            problems += self._two_ackers()
        other = actives[0].peer.process
        assert other is not None, "it is passive"
        if process.host.journal.live_digest() != other.host.journal.live_digest():
            problems.append("the two nodes do not hold the same jobs")
        return problems

    def _two_ackers(self) -> list[str]:
        highest = 0
        for at_ms, epoch, number in self.ledger.spoken:
            if epoch < highest:
                return [f"two ackers: {'AB'[number]} spoke under epoch {epoch} at {at_ms}, after {highest}"]
            highest = max(highest, epoch)
        return []

    def command(self, number: int, event: Event) -> bool:
        process = self.nodes[number].process
        if process is None or self.nodes[number].paused:
            return False
        done = process.twin.command(event, process.clock.now().mono_ms)
        process.settle()
        return done
