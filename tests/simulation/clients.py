"""Clients of a simulated pair: each a gateway with its callers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from core.pure import tsp
from core.pure.ids import RANDOM_BITS
from core.pure.jobs import RequestMeta

if TYPE_CHECKING:
    from tests.simulation.node import Node
    from tests.simulation.world import World

SERVICE: Final = b"echo"
PASSIVE: Final = (b"503",)
POLL_MS: Final = 250
PACK_MAX_COUNT: Final = 4
PACK_SHARE: Final = 0.2


class Client:
    """Submits, looks, closes; one thing at a time, each until it is answered, at whatever node."""

    def __init__(self, world: World, number: int) -> None:
        self.world, self.number = world, number
        self.random = world.stream(f"client {number}")
        self.wires = [world.wire(f"client {number} and {name}", ordered=True) for name in "AB"]
        self.target = 0
        self.active = -1
        self.epoch = 0
        self.stamps = [0, 0]  # of the last greeting that each node answered
        self.busy = False
        self.submitting = True
        self.closes = False  # whether it closes what it submitted last before it does anything else
        self.packs = False  # whether it submits several jobs at once, as a gateway under load
        self.jobs: list[bytes] = []
        self.asked: dict[int, tuple[bytes, bytes]] = {}  # number of a call -> service, key
        self._call = 0
        self._answered: Callable[[Any], None] | None = None
        world.at(self.random.randint(1, POLL_MS), self.poll)
        world.at(self.random.randint(1, 100), self.next)

    def poll(self) -> None:
        """Ask both who they are, as a gateway does: the vote."""
        self.world.at(POLL_MS, self.poll)
        for number, node in enumerate(self.world.nodes):
            self.world.over(self.wires[number], self._greeting(node))

    def _greeting(self, node: Node) -> Callable[[], None]:
        """What this client knows now, said when it arrives."""
        epoch, stamp_ms = self.epoch, self.stamps[node.number]

        def arrive() -> None:
            process = node.process
            assert process is not None, "somebody is there"
            process.guarded(lambda: process.hello(self, epoch, stamp_ms))

        return lambda: node.act(arrive)

    def receive(self, number: int, frames: Any, call_number: int = 0) -> None:
        """An answer of a node."""
        if frames[0] == b"hello":
            self.stamps[number] = frames[3]
            if frames[1]:
                if frames[2] >= self.epoch:
                    self.epoch = frames[2]
                    self.target = self.active = number
            elif self.active == number:
                self.active = -1
            return
        if call_number != self._call:
            return
        if frames == PASSIVE:
            self.target = 1 - number
            return
        answered, self._answered = self._answered, None
        if answered is not None:
            answered(frames)

    def ask(self, service: bytes, key: bytes, body: list[bytes], answered: Callable[[Any], None]) -> None:
        """Until it is answered, the same request each time (X2); whoever gets no answer tries the other."""
        self.busy = True
        self._call += 1
        mine = self._call
        self.asked[mine] = (service, key)

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
            if self.wires[self.target].cut:
                self.target = 1 - self.target
            self.world.at(self.random.randint(300, 700), attempt)

        attempt()

    def next(self) -> None:
        """Do one thing, if nothing is under way."""
        random = self.random
        self.world.at(random.randint(20, 400), self.next)
        if self.busy:
            return
        choice = random.random()
        if self.closes and self.jobs:
            self.close(self.jobs[-1])
        elif self.submitting and (choice < 0.5 or not self.jobs):
            self.submit()
        elif self.jobs:
            key = random.choice(self.jobs)
            if choice < 0.8:
                head = tsp.encode_head(tsp.FetchHead(key))
                self.ask(tsp.FETCH, key, [head], lambda frames: self.looked(key, frames))
            elif self.submitting and choice < 0.9:
                self.close(key)

    def close(self, key: bytes) -> None:
        """A job it has is to be gone."""
        self.world.ledger.close_tried.add(key)
        self.ask(tsp.CLOSE, key, [key.hex().encode()], lambda frames: self.has_closed(key, frames))

    def submit(self) -> None:
        """A new job under an id of its own."""
        if self.packs and self.random.random() < PACK_SHARE:
            self.pack()
            return
        world = self.world
        key = world.mint().make(world.now_ms + 1_700_000_000_000, self.random.getrandbits(RANDOM_BITS))
        world.ledger.tried.add(key)
        body = [tsp.encode_head(tsp.SubmitHead(key, RequestMeta(SERVICE, 0))), key.hex().encode()]

        def answered(frames: Any) -> None:
            if frames[0] == tsp.OK:
                world.ledger.acked[key] = tsp.decode_ack(frames[1]).epoch
                world.ledger.last_acked_ms = world.now_ms
                self.jobs.append(key)
            elif frames[0] == tsp.NOT_FOUND:
                world.problem(f"an id of this pair is not recognised: {key.hex()}")

        self.ask(tsp.SUBMIT, key, body, answered)

    def pack(self) -> None:
        """Several new jobs in one message, of which each is stored or none was."""
        world, mint, wall_ms = self.world, self.world.mint(), self.world.now_ms + 1_700_000_000_000
        count = self.random.randint(1, PACK_MAX_COUNT)
        keys = sorted(mint.make(wall_ms, self.random.getrandbits(RANDOM_BITS)) for _ in range(count))
        world.ledger.tried.update(keys)
        bodies = [key.hex().encode() for key in keys]
        sizes = b"".join(len(body).to_bytes(4, "little") for body in bodies)
        head = tsp.encode_head(tsp.PackHead(b"".join(keys), sizes, RequestMeta(SERVICE, 0)))

        def answered(frames: Any) -> None:
            if frames[0] != tsp.OK:
                world.problem(f"a pack was answered {frames}")
                return
            ack = tsp.decode_pack_ack(frames[1])
            if any(line.status != int(tsp.OK) for line in ack.lines):
                world.problem(f"a line of a pack was answered {ack.lines}")
            world.ledger.acked.update(dict.fromkeys(keys, ack.epoch))
            world.ledger.last_acked_ms = world.now_ms
            self.jobs += keys

        self.ask(tsp.PACK, b"".join(keys), [head, b"".join(bodies)], answered)

    def looked(self, key: bytes, frames: Any) -> None:
        """The state of a job, or its reply."""
        world, ledger = self.world, self.world.ledger
        if frames[0] in (tsp.OK, tsp.PENDING):
            ledger.seen.add(key)
            if key in ledger.closed:
                world.problem(f"resurrected: {key.hex()} was closed, and is seen again")
            if frames[0] == tsp.OK and frames[-1].rpartition(b"/")[2] != key.hex().encode():
                world.problem(f"D3: {key.hex()} was answered with the reply {frames[-1]!r}")
        elif world.islands and not world.merged:
            return  # a client that changed sides asks for a job of the other one
        elif frames[0] in (tsp.GONE, tsp.NOT_FOUND) and key not in ledger.close_tried:
            world.problem(f"lost: {key.hex()} was acknowledged, and the answer is {frames[0]!r}")

    def has_closed(self, key: bytes, frames: Any) -> None:
        """It is gone for good."""
        ledger = self.world.ledger
        if frames[0][:3] == tsp.OK:
            ledger.closed.add(key)
            if key in self.jobs:
                self.jobs.remove(key)
