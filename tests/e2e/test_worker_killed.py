"""A worker that is killed between doing and replying, and one that tells how far it is."""

from __future__ import annotations

import functools
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from core.shell.client import BlockingClient
from tests.support.processes import DEADLINE_S, clean_environment, processes, until

SCRIPT = """
import os, signal, sys
from pathlib import Path
from core.pure.worker_job import ReplyMemory
from core.shell.sqlite_memory import SqliteReplyMemory
from core.shell.worker import Worker

endpoint, kind, is_async = sys.argv[1], sys.argv[2], sys.argv[3] == "async"
first = not Path("killed").exists()

def die_once():
    if first:
        Path("killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)

class DyingSqlite(SqliteReplyMemory):
    def put(self, key, frames):
        super().put(key, frames)
        die_once()

class Dying(ReplyMemory):
    def put(self, key, frames):
        super().put(key, frames)
        die_once()

memory = DyingSqlite("replies.db") if kind == "sqlite" else Dying()
worker = Worker([endpoint], memory=memory)

def work(body):
    with open("work.log", "ab") as log:
        log.write(body + b"\\n")
    return body.upper()

async def work_async(body: bytes):
    return work(body)

worker.service("shout")(work_async if is_async else work)
sys.exit(worker.run())
"""


@pytest.mark.parametrize(
    ("kind", "style", "done_count"),
    [("sqlite", "plain", 1), ("sqlite", "async", 1), ("memory", "plain", 2)],
)
def test_work_done_before_a_kill_is_not_done_twice(
    tmp_path: Path, kind: str, style: str, done_count: int
) -> None:
    """With SQLite the next worker replies from the file; with a memory that died it works again."""
    (tmp_path / "worker.py").write_text(SCRIPT)

    def worker() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "worker.py", endpoint, kind, style], cwd=tmp_path, env=clean_environment()
        )

    with processes(tmp_path) as family:
        _, endpoint = family.node(tmp_path / "data")
        with BlockingClient([endpoint], timeout_s=DEADLINE_S) as client:
            job = client.submit("shout", b"hello")
            first = worker()
            assert first.wait(DEADLINE_S) == -signal.SIGKILL
            second = worker()
            try:
                assert client.wait(job, DEADLINE_S) == [b"HELLO"]
            finally:
                second.terminate()
                assert second.wait(DEADLINE_S) == 0
            client.hello()
            assert client.status(job).attempt == 2
    assert (tmp_path / "work.log").read_bytes() == b"hello\n" * done_count
    assert (tmp_path / "replies.db").exists() == (kind == "sqlite")


def _shows(client: BlockingClient, job: str, said: bytes) -> bool:
    return client.status(job).progress == said


def test_progress_of_an_mdp_02_worker_shows_in_the_status(tmp_path: Path) -> None:
    """job.progress() sends a PARTIAL that the node keeps while the job runs; MDP/0.1 sends nothing."""
    script = """
import sys, time
from pathlib import Path
from core.shell.worker import Worker, WorkerJob

worker = Worker([sys.argv[1]], version=int(sys.argv[2]))

@worker.service("slow")
def slow(job: WorkerJob) -> bytes:
    heard = job.progress("half")
    Path(sys.argv[3]).write_text(str(heard))
    while not Path("go").exists():
        time.sleep(0.01)
    return b"whole"

sys.exit(worker.run())
"""
    (tmp_path / "worker.py").write_text(script)
    with processes(tmp_path) as family:
        _, endpoint = family.node(tmp_path / "data")
        for version, said in (("2", b"half"), ("1", b"")):
            (tmp_path / "go").unlink(missing_ok=True)
            worker = subprocess.Popen(
                [sys.executable, "worker.py", endpoint, version, f"heard{version}"],
                cwd=tmp_path,
                env=clean_environment(),
            )
            try:
                with BlockingClient([endpoint], timeout_s=DEADLINE_S) as client:
                    client.hello()
                    job = client.submit("slow", b"x")
                    until("the worker spoke", (tmp_path / f"heard{version}").exists)
                    shown = functools.partial(_shows, client, job, said)
                    until("its progress", shown)
                    (tmp_path / "go").touch()
                    assert client.wait(job, DEADLINE_S) == [b"whole"]
                    assert client.status(job).progress == b""
            finally:
                worker.terminate()
                assert worker.wait(DEADLINE_S) == 0
    assert (tmp_path / "heard2").read_text() == "True"
    assert (tmp_path / "heard1").read_text() == "False"
