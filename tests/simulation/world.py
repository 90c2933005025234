"""A pair, its network, its clients and workers in one thread under virtual time.

Real: Twin, Sender, Receiver, the gate, the Titanic service, PairHost and PairJournal. Simulated: clocks,
disks, wires, and the processes' deaths and sleeps. Every wire, client and machine draws from a stream of
its own, so that one more message somewhere does not change what happens everywhere else.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

from core.pure.ids import Mint
from core.pure.jobs import Now
from core.pure.pair import Event
from core.pure.twin import Twin
from core.shell.clock import Clock
from tests.simulation import checks
from tests.simulation.checks import Ledger
from tests.simulation.memory_ring import MemoryDisk
from tests.simulation.node import Node

if TYPE_CHECKING:
    from tests.simulation.clients import Client


class WorldClock(Clock):
    """The world's time, as a node sees it: monotonic clocks of two machines need not agree."""

    def __init__(self, world: World, skew_ms: int, drift: float) -> None:
        super().__init__()
        self._world, self._skew_ms, self._drift = world, skew_ms, drift

    def now(self) -> Now:
        mono_ms = int(self._world.now_ms * (1 + self._drift)) + self._skew_ms
        return Now(mono_ms, 1_700_000_000_000 + self._world.now_ms)


class Wire:
    """One direction between the nodes; for a client, both directions of its connection to one node."""

    def __init__(self, random: Random, *, ordered: bool) -> None:
        self.random = random
        self.ordered = ordered  # as over one TCP connection
        self.last_at_ms = 0
        self.mend()

    def mend(self) -> None:
        """As good as new."""
        self.low_ms, self.high_ms = 1, 20
        self.drop = self.double = 0.0
        self.cut = False


class World:
    """Everything there is, until :meth:`run_until` has played it."""

    def __init__(
        self, seed: int, *, twin_class: type[Twin] = Twin, sync: bool = True, disk_class: Any = MemoryDisk
    ) -> None:
        self.seed = seed
        self.disk_class = disk_class
        self.twin_class = twin_class
        self.sync = sync
        self.serve_alone = True
        self.lag_max_count = 100_000
        self.islands = False
        self.merged = False
        self.roles = (0, 1)
        self.whole_ms = -1  # after the last fault, until both were in sync
        self.now_ms = 0
        self.ledger = Ledger()
        self.clients: list[Client] = []
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        self.nodes = [Node(self, 0), Node(self, 1)]
        self._secret: bytes = self.nodes[0].disk.secret

    def stream(self, name: str) -> Random:
        """Chance for one purpose."""
        return Random(f"{self.seed} {name}")

    def clock(self, skew_ms: int, drift: float) -> WorldClock:
        """A machine's clock."""
        return WorldClock(self, skew_ms, drift)

    def wire(self, name: str, *, ordered: bool = False) -> Wire:
        """A wire with a stream of its own."""
        return Wire(self.stream(name), ordered=ordered)

    def note(self, text: str) -> None:
        self.ledger.story.append(f"{self.now_ms:>7} {text}")

    def problem(self, text: str) -> None:
        """Something that must not be; the first dozen tells enough."""
        if len(self.ledger.problems) < 12:
            self.ledger.problems.append(f"{text} (at {self.now_ms})")

    def mint(self) -> Mint:
        """Ids as the active node makes them."""
        for node in self.nodes:
            process = node.process
            if process is not None and process.twin.active:
                self._secret = process.host.journal.id_secret
        return Mint(self._secret)

    def at(self, delay_ms: int, work: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (self.now_ms + delay_ms, self._count, work))

    def over(self, wire: Wire, work: Callable[[], None]) -> None:
        """Send something over a wire."""
        random = wire.random
        dropped = random.random() < wire.drop
        if wire.cut or dropped:
            return
        delay_ms = random.randint(wire.low_ms, wire.high_ms)
        if wire.ordered:
            wire.last_at_ms = max(self.now_ms + delay_ms, wire.last_at_ms)
            delay_ms = wire.last_at_ms - self.now_ms
        self.at(delay_ms, work)
        if random.random() < wire.double:
            self.at(random.randint(wire.low_ms, 3 * wire.high_ms), work)

    def run_until(self, end_ms: int) -> None:
        while self._events and self._events[0][0] <= end_ms:
            at_ms, _, work = heapq.heappop(self._events)
            self.now_ms = at_ms
            work()
        self.now_ms = end_ms

    def check(self) -> list[str]:
        """Everything that is wrong at the end."""
        return checks.at_end(self)

    def command(self, number: int, event: Event) -> bool:
        """The operator's word to one node."""
        process = self.nodes[number].process
        if process is None or self.nodes[number].paused:
            return False
        done = process.twin.command(event, process.clock.now().mono_ms)
        process.settle()
        return done
