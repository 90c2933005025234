"""The story of a failover as a tired human would read it in the log: golden transcripts."""

from collections.abc import Callable

import pytest

from core.pure.pair import Event
from tests.simulation.clients import Client
from tests.simulation.faults import heal
from tests.simulation.world import World

BEGIN = [
    "A: starts",
    "B: starts",
    "B: waiting -> yielding: peer-better, epoch 1",
    "A: waiting -> leading: peer-yields, epoch 1",
    "A: leading -> taken: stored, epoch 2",
    "B: yielding -> joining: peer-active, epoch 1",
    "A: taken -> admitting: caught-up, epoch 2",
    "A: admitting -> paired: stored, epoch 2",
    "B: joining -> entering: offered, epoch 2",
    "B: entering -> passive: stored, epoch 2",
]


def kill_active(world: World) -> None:
    world.nodes[0].kill()


def kill_passive(world: World) -> None:
    world.nodes[1].kill()
    world.at(10, world.nodes[0].refused)


def cut_link(world: World) -> None:
    for node in world.nodes:
        node.wire.cut = True


def lose_passive_machine(world: World) -> None:
    world.nodes[1].kill()


def hand_over(world: World) -> None:
    assert world.command(0, Event.HANDOVER)


STORIES: list[tuple[Callable[[World], None], list[str]]] = [
    (
        kill_active,
        [
            "A: killed",
            "B: passive -> window: silence, epoch 2",
            "B: window -> claiming: vote, epoch 2",
            "B: claiming -> taken: stored, epoch 3",
        ],
    ),
    (
        kill_passive,
        [
            "B: killed",
            "A: paired -> condemning: peer-gone, epoch 2",
            "A: condemning -> alone: stored, epoch 4",
        ],
    ),
    (
        lose_passive_machine,
        [
            "B: killed",
            "A: paired -> suspended: lease-ends, epoch 2",
            "A: suspended -> canvass: wait-ends, epoch 2",
            "A: canvass -> condemning: vote, epoch 2",
            "A: condemning -> alone: stored, epoch 4",
        ],
    ),
    (
        cut_link,
        [
            "A: paired -> suspended: lease-ends, epoch 2",
            "B: passive -> window: silence, epoch 2",
            "B: window -> claiming: vote, epoch 2",
            "B: claiming -> taken: stored, epoch 3",
            "A: suspended -> outdated: newer, epoch 2",
        ],
    ),
    (
        hand_over,
        [
            "A: paired -> handing: handover, epoch 2",
            "A: handing -> yielding: drained, epoch 2",
            "B: passive -> leading: peer-yields, epoch 2",
            "B: leading -> taken: stored, epoch 3",
            "A: yielding -> joining: peer-active, epoch 2",
            "B: taken -> admitting: caught-up, epoch 3",
            "B: admitting -> paired: stored, epoch 3",
            "A: joining -> entering: offered, epoch 3",
            "A: entering -> passive: stored, epoch 3",
        ],
    ),
]


def test_a_node_that_must_not_serve_alone_waits_for_its_peer() -> None:
    """``--alone refuse``: without its peer nothing is acknowledged; with it everything goes on."""
    world = World(8)
    world.serve_alone = False
    world.at(0, world.nodes[0].start)
    world.at(60, world.nodes[1].start)
    world.at(0, lambda: world.clients.append(Client(world, 0)))
    world.run_until(5_000)
    world.at(0, world.nodes[1].kill)
    world.run_until(5_100)
    world.ledger.acked.clear()
    world.run_until(20_000)
    assert not world.ledger.acked
    assert world.ledger.story[-1].endswith("A: suspended -> refusing: refuse, epoch 2")
    heal(world)
    world.run_until(40_000)
    assert world.check() == []


@pytest.mark.parametrize(("fault", "story"), STORIES, ids=[fault.__name__ for fault, _ in STORIES])
def test_the_story(fault: Callable[[World], None], story: list[str]) -> None:
    """Each line of the log, from an empty pair through one fault, and all is well once it is healed."""
    world = World(7)
    world.at(0, world.nodes[0].start)
    world.at(60, world.nodes[1].start)
    world.at(0, lambda: world.clients.append(Client(world, 0)))
    world.run_until(5_000)
    world.at(0, lambda: fault(world))
    world.run_until(12_000)
    told = [line[8:] for line in world.ledger.story]
    assert told == [*BEGIN, *story]
    heal(world)
    world.run_until(30_000)
    assert world.check() == []
