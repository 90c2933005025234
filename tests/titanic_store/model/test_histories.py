"""Random histories of a store on a faulty disk: a slice of ``make torture`` for every build."""

import os
from random import SystemRandom
from typing import Final

import pytest

from tests.torture.world import Score, run_history

CRASHES_LEAST_COUNT: Final = 2_000
SEEDS: Final = 480

FOUND: Final = {
    2: "a torn trailer left a chunk unsealed for ever",
    3: "the same, and chunks sealed behind it",
    11: "a trailer survived and its digest did not",
    167: "the same with acknowledged records behind it",
    8: "a read error in the middle of a relocation came out of completed()",
    52: "the same of append, with --fsync interval",
    63: "the same with --fsync never",
    5: "without syncs both superblocks could tear, and the file was taken for no store at all",
    132: "the reply of an accepted job found no room",
    173: "without syncs an incarnation came twice",
    3080: "the file shrank below a chunk that had just been added",
    3457: "the same with --fsync interval",
    4148: "the same, seen by check after an orderly close",
    1680: "with --fsync never a relocation gave up what had been synced before it was itself",
    3065: "the same with sectors of 512 bytes",
}
"""Seeds of histories of 40 steps that once failed, and what it was."""

FOUND_LONG: Final = {
    (1198, 158): "the file shrank below a chunk that had just been added",
    (2161, 41): "the same",
    (6541, 101): "a chunk to be counted anew had been given back",
}
"""Seed and steps of those that needed another number of steps."""


@pytest.mark.parametrize(("seed", "steps"), [*((seed, 40) for seed in FOUND), *FOUND_LONG])
def test_what_was_found_once_stays_mended(seed: int, steps: int) -> None:
    """Every failure of the past, by its seed."""
    assert run_history(seed, steps).acknowledged > 0


@pytest.mark.slow
def test_no_history_breaks_a_promise() -> None:
    """Power cuts, kills, errors, full disks, in any order: nothing lost, back again or changed."""
    first = int(os.environ.get("TORTURE_SEED", "0")) or SystemRandom().randrange(1 << 40)
    print(f"TORTURE_SEED={first}")
    total = Score()
    for seed in range(first, first + SEEDS):
        total.add(run_history(seed))
    print(total)
    assert total.crashes >= CRASHES_LEAST_COUNT, total
    assert total.acknowledged > 10 * total.crashes, total
    assert total.refusals > SEEDS, "the ring was hardly ever full"
    assert total.turns > 2 * SEEDS, "the ring hardly ever went round"
