"""The extended calls of the client library, and ``titanic top``, at a real node with a real store."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.shell.client import (
    BlockingClient,
    Client,
    JobFailedError,
    JobOptions,
    JobStateError,
    JobUnknownError,
    KeyMismatchError,
    RequestRefusedError,
)
from core.shell.worker import AttemptFailedError, Worker
from tests.support.processes import DEADLINE_S, Processes, free_port, processes, run

UNKNOWN = "0" * 32


@pytest.fixture
def family(tmp_path: Path) -> Iterator[Processes]:
    """Processes of this test."""
    with processes(tmp_path) as started:
        yield started


def test_what_the_node_refuses_is_told_by_its_own_error(family: Processes, tmp_path: Path) -> None:
    """Malformed and unknown ids, wrong states, bad options, another request under a key."""
    _, endpoint = family.node(tmp_path / "data")
    with BlockingClient([endpoint], timeout_s=DEADLINE_S) as client:
        for call in (client.status, client.cancel, client.retry):
            for job_id in ("nonsense", UNKNOWN):
                with pytest.raises(JobUnknownError):
                    call(job_id)
        with pytest.raises(RequestRefusedError):
            client.submit("echo", "x", options=JobOptions(priority=7))
        with pytest.raises(RequestRefusedError):
            client.list_jobs(state="nonsense")
        with pytest.raises(RequestRefusedError):
            client.pause("mmi.service")
        with pytest.raises(RequestRefusedError):
            client.submit_many("echo", [])
        job = client.submit("echo", "x", idempotency_key="order-1")
        with pytest.raises(KeyMismatchError):
            client.submit("echo", "y", idempotency_key="order-1")
        with pytest.raises(JobStateError) as caught:
            client.retry(job)
        assert caught.value.status.state == "queued"
        client.cancel(job)
        with pytest.raises(JobFailedError, match="cancelled"):
            client.wait(job, 5)


def test_all_of_it_survives_kill_9(family: Processes, tmp_path: Path) -> None:
    """Schedule, expiry, pause, cancel, key, batch, owner-less lists: the next process knows them."""
    broker = f"tcp://127.0.0.1:{free_port()}"
    node, _ = family.node(tmp_path / "data", broker=broker)
    with BlockingClient([broker], timeout_s=DEADLINE_S) as client:
        later = client.submit("echo", "later", options=JobOptions(delay_s=3_600))
        expires = client.submit("echo", "expires", options=JobOptions(expires_s=1.5))
        cancelled = client.submit("echo", "cancelled")
        client.cancel(cancelled)
        keyed = client.submit("echo", "keyed", idempotency_key="order-1")
        client.close(keyed)
        lines = client.submit_many("batch", [b"%d" % n for n in range(300)], idempotency_key="b")
        assert [line.status for line in lines] == [200] * 300
        assert client.pause("echo").paused
        newest = [row.key.hex() for row in client.list_jobs(limit=1_000).rows]
        last = client.events(0, limit=1_000).next
    node.kill()
    family.node(tmp_path / "data", broker=broker)
    with BlockingClient([broker], timeout_s=DEADLINE_S) as client:
        client.hello()
        assert client.status(later).state == "scheduled"
        assert client.status(cancelled).state == "cancelled"
        assert client.status(expires, wait_s=10).reason.startswith("expired")
        assert client.submit("echo", "keyed", idempotency_key="order-1") == keyed
        with pytest.raises(JobUnknownError):
            client.status(keyed)
        again = client.submit_many("batch", [b"%d" % n for n in range(300)], idempotency_key="b")
        assert [line.key for line in again] == [line.key for line in lines]
        assert [row.key.hex() for row in client.list_jobs(limit=1_000).rows] == newest
        echo, batch = sorted(client.services(), key=lambda row: row.name, reverse=True)
        assert (echo.name, echo.paused, echo.failed, batch.queued) == ("echo", True, 1, 300)
        assert client.events(last - 100).gap_to >= last, "what was before the start is a gap"
        assert not client.resume("echo").paused
        assert client.retry(expires).state == "queued"


async def live_through(endpoint: str) -> list[str]:
    """A job that fails, is retried and succeeds, seen by its client."""
    worker = Worker([endpoint])
    failing = True

    @worker.service("flaky")
    async def flaky(body: bytes) -> bytes:
        if failing:
            raise AttemptFailedError("not yet")
        return body[::-1]

    serving = asyncio.create_task(worker.serve())
    try:
        async with Client([endpoint], timeout_s=DEADLINE_S) as client:
            await client.hello()
            since = (await client.events()).next
            following = asyncio.create_task(client.events(since, wait_s=DEADLINE_S))
            job = await client.submit("flaky", "abc", options=JobOptions(attempts_max=1))
            assert (await client.status(job, wait_s=DEADLINE_S)).reason == "not yet"
            assert (await following).events[0].kind == "accepted"
            failing = False
            await client.retry(job)
            assert await client.wait(job, DEADLINE_S) == [b"cba"]
            (row,) = await client.services()
            assert (row.name, row.workers, row.succeeded) == ("flaky", 1, 1)
            return [event.kind for event in (await client.events(since)).events]
    finally:
        worker.drain()
        await asyncio.wait_for(serving, DEADLINE_S)


def test_a_dead_letter_is_retried_and_its_life_followed(family: Processes, tmp_path: Path) -> None:
    """Fail, retry by hand, succeed; a long-poll and the event list tell the story in order."""
    _, endpoint = family.node(tmp_path / "data")
    kinds = asyncio.run(live_through(endpoint))
    assert kinds == ["accepted", "started", "failed", "retried", "started", "succeeded"]


def test_a_submit_is_repeated_until_the_node_is_there(family: Processes, tmp_path: Path) -> None:
    """Killed in the middle, it comes back: the submit that was under way makes one job (X2)."""
    broker = f"tcp://127.0.0.1:{free_port()}"
    node, _ = family.node(tmp_path / "data", broker=broker)

    async def both() -> str:
        async with Client([broker], timeout_s=DEADLINE_S) as client:
            await client.hello()
            node.kill()
            submitting = asyncio.create_task(client.submit("echo", "x", options=JobOptions()))
            await asyncio.to_thread(family.node, tmp_path / "data", broker=broker)
            job = await submitting
            assert [row.key.hex() for row in (await client.list_jobs()).rows] == [job]
            return job

    assert len(asyncio.run(both())) == 32


LONG_NAME = "image.resize." + "thumbnails." * 10 + "jpeg"


def test_top_shows_services_once_and_as_json(family: Processes, tmp_path: Path) -> None:
    """--once prints a table, --json facts, a node that is away is exit 6."""
    missing = run("top", "--once", "--nodes", f"tcp://127.0.0.1:{free_port()}", deadline_s=DEADLINE_S)
    assert missing.returncode == 6
    _, endpoint = family.node(tmp_path / "data")
    with BlockingClient([endpoint], timeout_s=DEADLINE_S) as client:
        client.submit("busy", "x")
        client.submit("busy", "x")
        client.submit("quiet", "x")
        client.pause("quiet")
        client.submit(LONG_NAME, "x")
    shown = run("top", "--once", "--nodes", endpoint)
    lines = shown.stdout.decode().splitlines()
    assert shown.returncode == 0, shown.stderr
    assert "4 jobs" in lines[0]
    assert "…" not in shown.stdout.decode(), "no head is cut off, and in a pipe no name"
    assert any(line.startswith(LONG_NAME) for line in lines)
    named = [line.split()[0] for line in lines if line.startswith(("busy", "quiet"))]
    assert named == ["busy", "quiet"]
    assert any("(paused)" in line for line in lines)
    facts = json.loads(run("top", "--once", "--json", "--nodes", endpoint, "--prefix", "b").stdout)
    assert [(row["name"], row["queued"]) for row in facts["services"]] == [("busy", 2)]
