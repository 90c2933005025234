"""Slots become free from the tail only."""

from random import Random

import pytest

from titanic_store.pure.space import RECENT_MAX_COUNT, Space, Tally, capacity_bytes, charge


def space() -> Space:
    """Slots 2, 0, 1 in the ring, 3 free."""
    made = Space(65536, 4)
    made.order.extend((2, 0, 1))
    made.free.append(3)
    return made


def test_a_dead_chunk_behind_a_live_one_is_not_free() -> None:
    """A close must outlive what it closes: the order of the ring decides, not what is dead."""
    made = space()
    made.retain(made.offset_of(2) + 5000, 600)
    assert made.reclaim() == 0
    made.release(made.offset_of(2) + 5000)
    assert made.reclaim() == 2
    assert (made.tail_turn, list(made.order), list(made.free)) == (3, [1], [3, 2, 0])


def test_the_head_is_never_free() -> None:
    """The chunk that is being written stays, however dead."""
    made = space()
    assert made.reclaim() == 2
    assert made.reclaim() == 0
    assert made.head_turn == made.tail_turn == 3


def test_the_slot_that_was_free_longest_is_next() -> None:
    """Old content is overwritten as late as possible, and in the order of the ring."""
    made = space()
    made.reclaim()
    made.grow()
    assert [made.take() for _ in range(4)] == [3, 2, 0, 4]


@pytest.mark.parametrize("recent_max_count", [1, 100, RECENT_MAX_COUNT])
def test_what_lives_is_never_underestimated(recent_max_count: int) -> None:
    """Records of many sizes come and go: the sum is at least the truth, and exact when a slot is empty.

    Whether all, some or nearly none of the charges are remembered.
    """
    seed = 23
    random, made = Random(seed), Space(65536, 3, recent_max_count=recent_max_count)
    made.order.extend((0, 1, 2))
    live: dict[int, int] = {}
    for number in range(2000):
        at = made.offset_of(number % 3) + 4096 + 8 * number
        live[at] = random.choice((160, 500, 4000, 90_000))
        made.retain(at, live[at])
        for _ in range(random.randrange(3)):
            if live:
                gone = random.choice(list(live))
                made.release(gone)
                del live[gone]
        assert made.live_bytes >= sum(live.values()), f"seed {seed}"
        assert made.live_bytes == sum(made.alive_bytes)
        if recent_max_count > 2000:
            assert made.live_bytes == sum(live.values())
    for at in live:
        made.release(at)
    assert made.live_bytes == 0


def test_what_was_written_last_need_not_be_looked_up() -> None:
    """An offset that is used again has its new charge; beyond the limit all is looked up as before."""
    made = Space(65536, 2, recent_max_count=3)
    made.order.append(0)
    first = made.offset_of(0) + 4096
    for number, charge_bytes in enumerate((100, 9_000, 500)):
        made.retain(first + 8 * number, charge_bytes)
    assert not any(made.varied(first + 8 * number) for number in range(3))
    made.release(first + 8)
    assert made.live_bytes == 600
    made.retain(first + 8, 7_000)
    made.release(first + 8)
    assert made.live_bytes == 600
    made.retain(first + 8, 7_000)
    made.retain(first + 64, 100)
    assert [made.varied(at) for at in (first, first + 8, first + 16, first + 64)] == [True, True, True, False]


def test_what_an_opening_loads_is_what_releases_would_have_left() -> None:
    """Of three records one is dead: its smallest possible share is taken off; of a dead slot everything."""
    made = Space(65536, 2)
    made.load(0, 2, Tally(3, 1800, 500))
    made.load(1, 0, Tally(9, 9000, 300))
    assert made.alive_bytes == [1300, 0]
    assert made.alive_counts == [2, 0]
    assert made.live_bytes == 1300


def test_a_slot_that_was_given_up_is_not_counted_anew() -> None:
    """Loaded with an upper bound, then dead: there is nothing to look up, and perhaps no such slot."""
    made = space()
    made.load(2, 1, Tally(3, 9000, 300, 6000))
    assert made.rough == {2}
    made.release(made.offset_of(2))
    assert made.reclaim() == 2
    assert made.rough == set()


def test_a_grown_file_is_filled_from_its_begin() -> None:
    """With ``lowest`` the end of the file stays free for shrinking; leftovers come first."""
    made = space()
    made.reclaim()
    assert made.take(lowest=True) == 0
    made.leftover_count = 1
    assert made.take(lowest=True) == 3
    assert made.take(lowest=True) == 2
    assert made.leftover_count == 0


def test_only_free_slots_at_the_end_are_given_up() -> None:
    """Down to the floor and not past a slot in use; not at all while an older history lies in free slots."""
    made = Space(65536, 8)
    made.order.append(4)
    made.free.extend((7, 0, 1, 2, 3, 5, 6))
    made.leftover_count = 1
    assert made.shrink(2) == 0
    made.leftover_count = 0
    assert made.shrink(2) == 3
    assert (made.chunk_count, sorted(made.free)) == (5, [0, 1, 2, 3])
    assert made.shrink(2) == 0


def test_a_pinned_chunk_stays() -> None:
    """What a backup reads is not freed, and free again when it lets go."""
    made = space()
    made.pinned_turn = 2
    assert made.reclaim() == 1
    made.pinned_turn = 0
    assert made.reclaim() == 1


@pytest.mark.parametrize(("claim", "charged"), [(4096, 4096), (4097, 8194), (60_000, 120_000)])
def test_large_records_are_charged_twice(claim: int, charged: int) -> None:
    """They may leave as much empty before themselves."""
    assert charge(claim, 65536) == charged


@pytest.mark.parametrize("chunks", [0, 1, 2, 3, 100])
def test_the_capacity_leaves_two_chunks_and_a_share(chunks: int) -> None:
    """Never negative; 82 % of what is left without the spare chunks."""
    capacity = capacity_bytes(chunks, 16_000)
    assert 0 <= capacity <= max(0, chunks - 2) * 16_000 * 0.8204
    assert capacity >= max(0, chunks - 2) * 16_000 * 0.82 - 16
