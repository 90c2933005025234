"""What the steps of a script do to a world; and a whole history from a script."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from core.pure.jobs import Kind
from core.pure.pair import Event
from core.pure.twin import Twin
from tests.simulation.clients import Client
from tests.simulation.memory_ring import MemoryDisk
from tests.simulation.script import ACTIVE, CLIENTS_COUNT, END_MS, Script, Step, generate
from tests.simulation.world import World

HEAL_MS: Final = 14_000
MERGE_MS: Final = 5_000
LOOK_MS: Final = 100
WHOLE_MS: Final = 6_000
"""Within this time after the last fault both are in sync: the longest wait of P4, and a catching up."""
LOSSY_WHOLE_MS: Final = 12_000


def _number(world: World, step: Step) -> int:
    """The node of a step; ACTIVE and PASSIVE mean what it was when the roles were looked at."""
    return step.node if step.node < ACTIVE else world.roles[step.node - ACTIVE]


def _look(world: World, step: Step) -> None:
    """Who is active and who is passive now; without a pair, the first and the second."""
    del step
    states = _states(world)
    world.roles = (1, 0) if states == ["passive", "paired"] else (0, 1)


def _start(world: World, step: Step) -> None:
    world.nodes[step.node].start()


def _kill(world: World, step: Step) -> None:
    world.nodes[step.node].kill()


def _refused(world: World, step: Step) -> None:
    if world.nodes[1 - step.node].process is None:
        world.nodes[step.node].refused()


def _pause(world: World, step: Step) -> None:
    world.nodes[step.node].pause()


def _resume(world: World, step: Step) -> None:
    world.nodes[step.node].resume()


def _cut(world: World, step: Step) -> None:
    world.note(f"cut from {'AB'[step.node]}")
    world.nodes[step.node].wire.cut = True


def _mend(world: World, step: Step) -> None:
    world.note(f"mended from {'AB'[step.node]}")
    world.nodes[step.node].wire.cut = False


def _wire(world: World, step: Step) -> None:
    wire = world.nodes[step.node].wire
    wire.drop, wire.double, wire.high_ms = step.share, step.double, step.ms


def _slow(world: World, step: Step) -> None:
    world.nodes[step.node].slow_disk = step.share


def _stick(world: World, step: Step) -> None:
    world.nodes[step.node].stick()


def _unstick(world: World, step: Step) -> None:
    world.nodes[step.node].unstick()


def _handover(world: World, step: Step) -> None:
    del step
    for number in (0, 1):
        if world.command(number, Event.HANDOVER):
            world.note(f"{'AB'[number]}: told to hand over")


def _trim(world: World, step: Step) -> None:
    """The active's ring moves on. Not during a split: what a tiny ring forgets then cannot be merged."""
    del step
    for node in world.nodes:
        if node.process is not None and node.process.twin.active and not world.islands:
            node.process.host.journal.ring.trim()  # type: ignore[attr-defined]


def _client_wire(world: World, step: Step) -> None:
    wire = world.clients[step.client].wires[_number(world, step)]
    wire.drop, wire.high_ms = step.share, step.ms


def _client_cut(world: World, step: Step) -> None:
    world.clients[step.client].wires[_number(world, step)].cut = True


def _client_mend(world: World, step: Step) -> None:
    world.clients[step.client].wires[_number(world, step)].cut = False


def _packs(world: World, step: Step) -> None:
    world.clients[step.client].packs = True


def _closes(world: World, step: Step) -> None:
    world.clients[step.client].closes = True


def _states(world: World) -> list[str]:
    return [node.process.twin.state.value if node.process else "dead" for node in world.nodes]


def _lose_disk(world: World, step: Step) -> None:
    """Only while both have everything; the machine comes back with an empty disk when all is healed."""
    if isinstance(world.nodes[0].disk, MemoryDisk) and sorted(_states(world)) == ["paired", "passive"]:
        world.nodes[_number(world, step)].lose_disk()


