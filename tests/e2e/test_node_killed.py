"""A node that is killed while a worker works: the work goes on, and its result is handed in."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.shell.client import BlockingClient
from tests.support.patient_worker import worker_of
from tests.support.processes import DEADLINE_S, Processes, Titanic, processes, until


def kill_and_restart(
    family: Processes, node: Titanic, data: Path, endpoint: str, between: Path | None
) -> None:
    """Kill -9, then a node at the same place; ``between`` is made while there is none."""
    node.process.kill()
    node.process.wait(DEADLINE_S)
    if between is not None:
        between.touch()
    family.node(data, broker=endpoint)


@pytest.mark.parametrize("style", ["async", "plain", "exec"])
@pytest.mark.parametrize("done", ["while it is away", "when it is back"])
def test_what_a_worker_did_while_its_node_was_killed_is_not_done_again(
    tmp_path: Path, style: str, done: str
) -> None:
    """Kill -9 of the node between doing and replying: one execution, and the job has its reply."""
    go = tmp_path / "go"
    with processes(tmp_path) as family:
        node, endpoint = family.node(tmp_path / "data")
        with worker_of(style, endpoint, tmp_path) as worker, BlockingClient([endpoint]) as client:
            job = client.submit("shout", b"hello")
            until("it works", lambda: (tmp_path / "work.log").exists())
            kill_and_restart(
                family, node, tmp_path / "data", endpoint, go if done == "while it is away" else None
            )
            go.touch()
            with BlockingClient([endpoint], timeout_s=DEADLINE_S) as again:
                assert again.wait(job, DEADLINE_S) == [b"HELLO"]
                until("it has registered again", lambda: again.call("mmi.service", b"shout") == [b"200"])
                counters = again.stats().counters
            assert worker.poll() is None
    assert (tmp_path / "work.log").read_bytes().split() == [b"hello"]
    assert counters["replies_late_taken"] == 1


def test_sigterm_while_the_node_is_away_hands_in_first(tmp_path: Path) -> None:
    """A worker that is stopped and has done its job waits for the node that comes back, then ends with 0."""
    go = tmp_path / "go"
    with processes(tmp_path) as family:
        node, endpoint = family.node(tmp_path / "data")
        with worker_of("plain", endpoint, tmp_path) as worker:
            with BlockingClient([endpoint]) as client:
                job = client.submit("shout", b"hello")
                until("it works", lambda: (tmp_path / "work.log").exists())
            worker.terminate()
            kill_and_restart(family, node, tmp_path / "data", endpoint, go)
            assert worker.wait(DEADLINE_S) == 0
            with BlockingClient([endpoint], timeout_s=DEADLINE_S) as again:
                assert again.wait(job, DEADLINE_S) == [b"HELLO"]
    assert (tmp_path / "work.log").read_bytes().split() == [b"hello"]
