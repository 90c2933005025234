"""``titanic worker`` as a process: the node restarts under it, it is stopped, it remembers, it reports."""

from __future__ import annotations

import signal
import sqlite3
import time
from pathlib import Path

import pytest

from core.shell.client import BlockingClient, JobOptions
from tests.support.fair import FairClock
from tests.support.processes import DEADLINE_S, Processes, Titanic, free_port, until

NOTICE_S = 3.0


def registered(client: BlockingClient, service: str, count: int = 1) -> bool:
    """Whether the node knows that many workers of the service; one without workers and jobs has no row."""
    return sum(row.workers for row in client.services(service) if row.name == service) == count


@pytest.mark.parametrize("down_s", [0.0, 1.5])
def test_an_idle_worker_notices_a_restarted_node(down_s: float, family: Processes, tmp_path: Path) -> None:
    """After kill -9 and a restart of the node, a waiting job is answered within three seconds."""
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    node, _ = family.node(tmp_path / "data", broker=endpoint)
    worker = family.start("worker", "echo", "--nodes", endpoint, "--concurrency", "2")
    with BlockingClient([endpoint], timeout_s=DEADLINE_S) as client:
        until("the worker to register", lambda: registered(client, "echo", 2))
        assert client.wait(client.submit("echo", b"before"), DEADLINE_S) == [b"before"]
        node.kill()
        down_at = time.monotonic()
        until("the node to be away", lambda: time.monotonic() - down_at >= down_s)
        family.node(tmp_path / "data", broker=endpoint)
    with FairClock() as clock, BlockingClient([endpoint], timeout_s=DEADLINE_S) as client:
        assert client.wait(client.submit("echo", b"after"), DEADLINE_S) == [b"after"]
        assert clock.elapsed_s < NOTICE_S
    assert worker.stop() == 0, worker.errors


def drained(worker: Titanic, folder: Path, client: BlockingClient, *jobs: str) -> None:
    """The worker, told to stop in the middle of the first job, finishes that one and takes no other."""
    first, second = jobs
    until("the first job to start", (folder / "begun").exists)
    worker.process.send_signal(signal.SIGTERM)
    until("its answer to the signal", lambda: "finishing the work at hand" in worker.errors)
    assert worker.process.poll() is None
    (folder / "go").touch()
    assert worker.wait() == 0, worker.errors
    assert client.wait(first, DEADLINE_S) == [b"first"]
    client.hello()
    waiting = client.status(second)
    assert waiting.state in ("queued", "scheduled"), "what crossed its leaving is not a failed attempt"
    assert not (folder / "begun-again").exists()


@pytest.mark.parametrize("protocol", ["0.1", "0.2"])
def test_sigterm_finishes_the_job_at_hand(protocol: str, family: Processes, tmp_path: Path) -> None:
    """The job at hand is answered; the next one, with a single attempt, is left to the next worker."""
    _, endpoint = family.node(tmp_path / "data")
    command = "[ ! -e begun ] || touch begun-again; touch begun; while [ ! -e go ]; do sleep 0.02; done; cat"
    with BlockingClient([endpoint], timeout_s=DEADLINE_S) as client:
        jobs = (
            client.submit("slow", b"first"),
            client.submit("slow", b"second", options=JobOptions(attempts_max=1)),
        )
        worker = family.start(
            "worker", "slow", "--exec", command, "--nodes", endpoint, "--protocol", protocol
        )
        drained(worker, tmp_path, client, *jobs)
        until("the worker to be gone", lambda: registered(client, "slow", 0))
        (tmp_path / "begun").unlink()
        family.start("worker", "slow", "--exec", command, "--nodes", endpoint)
        assert client.wait(jobs[1], DEADLINE_S) == [b"second"]


def test_an_idle_worker_stops_at_once(family: Processes, tmp_path: Path) -> None:
    """Without a job at hand SIGTERM and SIGINT end it with exit code 0, and the node forgets it at once."""
    _, endpoint = family.node(tmp_path / "data")
    with BlockingClient([endpoint], timeout_s=DEADLINE_S) as client:
        for number in (signal.SIGTERM, signal.SIGINT):
            worker = family.start("worker", "echo", "--nodes", endpoint)
            until("the worker to register", lambda: registered(client, "echo"))
            assert worker.stop(number) == 0, worker.errors
            until("the node to forget it", lambda: registered(client, "echo", 0), deadline_s=2)


def test_memory_is_kept_from_one_process_to_the_next(family: Processes, tmp_path: Path) -> None:
    """What --memory holds is replied without being done again, here to a job whose reply was lost."""
    _, endpoint = family.node(tmp_path / "data")
    arguments = ("worker", "shout", "--nodes", endpoint, "--memory", "replies.db")
    with BlockingClient([endpoint], timeout_s=DEADLINE_S) as client:
        job = client.submit("shout", b"hello")
        worker = family.start(*arguments, "--exec", "echo once >> done.log; tr a-z A-Z")
        assert client.wait(job, DEADLINE_S) == [b"HELLO"]
        assert worker.stop() == 0
        with sqlite3.connect(tmp_path / "replies.db") as db:
            kept = db.execute("SELECT key FROM replies").fetchall()
        db.close()
        assert [key[:16].hex() for (key,) in kept] == [job]
    assert (tmp_path / "done.log").read_text() == "once\n"


def test_a_memory_that_cannot_be_opened(family: Processes, tmp_path: Path) -> None:
    """The worker does not start without the memory it was promised: one line, exit code 1."""
    (tmp_path / "replies.db").write_text("this is no database, but a text of some length" * 100)
    for path in (tmp_path, tmp_path / "replies.db"):
        worker = family.start("worker", "echo", "--memory", str(path))
        assert worker.wait() == 1
        assert worker.errors.startswith("titanic: the reply memory")
        assert len(worker.errors.strip().splitlines()) == 1


def test_progress_needs_protocol_02(family: Processes, tmp_path: Path) -> None:
    """A function's progress is seen in the job's status with --protocol 0.2; 0.3 is refused."""
    (tmp_path / "slowly.py").write_text(
        "import time\nfrom pathlib import Path\nfrom core.pure.worker_job import WorkerJob\n"
        "def work(job: WorkerJob) -> bytes:\n"
        "    job.progress('half')\n"
        "    while not Path('go').exists():\n        time.sleep(0.01)\n"
        "    return b'whole'\n"
    )
    _, endpoint = family.node(tmp_path / "data")
    with BlockingClient([endpoint], timeout_s=DEADLINE_S) as client:
        job = client.submit("slow", b"x")
        family.start("worker", "slow", "--python", "slowly:work", "--nodes", endpoint, "--protocol", "0.2")
        client.hello()
        until("its progress", lambda: client.status(job).progress == b"half")
        (tmp_path / "go").touch()
        assert client.wait(job, DEADLINE_S) == [b"whole"]
    refused = family.start("worker", "echo", "--protocol", "0.3")
    assert refused.wait() == 2
    assert "0.1 or 0.2" in refused.errors
