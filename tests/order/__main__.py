"""``make order``: O1 with 100,000 jobs and eight workers; ORDER_JOBS=, SEED=."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.order.run import run


def main() -> None:
    """Print what was found; 1 if any queue was not served in order."""
    parser = argparse.ArgumentParser(prog="python -m tests.order", description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    seed = options.seed or random.SystemRandom().randrange(1, 1 << 32)
    print(f"seed {seed}", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        found = run(Path(folder), jobs=options.jobs, workers=options.workers, seed=seed)
    print(
        f"{found.accepted} accepted, {found.dispatched} dispatched, {found.retried} attempts repeated, "
        f"{len(found.wrong)} out of order, {time.monotonic() - began:.0f} s"
    )
    if found.wrong or found.dispatched != found.accepted:
        sys.exit("\n".join(found.wrong) or "not all were dispatched")


if __name__ == "__main__":
    main()
