"""The clock of the tests that hold a promise in seconds."""

import time

from tests.support.fair import TICK_S, FairClock
from tests.support.processes import until


def test_never_ahead_of_wall_time() -> None:
    """Fair time passes, and never faster than the wall's."""
    with FairClock() as clock:
        before = time.monotonic()
        until("fair time passes", lambda: clock.elapsed_s >= 20 * TICK_S)
        assert clock.elapsed_s <= time.monotonic() - before + 2 * TICK_S


def test_stands_still_without_a_turn() -> None:
    """What keeps every other thread from running is not counted, however long it takes."""
    with FairClock() as clock:
        until("the clock runs", lambda: clock.elapsed_s >= 2 * TICK_S)
        before, fair = time.monotonic(), clock.elapsed_s
        sum(range(10_000_000))  # one call into C: the interpreter's lock is not let go
        held_s, counted_s = time.monotonic() - before, clock.elapsed_s - fair
    assert held_s > 5 * TICK_S
    assert counted_s <= 3 * TICK_S
    assert clock.stolen_s > 2 * TICK_S
