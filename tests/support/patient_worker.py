"""A worker of ``shout`` that is at work until it is told to be done, in each way a handler can run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.processes import DEADLINE_S, clean_environment

SCRIPT = """
import asyncio, sys, time
from pathlib import Path
from core.pure.worker_job import ReplyMemory
from core.shell.worker import Worker

# No memory of replies: what is not handed in would be done again, and the log would show it.
worker = Worker(sys.argv[1].split(","), memory=ReplyMemory(max_bytes=0))

def begin(body):
    with open("work.log", "ab") as log:
        log.write(body + b"\\n")

def work(body: bytes):
    begin(body)
    while not Path("go").exists():
        time.sleep(0.02)
    return body.upper()

async def work_async(body: bytes):
    begin(body)
    while not Path("go").exists():
        await asyncio.sleep(0.02)
    return body.upper()

worker.service("shout")(work_async if sys.argv[2] == "async" else work)
sys.exit(worker.run())
"""
SHELL = "tee -a work.log | tr a-z A-Z > out.$$; until [ -e go ]; do sleep 0.02; done; cat out.$$"


@contextmanager
def worker_of(style: str, endpoint: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker of ``shout`` that begins at once and ends when the file ``go`` is there."""
    (folder / "worker.py").write_text(SCRIPT)
    ours = [sys.executable, "worker.py", endpoint, style]
    shell = [sys.executable, "-m", "gateway.cli", "worker", "shout", "--nodes", endpoint, "--exec", SHELL]
    process = subprocess.Popen(shell if style == "exec" else ours, cwd=folder, env=clean_environment())
    try:
        yield process
    finally:
        process.terminate()
        process.wait(DEADLINE_S)
