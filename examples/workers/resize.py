"""A worker with three services: a function, a function that sees the job, an async function.

Start a node (``titanic serve``), then ``python examples/workers/resize.py``; it may also be started first.
Ctrl-C finishes the jobs at hand; a second Ctrl-C aborts them.
"""

from __future__ import annotations

import asyncio
import sys

from core.shell.worker import AttemptFailedError, Worker, WorkerJob

worker = Worker(sys.argv[1:] or ["tcp://127.0.0.1:5555"], concurrency=2)


@worker.service("upper")
def upper(body: bytes) -> bytes:
    """Runs in a thread: heartbeats go on however long it takes."""
    return body.upper()


@worker.service("resize")
def resize(job: WorkerJob) -> bytes:
    """Keeps every second byte. Delivery is at least once: ``job.id`` tells a repeat."""
    if not job.body:
        raise AttemptFailedError("nothing to resize")  # tried again later, with this reason on record
    return job.body[::2]


@worker.service("sleep")
async def sleep(body: bytes) -> str:
    """Runs in the event loop; cancelled if the node gives the attempt up."""
    seconds = float(body)
    await asyncio.sleep(seconds)
    return f"slept {seconds:g} s"


if __name__ == "__main__":
    sys.exit(worker.run())
