"""Two real nodes whose wire is late, cut one way, or unreliable, under load: F1 and F2 all the same."""

import asyncio
import random
from pathlib import Path

import pytest

from tests.support.chaos_proxy import BOTH, THERE
from tests.support.load import Load
from tests.support.pair import Pair, first_new_answer, new_seed, under_load, wired
from tests.support.processes import Processes, until

LATE_S = 0.15
FLAPS = 6


async def cut_and_heal(pair: Pair, load: Load, rng: random.Random, *ways: tuple[int, tuple[str, ...]]) -> int:
    """The node that serves while wires are cut; afterwards they are a pair again, and it still serves."""
    await asyncio.to_thread(pair.until_paired)
    await load.moment(rng)
    pair.disturb()
    for number, cut in ways:
        pair.wires[number].cut(*cut)
    await first_new_answer(load)
    await load.moment(rng)
    serves = await asyncio.to_thread(until, "one serves", pair.active, deadline_s=40) - 1
    pair.disturb()
    for wire in pair.wires:
        wire.heal()
    assert await asyncio.to_thread(pair.until_paired) == serves, "nothing fails back by itself"
    return serves


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("deaf", ["the passive", "the active", "both"])
def test_a_wire_cut_in_one_direction_or_both(deaf: str, family: Processes, tmp_path: Path) -> None:
    """Whoever hears nothing, exactly one goes on, nobody is failed, and after healing they are a pair."""
    with wired(family, tmp_path) as pair:
        active = pair.until_paired()
        ways = {
            "the passive": ((1 - active, (THERE,)),),
            "the active": ((active, (THERE,)),),
            "both": ((0, BOTH), (1, BOTH)),
        }[deaf]

        async def torment(load: Load, rng: random.Random) -> None:
            await cut_and_heal(pair, load, rng, *ways)

        pair.check(asyncio.run(under_load(pair.serve(), new_seed(), torment)))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_late_and_an_unreliable_wire(family: Processes, tmp_path: Path) -> None:
    """Records that arrive late, and connections that are reset again and again, make nobody take over."""
    with wired(family, tmp_path) as pair:
        active = pair.until_paired()
        epoch = pair.status()[active]["epoch"]

        async def torment(load: Load, rng: random.Random) -> None:
            for wire in pair.wires:
                wire.delay(LATE_S)
            await load.moment(rng, 20)
            for _ in range(FLAPS):
                for wire in pair.wires:
                    wire.flap()
                await first_new_answer(load)
            for wire in pair.wires:
                wire.heal()

        load = asyncio.run(under_load(pair.serve(), new_seed(), torment))
        assert sum(wire.dropped_count for wire in pair.wires) >= FLAPS
        assert pair.until_paired() == active
        assert pair.status()[active]["epoch"] == epoch, "the reign was never in doubt"
        pair.check(load)
