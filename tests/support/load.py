"""Clients that keep a ledger of what they were told, and checkers that hold it against what is found.

Checked are: lost, phantom, resurrected, reply changed. Anything in doubt (a timeout, a cut, a 503) may have
happened or not, but once seen it stays.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field

import httpx

IN_DOUBT = (502, 503, 504)
OPEN, CLOSED, CLOSED_IN_DOUBT = "open", "closed", "perhaps closed"


@dataclass(slots=True)
class Ledger:
    """What clients tried and what they were promised, by job path."""

    bodies: dict[str, bytes] = field(default_factory=dict)
    state: dict[str, str] = field(default_factory=dict)
    replies: dict[str, bytes] = field(default_factory=dict)
    tried: set[bytes] = field(default_factory=set)
    in_doubt: set[bytes] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)
    acks: list[tuple[float, float, int]] = field(default_factory=list)  # asked at, answered at, epoch

    def saw_reply(self, job: str, reply: bytes) -> None:
        """A reply was read; the same job never has another one, nor one to somebody else's body."""
        first = self.replies.setdefault(job, reply)
        if reply != first:
            self.wrong.append(f"reply changed: {job} was {first!r}, is {reply!r}")
        if reply != self.bodies[job]:
            self.wrong.append(f"wrong reply: {job} asked {self.bodies[job]!r}, got {reply!r}")


class Load:
    """Clients that submit, read and close at ``url`` until :meth:`stop`; every choice comes from ``seed``."""

    def __init__(self, url: str, service: str, seed: int, clients_count: int = 8) -> None:
        self.ledger = Ledger()
        self._url = url
        self._path = f"/v1/services/{service}/jobs"
        self._seed = seed
        self._clients_count = clients_count
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Load:
        self._http = httpx.AsyncClient(base_url=self._url, timeout=20)
        for number in range(self._clients_count):
            self._tasks.append(asyncio.create_task(self._client(number)))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        await self._http.aclose()

    async def moment(self, rng: random.Random, least_count: int = 5, most_s: float = 0.3) -> None:
        """At least ``least_count`` more jobs were acknowledged, and the load went on for a random while."""
        count = len(self.ledger.bodies) + least_count
        async with asyncio.timeout(30):
            while len(self.ledger.bodies) < count:
                await asyncio.sleep(0.005)
        await asyncio.sleep(rng.uniform(0, most_s))

    async def stop(self) -> None:
        """Every client has finished its step. Raises what a client died of."""
        self._stopping = True
        tasks, self._tasks = self._tasks, []
        await asyncio.gather(*tasks)

    async def _client(self, number: int) -> None:
        rng = random.Random(f"{self._seed}/{number}")
        count = 0
        while not self._stopping:
            count += 1
            body = f"{self._seed}/{number}/{count}/".encode() + rng.randbytes(
                rng.choice((0, 10, 300, 20_000))
            )
            job = await self._submit(body)
            if job is not None and rng.random() < 0.7:
                await self._read(job, wait_s=rng.choice((0, 0, 0, 1)))
            if self.ledger.bodies and rng.random() < 0.5:
                await self._close(rng.choice(list(self.ledger.bodies)))

    async def _ask(self, method: str, path: str, **more: object) -> httpx.Response | None:
        """The answer, or None when it is in doubt what happened."""
        try:
            answer = await self._http.request(method, path, **more)  # type: ignore[arg-type]
        except httpx.TransportError:
            return None
        return None if answer.status_code in IN_DOUBT else answer

    async def _submit(self, body: bytes) -> str | None:
        ledger = self.ledger
        ledger.tried.add(body)
        asked_s = time.monotonic()
        answer = await self._ask("POST", self._path, content=body)
        if answer is None:
            ledger.in_doubt.add(body)
            return None
        if answer.status_code != 202:
            ledger.wrong.append(f"submit answered {answer.status_code}: {answer.text}")
            return None
        job = answer.headers["location"]
        ledger.bodies[job], ledger.state[job] = body, OPEN
        ledger.acks.append((asked_s, time.monotonic(), int(answer.headers["titanic-epoch"])))
        return job

    async def _read(self, job: str, wait_s: int) -> bool:
        """Whether the job is settled: its reply was read, or it is gone as it should be."""
        answer = await self._ask(
            "GET", f"{job}/reply", headers={"Prefer": f"wait={wait_s}"} if wait_s else {}
        )
        if answer is None:
            return False
        state = self.ledger.state[job]
        if answer.status_code == 200:
            self.ledger.saw_reply(job, answer.content)
        elif answer.status_code == 410 and state == OPEN:
            self.ledger.wrong.append(f"lost: {job} was acknowledged and never closed, yet is gone")
        elif answer.status_code not in (202, 410):
            self.ledger.wrong.append(f"{job} answered {answer.status_code}: {answer.text}")
        return answer.status_code in (200, 410)

    async def _close(self, job: str) -> None:
        if self.ledger.state[job] == OPEN:
            self.ledger.state[job] = CLOSED_IN_DOUBT
        answer = await self._ask("DELETE", job)
        if answer is not None and answer.status_code == 204:
            self.ledger.state[job] = CLOSED
        elif answer is not None:
            self.ledger.wrong.append(f"close of {job} answered {answer.status_code}")

    async def check_all(self) -> None:
        """Every job acknowledged and not closed has its reply; every closed one is gone."""
        ledger = self.ledger
        for job, state in ledger.state.items():
            if state == CLOSED:
                answer = await self._ask("GET", job)
                if answer is None or answer.status_code != 410:
                    ledger.wrong.append(f"resurrected: {job} was closed, answers {answer}")
                continue
            for _ in range(30):
                if await self._read(job, wait_s=2):
                    break
            else:
                ledger.wrong.append(f"lost: no reply of {job}")

    async def close_all(self) -> None:
        """Every job that was acknowledged is closed."""
        for job in [job for job, state in self.ledger.state.items() if state != CLOSED]:
            await self._close(job)
