"""Rules P2 to P9 one by one, each in a story of its own; `docs/internals/pair.md` lists all tests by rule."""

from __future__ import annotations

import pytest

from core.pure import tsp
from core.pure.pair import Event, State
from core.pure.twin_core import HOLED, OUTDATED, PEER_OUTDATED
from tests.simulation.clients import Client
from tests.simulation.faults import heal
from tests.simulation.node import Process
from tests.simulation.world import World
from titanic_store import DamagedStoreError

PAIRED_MS = 5_000


def pair(**options: bool) -> World:
    """A active, B passive, one client that submits."""
    world = World(7, **options)  # type: ignore[arg-type]
    world.at(0, world.nodes[0].start)
    world.at(60, world.nodes[1].start)
    world.at(0, lambda: world.clients.append(Client(world, 0)))
    world.run_until(PAIRED_MS)
    assert states(world) == ["paired", "passive"]
    return world


def process(world: World, number: int) -> Process:
    """The process of a node that runs."""
    found = world.nodes[number].process
    assert found is not None, "it runs"
    return found


def states(world: World) -> list[str]:
    """Of both nodes."""
    return [node.process.twin.state.value if node.process else "dead" for node in world.nodes]


def healed(world: World) -> None:
    """After everything works again nothing is wrong."""
    end_ms = world.now_ms + 15_000
    heal(world)
    world.run_until(end_ms)
    assert world.check() == []


def acked_after(world: World, at_ms: int, limit_ms: int) -> int:
    """How long after ``at_ms`` the next job is acknowledged; not what was on its way then."""
    world.run_until(max(world.now_ms, at_ms + 100))
    world.ledger.last_acked_ms = 0
    while world.ledger.last_acked_ms == 0:
        assert world.now_ms < at_ms + limit_ms, f"nothing was acknowledged: {states(world)}"
        world.run_until(world.now_ms + 10)
    return world.ledger.last_acked_ms - at_ms


# -- P2


def test_local_answers_before_the_other_disk_and_stops_at_its_limit() -> None:
    """The lag is told; at the limit answers wait for the other disk; nothing is lost when it works again."""
    world = pair(sync=False)
    twin = process(world, 0).twin
    twin._options = type(twin._options)(backup=False, sync=False, lag_max_count=12)
    world.nodes[1].stick()
    acked = len(world.ledger.acked)
    world.run_until(PAIRED_MS + 1_500)
    assert len(world.ledger.acked) > acked, "an answer does not wait for the other disk"
    world.run_until(PAIRED_MS + 4_000)
    assert twin.lag_count >= 12
    assert twin.held, "at the limit it waits"
    acked = len(world.ledger.acked)
    world.run_until(PAIRED_MS + 4_700)
    assert len(world.ledger.acked) == acked, "and says nothing"
    world.nodes[1].unstick()
    world.run_until(PAIRED_MS + 6_000)
    assert len(world.ledger.acked) > acked
    healed(world)


# -- P4


def test_the_wait_is_long_without_proof_and_short_with_it() -> None:
    """Silence: 5 s. A goodbye, or a port that nobody listens on: at once."""
    took: dict[str, int] = {}
    for name in ("silence", "goodbye", "refused"):
        world = pair()
        if name == "goodbye":
            world.nodes[1].stop()
        else:
            world.nodes[1].kill()
        if name == "refused":
            world.nodes[0].refused()
        took[name] = acked_after(world, PAIRED_MS, 12_000)
        assert states(world)[0] == "alone"
        healed(world)
    assert took["silence"] >= 4_500
    assert took["goodbye"] < 1_500
    assert took["refused"] < 1_500


def test_a_refused_port_is_no_proof_once_the_lease_is_over() -> None:
    """The peer may have taken over and died since: the wait is not cut short."""
    world = pair()
    for node in world.nodes:
        node.wire.cut = True
    world.clients[0].wires[1].cut = True
    world.run_until(PAIRED_MS + 3_000)
    assert states(world)[0] == "suspended"
    world.nodes[1].kill()
    world.nodes[0].refused()
    assert states(world)[0] == "suspended"
    assert acked_after(world, PAIRED_MS, 12_000) >= 4_500
    healed(world)


