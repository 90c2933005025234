"""Requests of every kind that are under way while the active node dies: answered by the other one, once."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.support.pair import SERVICE, Pair
from tests.support.processes import Processes, until
from tests.support.waiting import until_true

JOBS: Final = f"/v1/services/{SERVICE}/jobs"
LATER: Final = "/v1/services/later/jobs"
KEY: Final = {"Idempotency-Key": '"order-17"'}
BATCH: Final = [f"line {number}".encode() for number in range(50)]
UNDERWAY: Final = 5
TIMEOUT_S: Final = 60.0


def metric(text: str, name: str) -> float:
    """The value of the first sample of this name."""
    line = next(line for line in text.splitlines() if line.startswith(name))
    return float(line.rpartition(" ")[2])


class Stream:
    """The events of ``/v1/events`` as they come."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.seen: list[tuple[int, str, dict[str, Any]]] = []
        self._client = client
        self._task = asyncio.ensure_future(self._follow())
        self.opened = asyncio.Event()

    async def _follow(self) -> None:
        async with self._client.stream("GET", "/v1/events", timeout=TIMEOUT_S) as answer:
            assert answer.status_code == 200
            self.opened.set()
            async for event in _events(answer.aiter_lines()):
                self.seen.append(event)

    def kinds_of(self, job: str) -> list[str]:
        """What was told of this job."""
        return [kind for _, kind, data in self.seen if data.get("job") == job]

    async def close(self) -> None:
        """Raises what it ended with, if it ended by itself."""
        if self._task.done():
            self._task.result()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def _events(lines: AsyncIterator[str]) -> AsyncIterator[tuple[int, str, dict[str, Any]]]:
    fields: dict[str, str] = {}
    async for line in lines:
        name, colon, value = line.partition(": ")
        if colon:
            fields[name] = value
        elif not line:
            if "data" in fields:
                yield int(fields["id"]), fields["event"], json.loads(fields["data"])
            fields = {}


async def _scene(pair: Pair, url: str) -> None:
    active = await asyncio.to_thread(pair.until_paired)
    async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S) as client:
        stream = Stream(client)
        await stream.opened.wait()
        waited = (await client.post(LATER, content=b"later")).headers["location"]
        pair.nodes[active].process.send_signal(signal.SIGSTOP)  # what comes now is under way when it dies
        asked = [
            client.post(JOBS, content=b"plain"),
            client.post(JOBS, content=b"wait", headers={"Prefer": "wait=30"}),
            client.post(
                f"{JOBS}:batch", content=b"\n".join(BATCH), headers={"Content-Type": "application/x-ndjson"}
            ),
            client.post(JOBS, content=b"keyed", headers=KEY),
            client.get(f"{waited}/reply", headers={"Prefer": "wait=40"}),
        ]
        tasks = [asyncio.ensure_future(each) for each in asked]
        # the gateway's own count; its node sleeps, so the page takes a while
        await asyncio.sleep(0)
        started = time.monotonic()
        await _until_underway(client)
        pair.kill(active)
        plain, replied, batch, keyed = await asyncio.gather(*tasks[:4])
        assert time.monotonic() - started < 20, "a delay"
        _check_answers(plain, replied, batch, keyed)
        again = await client.post(JOBS, content=b"keyed", headers=KEY)
        assert (again.status_code, again.json()["id"]) == (202, keyed.json()["id"])
        assert again.headers["idempotent-replayed"] == "true"
        assert not tasks[4].done(), "nobody works on it yet"
        pair.family.start("worker", "later", "--exec", "cat", "--nodes", pair.both)
        found = await tasks[4]
        assert (found.status_code, found.content) == (200, b"later")
        await _check_once(client, stream, plain, keyed)
        await stream.close()


async def _until_underway(client: httpx.AsyncClient) -> None:
    counts: list[float] = []

    async def look() -> None:
        text = (await client.get("/metrics")).text
        counts.append(metric(text, "titanic_gateway_requests_underway"))

    while not counts or counts[-1] < UNDERWAY + 2:  # the stream and this question are two of them
        await look()


