"""Load: ``wrk`` for saturation, and a small pipelining-free HTTP client for round trips and latency."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

BODY_BYTES = 256


class LoadResult(msgspec.Struct):
    """What one run of load saw. Latencies in milliseconds."""

    per_second: float
    p50_ms: float
    p99_ms: float
    errors: int


def need_wrk() -> str:
    """The path of wrk, or a clear end."""
    found = shutil.which("wrk")
    if found is None:
        raise SystemExit("bench: 'wrk' is needed for saturation runs; on Debian: apt-get install wrk")
    return found


def wrk(
    url: str,
    connections: int,
    seconds: float,
    method: str = "POST",
    headers: Mapping[str, str] | None = None,
) -> LoadResult:
    """Saturate ``url`` with closed-loop connections; answers outside 2xx count as errors."""
    script = f'wrk.method="{method}"\n'
    if method == "POST":
        script += f'wrk.body=string.rep("x",{BODY_BYTES})\n'
    for name, value in (headers or {}).items():
        script += f'wrk.headers["{name}"]="{value}"\n'
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        done = subprocess.run(
            [
                need_wrk(),
                "-t1",
                f"-c{connections}",
                f"-d{max(1, round(seconds))}s",
                "--latency",
                "-s",
                file.name,
                url,
            ],
            capture_output=True,
            text=True,
            check=True,
        )
    return parse_wrk(done.stdout)


def parse_wrk(text: str) -> LoadResult:
    """Read wrk's report."""
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    p50, p99 = (re.search(rf"^\s+{n}%\s+(\S+)", text, re.MULTILINE) for n in (50, 99))
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    if rate is None or p50 is None or p99 is None:
        raise SystemExit(f"bench: wrk said nothing that can be read:\n{text}")
    errors = int(bad.group(1)) if bad else 0
    return LoadResult(float(rate.group(1)), _wrk_ms(p50.group(1)), _wrk_ms(p99.group(1)), errors)


def _wrk_ms(text: str) -> float:
    for unit, factor in (("us", 0.001), ("ms", 1.0), ("s", 1_000.0), ("m", 60_000.0)):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    raise ValueError(text)


class Connection(asyncio.Protocol):
    """One keep-alive connection: a request at a time, the answer as (status, Location or b"", body)."""

    def __init__(self) -> None:
        self._buffer = b""
        self._answer: asyncio.Future[tuple[int, bytes, bytes]] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Complete the answer when its Content-Length is there."""
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        size = 0
        location = b""
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                size = int(value)
            elif name.lower() == b"location":
                location = value.strip()
        if len(body) < size:
            return
        self._buffer = b""
        assert self._answer is not None
        self._answer.set_result((int(head[9:12]), location, body))

    def connection_lost(self, exc: Exception | None) -> None:
        """An answer that will not come is an error for who waits."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError(str(exc)))

    async def ask(self, request: bytes) -> tuple[int, bytes, bytes]:
        """Send and wait."""
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer


def post(path: str, *, wait_s: int = 0) -> bytes:
    """The bytes of a submit."""
    prefer = f"Prefer: wait={wait_s}\r\n" if wait_s else ""
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\n{prefer}Content-Length: {BODY_BYTES}\r\n\r\n"
    return head.encode() + b"x" * BODY_BYTES


async def closed_loop(
    port: int, connections: int, seconds: float, step: Callable[[Connection], asyncio.Future[bool]]
) -> LoadResult:
    """``connections`` clients repeat ``step`` for ``seconds``; a step tells whether it went well."""
    loop = asyncio.get_running_loop()
    took: list[float] = []
    errors = 0

    async def client() -> None:
        nonlocal errors
        transport, connection = await loop.create_connection(Connection, "127.0.0.1", port)
        while time.perf_counter() < until:
            before = time.perf_counter()
            if await step(connection):
                took.append(time.perf_counter() - before)
            else:
                errors += 1
        transport.close()

    started = time.perf_counter()
    until = started + seconds
    await asyncio.gather(*(client() for _ in range(connections)))
    elapsed = time.perf_counter() - started
    took.sort()
    if not took:
        raise SystemExit("bench: not one step went well")
    return LoadResult(
        len(took) / elapsed, took[len(took) // 2] * 1e3, took[int(len(took) * 0.99)] * 1e3, errors
    )


def data_folder() -> Path:
    """A fresh folder on the disk that is measured (TITANIC_BENCH_DIR or the current folder's disk)."""
    import os

    base = os.environ.get("TITANIC_BENCH_DIR", ".")
    return Path(tempfile.mkdtemp(prefix=".bench-", dir=base))
