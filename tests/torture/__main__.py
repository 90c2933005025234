"""``make torture SEED= MINUTES=``: histories on the faulty disk in parallel, then kill -9 of a real node.

Ends with 1 and the seed of every history that broke a promise; each belongs into ``FOUND`` of
``tests/titanic_store/model/test_histories.py``.
"""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from random import SystemRandom
from typing import Final

from tests.torture.world import Score, run_history

SLICE_COUNT: Final = 200
STEPS_LEAST_COUNT: Final = 40
STEPS_SPREAD_COUNT: Final = 120
KILLS_PER_MINUTE: Final = 20
KILLS_MAX_COUNT: Final = 200
REPORT_S: Final = 10.0


def run_slice(first: int) -> tuple[Score, dict[int, str]]:
    """Some histories; the seeds that failed, with why."""
    logging.disable(logging.CRITICAL)
    total, failed = Score(), dict[int, str]()
    for seed in range(first, first + SLICE_COUNT):
        steps = STEPS_LEAST_COUNT + seed % STEPS_SPREAD_COUNT
        try:
            total.add(run_history(seed, steps))
        except Exception as error:
            failed[seed] = f"run_history({seed}, {steps}): {error}"
    return total, failed


def slices(first: int, deadline: float) -> Iterator[int]:
    """Begins of slices until the time is over."""
    while time.monotonic() < deadline:
        yield first
        first += SLICE_COUNT


def histories(first: int, minutes: float, workers: int) -> dict[int, str]:
    """All histories that fit into the time; the seeds that failed."""
    total, failed, shown = Score(), dict[int, str](), time.monotonic()
    deadline = shown + minutes * 60
    with ProcessPoolExecutor(workers) as pool:
        begins = slices(first, deadline)
        running = deque(pool.submit(run_slice, begin) for begin in islice(begins, 2 * workers))
        while running:
            score, wrong = running.popleft().result()
            total.add(score)
            failed |= wrong
            running.extend(pool.submit(run_slice, begin) for begin in islice(begins, 1))
            for why in wrong.values():
                print(f"FAILED {why}", flush=True)
            if time.monotonic() - shown > REPORT_S:
                shown = time.monotonic()
                print(f"{max(0, deadline - shown):6.0f} s left, {total}, {len(failed)} failed", flush=True)
    print(f"{total}, {len(failed)} failed")
    return failed


def kills(seed: int, rounds: int) -> int:
    """A node under load is killed again and again; then the broken-machine tests; pytest's exit code."""
    environment = {**os.environ, "CRASH_ROUNDS": str(rounds), "CRASH_SEED": str(seed % (1 << 32) or 1)}
    command = [sys.executable, "-m", "pytest", "-q", "-o", "timeout=3600", "tests/crash", "tests/machine"]
    return subprocess.run(command, env=environment, check=False).returncode


def main() -> int:
    """Parse, torture, report."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="first seed; 0: a random one")
    parser.add_argument("--minutes", type=float, default=5.0, help="for the histories")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--kills", type=int, default=-1, help="kill -9 rounds; default: by the minutes, at most 200"
    )
    options = parser.parse_args()
    seed = options.seed or SystemRandom().randrange(1, 1 << 40)
    rounds = (
        min(KILLS_MAX_COUNT, int(options.minutes * KILLS_PER_MINUTE)) if options.kills < 0 else options.kills
    )
    print(
        f"SEED={seed} MINUTES={options.minutes:g}, {options.workers} processes, then {rounds} kills",
        flush=True,
    )
    failed = histories(seed, options.minutes, options.workers)
    code = kills(seed, rounds) if rounds else 0
    return 1 if failed or code else 0


if __name__ == "__main__":
    sys.exit(main())
