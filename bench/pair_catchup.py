"""Submits of a pair's active node while the other, which was away, takes in what it missed."""

from __future__ import annotations

import asyncio
import shutil
import time
from contextlib import ExitStack

from bench.http import SUBMIT
from bench.load import Connection, LoadResult, closed_loop, data_folder, post
from bench.pair import BenchPair
from gateway.composition.pair_ask import ask

CONNECTIONS = 4
BATCH = 1_000
DONE = 202


def _measure(port: int, seconds: float) -> LoadResult:
    async def step(connection: Connection) -> bool:
        status, _, _ = await connection.ask(post(SUBMIT))
        return bool(status == DONE)

    return asyncio.run(closed_loop(port, CONNECTIONS, seconds, step))  # type: ignore[arg-type]


async def _fill(port: int, jobs: int) -> None:
    """So many jobs, in batches."""
    _, connection = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", port)
    body = b"\n".join([b"x" * 256] * BATCH)
    head = (
        f"POST {SUBMIT}:batch HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    for _ in range(jobs // BATCH):
        status, _, _ = await connection.ask(head.encode() + body)
        assert status == DONE, f"a batch was answered {status}"


def catch_ups(jobs: int, seconds: float) -> None:
    """The p99 of submits while a node catches up, and alone before and whole after it."""
    with ExitStack() as stack:
        folder = data_folder()
        stack.callback(shutil.rmtree, folder)
        pair = BenchPair(stack, folder, folder / "log")
        active = pair.until_paired()
        whole = _measure(pair.http, seconds)
        pair.nodes[1 - active].kill()
        pair.nodes[1 - active].wait()
        asyncio.run(_fill(pair.http, jobs))
        alone = _measure(pair.http, seconds)
        pair.nodes[1 - active] = pair.start(1 - active)
        rows: list[LoadResult] = []
        start = time.monotonic()
        while True:
            rows.append(_measure(pair.http, 0.5))
            states = [status.get("state") for status in ask(pair.brokers, None, "status").values()]
            if sorted(map(str, states)) == ["paired", "passive"]:
                break
        took = time.monotonic() - start
        again = _measure(pair.http, seconds)
    print(f"{jobs} jobs and the load's own caught up in {took:.1f} s, in {len(rows)} slices of load")
    for name, row in (("in sync before", whole), ("alone", alone), ("in sync after", again)):
        print(f"{name:16} p50 {row.p50_ms:6.2f} ms, p99 {row.p99_ms:6.2f} ms, {row.per_second:,.0f}/s")
    worst, middle = max(row.p99_ms for row in rows), sorted(row.p99_ms for row in rows)[len(rows) // 2]
    base = max(alone.p99_ms, whole.p99_ms)
    errors = sum(row.errors for row in rows)
    print(f"catching up: p99 of a slice: median {middle:.2f} ms, worst {worst:.2f} ms, errors {errors}")
    print(f"p99 while catching up / without: {middle / base:.2f} (worst slice {worst / base:.2f})")
