"""kill -9 of the node at random moments under load through the gateway: promises D1 and X1."""

import asyncio
import json
import os
import random
import urllib.request
from pathlib import Path
from typing import Final

import pytest

from tests.support.load import CLOSED, Load
from tests.support.processes import Processes, Titanic, free_port, run

ROUNDS: Final = int(os.environ.get("CRASH_ROUNDS", "20"))
SERVICE: Final = "echo.logged"


def start_node(family: Processes, data: Path, broker: str) -> Titanic:
    """A ready node."""
    node, endpoint = family.node(data, broker=broker)
    assert endpoint == broker
    return node


async def torment(family: Processes, data: Path, url: str, broker: str, node: Titanic, seed: int) -> Load:
    """All rounds: load, kill -9, start again; then everything is checked and closed."""
    rng = random.Random(seed)
    async with Load(url, SERVICE, seed) as load:
        for _ in range(ROUNDS):
            await load.moment(rng)
            node.kill()
            node = await asyncio.to_thread(start_node, family, data, broker)
        await load.moment(rng)
        await load.stop()
        await load.check_all()
        await load.close_all()
        node.kill()
    return load


def fast_count(url: str) -> float:
    """How many requests took the gateway's fast path."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    lines = [line for line in text.splitlines() if line.startswith("titanic_gateway_requests_fast_total{")]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


@pytest.mark.slow
@pytest.mark.timeout(max(300, 10 * ROUNDS))
def test_nothing_acknowledged_is_lost(family: Processes, tmp_path: Path) -> None:
    """However often the node is killed: nothing lost, changed, resurrected or damaged."""
    seed = int(os.environ.get("CRASH_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
    print(f"CRASH_SEED={seed} CRASH_ROUNDS={ROUNDS}")
    data, log = tmp_path / "data", tmp_path / "worker.log"
    broker = f"tcp://127.0.0.1:{free_port()}"
    node = start_node(family, data, broker)
    _, url = family.gateway(broker)
    family.start(
        *("worker", SERVICE, "--python", "tests.support.logging_worker:work"),
        *("--nodes", broker, "--concurrency", "4"),
        env={"TITANIC_TEST_LOG": str(log)},
    )
    ledger = asyncio.run(torment(family, data, url, broker, node, seed)).ledger
    assert fast_count(url) > len(ledger.bodies), "the fast path is what is tried here (D1)"

    assert not ledger.wrong, "\n".join(ledger.wrong[:20])
    print(f"acknowledged {len(ledger.bodies)}, closed {[*ledger.state.values()].count(CLOSED)}")
    assert len(ledger.bodies) > 3 * ROUNDS, "the load was no load"
    executed = {bytes.fromhex(line) for line in log.read_text().split()}
    assert not executed - ledger.tried, "phantom: work was done that nobody asked for"

    checked = run("store", "check", str(data / "titanic.ring"), "--json")
    report = json.loads(checked.stdout)
    assert checked.returncode == 0, report
    live = sum(report["live"].values())
    assert live <= len(ledger.in_doubt), f"{live} jobs left, {len(ledger.in_doubt)} in doubt: phantom"
