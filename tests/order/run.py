"""Jobs of two services and three priorities, eight registrations that fail now and then, and who saw it.

The node's events are the witness: they are numbered as the records of its journal. The order of *accepted*
is that of acceptance, the order of each job's first *started* that of first dispatch.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from core.pure import tsp
from core.shell.client import Client
from core.shell.extended import JobOptions
from tests.support.processes import DEADLINE_S, clean_environment, processes

SERVICES: Final = ("first", "second")
PRIORITIES: Final = (0, 1, 2)
SUBMITTERS_COUNT: Final = 16
FAIL_SHARE: Final = 0.02
PAGE_COUNT: Final = 1_000
WORKER: Final = """
import random, sys
from core.shell.worker import AttemptFailedError, Worker

source = random.Random(int(sys.argv[2]))
worker = Worker([sys.argv[1]], concurrency=int(sys.argv[3]))

async def work(body: bytes):
    if source.random() < float(sys.argv[4]):
        raise AttemptFailedError("now and then")
    return b""

for name in sys.argv[5:]:
    worker.service(name)(work)
sys.exit(worker.run())
"""


class Order(msgspec.Struct):
    """What the events say; ``wrong`` lists the first places where a queue was not served in order."""

    accepted: int
    dispatched: int
    retried: int
    wrong: list[str]


def run(folder: Path, *, jobs: int, workers: int, seed: int) -> Order:
    """Submit ``jobs`` while ``workers`` registrations work, and compare the orders once all are done."""
    with processes(folder) as family:
        _, endpoint = family.node(folder / "data")
        with _workers(folder, endpoint, workers, seed):
            return asyncio.run(_watch(endpoint, jobs, seed))


@contextmanager
def _workers(folder: Path, endpoint: str, count: int, seed: int) -> Iterator[None]:
    """One process with ``count`` registrations, half of them for each service."""
    (folder / "worker.py").write_text(WORKER)
    arguments = (endpoint, str(seed), str(count // len(SERVICES)), str(FAIL_SHARE), *SERVICES)
    process = subprocess.Popen(
        [sys.executable, "worker.py", *arguments],
        cwd=folder,
        env=clean_environment(),
        stderr=subprocess.DEVNULL,  # a line for each failure that was asked for
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(DEADLINE_S)


async def _watch(endpoint: str, jobs: int, seed: int) -> Order:
    """Submit sixteen at a time and read every event, until all have succeeded."""
    priorities: dict[bytes, int] = {}
    events: list[tsp.Event] = []
    async with Client([endpoint], timeout_s=DEADLINE_S) as client, asyncio.TaskGroup() as group:
        last = (await client.events()).next
        for number in range(SUBMITTERS_COUNT):
            group.create_task(
                _submit(client, random.Random(seed + number), jobs // SUBMITTERS_COUNT, priorities)
            )
        done = 0
        while done < jobs // SUBMITTERS_COUNT * SUBMITTERS_COUNT:
            page = await client.events(last, wait_s=1, limit=PAGE_COUNT)
            assert page.gap_to == -1, "events were lost before they were read"
            last = page.next
            events += [event for event in page.events if event.kind in ("accepted", "started")]
            done += sum(event.kind == "succeeded" for event in page.events)
    return judge(events, priorities)


async def _submit(client: Client, source: random.Random, count: int, priorities: dict[bytes, int]) -> None:
    for _ in range(count):
        priority = source.choice(PRIORITIES)
        options = JobOptions(priority=priority, attempts_max=0)
        job = await client.submit(source.choice(SERVICES), b"x", options=options)
        priorities[bytes.fromhex(job)] = priority


def judge(events: list[tsp.Event], priorities: dict[bytes, int]) -> Order:
    """Compare both orders, queue by queue."""
    accepted: dict[tuple[str, int], list[bytes]] = defaultdict(list)
    started: dict[tuple[str, int], list[bytes]] = defaultdict(list)
    seen: set[bytes] = set()
    retried = 0
    for event in sorted(events, key=lambda event: event.id):
        queue = (event.service, priorities[event.key])
        if event.kind == "accepted":
            accepted[queue].append(event.key)
        elif event.key in seen:
            retried += 1
        else:
            seen.add(event.key)
            started[queue].append(event.key)
    wrong = [
        f"{queue}: place {at}"
        for queue, keys in accepted.items()
        for at, (one, other) in enumerate(zip(keys, started[queue], strict=True))
        if one != other
    ]
    return Order(sum(map(len, accepted.values())), len(seen), retried, wrong[:10])
