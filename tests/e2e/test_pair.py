"""A pair of real processes under load through a gateway: F1, F2, and the operator's commands."""

import asyncio
import os
import random
import signal
from pathlib import Path
from typing import Final

import httpx
import pytest

from gateway.composition.pair_ask import ask
from tests.support.load import Load
from tests.support.pair import (
    FAILOVER_S,
    SERVICE,
    Pair,
    first_new_answer,
    kill_again_and_again,
    new_seed,
    second_ackers,
    under_load,
)
from tests.support.processes import Processes, free_port, until

ROUNDS: Final = int(os.environ.get("PAIR_ROUNDS", "5"))


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_killing_the_active_loses_nothing_and_fails_nobody(family: Processes, tmp_path: Path) -> None:
    """The active gets kill -9 again and again: the other serves within the failover time."""
    seed = new_seed()
    pair = Pair(family, tmp_path)
    took: list[float] = []

    async def torment(load: Load, rng: random.Random) -> None:
        took.extend(await kill_again_and_again(pair, load, rng, ROUNDS))

    pair.check(asyncio.run(under_load(pair.serve(), seed, torment)))
    assert max(took) < FAILOVER_S + 1 + 1.5, "failover time, a second (F2), and a busy machine"


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
        pair.disturb()
        sleeper.send_signal(signal.SIGSTOP)
        await first_new_answer(load)
        sleeper.send_signal(signal.SIGCONT)
        await load.moment(rng)
        assert await asyncio.to_thread(pair.until_paired) == 1 - active

    pair.check(asyncio.run(under_load(pair.serve(), new_seed(), torment)))


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_a_planned_switch_and_a_rolling_restart_cost_no_request(family: Processes, tmp_path: Path) -> None:
    """``titanic pair handover``, then both nodes stopped and started in turn: callers notice nothing."""
    pair = Pair(family, tmp_path)

    async def torment(load: Load, rng: random.Random) -> None:
        active = await asyncio.to_thread(pair.until_paired)
        await asyncio.to_thread(pair.handover)
        await load.moment(rng)
        assert await asyncio.to_thread(pair.until_paired) == 1 - active
        for number in (1 - active, active):  # first the active one, then the other, which is active by then
            before = await asyncio.to_thread(pair.until_paired)
            assert before == number, "each is stopped while it serves"
            pair.disturb()
            assert await asyncio.to_thread(pair.nodes[number].stop) == 0
            await load.moment(rng)
            pair.nodes[number] = await asyncio.to_thread(pair.start, number)
            assert await asyncio.to_thread(pair.until_paired) == 1 - number, "nothing fails back by itself"

    pair.check(asyncio.run(under_load(pair.serve(), new_seed(), torment)))


@pytest.mark.slow
def test_a_backup_alone_serves_nobody_and_says_why(family: Processes, tmp_path: Path) -> None:
    """P5: nothing proves that it may; ``/readyz`` of a gateway there is 503 with the role and the reason."""
    links = [f"tcp://127.0.0.1:{free_port()}" for _ in range(2)]
    node, broker = family.node(
        tmp_path / "B", "--role", "backup", "--peer-bind", links[1], "--peer", links[0]
    )
    gateway = family.start("gateway", "--nodes", broker, "--http", "127.0.0.1:0", "--json")
    answer = httpx.get(f"{gateway.facts()['http']}/readyz", timeout=10)
    assert answer.status_code == 503
    document = answer.json()
    assert "waiting" in document["detail"]
    assert [document[key] for key in ("role", "state", "active_at")] == ["passive", "waiting", None]
    assert ask((broker,), None, "handover")[broker]["done"] is False
    assert ask((broker,), None, "promote", force=True)[broker]["done"] is True
    until("the promoted node serves", lambda: ask((broker,), None, "status")[broker]["state"] == "alone")
    assert httpx.get(answer.url, timeout=10).status_code == 200
    assert node.stop() == 0


@pytest.mark.slow
def test_a_gateway_at_the_passive_node_says_where_the_active_is(family: Processes, tmp_path: Path) -> None:
    """``/readyz`` is 503 with role, state, epoch and the other's endpoint; ``/v1/nodes`` has both."""
    pair = Pair(family, tmp_path)
    active = pair.until_paired()
    gateway = family.start("gateway", "--nodes", pair.brokers[1 - active], "--http", "127.0.0.1:0", "--json")
    url = gateway.facts()["http"]
    document = httpx.get(f"{url}/readyz", timeout=10).json()
    assert [document[key] for key in ("status", "role", "state", "active_at")] == [
        503,
        "passive",
        "passive",
        pair.brokers[active],
    ]
    assert document["epoch"] >= 2
    rows = httpx.get(f"{url}/v1/nodes", timeout=10).json()["nodes"]
    assert [(row["endpoint"], row["reachable"]) for row in rows] == [
        (pair.brokers[1 - active], True),
        (pair.brokers[active], False),
    ]


@pytest.mark.slow
def test_from_one_node_to_a_pair_without_losing_a_job(family: Processes, tmp_path: Path) -> None:
    """A job of a single node outlives its becoming the primary of a pair, and then its death."""
    node, broker = family.node(tmp_path / "A")
    gateway, url = family.gateway(broker)
    answer = httpx.post(f"{url}/v1/services/{SERVICE}/jobs", content=b"kept", timeout=10)
    assert answer.status_code == 202
    job = answer.headers["location"]
    assert gateway.stop() == 0
    assert node.stop() == 0
    pair = Pair(family, tmp_path)
    assert pair.until_paired() == 0, "the node with the jobs leads"
    pair.kill(0)
    reply = httpx.get(f"{pair.serve()}{job}/reply", headers={"Prefer": "wait=20"}, timeout=40)
    assert (reply.status_code, reply.content) == (200, b"kept")


@pytest.mark.parametrize(
    ("acks", "count"),
    [
        ([(0, 1, 2), (0, 2, 2), (2, 3, 3)], 0),
        ([(0, 1, 2), (0.5, 3, 2), (1, 2, 3)], 0),  # asked before the new one spoke, answered late
        ([(0, 1, 2), (1, 2, 3), (2.5, 3, 2)], 1),  # asked after it: the old one still answers
        ([(1, 2, 4), (2.1, 2.2, 3), (2.3, 2.4, 3), (2.5, 2.6, 4)], 2),
    ],
)
def test_the_checker_of_second_ackers_can_fail(acks: list[tuple[float, float, int]], count: int) -> None:
    """It finds each acknowledgement under an epoch that had been ended before it was asked for."""
    assert len(second_ackers(acks)) == count
