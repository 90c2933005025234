"""What the kernel is asked for, and what becomes of a node whose disk fails: D1, D4 and R11 by strace."""

import resource
from pathlib import Path
from typing import Final

import pytest

from core.errors import CoreError
from core.shell.client import BlockingClient
from tests.machine import tracing
from tests.support.fair import FairClock
from tests.support.processes import Processes, Titanic, run, until

pytestmark = pytest.mark.skipif(bool(tracing.why_not()), reason=tracing.why_not() or "it works")

FAULT_AT: Final = 25
"""The calls of a thread are counted one by one; opening a store takes far fewer."""
ANSWER_S: Final = 5.0
EXIT_S: Final = 1.0


def made_store(data: Path, family: Processes) -> None:
    """The store exists, so that a start makes few calls."""
    node, _ = family.node(data)
    assert node.stop() == 0


def submit_until_it_fails(broker: str, most: int = 3000) -> tuple[list[str], CoreError | None]:
    """Ids acknowledged one after the other, and what ended it."""
    ids: list[str] = []
    with BlockingClient([broker], timeout_s=ANSWER_S) as client:
        for number in range(most):
            try:
                ids.append(client.submit("nobody", b"%d" % number * 50))
            except CoreError as error:
                return ids, error
    return ids, None


def exit_code(node: Titanic) -> int:
    return node.wait(10)


def found_after_restart(data: Path, family: Processes, ids: list[str]) -> int:
    """How many of the ids a new node on the same data knows."""
    node, broker = family.node(data)
    with BlockingClient([broker]) as client:
        count = sum(client.reply(job) is None for job in ids)
    node.stop()
    return count


def traced_order(family: Processes, data: Path, log: Path, *more: str, count: int = 20) -> list[str]:
    """Writes of records, syncs that worked and answers, in the kernel's order, for some jobs in a row."""
    made_store(data, family)
    node = family.start(
        *("node", "--data", str(data), "--broker", "tcp://127.0.0.1:0", "--json", *more),
        under=tracing.under(log),
    )
    with BlockingClient([node.facts()["broker"]]) as client:
        for number in range(count):
            client.submit("nobody", b"payload-%d" % number)
    assert node.stop() == 0
    order = []
    for event in tracing.events(tracing.finished(log, node.process.pid)):
        if event.call.startswith("pwrite") and event.begins and "TiR1" in event.text:
            order.append("write")
        elif event.call == "fdatasync" and event.result == 0:
            order.append("synced")
        elif (
            event.call in ("sendto", "sendmsg", "write") and event.begins and "titanic.request" in event.text
        ):
            order.append("answer")
    assert order.count("answer") == count
    return order


def overtaken(order: list[str]) -> int:
    """How many answers left before a write and, behind it, a sync of their own."""
    count, state = 0, "answer"
    for what in order:
        if what == "answer":
            count += state != "synced"
            state = "answer"
        elif what == "write":
            state = "write"
        elif state == "write":
            state = "synced"
    return count


def test_each_acknowledgement_follows_its_own_sync(family: Processes, tmp_path: Path) -> None:
    """Write, fdatasync with result 0, then the answer to the socket: for every single job (D1)."""
    order = traced_order(family, tmp_path / "data", tmp_path / "trace")
    assert not overtaken(order), order


def test_a_node_that_does_not_sync_is_seen(family: Processes, tmp_path: Path) -> None:
    """The same look at a node without fsync finds every answer too early, so the look is worth something."""
    order = traced_order(family, tmp_path / "data", tmp_path / "trace", "--fsync", "never")
    assert overtaken(order) == order.count("answer")