def _alter_follower(world: World, step: Step) -> None:
    """The follower's last open job becomes another one, with every number as it was."""
    del step
    states = _states(world)
    if sorted(states) != ["paired", "passive"]:
        return
    node = world.nodes[states.index("passive")]
    if not isinstance(node.disk, MemoryDisk):
        return
    node.kill()
    open_keys = node.disk.alive
    records = node.disk.records
    for at in range(len(records) - 1, -1, -1):
        record = records[at]
        if record.kind == Kind.REQUEST and record.key in open_keys:
            world.note(f"{node.name}: its journal is altered")
            node.disk.alter(at, bytes(15) + b"!")
            return


def _rot(world: World, step: Step) -> None:
    """A record goes bad that both have; the other one is whole (D3)."""
    node = world.nodes[step.node]
    if isinstance(node.disk, MemoryDisk) and sorted(_states(world)) == ["paired", "passive"]:
        node.rot(step.ms, sound=node.peer.disk)


def _progress(world: World, step: Step) -> None:
    """Something was acknowledged lately."""
    last_ms = world.ledger.last_acked_ms
    if last_ms < world.now_ms - step.ms:
        world.problem(f"no progress: nothing was acknowledged from {last_ms} to {world.now_ms}")


DO: Final[dict[str, Callable[[World, Step], None]]] = {
    "look": _look,
    "start": _start,
    "kill": _kill,
    "refused": _refused,
    "pause": _pause,
    "resume": _resume,
    "cut": _cut,
    "mend": _mend,
    "wire": _wire,
    "slow": _slow,
    "stick": _stick,
    "unstick": _unstick,
    "handover": _handover,
    "trim": _trim,
    "client-wire": _client_wire,
    "client-cut": _client_cut,
    "client-mend": _client_mend,
    "packs": _packs,
    "closes": _closes,
    "lose-disk": _lose_disk,
    "alter-follower": _alter_follower,
    "rot": _rot,
    "progress": _progress,
}


def play(script: Script | int, *, twin_class: type[Twin] = Twin, disk_class: Any = MemoryDisk) -> World:
    """A whole history, healed at its end; ask the world what is wrong with it."""
    if isinstance(script, int):
        script = generate(script)
    world = World(script.seed, twin_class=twin_class, sync=script.sync, disk_class=disk_class)
    world.serve_alone, world.islands = script.serve_alone, script.islands
    world.clients.extend(Client(world, number) for number in range(CLIENTS_COUNT))
    for step in script.steps:
        if step.at_ms < END_MS:
            world.at(step.at_ms, partial(DO[step.do], world, step))
    world.run_until(END_MS)
    heal(world)
    for node in world.nodes:
        node.wire.drop = script.lossy
    _until_whole(world, LOSSY_WHOLE_MS if script.lossy else WHOLE_MS)
    world.run_until(max(world.now_ms, END_MS + MERGE_MS))
    world.merged = True
    world.run_until(END_MS + HEAL_MS)
    return world


def _until_whole(world: World, limit_ms: int) -> None:
    """Liveness: whatever went wrong before, nothing keeps the two apart once nothing goes wrong any more."""
    while sorted(_states(world)) != ["paired", "passive"]:
        if world.now_ms >= END_MS + limit_ms:
            world.problem(f"{limit_ms} ms after the last fault the nodes are {_states(world)}")
            return
        world.run_until(world.now_ms + LOOK_MS)
    world.whole_ms = world.now_ms - END_MS


def heal(world: World) -> None:
    """Everything works again, for good."""
    world.note("healed")
    for node in world.nodes:
        node.slow_disk = 0.0
        node.wire.mend()
        node.lost = False
        node.unstick()
        node.resume()
    for node in world.nodes:
        node.start()
    for client in world.clients:
        for wire in client.wires:
            wire.mend()
        client.submitting = False
