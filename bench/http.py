"""Durable submit and round trip over HTTP, beside raw fdatasync and a bare uvicorn no-op."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from bench.load import Connection, LoadResult, closed_loop, data_folder, post, wrk
from bench.peers import restate
from bench.processes import answers, free_port, process

TITANIC = [sys.executable, "-m", "gateway.cli"]
SUBMIT = "/v1/services/bench/jobs"
ECHO = "/v1/services/echo/jobs"


def raw_fdatasync(folder: Path, seconds: float) -> LoadResult:
    """4 KiB written and synced, one after the other, in a preallocated file."""
    path = folder / "raw"
    size, block = 64 * 1024 * 1024, b"x" * 4096
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        for at in range(0, size, 1 << 20):
            os.pwrite(fd, bytes(1 << 20), at)
        os.fsync(fd)
        took: list[float] = []
        started = time.perf_counter()
        while time.perf_counter() - started < seconds:
            before = time.perf_counter()
            os.pwrite(fd, block, len(took) * 4096 % size)
            os.fdatasync(fd)
            took.append(time.perf_counter() - before)
        elapsed = time.perf_counter() - started
    finally:
        os.close(fd)
        path.unlink()
    took.sort()
    return LoadResult(len(took) / elapsed, took[len(took) // 2] * 1e3, took[int(len(took) * 0.99)] * 1e3, 0)


async def _submit(connection: Connection) -> bool:
    status, _, _ = await connection.ask(post(SUBMIT))
    return status == 202


async def _round_trip(connection: Connection) -> bool:
    status, location, _ = await connection.ask(post(ECHO))
    if status != 202:
        return False
    path = location.decode()
    ask = f"GET {path}/reply HTTP/1.1\r\nHost: bench\r\nPrefer: wait=30\r\n\r\n".encode()
    status, _, body = await connection.ask(ask)
    if status != 200 or len(body) != 256:
        return False
    status, _, _ = await connection.ask(f"DELETE {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
    return status == 204


def _client(port: int, connections: int, seconds: float, step: Callable[..., object]) -> LoadResult:
    return asyncio.run(closed_loop(port, connections, seconds, step))  # type: ignore[arg-type]


def contenders(stack: ExitStack, seconds: float) -> dict[str, Callable[[], LoadResult]]:
    """Start everything once; name -> one measured run."""
    folder = data_folder()
    stack.callback(shutil.rmtree, folder)
    log = folder / "log"
    noop, http, broker = free_port(), free_port(), free_port()
    stack.enter_context(
        process([sys.executable, "-m", "bench.noop", str(noop)], answers(f"http://127.0.0.1:{noop}/"), log)
    )
    node = [*TITANIC, "node", "--broker", f"tcp://127.0.0.1:{broker}", "--data", str(folder / "data")]
    gateway = [
        *TITANIC, "gateway", "--nodes", f"tcp://127.0.0.1:{broker}", "--http", f"127.0.0.1:{http}"
    ]  # fmt: skip
    stack.enter_context(process(node, lambda: True, log))
    stack.enter_context(process(gateway, answers(f"http://127.0.0.1:{http}/readyz"), log))
    worker = [*TITANIC, "worker", "echo", "--nodes", f"tcp://127.0.0.1:{broker}", "--concurrency", "4"]
    stack.enter_context(process(worker, lambda: True, log))
    ours, floor = f"http://127.0.0.1:{http}{SUBMIT}", f"http://127.0.0.1:{noop}/"
    runs: dict[str, Callable[[], LoadResult]] = {"raw fdatasync": lambda: raw_fdatasync(folder, seconds)}
    for n in (1, 32, 128):
        runs[f"uvicorn no-op, {n} conn"] = lambda n=n: wrk(floor, n, seconds)  # type: ignore[misc]
        runs[f"durable submit, {n} conn"] = lambda n=n: wrk(ours, n, seconds)  # type: ignore[misc]
    runs["submit-reply-close, 64 in flight"] = lambda: _client(http, 64, seconds, _round_trip)
    runs["one submit alone"] = lambda: _client(http, 1, seconds, _submit)
    _add_batch(runs, http, seconds)
    _add_restate(runs, restate.start(stack, folder), seconds)
    return runs


BATCH_LINES = 250


def _add_batch(runs: dict[str, Callable[[], LoadResult]], http: int, seconds: float) -> None:
    lines = (b"x" * 256 + b"\n") * BATCH_LINES
    head = f"POST {SUBMIT}:batch HTTP/1.1\r\nHost: bench\r\nContent-Type: application/x-ndjson\r\n"
    request = head.encode() + b"Content-Length: %d\r\n\r\n" % len(lines) + lines

    async def step(connection: Connection) -> bool:
        status, _, body = await connection.ask(request)
        return status == 202 and body.count(b"\n") == BATCH_LINES

    def run() -> LoadResult:
        result = _client(http, 4, seconds, step)
        result.per_second *= BATCH_LINES
        return result

    runs["batch submit, jobs"] = run


def _add_restate(runs: dict[str, Callable[[], LoadResult]], ingress: str | None, seconds: float) -> None:
    """Sends are delayed by a day, so that nothing but the acceptance is measured on either side."""
    if ingress is None:
        return
    content_type = "application/octet-stream"
    for n in (32, 128):
        runs[f"Restate send, {n} conn"] = lambda n=n: wrk(  # type: ignore[misc]
            f"{ingress}/bench/echo/send?delay=1d", n, seconds, content_type=content_type
        )
    runs["Restate call, 64 in flight"] = lambda: wrk(
        f"{ingress}/bench/echo", 64, seconds, content_type=content_type
    )


RATIOS = [
    ("durable submit, 1 conn", "uvicorn no-op, 1 conn", "rate"),
    ("durable submit, 32 conn", "uvicorn no-op, 32 conn", "rate"),
    ("durable submit, 128 conn", "uvicorn no-op, 128 conn", "rate"),
    ("submit-reply-close, 64 in flight", "uvicorn no-op, 32 conn", "rate"),
    ("one submit alone", "raw fdatasync", "p50"),
    ("durable submit, 32 conn", "Restate send, 32 conn", "rate"),
    ("durable submit, 128 conn", "Restate send, 128 conn", "rate"),
    ("batch submit, jobs", "Restate send, 32 conn", "rate"),
    ("submit-reply-close, 64 in flight", "Restate call, 64 in flight", "rate"),
]
