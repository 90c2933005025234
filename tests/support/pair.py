"""A pair of real nodes with a gateway and workers, wires that can be made worse, and what must hold after."""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final

from gateway.composition.pair_ask import ask
from tests.support.chaos_proxy import ChaosProxy
from tests.support.load import CLOSED, Load
from tests.support.processes import Processes, Titanic, free_port, run, until

SERVICE: Final = "echo.timed"
FAILOVER_S: Final = 2.0
PATIENCE_S: Final = 40.0
ROLES: Final = ("primary", "backup")
Torment = Callable[[Load, random.Random], Awaitable[None]]


class Pair:
    """Both nodes; node 0 is the primary. With ``wires`` each node reaches the other through a ChaosProxy.

    ``wires[n]`` is the one in front of node n: what it passes ``there`` are the words of the other node.
    ``disturbed`` are the moments at which something was done to the pair: causes of a second execution.
    """

    def __init__(
        self,
        family: Processes,
        folder: Path,
        *more: str,
        wires: tuple[ChaosProxy, ...] = (),
        links: tuple[int, ...] = (),
    ) -> None:
        self.family, self.folder = family, folder
        self.disturbed: list[float] = []
        self.wires = wires
        self._more = more
        self._ports = links or (free_port(), free_port())
        self.brokers = tuple(f"tcp://127.0.0.1:{free_port()}" for _ in ROLES)
        self.log = folder / "worker.log"
        self.nodes: list[Titanic] = [self.start(0), self.start(1)]
        self.until_paired()

    @property
    def both(self) -> str:
        """What gateways and workers are given."""
        return ",".join(self.brokers)

    def data(self, number: int) -> Path:
        """The folder of a node's store."""
        return self.folder / "AB"[number]

    def start(self, number: int, *, ready: bool = True) -> Titanic:
        """A node that listens, unless it cannot be ``ready`` yet; what it replaces has ended."""
        other = 1 - number
        peer = self.wires[other].endpoint if self.wires else f"tcp://127.0.0.1:{self._ports[other]}"
        node = self.family.start(
            *("node", "--data", str(self.data(number)), "--broker", self.brokers[number]),
            *("--role", ROLES[number], "--json", "--peer-bind", f"tcp://127.0.0.1:{self._ports[number]}"),
            *("--peer", peer, *self._more),
        )
        if ready:
            node.facts()
        return node

    def disturb(self) -> None:
        """From now on a job may be done again."""
        self.disturbed.append(time.monotonic())

    def kill(self, number: int) -> None:
        """``kill -9``."""
        self.disturb()
        self.nodes[number].kill()

    def status(self) -> list[dict[str, Any]]:
        """What each node says."""
        answers = ask(self.brokers, None, "status")
        return [answers[broker] for broker in self.brokers]

    def active(self) -> int:
        """1 + the number of the node that says it is active; 0 if none or both do."""
        found = [number for number, answer in enumerate(self.status()) if answer.get("active")]
        return found[0] + 1 if len(found) == 1 else 0

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

    def until_active(self, number: int) -> None:
        """The node is active, and no other is."""
        until(f"{ROLES[number]} is active", lambda: self.active() == number + 1, deadline_s=PATIENCE_S)

    def serve(self, *more: str) -> str:
        """A worker with four hands and a gateway; its URL."""
        self.family.start(
            *("worker", SERVICE, "--python", "tests.support.timed_worker:work"),
            *("--nodes", self.both, "--concurrency", "4"),
            env={"TITANIC_TEST_LOG": str(self.log)},
        )
        _, url = self.family.gateway(self.both, *more)
        return url

    def handover(self) -> None:
        """The planned switch was begun by the node that is active."""
        self.disturb()
        answers = ask(self.brokers, None, "handover")
        done = [answer.get("done") for answer in answers.values()].count(True)
        assert done == 1, f"one node hands over: {answers}"

    def check(self, load: Load) -> None:
        """Every checker of the promises: what clients were told, what workers did, what the files hold."""
        check_ledger(load)
        check_executions(load, self.log, self.disturbed)
        for number in (1, 0) if self.active() == 1 else (0, 1):
            assert self.nodes[number].stop() == 0, self.nodes[number].errors[-3_000:]
        for number in (0, 1):
            checked = run("store", "check", str(self.data(number) / "titanic.ring"), "--json", deadline_s=120)
            assert checked.returncode == 0, checked.stdout


