"""A pair of real processes under load through a gateway: F1, F2, and the operator's commands."""

import asyncio
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import pytest

from gateway.composition.pair_ask import ask
from tests.support.load import CLOSED, Load
from tests.support.processes import Processes, Titanic, free_port, until

ROUNDS: Final = int(os.environ.get("PAIR_ROUNDS", "3"))
SERVICE: Final = "echo"
FAILOVER_MS: Final = 2_000
PATIENCE_S: Final = 40.0


class Pair:
    """Both nodes, a gateway and a worker."""

    def __init__(self, family: Processes, folder: Path) -> None:
        self._family, self._folder = family, folder
        self.brokers = tuple(f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
        self._links = tuple(f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
        self.nodes: list[Titanic] = [self.start(0), self.start(1)]
        self.until_paired()

    def start(self, number: int) -> Titanic:
        """Node 0 is the primary, 1 the backup."""
        node = self._family.start(
            *("node", "--data", str(self._folder / "AB"[number]), "--broker", self.brokers[number]),
            *("--role", ("primary", "backup")[number], "--json"),
            *("--peer-bind", self._links[number], "--peer", self._links[1 - number]),
        )
        node.facts()
        return node

    def status(self) -> list[dict[str, Any]]:
        answers = ask(self.brokers, None, "status")
        return [answers[broker] for broker in self.brokers]

    def paired(self) -> int:
        """1 + the number of the active node, or 0 while they are not one active and one passive in sync."""
        states = [answer.get("state", "") for answer in self.status()]
        return states.index("paired") + 1 if sorted(states) == ["paired", "passive"] else 0

    def until_paired(self) -> int:
        """The number of the active node."""
        try:
            return until("a pair", self.paired, deadline_s=PATIENCE_S, pause_s=0.05) - 1
        except AssertionError:
            raise AssertionError("\n".join(node.errors[-3_000:] for node in self.nodes)) from None

    def serve(self) -> str:
        """A worker and a gateway; its URL."""
        both = ",".join(self.brokers)
        self._family.start("worker", SERVICE, "--nodes", both, "--concurrency", "4")
        _, url = self._family.gateway(both)
        return url


async def under_load(url: str, seed: int, torment: Callable[[Load, random.Random], Awaitable[None]]) -> Load:
    """Clients submit, read and close while ``torment`` goes on; then everything is checked."""
    rng = random.Random(seed)
    async with Load(url, SERVICE, seed) as load:
        await load.moment(rng)
        await torment(load, rng)
        await load.moment(rng)
        await load.stop()
        await load.check_all()
    return load


async def first_new_answer(load: Load) -> float:
    """Seconds until a job is acknowledged that was submitted after now."""
    start, tried = time.monotonic(), set(load.ledger.tried)
    await asyncio.to_thread(
        until, "a new job is acknowledged", lambda: set(load.ledger.bodies.values()) - tried, pause_s=0.01
    )
    return time.monotonic() - start


def check(load: Load) -> None:
    """Nothing lost, changed or resurrected, and no caller was failed: a delay at the most."""
    ledger = load.ledger
    assert not ledger.wrong, "\n".join(ledger.wrong[:20])
    assert not ledger.in_doubt, f"{len(ledger.in_doubt)} callers got an error instead of a delay"
    print(f"acknowledged {len(ledger.bodies)}, closed {[*ledger.state.values()].count(CLOSED)}")


def new_seed() -> int:
    seed = int(os.environ.get("PAIR_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
    print(f"PAIR_SEED={seed} PAIR_ROUNDS={ROUNDS}")
    return seed


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_killing_the_active_loses_nothing_and_fails_nobody(family: Processes, tmp_path: Path) -> None:
    """The active gets kill -9 again and again: the other serves within the failover time."""
    seed = new_seed()
    pair = Pair(family, tmp_path)
    took: list[float] = []

    async def torment(load: Load, rng: random.Random) -> None:
        for _ in range(ROUNDS):
            active = await asyncio.to_thread(pair.until_paired)
            await load.moment(rng)
            pair.nodes[active].kill()
            took.append(await first_new_answer(load))
            pair.nodes[active] = await asyncio.to_thread(pair.start, active)

    load = asyncio.run(under_load(pair.serve(), seed, torment))
    print(f"served again after {', '.join(f'{one:.2f}' for one in took)} s")
    check(load)
    assert max(took) < FAILOVER_MS / 1000 + 1 + 1.5, "failover time, a second (F2), and a busy machine"


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_a_sleeping_active_is_replaced_and_says_nothing_when_it_wakes(
    family: Processes, tmp_path: Path
) -> None:
    """SIGSTOP of the active: the other goes on; SIGCONT: it follows, and nothing it held is answered."""
    pair = Pair(family, tmp_path)

    async def torment(load: Load, rng: random.Random) -> None:
        active = await asyncio.to_thread(pair.until_paired)
        sleeper = pair.nodes[active].process
        sleeper.send_signal(signal.SIGSTOP)
        await first_new_answer(load)
        sleeper.send_signal(signal.SIGCONT)
        await load.moment(rng)
        assert await asyncio.to_thread(pair.until_paired) == 1 - active

    check(asyncio.run(under_load(pair.serve(), new_seed(), torment)))


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_a_planned_switch_costs_no_request(family: Processes, tmp_path: Path) -> None:
    """``titanic pair handover`` there and back, and a SIGTERM of the active: callers notice nothing."""
    pair = Pair(family, tmp_path)

    async def torment(load: Load, rng: random.Random) -> None:
        for _ in range(2):
            active = await asyncio.to_thread(pair.until_paired)
            answers = await asyncio.to_thread(ask, pair.brokers, None, "handover")
            assert [answer["done"] for answer in answers.values()].count(True) == 1
            await load.moment(rng)
            assert await asyncio.to_thread(pair.until_paired) == 1 - active
        active = await asyncio.to_thread(pair.until_paired)
        assert await asyncio.to_thread(pair.nodes[active].stop) == 0
        await load.moment(rng)
        pair.nodes[active] = await asyncio.to_thread(pair.start, active)
        assert await asyncio.to_thread(pair.until_paired) == 1 - active

    check(asyncio.run(under_load(pair.serve(), new_seed(), torment)))


@pytest.mark.slow
def test_a_backup_alone_serves_nobody_and_says_why(family: Processes, tmp_path: Path) -> None:
    """P5: nothing proves that it may; ``/readyz`` of a gateway there is 503 with the role and the reason."""
    import httpx

    links = [f"tcp://127.0.0.1:{free_port()}" for _ in range(2)]
    node, broker = family.node(
        tmp_path / "B", "--role", "backup", "--peer-bind", links[1], "--peer", links[0]
    )
    gateway = family.start("gateway", "--nodes", broker, "--http", "127.0.0.1:0", "--json")
    answer = httpx.get(f"{gateway.facts()['http']}/readyz", timeout=10)
    assert answer.status_code == 503
    assert "waiting" in answer.json()["detail"]
    assert ask((broker,), None, "handover")[broker]["done"] is False
    assert ask((broker,), None, "promote", force=True)[broker]["done"] is True
    until("the promoted node serves", lambda: ask((broker,), None, "status")[broker]["state"] == "alone")
    assert httpx.get(answer.url, timeout=10).status_code == 200
    assert node.stop() == 0


@pytest.mark.slow
def test_from_one_node_to_a_pair_without_losing_a_job(family: Processes, tmp_path: Path) -> None:
    """A job of a single node outlives its becoming the primary of a pair, and then its death."""
    import httpx

    node, broker = family.node(tmp_path / "A")
    gateway, url = family.gateway(broker)
    answer = httpx.post(f"{url}/v1/services/{SERVICE}/jobs", content=b"kept", timeout=10)
    assert answer.status_code == 202
    job = answer.headers["location"]
    assert gateway.stop() == 0
    assert node.stop() == 0
    pair = Pair(family, tmp_path)
    assert pair.until_paired() == 0, "the node with the jobs leads"
    pair.nodes[0].kill()
    reply = httpx.get(f"{pair.serve()}{job}/reply", headers={"Prefer": "wait=20"}, timeout=40)
    assert (reply.status_code, reply.content) == (200, b"kept")
