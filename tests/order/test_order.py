"""The slice of ``make order`` that runs always."""

from __future__ import annotations

import random
from pathlib import Path

from core.pure import tsp
from tests.order.run import judge, run

JOBS_COUNT = 3_008


def test_first_dispatch_follows_acceptance_within_service_and_priority(tmp_path: Path) -> None:
    """O1: two services, three priorities, eight workers that fail one time in fifty."""
    seed = random.SystemRandom().randrange(1, 1 << 32)
    print("seed", seed)
    found = run(tmp_path, jobs=JOBS_COUNT, workers=8, seed=seed)
    assert found.wrong == []
    assert (found.accepted, found.dispatched) == (JOBS_COUNT, JOBS_COUNT)
    assert found.retried > 0


def test_the_judge_sees_what_is_out_of_order() -> None:
    """Two jobs of one queue started the other way round, one of another queue between them."""
    keys = [bytes((number,)) * 16 for number in range(3)]
    accepted = [tsp.Event(number, 0, "accepted", key, "first") for number, key in enumerate(keys)]
    started = [tsp.Event(9 + place, 0, "started", keys[at], "first") for place, at in enumerate((2, 1, 0))]
    found = judge(accepted + started, {keys[0]: 1, keys[1]: 0, keys[2]: 1})
    assert found.wrong == ["('first', 1): place 0", "('first', 1): place 1"]