def test_without_a_gateway_the_operator_sends_the_active_on_alone() -> None:
    """The passive's machine is lost and nobody asks: answers wait until the word, and no longer."""
    world = pair()
    world.nodes[1].kill()
    for wire in world.clients[0].wires:
        wire.cut = True
    world.run_until(PAIRED_MS + 30_000)
    assert states(world)[0] == "canvass"
    assert world.command(0, Event.PROMOTE)
    world.run_until(PAIRED_MS + 30_100)
    assert states(world)[0] == "alone"
    assert world.nodes[0].disk.block["flags"] & PEER_OUTDATED
    healed(world)


# -- P5


def test_who_went_on_alone_serves_alone_again() -> None:
    """Its superblock proves it: the other one is outdated."""
    world = pair()
    world.nodes[1].stop()
    world.run_until(PAIRED_MS + 2_000)
    assert states(world)[0] == "alone"
    world.run_until(PAIRED_MS + 3_000)
    world.nodes[0].kill()
    world.nodes[0].start()
    acked_after(world, PAIRED_MS + 3_000, 5_000)
    assert states(world)[0] == "alone"
    healed(world)


@pytest.mark.parametrize("number", [0, 1])
def test_who_proves_nothing_waits_for_its_peer_or_the_operator(number: int) -> None:
    """Both were in sync and died; one comes back: the other may know more. ``promote`` is the word."""
    world = pair()
    for node in world.nodes:
        node.kill()
    world.nodes[number].start()
    world.run_until(PAIRED_MS + 20_000)
    assert states(world)[number] == "waiting"
    (said,) = (
        line for line in world.ledger.story if "the peer was not heard since this node started" in line
    )
    assert "promote --force" in said
    assert world.command(number, Event.PROMOTE)
    acked_after(world, PAIRED_MS + 20_000, 3_000)
    assert states(world)[number] == "alone"
    healed(world)


def test_a_new_primary_serves_and_a_new_backup_does_not() -> None:
    """The pair is new: the primary's superblock says so, and the backup's proves nothing."""
    for number, state in ((0, "alone"), (1, "waiting")):
        world = World(7)
        world.at(0, world.nodes[number].start)
        world.at(0, lambda world=world: world.clients.append(Client(world, 0)))  # type: ignore[misc]
        world.run_until(10_000)
        assert states(world)[number] == state
        healed(world)