@pytest.mark.parametrize(
    "fault",
    [
        f"fdatasync:error=EIO:when={FAULT_AT}+",
        f"fdatasync:error=EIO:when={FAULT_AT}",
        f"pwrite64:error=EIO:when={FAULT_AT}+",
        f"pwrite64:error=ENOSPC:when={FAULT_AT}+",
    ],
)
def test_after_an_error_nothing_is_acknowledged_and_the_node_ends(
    family: Processes, tmp_path: Path, fault: str
) -> None:
    """Exit code not 0 within a second, no answer after the error, all answered before it is there (D4)."""
    data, log = tmp_path / "data", tmp_path / "trace"
    made_store(data, family)
    node = family.start(
        "node", "--data", str(data), "--broker", "tcp://127.0.0.1:0", "--json",
        under=tracing.under(log, fault),
    )  # fmt: skip
    with FairClock() as clock:
        ids, error = submit_until_it_fails(node.facts()["broker"])
        assert exit_code(node) not in (0, None)
    assert error is not None, "the fault never came"
    assert len(ids) > 3
    lines = tracing.finished(log, node.process.pid)
    trace = tracing.events(lines)
    first = next(number for number, event in enumerate(trace) if event.injected)
    answers = [
        event
        for event in trace[first:]
        if event.call in ("sendto", "sendmsg", "write")
        and "titanic.request" in event.text
        and "200" in event.text.partition("titanic.request")[2]
    ]
    assert not answers, "something was acknowledged after the error"
    took_s = tracing.ended_at_s(lines) - trace[first].at_s
    assert took_s < EXIT_S + clock.stolen_s, f"the node ended {took_s:.2f} s after the error"
    assert found_after_restart(data, family, ids) == len(ids)


def test_lack_of_space_while_growing_is_survived(family: Processes, tmp_path: Path) -> None:
    """The file cannot grow: new jobs are refused, the node lives, and a close makes room again (R11)."""
    data, log = tmp_path / "data", tmp_path / "trace"
    made_store(data, family)
    node = family.start(
        "node", "--data", str(data), "--broker", "tcp://127.0.0.1:0", "--json",
        under=tracing.under(log, "fallocate:error=ENOSPC:when=1+"),
    )  # fmt: skip
    ids: list[str] = []
    refused = ""
    with BlockingClient([node.facts()["broker"]], timeout_s=ANSWER_S) as client:
        while not refused and len(ids) < 200:
            try:
                ids.append(client.submit("nobody", bytes(1 << 19)))
            except CoreError as error:
                refused = str(error)
        assert refused, "the store never became full"
        assert len(ids) > 20
        for job in ids[:30]:
            client.close(job)
        until("room again", lambda: _accepted(client))
    assert node.stop() == 0
    trace = tracing.events(tracing.finished(log, node.process.pid))
    assert any(event.injected for event in trace), "the file never tried to grow"
    assert run("store", "check", str(data / "titanic.ring")).returncode == 0


def _accepted(client: BlockingClient) -> bool:
    try:
        return bool(client.submit("nobody", b"small"))
    except CoreError:
        return False


def test_a_short_write_is_never_acknowledged(family: Processes, tmp_path: Path) -> None:
    """The kernel takes half of a record and no more (RLIMIT_FSIZE): the node ends, the half is cut (R13)."""
    data = tmp_path / "data"
    node, broker = family.node(data)
    with BlockingClient([broker], timeout_s=ANSWER_S) as client:
        ids = [client.submit("nobody", b"fits") for _ in range(5)]
        end = _end_of_records(data / "titanic.ring")
        limit = end + 4096 + 1500
        resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE, (limit, limit))
        with pytest.raises(CoreError):
            client.submit("nobody", bytes(100_000))
    assert exit_code(node) not in (0, None)
    assert found_after_restart(data, family, ids) == len(ids)
    report = run("store", "check", str(data / "titanic.ring"), "--json")
    assert report.returncode == 0, report.stdout


def _end_of_records(path: Path) -> int:
    """Where the last record of the first chunk begins, read behind the node's back."""
    raw = path.read_bytes()[: 8192 + (16 << 20)]
    return raw.rfind(b"TiR1")


def test_the_store_has_one_owner(family: Processes, tmp_path: Path) -> None:
    """A second node on the data, a check, a backup of the file: exit 4, and the first goes on (R14)."""
    data = tmp_path / "data"
    _, broker = family.node(data)
    second = family.start("node", "--data", str(data), "--broker", "tcp://127.0.0.1:0")
    assert second.wait(10) == 4
    assert "in use" in second.errors
    assert run("store", "check", str(data / "titanic.ring")).returncode == 4
    with BlockingClient([broker]) as client:
        assert client.submit("nobody", b"still here")
