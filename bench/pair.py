"""``python -m bench.pair``: what a pair costs and how fast it fails over.

``rate``: durable submits of a pair in sync beside a single node's, in one run. ``failover``: from ``kill -9``
of the active node under load to the first new acknowledgement. ``catchup``: submits while a node that was
away takes in what it missed.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import subprocess
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


class BenchPair:
    """Two nodes in sync and a gateway at :attr:`http`; a node can be killed and started again."""

    def __init__(self, stack: ExitStack, folder: Path, log: Path) -> None:
        self.brokers = tuple(f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
        self._links = tuple(f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
        self._stack, self._folder, self._log = stack, folder, log
        self.nodes = [self.start(0), self.start(1)]
        self.http = _gateway(stack, ",".join(self.brokers), log)
        self.until_paired()

    def start(self, number: int) -> subprocess.Popen[bytes]:
        """A node; 0 is the primary."""
        role = ("primary", "backup")[number]
        node = [
            *(*TITANIC, "node", "--broker", self.brokers[number], "--data", str(self._folder / role)),
            *("--role", role, "--peer-bind", self._links[number], "--peer", self._links[1 - number]),
        ]
        return self._stack.enter_context(process(node, lambda: True, self._log))

    def until_paired(self) -> int:
        """The number of the active node, once the other is in sync."""
        end = time.monotonic() + 120
        while True:
            states = [status.get("state") for status in ask(self.brokers, None, "status").values()]
            if sorted(map(str, states)) == ["paired", "passive"]:
                return states.index("paired")
            assert time.monotonic() < end, f"no pair within two minutes: {states}"
            time.sleep(0.1)


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


def rates(rounds: int, seconds: float) -> None:
    """Durable submits of both by turns; the first round warms up."""
    with ExitStack() as stack:
        folder = data_folder()
        stack.callback(shutil.rmtree, folder)
        log = folder / "log"
        pair = BenchPair(stack, folder, log)
        ports = {"single": start_single(stack, folder, log), "pair": pair.http}
        results: dict[str, list[LoadResult]] = {}
        for number in range(rounds + 1):
            for name, run in runs_of(ports, seconds).items():
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


def main() -> None:
    """Measure one thing and print it."""
    parser = argparse.ArgumentParser(prog="python -m bench.pair", description=__doc__)
    parser.add_argument("what", choices=("rate", "failover", "catchup"), nargs="?", default="rate")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=100_000)
    given = parser.parse_args()
    if given.what == "failover":
        from bench.pair_failover import failovers

        failovers(given.kills)
    elif given.what == "catchup":
        from bench.pair_catchup import catch_ups

        catch_ups(given.jobs, given.seconds)
    else:
        rates(given.rounds, given.seconds)


if __name__ == "__main__":
    main()
