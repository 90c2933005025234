"""Work that is done while its pair changes hands: the result waits for the node that is active then."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.shell.client import BlockingClient
from tests.support.pair import PATIENCE_S, Pair
from tests.support.patient_worker import worker_of
from tests.support.processes import DEADLINE_S, Processes, until


def begun(pair: Pair, folder: Path) -> str:
    """A job that the worker is at; its id."""
    with BlockingClient([pair.brokers[pair.until_paired()]]) as client:
        job = client.submit("shout", b"hello")
    until("it works", (folder / "work.log").exists)
    return job


def result(pair: Pair, job: str) -> list[bytes]:
    """What the active node has as its reply, and what it counted."""
    until("somebody is active", pair.active, deadline_s=PATIENCE_S)
    with BlockingClient([pair.brokers[pair.active() - 1]], timeout_s=DEADLINE_S) as client:
        reply = client.wait(job, DEADLINE_S)
        assert client.stats().counters["replies_late_taken"] == 1
    return reply


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.parametrize("style", ["async", "plain", "exec"])
def test_a_result_that_meets_a_passive_node_is_kept_for_the_active(
    family: Processes, tmp_path: Path, style: str
) -> None:
    """Kill -9 of the active, and the work is done before the other has taken over: once, and not lost."""
    pair = Pair(family, tmp_path)
    with worker_of(style, pair.both, tmp_path) as worker:
        job = begun(pair, tmp_path)
        pair.kill(pair.until_paired())
        (tmp_path / "go").touch()
        assert result(pair, job) == [b"HELLO"]
        assert worker.poll() is None
    assert (tmp_path / "work.log").read_bytes().split() == [b"hello"]


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.parametrize("style", ["async", "exec"])
def test_a_planned_switch_does_not_stop_the_work_at_hand(
    family: Processes, tmp_path: Path, style: str
) -> None:
    """The node that steps down sends its workers away with what they are at; the other one is handed it."""
    pair = Pair(family, tmp_path)
    with worker_of(style, pair.both, tmp_path):
        job = begun(pair, tmp_path)
        before = pair.until_paired()
        pair.handover()
        pair.until_active(1 - before)
        (tmp_path / "go").touch()
        assert result(pair, job) == [b"HELLO"]
    assert (tmp_path / "work.log").read_bytes().split() == [b"hello"]


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_a_worker_that_is_to_stop_looks_for_the_active_node_first(family: Processes, tmp_path: Path) -> None:
    """SIGTERM while only a passive node is there: it leaves with 0 once the result is where it belongs."""
    pair = Pair(family, tmp_path)
    with worker_of("plain", pair.both, tmp_path) as worker:
        job = begun(pair, tmp_path)
        worker.terminate()
        pair.kill(pair.until_paired())
        (tmp_path / "go").touch()
        assert worker.wait(DEADLINE_S) == 0
        assert result(pair, job) == [b"HELLO"]
    assert (tmp_path / "work.log").read_bytes().split() == [b"hello"]
