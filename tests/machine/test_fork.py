"""A forked child of the process that owns the store must never write to it (R14)."""

import subprocess
import sys
from pathlib import Path

from tests.support.processes import clean_environment
from titanic_store import check

PROGRAM = """
import os, sys, threading, warnings
from pathlib import Path
from tests.titanic_store.rig import Pebble, Waiting, key, options, request
from titanic_store import Kind, StoreFailedError

warnings.simplefilter("ignore", DeprecationWarning)  # of fork beside threads, which is what this is about
path = Path(sys.argv[1])
waiting = Waiting(path, options(max_chunks=12))
request(waiting.ring, 1)
waiting.wait(1)
before = path.read_bytes()
child = os.fork()
if child == 0:
    refused = 0
    for attempt in (
        lambda: request(waiting.ring, 2),
        lambda: waiting.ring.barrier("x"),
        waiting.ring.completed,
        waiting.ring.close,
    ):
        try:
            attempt()
        except StoreFailedError:
            refused += 1
    os._exit(0 if refused == 4 and path.read_bytes() == before else 1)
_, status = os.waitpid(child, 0)
if os.waitstatus_to_exitcode(status):
    sys.exit("the child was not refused")
request(waiting.ring, 3)
waiting.wait(1)
waiting.ring.close()
"""


def test_a_forked_child_is_refused_and_the_parent_goes_on(tmp_path: Path) -> None:
    """Append, barrier, completed and close say whose store it is; the file is untouched; 1 and 3 are in."""
    path = tmp_path / "titanic.ring"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path)],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = check(path)
    assert report.clean
    assert report.facts["live"] == {"request": 2}
