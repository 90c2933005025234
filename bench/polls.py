"""A thousand clients wait for their replies; measured is how long after each reply its answer is there.

``replied_at`` is when the reply reached the node, before it was synced, to the millisecond: what is printed
is an upper bound of the time from sync to answer. Clients and everything else share the machine.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

from bench.load import Connection, LoadResult, post
from bench.processes import process
from bench.stable import TITANIC, Titanic

POLLS = 1_000
SERVICE = "polls"


def same(body: bytes) -> bytes:
    """The worker: its reply is what it was given."""
    return body


async def _open(port: int) -> tuple[asyncio.Transport, Connection]:
    transport, connection = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", port)
    assert isinstance(transport, asyncio.Transport)
    return transport, connection


async def _waiter(connection: Connection, path: bytes, late: dict[bytes, float]) -> bool:
    ask = b"GET %b/reply HTTP/1.1\r\nHost: bench\r\nPrefer: wait=60\r\n\r\n" % path
    status, _, body = await connection.ask(ask)
    late[path] = time.time()
    return status == 200 and len(body) == 256


async def _replied_at(connection: Connection, path: bytes) -> float:
    _, _, body = await connection.ask(b"GET %b HTTP/1.1\r\nHost: bench\r\n\r\n" % path)
    return datetime.fromisoformat(json.loads(body)["replied_at"]).timestamp()


async def _measure(served: Titanic, start_worker: Callable[[], None]) -> LoadResult:
    opened = [await _open(served.port) for _ in range(POLLS)]
    connections = [connection for _, connection in opened]
    answers = [await connection.ask(post(f"/v1/services/{SERVICE}/jobs")) for connection in connections]
    paths = [location for _, location, _ in answers]
    answered: dict[bytes, float] = {}
    waiting = [
        asyncio.ensure_future(_waiter(connection, path, answered))
        for connection, path in zip(connections, paths, strict=True)
    ]
    await asyncio.sleep(1.0)  # all polls have reached the node: nothing is due before a worker comes
    start_worker()
    good = await asyncio.gather(*waiting)
    took = [answered[path] - await _replied_at(connections[0], path) for path in paths]
    for connection, path in zip(connections, paths, strict=True):
        await connection.ask(b"DELETE %b HTTP/1.1\r\nHost: bench\r\n\r\n" % path)
    for transport, _ in opened:
        transport.close()
    took.sort()
    span = max(answered.values()) - min(answered.values())
    return LoadResult(
        POLLS / max(span, 1e-3),
        took[POLLS // 2] * 1e3,
        took[int(POLLS * 0.99)] * 1e3,
        good.count(False),
    )


def run(served: Titanic, folder: Path) -> LoadResult:
    """``POLLS`` polls wait for as many jobs; then a worker comes. Times from reply to answer."""
    with ExitStack() as stack:
        worker = [*TITANIC, "worker", SERVICE, "--python", "bench.polls:same", "--nodes", served.broker]

        def start_worker() -> None:
            argv = [*worker, "--concurrency", "16"]
            stack.enter_context(process(argv, lambda: True, folder / "polls.log"))

        return asyncio.run(_measure(served, start_worker))
