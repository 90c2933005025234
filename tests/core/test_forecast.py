"""When a store will be full."""

from __future__ import annotations

import pytest

from core.pure.forecast import HORIZON_MS, SAMPLE_MS, Growth, full_in_ms


def looked(sizes: list[int]) -> Growth:
    growth = Growth()
    for number, size in enumerate(sizes):
        growth.look(1_000 + number * SAMPLE_MS, size)
    return growth


@pytest.mark.parametrize("sizes", [[], [5], [5, 10], [1, 2, 3, 4]])
def test_a_short_look_says_nothing(sizes: list[int]) -> None:
    """Less than twenty seconds is no pace."""
    assert looked(sizes).per_minute() is None


@pytest.mark.parametrize("step", [-700, 0, 1, 1_000_000])
def test_a_straight_line_is_found(step: int) -> None:
    """Twelve looks a minute: twelve steps a minute."""
    assert looked([10**9 + step * number for number in range(30)]).per_minute() == pytest.approx(
        12 * step, abs=1e-3
    )


def test_a_sawtooth_is_not_growing() -> None:
    """Jobs that come and are closed even out."""
    per_minute = looked([1_000 + 500 * (number % 4) for number in range(120)]).per_minute()
    assert per_minute is not None
    assert abs(per_minute) < 60


def test_only_the_last_ten_minutes_count() -> None:
    """What grew before and stands still now does not grow."""
    assert looked([number * 1_000 for number in range(100)] + [99_000] * 120).per_minute() == 0


def test_when_it_is_full() -> None:
    """What is left at the present pace; null when it does not grow, is not known, or is far away."""
    assert full_in_ms(400, 1_000, 60.0) == 600_000
    assert full_in_ms(1_100, 1_000, 60.0) == 0
    for per_minute in (None, 0.0, -5.0, 60_000 * 600 / (HORIZON_MS + 60_000)):
        assert full_in_ms(400, 1_000, per_minute) is None
