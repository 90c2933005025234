"""What must hold in every history: at every answer, at every tick, and at the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from core.pure import tsp
from core.pure.jobs import KEY_BYTES
from core.pure.jobs import State as JobState
from core.pure.pair import State
from core.pure.twin_core import OUTDATED, PEER_OUTDATED, UNBOUND, UNSHARED
from tests.simulation.memory_ring import MemoryDisk

if TYPE_CHECKING:
    from tests.simulation.node import Process
    from tests.simulation.world import World

BOTH_DISKS: Final = (State.PAIRED, State.HANDING)


@dataclass(slots=True)
class Ledger:
    """What was said and seen."""

    tried: set[bytes] = field(default_factory=set)
    acked: dict[bytes, int] = field(default_factory=dict)  # key -> epoch
    seen: set[bytes] = field(default_factory=set)
    close_tried: set[bytes] = field(default_factory=set)
    closed: set[bytes] = field(default_factory=set)
    replies: dict[bytes, dict[bytes, set[int]]] = field(default_factory=dict)  # key -> reply -> epochs
    spoken: list[tuple[int, int, int]] = field(default_factory=list)  # (time, epoch, node)
    split_epochs: set[int] = field(default_factory=set)  # whose records were merged
    named: set[bytes] = field(default_factory=set)  # in the report of a merge
    last_acked_ms: int = 0
    executed: int = 0
    problems: list[str] = field(default_factory=list)
    story: list[str] = field(default_factory=list)


def on_answer(process: Process, question: tuple[bytes, bytes], frames: tuple[bytes, ...]) -> None:
    """An answer of the Titanic service leaves for a client now."""
    world, node, twin = process.node.world, process.node, process.twin
    ledger, epoch = world.ledger, twin.epoch
    ledger.spoken.append((world.now_ms, epoch, node.number))
    if epoch < process.met_epoch:
        world.problem(f"P1: {node.name} spoke under epoch {epoch} after it had met {process.met_epoch}")
    other = node.peer.process
    if other is not None and other.twin.active and other.twin.epoch > epoch and not world.islands:
        world.problem(f"P3: {node.name} spoke under {epoch} while {node.peer.name} is active under a higher")
    service, key = question
    if service == tsp.FETCH and frames[0] == tsp.OK and frames[-1]:
        ledger.replies.setdefault(key, {}).setdefault(frames[-1], set()).add(epoch)
    if isinstance(node.disk, MemoryDisk):
        _on_the_medium(process, service, key, frames)


def _on_the_medium(process: Process, service: bytes, key: bytes, frames: tuple[bytes, ...]) -> None:
    """P1, P2, P4: what the answer rests on is on the disk, or on both."""
    world, node, twin = process.node.world, process.node, process.twin
    disk = node.disk
    if disk.block["epoch"] < twin.epoch:
        world.problem(f"P1: {node.name} spoke under epoch {twin.epoch}, which is not on its disk")
    flags = disk.block["flags"]
    condemned = twin.state is State.ALONE and twin.changes[-1][1] == State.CONDEMNING.value
    if condemned and not flags & PEER_OUTDATED:
        world.problem(f"P4: {node.name} spoke alone, and its disk does not say that its peer is outdated")
    if twin.state in UNBOUND and not flags & UNSHARED:
        world.problem(f"P7: {node.name} spoke without its peer, and its disk does not say so")
    disks = [disk]
    if twin.state in BOTH_DISKS and world.sync and not node.peer.lost:
        disks.append(node.peer.disk)
    for one in disks:
        if not _holds(one, service, key, frames[0]):
            where = "its own" if one is disk else "the other"
            world.problem(f"P2: {node.name} answered {service!r} of {key.hex()}, which {where} disk has not")


def _holds(disk: MemoryDisk, service: bytes, key: bytes, code: bytes) -> bool:
    if service == tsp.SUBMIT and code == tsp.OK:
        return key in disk.known
    if service == tsp.PACK and code == tsp.OK:
        return all(key[at : at + KEY_BYTES] in disk.known for at in range(0, len(key), KEY_BYTES))
    if service == tsp.FETCH and code == tsp.OK:
        return key in disk.replied or key not in disk.alive
    if service == tsp.CLOSE and code[:3] == tsp.OK:
        return key not in disk.alive
    return True


def on_tick(process: Process) -> None:
    """P3: a node whose window closed has said so on its disk, as soon as that is at rest."""
    node, twin = process.node, process.twin
    idle = not process.commit_due and not process.host.journal.ring.busy  # type: ignore[attr-defined]
    resting = twin.state is State.OUTDATED and idle and isinstance(node.disk, MemoryDisk)
    if resting and not node.disk.block["flags"] & OUTDATED:
        node.world.problem(f"P3: {node.name} is outdated, and its disk does not say so")


def at_end(world: World) -> list[str]:
    """Everything that is wrong once all is healed."""
    problems = list(world.ledger.problems)
    states = [node.process.twin.state.value if node.process else "dead" for node in world.nodes]
    if sorted(states) != ["paired", "passive"]:
        return [*problems, f"not one active and one passive at the end: {states}"]
    node = world.nodes[states.index("paired")]
    process, other = node.process, node.peer.process
    assert process is not None, "it is paired"
    assert other is not None, "it is passive"
    problems += _jobs(world, process)
    problems += _replies(world.ledger)
    problems += _speakers(world)
    if process.host.journal.live_digest() != other.host.journal.live_digest():
        problems.append("the two nodes do not hold the same jobs")
    for one in world.nodes:
        if isinstance(one.disk, MemoryDisk) and one.disk.rotten:
            problems.append(f"D3: {one.name} still has {len(one.disk.rotten)} damaged records")
    return problems


def _jobs(world: World, process: Process) -> list[str]:
    ledger, index = world.ledger, process.host.journal.index
    gone = (JobState.BINDING, JobState.CLOSING)
    alive = {key for key, job in index.items() if job.state not in gone}
    must = (set(ledger.acked) | ledger.seen) - ledger.close_tried
    split = {key for key, epoch in ledger.acked.items() if epoch in ledger.split_epochs}
    return [
        *(f"lost: {key.hex()}" for key in must - alive),
        *(f"resurrected: {key.hex()}" for key in ledger.closed & alive),
        *(f"phantom: {key.hex()}" for key in alive - ledger.tried),
        *(f"not named in a merge: {key.hex()}" for key in (split & must) - ledger.named),
    ]


def _replies(ledger: Ledger) -> list[str]:
    """One reply per job; what the losing side of a split gave out is the exception (P7)."""
    found = []
    for key, by_reply in ledger.replies.items():
        kept = [reply for reply, epochs in by_reply.items() if epochs - ledger.split_epochs]
        if len(kept) > 1:
            found.append(f"reply changed: {key.hex()} {by_reply}")
    return found


def _speakers(world: World) -> list[str]:
    """Epochs rise with time, and each has one speaker; on two islands only the latter."""
    highest = 0
    speaker: dict[int, int] = {}
    for at_ms, epoch, number in world.ledger.spoken:
        if speaker.setdefault(epoch, number) != number:
            return [f"two ackers: both nodes spoke under epoch {epoch}, at {at_ms}"]
        if epoch < highest and not world.islands:
            return [f"two ackers: {'AB'[number]} spoke under epoch {epoch} at {at_ms}, after {highest}"]
        highest = max(highest, epoch)
    return []


def summary(world: World) -> dict[str, Any]:
    """What a history did, for whoever counts."""
    ledger = world.ledger
    return {
        "acked": len(ledger.acked),
        "executed": ledger.executed,
        "mended": sum("is mended from the peer" in line for line in ledger.story),
        "changes": sum(" -> " in line for line in ledger.story),
    }
