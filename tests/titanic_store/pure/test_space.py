"""Slots become free from the tail only."""

from titanic_store.pure.space import Space


def space() -> Space:
    """Slots 2, 0, 1 in the ring, 3 free."""
    made = Space(65536, 4)
    made.order.extend((2, 0, 1))
    made.free.append(3)
    return made


def test_a_dead_chunk_behind_a_live_one_is_not_free() -> None:
    """A close must outlive what it closes: the order of the ring decides, not what is dead."""
    made = space()
    made.retain(made.offset_of(2) + 5000)
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
