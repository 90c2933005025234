"""HTTP, part by part: each beside its limits and peers, which rest while they are not measured.

submit    durable submits beside raw fdatasync and a bare uvicorn no-op
restate   durable submits and batches beside Restate's /send
trip      submit, worker, reply, close beside Restate's call with its Python SDK
reply     GET of a ready reply beside a GET of the no-op
price     durable submits with keys and metrics beside a gateway that has neither
polls     a thousand long-polls
crowd     durable submits beside a million open jobs
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from bench import polls
from bench.load import BODY_BYTES, Connection, LoadResult, closed_loop, data_folder, post, wrk
from bench.peers import restate
from bench.scripts import CALL, ROUND_TRIP, SUBMIT_AND_WAIT, scripted
from bench.stable import ECHO, SUBMIT, TITANIC, NoOp, Titanic, emptied, key_file

__all__ = ["PARTS", "RATIOS", "SUBMIT", "TITANIC"]

BATCH_LINES = 500
BATCH_CONNECTIONS = 4
CROWD_COUNT = 1_000_000
Runs = dict[str, Callable[[], LoadResult]]


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


def _batch_request() -> bytes:
    lines = (b"x" * BODY_BYTES + b"\n") * BATCH_LINES
    head = f"POST {SUBMIT}:batch HTTP/1.1\r\nHost: bench\r\nContent-Type: application/x-ndjson\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(lines) + lines


def _batches(port: int, seconds: float) -> LoadResult:
    """Jobs per second; every line of every answer is counted."""
    request = _batch_request()

    async def step(connection: Connection) -> bool:
        status, _, body = await connection.ask(request)
        return status == 202 and body.count(b"\n") == body.count(b'"state":"queued"') == BATCH_LINES

    result = asyncio.run(closed_loop(port, BATCH_CONNECTIONS, seconds, step))  # type: ignore[arg-type]
    result.per_second *= BATCH_LINES
    return result


def _submits(served: Titanic, connections: int, seconds: float) -> Callable[[], LoadResult]:
    return served.measured(lambda: wrk(served.url + SUBMIT, connections, seconds, headers=served.headers))


# -- the parts: each starts what it needs; name -> one measured run


def submit(stack: ExitStack, seconds: float) -> Runs:
    """Durable submits and their limits."""
    folder = emptied(stack, data_folder())
    noop, ours = NoOp(stack, folder), Titanic(stack, folder, "ours", worker=False)
    runs: Runs = {"raw fdatasync": lambda: raw_fdatasync(folder, seconds)}
    for n in (1, 32, 128):
        runs[f"uvicorn no-op, {n} conn"] = noop.measured(lambda n=n: wrk(noop.url, n, seconds))  # type: ignore[misc]
        runs[f"durable submit, {n} conn"] = _submits(ours, n, seconds)
    alone = lambda: asyncio.run(closed_loop(ours.port, 1, seconds, _submit))  # type: ignore[arg-type]  # noqa: E731
    runs["one submit alone"] = ours.measured(alone)
    return runs


def beside_restate(stack: ExitStack, seconds: float) -> Runs:
    """Sends are delayed by a day, so that nothing but the acceptance is measured on either side."""
    folder = emptied(stack, data_folder())
    ours, theirs = Titanic(stack, folder, "ours", worker=False), restate.start(stack, folder)
    runs: Runs = {}
    for n in (32, 128):
        runs[f"durable submit, {n} conn"] = _submits(ours, n, seconds)
        if theirs is not None:
            url = f"{theirs.url}/bench/echo/send?delay=1d"
            send = lambda n=n, url=url: wrk(url, n, seconds, headers=restate.HEADERS)  # noqa: E731
            runs[f"Restate send, {n} conn"] = theirs.measured(send)
    runs["batch submit, jobs"] = ours.measured(lambda: _batches(ours.port, seconds))
    return runs


def trip(stack: ExitStack, seconds: float) -> Runs:
    """Both are driven by wrk, and every reply is checked by the same script."""
    folder = emptied(stack, data_folder())
    ours, theirs = Titanic(stack, folder, "ours"), restate.start(stack, folder)
    runs: Runs = {
        "submit-reply-close, 64 in flight": ours.measured(
            lambda: scripted(ours.url, ECHO, ROUND_TRIP, 64, seconds, threads=64)
        ),
        "submit with wait, close, 64 in flight": ours.measured(
            lambda: scripted(ours.url, ECHO, SUBMIT_AND_WAIT, 64, seconds)
        ),
    }
    if theirs is not None:
        runs["Restate call, 64 in flight"] = theirs.measured(
            lambda: scripted(theirs.url, "/bench/echo", CALL, 64, seconds, restate.HEADERS)
        )
    return runs


def reply(stack: ExitStack, seconds: float) -> Runs:
    """One reply of 256 bytes, read again and again."""
    folder = emptied(stack, data_folder())
    noop, ours = NoOp(stack, folder), Titanic(stack, folder, "ours")
    ours.wake()
    asked = urllib.request.Request(ours.url + ECHO, b"x" * BODY_BYTES, {"Prefer": "wait=20"})
    with urllib.request.urlopen(asked, timeout=30) as answer:
        place = answer.headers["Location"]
        assert (answer.status, len(answer.read())) == (200, BODY_BYTES), "no reply of the echo worker"
    ours.rest()
    runs: Runs = {}
    for n in (32, 128):
        runs[f"no-op GET, {n} conn"] = noop.measured(
            lambda n=n: wrk(noop.url, n, seconds, "GET")  # type: ignore[misc]
        )
        runs[f"GET of a reply, {n} conn"] = ours.measured(
            lambda n=n: wrk(f"{ours.url}{place}/reply", n, seconds, "GET")  # type: ignore[misc]
        )
    return runs


def price(stack: ExitStack, seconds: float) -> Runs:
    """The same gateway, without counting and without keys; and with keys, counting, and read every second."""
    folder = emptied(stack, data_folder())
    keys, token = key_file(folder)
    bare = Titanic(
        stack, folder, "bare", gateway=[sys.executable, "-m", "bench.bare_gateway", "gateway"], worker=False
    )
    full = Titanic(
        stack, folder, "full", headers={"Authorization": token}, more=["--keys", str(keys)], worker=False
    )
    runs: Runs = {}
    for n in (32, 128):
        runs[f"no keys, no metrics, {n} conn"] = _submits(bare, n, seconds)
        run = lambda n=n: _scraped(full, lambda: wrk(full.url + SUBMIT, n, seconds, headers=full.headers))  # noqa: E731
        runs[f"keys and metrics, {n} conn"] = full.measured(run)
    return runs


def _scraped(served: Titanic, run: Callable[[], LoadResult]) -> LoadResult:
    """``run`` while /metrics is read once a second."""
    over = threading.Event()

    def scrape() -> None:
        while not over.wait(1.0):
            asked = urllib.request.Request(served.url + "/metrics", headers=served.headers)
            with urllib.request.urlopen(asked, timeout=30) as answer:
                assert answer.read(), "no metrics"

    reader = threading.Thread(target=scrape)
    reader.start()
    try:
        return run()
    finally:
        over.set()
        reader.join()


def long_polls(stack: ExitStack, seconds: float) -> Runs:
    """See bench/polls.py; ``seconds`` do not matter."""
    del seconds
    folder = emptied(stack, data_folder())
    ours = Titanic(stack, folder, "ours")
    return {
        f"{polls.POLLS:,} long-polls, from reply to answer": ours.measured(lambda: polls.run(ours, folder))
    }


def crowd(stack: ExitStack, seconds: float) -> Runs:
    """Two servers: one gets a million jobs first, the other only those of the runs."""
    folder = emptied(stack, data_folder())
    empty, full = Titanic(stack, folder, "empty", worker=False), Titanic(stack, folder, "full", worker=False)
    full.wake()
    request, count = _batch_request(), CROWD_COUNT // BATCH_LINES // BATCH_CONNECTIONS
    asyncio.run(_fill(full.port, request, count))
    full.rest()
    return {
        "durable submit, few open jobs": _submits(empty, 32, seconds),
        "durable submit, a million open jobs": _submits(full, 32, seconds),
    }


async def _fill(port: int, request: bytes, count: int) -> None:
    async def client() -> None:
        transport, connection = await asyncio.get_running_loop().create_connection(
            Connection, "127.0.0.1", port
        )
        for _ in range(count):
            status, _, body = await connection.ask(request)
            assert (status, body.count(b'"state":"queued"')) == (202, BATCH_LINES), "a batch was not stored"
        transport.close()

    await asyncio.gather(*(client() for _ in range(BATCH_CONNECTIONS)))


PARTS: dict[str, Callable[[ExitStack, float], Runs]] = {
    "submit": submit,
    "restate": beside_restate,
    "trip": trip,
    "reply": reply,
    "price": price,
    "polls": long_polls,
    "crowd": crowd,
}
RATIOS = [
    ("durable submit, 1 conn", "uvicorn no-op, 1 conn", "rate"),
    ("durable submit, 32 conn", "uvicorn no-op, 32 conn", "rate"),
    ("durable submit, 128 conn", "uvicorn no-op, 128 conn", "rate"),
    ("one submit alone", "raw fdatasync", "p50"),
    ("durable submit, 32 conn", "Restate send, 32 conn", "rate"),
    ("durable submit, 128 conn", "Restate send, 128 conn", "rate"),
    ("batch submit, jobs", "Restate send, 32 conn", "rate"),
    ("batch submit, jobs", "Restate send, 128 conn", "rate"),
    ("submit-reply-close, 64 in flight", "Restate call, 64 in flight", "rate"),
    ("submit with wait, close, 64 in flight", "Restate call, 64 in flight", "rate"),
    ("GET of a reply, 32 conn", "no-op GET, 32 conn", "rate"),
    ("GET of a reply, 128 conn", "no-op GET, 128 conn", "rate"),
    ("keys and metrics, 32 conn", "no keys, no metrics, 32 conn", "rate"),
    ("keys and metrics, 128 conn", "no keys, no metrics, 128 conn", "rate"),
    ("durable submit, a million open jobs", "durable submit, few open jobs", "rate"),
]