def holed(world: World, number: int) -> None:
    """Both are down, and a node's log was cut at a hole: it lacks what was acknowledged."""
    for node in world.nodes:
        node.kill()
    node = world.nodes[number]
    node.disk.cut(len(node.disk.records) // 2)
    node.disk.block["flags"] |= OUTDATED | HOLED


@pytest.mark.parametrize("number", [0, 1])
def test_a_node_with_a_hole_follows_whoever_has_the_rest(number: int) -> None:
    """R2: the other one leads, whatever its role, and both have everything afterwards."""
    world = pair()
    holed(world, number)
    for node in world.nodes:
        node.start()
    world.run_until(PAIRED_MS + 5_000)
    assert states(world)[number] == "passive"
    assert not world.nodes[number].disk.block["flags"] & (OUTDATED | HOLED)
    healed(world)


def test_a_node_with_a_hole_never_leads_but_by_the_operators_word() -> None:
    """The other one may lack what is missing here: both wait, and say so, rather than lose it in silence."""
    world = pair()
    holed(world, 0)
    world.nodes[1].disk.block["flags"] |= OUTDATED
    for node in world.nodes:
        node.start()
    world.run_until(PAIRED_MS + 20_000)
    assert states(world) == ["waiting", "waiting"]
    assert "damaged here" in process(world, 0).twin.why
    assert world.command(1, Event.PROMOTE)
    world.run_until(PAIRED_MS + 25_000)
    assert states(world) == ["passive", "paired"]


def test_who_refuses_to_be_alone_meets_a_peer_that_took_over_and_died() -> None:
    """``--alone refuse``: the epoch of a reign that is over keeps nobody waiting; the further log leads."""
    world = World(7)
    world.serve_alone = False
    world.at(0, world.nodes[0].start)
    world.at(60, world.nodes[1].start)
    world.at(0, lambda: world.clients.append(Client(world, 0)))
    world.run_until(PAIRED_MS)
    for node in world.nodes:
        node.wire.cut = True
    while states(world)[1] != "taken":  # and no client has heard of its epoch
        world.run_until(world.now_ms + 1)
    world.nodes[1].kill()
    world.run_until(PAIRED_MS + 7_000)
    assert states(world) == ["refusing", "dead"]
    healed(world)


# -- P6


def test_a_ring_that_moved_on_is_copied_whole_while_the_active_serves() -> None:
    """The follower's log ends before the active's begins: it begins anew, and answers go on meanwhile."""
    world = pair()
    world.nodes[1].stop()
    before = world.nodes[1].disk
    client = world.clients[0]
    world.run_until(PAIRED_MS + 10_000)
    ring = process(world, 0).host.journal.ring
    for job in list(client.jobs):  # what is open pins the ring
        world.ledger.close_tried.add(job)
        process(world, 0).host.shell.titanic.life.close(  # type: ignore[union-attr]
            ring.index[job], (), process(world, 0).clock.now()
        )
        world.ledger.closed.add(job)
    client.jobs.clear()
    process(world, 0).settle()
    world.run_until(PAIRED_MS + 10_100)
    ring.trim()  # type: ignore[attr-defined]
    assert ring.first_seq > before.records[-1].sequence + 1
    world.nodes[1].start()
    acked_after(world, PAIRED_MS + 10_100, 2_000)
    world.run_until(PAIRED_MS + 13_000)
    assert states(world) == ["paired", "passive"]
    assert world.nodes[1].disk is not before
    healed(world)


def test_a_follower_whose_jobs_differ_is_not_in_sync() -> None:
    """Every number of its journal is right, one job is not: the digest tells, and it copies everything."""
    world = pair()
    node = world.nodes[1]
    node.kill()
    open_at = [at for at, record in enumerate(node.disk.records) if record.key in node.disk.alive]
    node.disk.alter(open_at[-1], bytes(15) + b"!")
    node.start()
    world.run_until(PAIRED_MS + 8_000)
    assert any("digests of the live jobs differ" in line for line in world.ledger.story)
    healed(world)


def test_damage_that_nobody_can_mend_keeps_no_follower_from_catching_up() -> None:
    """D3, P6: what rots where it only is becomes a job without bytes on both; the pair is whole."""
    world = pair()
    world.nodes[1].stop()
    world.run_until(PAIRED_MS + 9_000)
    world.nodes[0].kill()  # what it shipped from memory would be whole
    world.nodes[0].start()
    disk = world.nodes[0].disk
    world.run_until(PAIRED_MS + 13_000)
    assert states(world)[0] == "alone"
    shared = world.nodes[1].disk.records[-1].sequence
    lost = [one.sequence for one in disk.records if one.key in disk.alive and one.sequence > shared]
    disk.rotten.update(lost[:2])
    world.nodes[1].start()
    world.run_until(PAIRED_MS + 16_000)
    assert states(world) == ["paired", "passive"]
    ring = process(world, 1).host.journal.ring
    for sequence in lost[:2]:
        with pytest.raises(DamagedStoreError, match="damaged before"):
            ring.read(sequence)
    assert ring.read(lost[2])
    assert process(world, 0).host.journal.live_digest() == process(world, 1).host.journal.live_digest()


# -- P7


@pytest.mark.parametrize("number", [0, 1])
def test_a_close_counts_on_the_island_that_has_not_the_job(number: int) -> None:
    """A client that changed sides is told 204, and it is true: the job is gone on both once they have met."""
    world = pair()
    world.islands = True
    world.clients.append(Client(world, 1))
    for node in world.nodes:
        node.wire.cut = True
    for client in world.clients:
        client.wires[1 - client.number].cut = True
    world.run_until(PAIRED_MS + 8_000)
    assert states(world) == ["alone", "taken"]
    job = world.clients[number].jobs[-1]
    other = world.nodes[1 - number].process
    assert other is not None
    assert job not in other.host.journal.index
    world.ledger.close_tried.add(job)
    closer = world.clients[1 - number]
    closer.asked[-1] = (tsp.CLOSE, job)
    other.request(closer, -1, tsp.CLOSE, [job.hex().encode()])
    other.settle()
    world.run_until(PAIRED_MS + 8_100)
    world.ledger.closed.add(job)
    world.clients[number].jobs.remove(job)
    healed(world)
    assert all(job not in process(world, each).host.journal.index for each in (0, 1))


# -- P8


def test_a_hanging_disk_ends_the_reign_within_its_limit() -> None:
    """5 s after the first record that does not come back; the other node serves at once, not after a wait."""
    world = pair()
    world.nodes[0].stick()
    took = acked_after(world, PAIRED_MS, 9_000)
    assert 5_000 <= took < 7_000, "the node that stops says so, and the other does not wait for silence"
    assert states(world) == ["dead", "taken"]
    healed(world)


def test_a_hanging_disk_of_the_passive_is_no_longer_waited_for() -> None:
    """The passive ends, the active goes on alone, and no answer is lost."""
    world = pair()
    world.nodes[1].stick()
    assert acked_after(world, PAIRED_MS + 1_000, 12_000) < 7_500
    world.run_until(PAIRED_MS + 9_000)
    assert states(world) == ["alone", "dead"]
    healed(world)


def test_a_sleep_is_no_hanging_disk() -> None:
    """Whoever was stopped for longer than the limit looks at its disk anew when it wakes."""
    world = pair()
    world.at(0, world.nodes[0].pause)
    world.at(9_000, world.nodes[0].resume)
    world.run_until(PAIRED_MS + 12_000)
    assert states(world)[0] != "dead"
    assert State.STOPPED.value not in " ".join(world.ledger.story)
    healed(world)


# -- P10


def test_messages_that_cannot_be_read_are_told_of_and_not_each_of_them() -> None:
    """A node of another version, say: a line for the first, the second, the fourth, and so on."""
    world = pair()
    for _ in range(9):
        world.nodes[0].receive([b"\xff not a message"])
    told = [line for line in world.ledger.story if "cannot be read" in line]
    assert [line.split()[2] for line in told] == ["1", "2", "4", "8"]
    assert all("not of the same version" in line for line in told)
    healed(world)


# -- P9


def test_nothing_fails_back_by_itself() -> None:
    """The old active comes back and stays passive."""
    world = pair()
    world.nodes[0].kill()
    world.run_until(PAIRED_MS + 4_000)
    world.nodes[0].start()
    world.run_until(PAIRED_MS + 30_000)
    assert states(world) == ["passive", "paired"]
    healed(world)


def test_a_vote_that_was_long_on_its_way_lets_nobody_go_on_alone() -> None:
    """What a client knew some seconds ago is no evidence that the other node was not promoted since (P4)."""
    world = pair()
    for node in world.nodes:
        node.wire.cut = True
    world.clients.append(Client(world, 1))
    for client in world.clients:
        wire = client.wires[0]
        wire.low_ms = wire.high_ms = 3_500
    world.run_until(PAIRED_MS + 12_000)
    assert [node for _, _, node in world.ledger.spoken][-1] == 1
    healed(world)
