"""How fast a follower that was away gets what it missed (P6)."""

from itertools import pairwise

import pytest

from core.pure.pacing import CLOSE_ENOUGH, PACE_MS, SLICE_COUNT, Pace

BEHIND = 100_000


@pytest.mark.parametrize("fresh_count", [1, 10, SLICE_COUNT, 5_000])
def test_it_catches_up_in_slices_under_any_load(fresh_count: int) -> None:
    """While records come every millisecond, it is sent a slice every few, and always more than come."""
    pace = Pace()
    sent_seq, last_seq, times, counts = 0, BEHIND, [], []
    pace.begin(last_seq)
    for now_ms in range(1, 10_000):
        last_seq += fresh_count
        count = pace.due_count(sent_seq, last_seq, now_ms, flying=now_ms % 2 == 0)
        sent_seq += count
        if last_seq - sent_seq <= CLOSE_ENOUGH:
            break
        if count:
            times.append(now_ms)
            counts.append(count)
    assert last_seq - sent_seq <= CLOSE_ENOUGH, "it catches up"
    assert all(after - before == PACE_MS for before, after in pairwise(times))
    assert max(counts) <= max(SLICE_COUNT, 2 * PACE_MS * fresh_count)


def test_without_clients_its_own_acknowledgements_set_the_pace() -> None:
    """No clock is waited for while nothing is appended, and nothing is sent on top of what is on its way."""
    pace = Pace()
    pace.begin(BEHIND)
    for sent_seq in (0, 512, 1_024):
        assert pace.due_count(sent_seq, BEHIND, 7, flying=False) == 2 * SLICE_COUNT
        assert pace.due_count(sent_seq + 512, BEHIND, 7, flying=True) == 0


def test_who_was_close_once_gets_everything_at_once() -> None:
    """A follower that is waited for is never behind because of a pace, however much comes together."""
    pace = Pace()
    pace.begin(BEHIND)
    assert pace.due_count(BEHIND - CLOSE_ENOUGH, BEHIND, 1, flying=True) == CLOSE_ENOUGH
    for now_ms in (1, 2):
        assert pace.due_count(BEHIND, 2 * BEHIND, now_ms, flying=True) == BEHIND
    pace.begin(2 * BEHIND)
    assert pace.due_count(BEHIND, 2 * BEHIND, 3, flying=False) < BEHIND, (
        "asking anew, it is one that was away again"
    )
