"""Deadlines fire in order, once, unless cancelled."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from core.pure.timers import SWEEP_MIN, Timers


@given(st.lists(st.integers(0, 50)), st.sets(st.integers(0, 49)), st.integers(0, 60))
def test_exactly_the_due_and_uncancelled_fire_in_order(
    deadlines: list[int], cancelled: set[int], now_ms: int
) -> None:
    """pop_due gives each due item once, earliest first, ties in arming order."""
    timers: Timers[int] = Timers()
    armed = [timers.arm(deadline, number) for number, deadline in enumerate(deadlines)]
    for number in cancelled:
        if number < len(armed):
            timers.cancel(armed[number])
            timers.cancel(armed[number])
    alive = [(deadline, n) for n, deadline in enumerate(deadlines) if n not in cancelled]
    assert len(timers) == len(alive)
    fired = []
    while (item := timers.pop_due(now_ms)) is not None:
        fired.append(item)
    assert fired == [n for deadline, n in sorted(alive) if deadline <= now_ms]
    rest = [deadline for deadline, _ in alive if deadline > now_ms]
    assert timers.next_deadline() == (min(rest) if rest else None)
    assert len(timers) == len(rest)


def test_cancelled_timers_do_not_pile_up() -> None:
    """Arming and cancelling for ever holds a bounded number of entries."""
    timers: Timers[int] = Timers()
    for number in range(10_000):
        timers.cancel(timers.arm(1_000_000, number))
    assert len(timers._heap) <= 2 * SWEEP_MIN + 2
    assert timers.next_deadline() is None
