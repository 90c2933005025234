"""The roster: sorted ids in blocks, against a plain sorted list."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from core.pure import roster as module
from core.pure.roster import Roster

KEYS = st.integers(min_value=0, max_value=400).map(lambda number: number.to_bytes(2, "big"))
STEPS = st.lists(st.tuples(st.booleans(), KEYS), max_size=300)


@given(STEPS, KEYS, st.integers(min_value=1, max_value=500))
@settings(max_examples=300, deadline=None)
def test_a_roster_is_a_sorted_set(steps: list[tuple[bool, bytes]], at: bytes, limit: int) -> None:
    """Adds and removals in any order; walks both ways from anywhere, with blocks small enough to split."""
    kept, module.BLOCK_COUNT = module.BLOCK_COUNT, 4  # type: ignore[misc]
    try:
        roster, model = Roster(), set[bytes]()
        for add, key in steps:
            if not add:
                roster.discard(key)
                model.discard(key)
            elif key not in model:
                roster.add(key)
                model.add(key)
        ordered = sorted(model)
        assert len(roster) == len(ordered)
        assert roster.after(at, limit) == [key for key in ordered if key > at][:limit]
        assert roster.before(at, limit) == [key for key in reversed(ordered) if key < at][:limit]
        assert roster.after(b"", 1_000) == ordered
        assert roster.before(b"", 1_000) == ordered[::-1]
    finally:
        module.BLOCK_COUNT = kept  # type: ignore[misc]


@given(st.lists(st.lists(KEYS, min_size=1, max_size=12), max_size=20), KEYS)
@settings(max_examples=200, deadline=None)
def test_many_at_once(crowds: list[list[bytes]], gone: bytes) -> None:
    """A crowd in ascending order is in as if each had been added."""
    kept, module.BLOCK_COUNT = module.BLOCK_COUNT, 4  # type: ignore[misc]
    try:
        roster, model = Roster(), set[bytes]()
        for crowd in crowds:
            new = sorted(set(crowd) - model)
            roster.add_all(new)
            model.update(new)
            roster.discard(gone)
            model.discard(gone)
            assert roster.after(b"", 1_000) == sorted(model)
            assert roster.before(b"", 1_000) == sorted(model)[::-1]
    finally:
        module.BLOCK_COUNT = kept  # type: ignore[misc]


def test_a_million_ids_cost_about_eight_bytes_each() -> None:
    """Added in order, as ids are made."""
    import tracemalloc

    keys = [number.to_bytes(16, "big") for number in range(200_000)]
    tracemalloc.start()
    try:
        roster = Roster()
        for key in keys:
            roster.add(key)
        assert tracemalloc.get_traced_memory()[0] / len(keys) < 10
    finally:
        tracemalloc.stop()