def _check_answers(
    plain: httpx.Response, replied: httpx.Response, batch: httpx.Response, keyed: httpx.Response
) -> None:
    assert [plain.status_code, batch.status_code, keyed.status_code] == [202] * 3
    assert (replied.status_code, replied.content) == (200, b"wait")
    lines = [json.loads(line) for line in batch.text.splitlines()]
    assert len({line["id"] for line in lines}) == len(BATCH), lines
    assert "idempotent-replayed" not in keyed.headers, "for its caller it was the first"


async def _check_once(
    client: httpx.AsyncClient, stream: Stream, plain: httpx.Response, keyed: httpx.Response
) -> None:
    """One job for each request, one reply for each job, and the stream told of all of it in order."""
    for answer in (plain, keyed):
        reply = await client.get(f"{answer.headers['location']}/reply", headers={"Prefer": "wait=20"})
        assert reply.status_code == 200
    jobs = (await client.get("/v1/jobs", params={"service": SERVICE, "limit": 500})).json()["jobs"]
    assert len(jobs) == 3 + len(BATCH), [job["id"] for job in jobs]
    for answer in (plain, keyed):
        job = answer.json()["id"]
        await until_true("its success is told", lambda job=job: "succeeded" in stream.kinds_of(job))  # type: ignore[misc]
        assert stream.kinds_of(job).count("accepted") == 1
    await until_true("the takeover is told", lambda: any(kind == "pair" for _, kind, _ in stream.seen))
    ids = [number for number, _, _ in stream.seen]
    assert ids == sorted(ids)


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_what_is_under_way_when_the_active_dies(family: Processes, tmp_path: Path) -> None:
    """A submit, one that waits for its reply, a batch, a keyed one and its retry, a long-poll, a stream."""
    pair = Pair(family, tmp_path)
    url = pair.serve("--failover-wait", "30s")
    asyncio.run(_scene(pair, url))
    bodies = [json.loads(line)["body"] for line in pair.log.read_text().splitlines()]
    assert len(bodies) == len(set(bodies)) == 3 + len(BATCH), "each was worked on once"


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_after_the_failover_wait_there_is_a_clear_answer(family: Processes, tmp_path: Path) -> None:
    """With both nodes gone a caller waits as long as was said, then gets a 503 that names the nodes."""
    pair = Pair(family, tmp_path)
    url = pair.serve("--failover-wait", "2s")
    for number in (0, 1):
        pair.kill(number)
    for method, path in (("POST", JOBS), ("GET", "/v1/jobs"), ("DELETE", f"/v1/jobs/{'0' * 31}1")):
        start = time.monotonic()
        answer = httpx.request(method, f"{url}{path}", content=b"x" if method == "POST" else None, timeout=60)
        took = time.monotonic() - start
        document = answer.json()
        assert (answer.status_code, document["type"].rpartition("#")[2]) == (503, "node-unreachable"), (
            document
        )
        assert answer.headers["retry-after"]
        assert all(broker in document["detail"] for broker in pair.brokers)
        assert 1.5 < took < 6, f"{method} {path} took {took:.1f} s"


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_work_in_hand_outlives_its_node(family: Processes, tmp_path: Path) -> None:
    """A job that a worker is busy with when the active dies gets its one reply at the other, done once."""
    pair = Pair(family, tmp_path)
    _, url = family.gateway(pair.both)
    log = tmp_path / "work"
    family.start("worker", "slow", "--exec", f"echo x >>{log}; sleep 4; cat", "--nodes", pair.both)
    job = httpx.post(f"{url}/v1/services/slow/jobs", content=b"in hand", timeout=TIMEOUT_S).headers[
        "location"
    ]
    until("it is in hand", log.exists)
    pair.kill(pair.until_paired())
    reply = httpx.get(f"{url}{job}/reply", headers={"Prefer": "wait=50"}, timeout=TIMEOUT_S)
    assert (reply.status_code, reply.content) == (200, b"in hand")
    assert log.read_text().count("x") == 1
