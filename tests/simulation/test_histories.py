"""A pair under everything that can go wrong, from seeds: F1. ``make simulate`` has more."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from core.pure.twin import Twin
from tests.simulation.faults import play
from tests.simulation.memory_ring import MemoryDisk
from tests.simulation.real_disk import RealDisk
from tests.simulation.sabotage_joins import BUGS, FAMILY_OF
from tests.simulation.script import FAMILIES, KEPT, Script, generate, load, save

SLICES = 10
SLICE_COUNT = 100
REAL_COUNT = 60
LOCAL_COUNT = 25
SEEDS_MAX = 60
KEPT_FILES = sorted(KEPT.glob("*.json"))


def wrong(script: Script, twin_class: type[Twin] = Twin, *, disk_class: Any = MemoryDisk) -> list[str]:
    """What is wrong at the end of a history; an exception in it counts."""
    try:
        return play(script, twin_class=twin_class, disk_class=disk_class).check()
    except Exception as error:
        return [f"{type(error).__name__}: {error}"]


@pytest.mark.parametrize("number", range(SLICES))
def test_no_history_loses_resurrects_or_doubles_anything(number: int) -> None:
    """Nothing is lost, resurrected or answered twice; one acker; one active at the end."""
    first = 10_000 + number * SLICE_COUNT
    for seed in range(first, first + SLICE_COUNT):
        problems = wrong(generate(seed))
        assert not problems, f"seed {seed}: {problems[:5]}"


@pytest.mark.parametrize(("family", "count"), [("packs", 80), ("movers", 40), ("empty-disk", 30)])
def test_the_same_holds_in_families_of_their_own(family: str, count: int) -> None:
    """Packs that are shipped as one; clients that change islands; an outdated node beside an empty disk."""
    for seed in range(60_000, 60_000 + count):
        problems = wrong(generate(seed, family=family))
        assert not problems, f"seed {seed} of {family}: {problems[:5]}"


@pytest.mark.parametrize("family", ["storm", "partition", "late-voter", "packs"])
def test_the_same_holds_on_the_real_ring(family: str) -> None:
    """The store's own code on a disk that tears what was not synced, with a ring that moves on."""
    for seed in range(40_000, 40_000 + REAL_COUNT // 3):
        problems = wrong(generate(seed, family=family), disk_class=RealDisk)
        assert not problems, f"seed {seed} of {family}: {problems[:5]}"


@pytest.mark.parametrize("family", ["storm", "partition"])
def test_local_loses_nothing_that_the_old_active_still_has(family: str) -> None:
    """What the lag kept from the new active is merged when the old one returns; the pair is one again.

    Until then a job may be unknown, run again or be closed where it is not: that is what `local` costs.
    """
    allowed = ("was acknowledged, and the answer is", "resurrected:", "reply changed:")
    for seed in range(50_000, 50_000 + LOCAL_COUNT):
        script = msgspec.structs.replace(generate(seed, family=family), sync=False)
        problems = [text for text in wrong(script) if not any(word in text for word in allowed)]
        assert not problems, f"seed {seed} of {family}: {problems[:5]}"


@pytest.mark.parametrize("path", KEPT_FILES, ids=[path.stem for path in KEPT_FILES])
def test_what_failed_once_holds(path: Path) -> None:
    """Every history that ever found something stays, as its script; with its bug it goes wrong again."""
    script = load(path)
    assert wrong(script) == []
    for name in script.finds:
        with pytest.MonkeyPatch.context() as patch:
            BUGS[name](patch)
            assert wrong(script), f"{name} does not show any more: the script has lost its meaning"


def test_a_script_is_the_history() -> None:
    """The same script gives the same history, to the last line; and a file gives back what was saved."""
    for family in FAMILIES:
        script = generate(7, family=family)
        assert play(script).ledger.story == play(script).ledger.story


def test_a_script_survives_its_file(tmp_path: Path) -> None:
    """What is read back is what was written."""
    script = generate(3)
    save(script, tmp_path / "script.json")
    assert load(tmp_path / "script.json") == script


@pytest.mark.parametrize("name", sorted(BUGS))
def test_each_bug_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one bug switched on, some history within the bound goes wrong: the checkers see."""
    BUGS[name](monkeypatch)
    for seed in range(1, SEEDS_MAX + 1):
        problems = wrong(generate(seed, family=FAMILY_OF.get(name, "")))
        if problems:
            print(f"{name}: found by seed {seed} of {SEEDS_MAX}: {problems[0]}")
            return
    pytest.fail(f"{name}: not found in {SEEDS_MAX} histories")
