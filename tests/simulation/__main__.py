"""``make simulate SEED= COUNT=``: histories from SEED on; what goes wrong is written down as a script."""

import logging
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from tests.simulation.checks import summary
from tests.simulation.faults import play
from tests.simulation.script import Script, generate, save

FAILURES_MAX_COUNT = 5


def keep(script: Script, story: list[str], problems: list[str]) -> None:
    """Print what happened, and where the script is."""
    print("\n".join(story[-80:]))
    print("\n".join(problems[:20]))
    path = Path(tempfile.gettempdir()) / f"history-{script.seed}.json"
    save(script, path)
    print(
        f"seed {script.seed}, family {script.family}: {path}; to keep it, put it into tests/simulation/kept"
    )


def main(seed: int, count: int) -> int:
    """0 if all histories went well."""
    logging.disable(logging.CRITICAL)  # damage that is mended a moment later
    start = time.monotonic()
    totals: Counter[str] = Counter()
    failed = slowest_ms = 0
    for number in range(seed, seed + count):
        script = generate(number)
        totals[script.family] += 1
        try:
            world = play(script)
            problems = world.check()
        except Exception:
            keep(script, [], [traceback.format_exc()])
            failed += 1
        else:
            totals.update(summary(world))
            slowest_ms = max(slowest_ms, world.whole_ms)
            if problems:
                keep(script, world.ledger.story, problems)
                failed += 1
        if failed == FAILURES_MAX_COUNT:
            break
    rate = count / (time.monotonic() - start)
    told = ", ".join(f"{name} {value}" for name, value in sorted(totals.items()))
    print(f"{count} histories from seed {seed}: {failed} went wrong; {told}; {rate:.1f} histories a second")
    print(f"both nodes were in sync {slowest_ms} ms after the last fault at the latest")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
