"""A pair under everything that can go wrong, from seeds: F1. ``make simulate`` has more."""

from typing import Any

import pytest

from core.pure.twin import Twin
from tests.simulation.memory_ring import MemoryDisk
from tests.simulation.real_disk import RealDisk
from tests.simulation.sabotage import BUGS
from tests.simulation.scripts import play

SLICES = 10
SLICE_COUNT = 100
REAL_COUNT = 60
SEEDS_MAX = 150
FAILED_ONCE = (1, 13, 17, 24, 79, 237, 315)
"""Seeds that found something: with the scripts of that day, and kept since a bug likes to come back."""


def wrong(seed: int, twin_class: type[Twin] = Twin, *, disk_class: Any = MemoryDisk) -> list[str]:
    """What is wrong at the end of a history; an exception in it counts."""
    try:
        return play(seed, twin_class=twin_class, disk_class=disk_class).check()
    except Exception as error:
        return [f"{type(error).__name__}: {error}"]


@pytest.mark.parametrize("number", range(SLICES))
def test_no_history_loses_resurrects_or_doubles_anything(number: int) -> None:
    """Nothing is lost, resurrected or answered twice; one acker; one active at the end."""
    first = 10_000 + number * SLICE_COUNT
    for seed in range(first, first + SLICE_COUNT):
        problems = wrong(seed)
        assert not problems, f"seed {seed}: {problems[:5]}"


def test_the_same_holds_on_the_real_ring() -> None:
    """The store's own code on a disk that tears what was not synced, with a ring that moves on."""
    for seed in range(40_000, 40_000 + REAL_COUNT):
        problems = wrong(seed, disk_class=RealDisk)
        assert not problems, f"seed {seed}: {problems[:5]}"


@pytest.mark.parametrize("seed", FAILED_ONCE)
def test_what_failed_once_holds(seed: int) -> None:
    """Every seed that ever found something stays."""
    assert wrong(seed) == []


@pytest.mark.parametrize("bug", sorted(BUGS))
def test_each_bug_is_found(bug: str) -> None:
    """With one bug switched on, some history within the bound goes wrong: the checkers see."""
    twin_class = BUGS[bug]()
    assert any(wrong(seed, twin_class) for seed in range(1, SEEDS_MAX + 1)), f"{bug}: not found"
