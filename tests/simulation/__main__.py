"""``make simulate SEED= COUNT=``: histories from SEED on, up to the first that goes wrong."""

import sys
import time
import traceback

from tests.simulation.scripts import play


def main(seed: int, count: int) -> int:
    """0 if all histories went well."""
    start = time.monotonic()
    acked = executed = changes = 0
    for number in range(seed, seed + count):
        try:
            world = play(number)
            problems = world.check()
        except Exception:
            traceback.print_exc()
            print(f"seed {number}")
            return 1
        if problems:
            print("\n".join(world.ledger.story))
            print("\n".join(problems[:20]))
            print(f"seed {number}")
            return 1
        acked += len(world.ledger.acked)
        executed += world.ledger.executed
        changes += sum(" -> " in line for line in world.ledger.story)
    rate = count / (time.monotonic() - start)
    print(
        f"{count} histories from seed {seed}: {acked} jobs acknowledged, {executed} executed,"
        f" {changes} changes of state; {rate:.1f} histories a second"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