@contextmanager
def wired(family: Processes, folder: Path, *more: str) -> Iterator[Pair]:
    """A pair whose nodes reach each other through proxies only."""
    with ExitStack() as stack:
        links = (free_port(), free_port())
        wires = tuple(stack.enter_context(ChaosProxy(port)) for port in links)
        yield Pair(family, folder, *more, wires=wires, links=links)


async def under_load(url: str, seed: int, torment: Torment) -> Load:
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


def check_ledger(load: Load) -> None:
    """Nothing lost, changed or resurrected, no second acker; no caller was failed: a delay at the most."""
    ledger = load.ledger
    assert not ledger.wrong, "\n".join(ledger.wrong[:20])
    assert not ledger.in_doubt, f"{len(ledger.in_doubt)} callers got an error instead of a delay"
    wrong = second_ackers(ledger.acks)
    assert not wrong, "two ackers: " + "; ".join(wrong[:5])
    print(f"acknowledged {len(ledger.bodies)}, closed {[*ledger.state.values()].count(CLOSED)}")


def second_ackers(acks: list[tuple[float, float, int]]) -> list[str]:
    """Acknowledgements (asked at, answered at, epoch) under an epoch that another had already ended.

    Whoever was asked after an answer of a higher epoch had arrived must not answer under a lower one.
    """
    wrong, highest = [], 0
    events = sorted(
        [(end, 0, epoch, 0.0) for _, end, epoch in acks] + [(at, 1, e, end) for at, end, e in acks]
    )
    for at, asked, epoch, end in events:
        if not asked:
            highest = max(highest, epoch)
        elif epoch < highest:
            wrong.append(
                f"asked at {at:.3f}, answered at {end:.3f} under {epoch}, after {highest} had spoken"
            )
    return wrong


def check_executions(load: Load, log: Path, disturbed: list[float]) -> None:
    """No phantom: only bodies that were tried were worked on; and none twice without a cause in between."""
    first: dict[str, float] = {}
    for text in log.read_text().splitlines():
        line = json.loads(text)
        assert bytes.fromhex(line["body"]) in load.ledger.tried, (
            "phantom: work was done that nobody asked for"
        )
        before = first.setdefault(line["job"], line["at"])
        assert before == line["at"] or any(before - 1 <= at <= line["at"] for at in disturbed), (
            f"done twice without a cause: {line['job']} at {before} and {line['at']}"
        )


def new_seed(name: str = "PAIR_SEED") -> int:
    """From the environment, or a fresh one; printed, so that it can be used again."""
    seed = int(os.environ.get(name, "0")) or random.SystemRandom().randrange(1, 1 << 32)
    print(f"{name}={seed}")
    return seed


async def kill_again_and_again(
    pair: Pair, load: Load, rng: random.Random, count: int, *, said: Callable[[str], None] = print
) -> list[float]:
    """Seconds from each ``kill -9`` of the active node to the first new acknowledgement."""
    took: list[float] = []
    for number in range(count):
        active = await asyncio.to_thread(pair.until_paired)
        await load.moment(rng)
        pair.kill(active)
        took.append(await first_new_answer(load))
        pair.nodes[active] = await asyncio.to_thread(pair.start, active)
        said(
            f"kill {number + 1}/{count}: the {ROLES[active]}; served again after {took[-1]:.2f} s;"
            f" {len(load.ledger.bodies)} acknowledged, {len(load.ledger.wrong)} wrong"
        )
    said(f"failover p50 {median(took):.2f} s, max {max(took):.2f} s of {count} kills")
    return took
