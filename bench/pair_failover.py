"""From ``kill -9`` of a pair's active node, under load, to the first acknowledgement of a later job."""

from __future__ import annotations

import asyncio
import shutil
import time
from contextlib import ExitStack
from statistics import median

from bench.http import SUBMIT
from bench.load import Connection, data_folder, post
from bench.pair import BenchPair

CLIENTS = 8
LOAD_S = 0.5
DONE = 202


async def _connected(port: int) -> Connection:
    _, connection = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", port)
    return connection


async def _client(port: int, counts: list[int], ended: asyncio.Event) -> None:
    connection = await _connected(port)
    while not ended.is_set():
        status, _, _ = await connection.ask(post(SUBMIT))
        counts[status != DONE] += 1


async def _kill(pair: BenchPair) -> tuple[float, list[int]]:
    """Seconds to the first new acknowledgement; how many of the load's requests were accepted, and not."""
    active = await asyncio.to_thread(pair.until_paired)
    counts = [0, 0]
    ended = asyncio.Event()
    load = [asyncio.ensure_future(_client(pair.http, counts, ended)) for _ in range(CLIENTS)]
    prober = await _connected(pair.http)
    await asyncio.sleep(LOAD_S)
    began = time.monotonic()
    pair.nodes[active].kill()
    status, _, _ = await prober.ask(post(SUBMIT))
    took = time.monotonic() - began
    counts[status != DONE] += 1
    ended.set()
    await asyncio.gather(*load)
    pair.nodes[active].wait()
    pair.nodes[active] = await asyncio.to_thread(pair.start, active)
    return took, counts


def failovers(kills: int) -> None:
    """Kill as often; p50, maximum, and that nobody got an error."""
    took: list[float] = []
    accepted = failed = 0
    with ExitStack() as stack:
        folder = data_folder()
        stack.callback(shutil.rmtree, folder)
        pair = BenchPair(stack, folder, folder / "log")
        for _ in range(kills):
            seconds, counts = asyncio.run(_kill(pair))
            took.append(seconds)
            accepted, failed = accepted + counts[0], failed + counts[1]
    rows = ", ".join(f"{each:.2f}" for each in sorted(took))
    print(f"failover of {kills} kills: p50 {median(took):.2f} s, max {max(took):.2f} s ({rows})")
    print(f"requests of the load: {accepted} accepted, {failed} failed")
