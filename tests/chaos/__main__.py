"""``python -m tests.chaos --kills N``: promise F2 on demand, with progress; exit code 1 if it is broken."""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.support.load import Load
from tests.support.pair import Pair, kill_again_and_again, new_seed, under_load
from tests.support.processes import processes


def said(line: str) -> None:
    """A line with its time, at once."""
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stdout.flush()


def main() -> None:
    """Kill, look, and check everything at the end. AssertionError if anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    kills = parser.parse_args().kills
    seed = new_seed()
    with tempfile.TemporaryDirectory(prefix="titanic-chaos-") as name, processes(Path(name)) as family:
        pair = Pair(family, Path(name))

        async def torment(load: Load, rng: random.Random) -> None:
            await kill_again_and_again(pair, load, rng, kills, said=said)

        load = asyncio.run(under_load(pair.serve(), seed, torment))
        said(f"{len(load.ledger.bodies)} acknowledged; now everything is checked")
        pair.check(load)
    said("lost 0, phantom 0, resurrected 0, replies changed 0, second ackers 0, both files clean")


if __name__ == "__main__":
    main()
