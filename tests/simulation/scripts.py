"""What goes wrong in a history: drawn from its seed, one thing after the other or several at once."""

from __future__ import annotations

from functools import partial
from typing import Any

from core.pure.pair import Event
from core.pure.twin import Twin
from tests.simulation.memory_ring import MemoryDisk
from tests.simulation.world import Client, Wire, World

END_MS = 20_000
HEAL_MS = 12_000


def play(
    seed: int, *, twin_class: type[Twin] = Twin, sync: bool = True, disk_class: Any = MemoryDisk
) -> World:
    """A whole history; ask the world what is wrong with it."""
    world = World(seed, twin_class=twin_class, sync=sync, disk_class=disk_class)
    random = world.random
    for node in world.nodes:
        world.at(random.randint(0, 3_000), node.start)
    world.at(0, lambda: world.clients.extend(Client(world, number) for number in range(3)))
    world.at(100, lambda: _worsen_wires(world))
    kinds = [_kill, _kill, _pause, _cut, _cut_one_way, _slow, _handover, _trim, _lossy]
    # what a tiny ring forgets during a split cannot be merged: docs/internals/pair.md, "Limits"
    islands = random.random() < 0.1 and disk_class is MemoryDisk
    at_ms = random.randint(4_000, 6_000)
    while at_ms < END_MS - 4_000:
        fault = random.choice(kinds)
        world.at(at_ms, partial(fault, world))
        at_ms += random.choice((200, 1_000, 3_000, 7_000)) + random.randint(0, 1_000)
    if islands:
        world.islands = True
        world.at(random.randint(5_000, 9_000), lambda: _islands(world))
    world.run_until(END_MS)
    heal(world)
    world.run_until(END_MS + HEAL_MS)
    return world


def heal(world: World) -> None:
    """Everything works again, for good."""
    world.note("healed")
    for node in world.nodes:
        node.slow_disk = 0.0
        node.wire = Wire()
        node.resume()
        node.start()
    for client in world.clients:
        client.wires = [Wire(ordered=True), Wire(ordered=True)]
        client.submitting = False


def _worsen_wires(world: World) -> None:
    """All clients but the first, which can always reach whoever lives, have bad wires."""
    for client in world.clients[1:]:
        for wire in client.wires:
            wire.drop = world.random.choice((0.0, 0.05, 0.3))
            wire.high_ms = world.random.choice((5, 50, 400))


def _kill(world: World) -> None:
    random = world.random
    node = random.choice(world.nodes)
    node.kill()
    if random.random() < 0.7:
        world.at(random.randint(1, 30), node.peer.refused)
    world.at(random.choice((100, 1_000, 3_000, 8_000)) + random.randint(0, 900), node.start)


def _pause(world: World) -> None:
    random = world.random
    node = random.choice(world.nodes)
    node.pause()
    world.at(random.choice((300, 1_500, 2_500, 4_500, 9_000)) + random.randint(0, 900), node.resume)


def _set_cut(world: World, numbers: list[int], length_ms: int) -> None:
    for number in numbers:
        wire = world.nodes[number].wire
        wire.cut = True
        world.note(f"cut from {'AB'[number]}")

        def mend(wire: Wire = wire, number: int = number) -> None:
            wire.cut = False
            world.note(f"mended from {'AB'[number]}")

        world.at(length_ms, mend)


def _length(world: World) -> int:
    return world.random.choice((400, 1_800, 2_500, 4_500, 9_000)) + world.random.randint(0, 900)


def _cut(world: World) -> None:
    _set_cut(world, [0, 1], _length(world))


def _cut_one_way(world: World) -> None:
    _set_cut(world, [world.random.randint(0, 1)], _length(world))


def _lossy(world: World) -> None:
    random = world.random
    for node in world.nodes:
        node.wire.drop = random.choice((0.0, 0.1, 0.4))
        node.wire.double = random.choice((0.0, 0.2))
        node.wire.high_ms = random.choice((20, 100, 900))

    def mend() -> None:
        for node in world.nodes:
            node.wire.drop = node.wire.double = 0.0
            node.wire.high_ms = 20

    world.at(random.randint(2_000, 10_000), mend)


def _slow(world: World) -> None:
    node = world.random.choice(world.nodes)
    node.slow_disk = 0.3

    def mend() -> None:
        node.slow_disk = 0.0

    world.at(world.random.randint(1_000, 6_000), mend)


def _handover(world: World) -> None:
    for number in (0, 1):
        if world.command(number, Event.HANDOVER):
            world.note(f"{'AB'[number]}: told to hand over")


def _trim(world: World) -> None:
    for node in world.nodes:
        if node.process is not None and node.process.twin.active:
            node.process.host.journal.ring.trim()  # type: ignore[attr-defined]


def _islands(world: World) -> None:
    """Each node with clients of its own and no way between: the excepted network (P7)."""
    world.note("two islands")
    _set_cut(world, [0, 1], 9_000)
    for number, client in enumerate(world.clients):
        client.wires[(number + 1) % 2].cut = True
