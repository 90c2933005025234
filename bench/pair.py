"""``python -m bench.pair``: durable submits of a pair in sync beside a single node's, in one run."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from bench.http import SUBMIT, TITANIC
from bench.load import Connection, LoadResult, closed_loop, data_folder, post
from bench.processes import answers, free_port, process
from gateway.composition.pair_ask import ask

CONNECTIONS = (1, 32)


def _gateway(stack: ExitStack, nodes: str, log: Path) -> int:
    http = free_port()
    command = [*TITANIC, "gateway", "--nodes", nodes, "--http", f"127.0.0.1:{http}"]
    stack.enter_context(process(command, answers(f"http://127.0.0.1:{http}/readyz"), log))
    return http


def start_single(stack: ExitStack, folder: Path, log: Path) -> int:
    """A node and a gateway; the gateway's port."""
    broker = f"tcp://127.0.0.1:{free_port()}"
    node = [*TITANIC, "node", "--broker", broker, "--data", str(folder / "single")]
    stack.enter_context(process(node, lambda: True, log))
    return _gateway(stack, broker, log)


def start_pair(stack: ExitStack, folder: Path, log: Path) -> int:
    """Two nodes in sync and a gateway; the gateway's port."""
    brokers = [f"tcp://127.0.0.1:{free_port()}" for _ in range(2)]
    links = [f"tcp://127.0.0.1:{free_port()}" for _ in range(2)]
    for number, role in enumerate(("primary", "backup")):
        node = [
            *(*TITANIC, "node", "--broker", brokers[number], "--data", str(folder / role), "--role", role),
            *("--peer-bind", links[number], "--peer", links[1 - number]),
        ]
        stack.enter_context(process(node, lambda: True, log))
    http = _gateway(stack, ",".join(brokers), log)
    end = time.monotonic() + 60
    while {status.get("state") for status in ask(tuple(brokers), None, "status").values()} != {
        "paired",
        "passive",
    }:
        assert time.monotonic() < end, "no pair within a minute"
        time.sleep(0.1)
    return http


def runs_of(ports: dict[str, int], seconds: float) -> dict[str, Callable[[], LoadResult]]:
    """Name -> one measured run."""

    async def step(connection: Connection) -> bool:
        status, _, _ = await connection.ask(post(SUBMIT))
        return bool(status == 202)

    def run(port: int, connections: int) -> LoadResult:
        return asyncio.run(closed_loop(port, connections, seconds, step))  # type: ignore[arg-type]

    return {
        f"{name}, {connections} conn": lambda port=port, connections=connections: run(  # type: ignore[misc]
            port, connections
        )
        for connections in CONNECTIONS
        for name, port in ports.items()
    }


def main() -> None:
    """Measure in turns and print rates and ratios; the first round warms up."""
    parser = argparse.ArgumentParser(prog="python -m bench.pair", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3)
    given = parser.parse_args()
    with ExitStack() as stack:
        folder = data_folder()
        stack.callback(shutil.rmtree, folder)
        log = folder / "log"
        ports = {"single": start_single(stack, folder, log), "pair": start_pair(stack, folder, log)}
        results: dict[str, list[LoadResult]] = {}
        for number in range(given.rounds + 1):
            for name, run in runs_of(ports, given.seconds).items():
                result = run()
                if number:
                    results.setdefault(name, []).append(result)
    for name, rows in results.items():
        rate = median(row.per_second for row in rows)
        p99 = median(row.p99_ms for row in rows)
        print(f"{name:18} {rate:8,.0f} a second, p99 {p99:6.2f} ms, errors {sum(row.errors for row in rows)}")
    for connections in CONNECTIONS:
        pairs = zip(results[f"pair, {connections} conn"], results[f"single, {connections} conn"], strict=True)
        ratios = sorted(pair.per_second / single.per_second for pair, single in pairs)
        print(f"pair / single, {connections:3} conn: {median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})")


if __name__ == "__main__":
    main()
