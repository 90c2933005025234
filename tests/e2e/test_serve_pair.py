"""``titanic serve --pair``: what it prints works, a killed node ends nothing, and its end is clean."""

import json
import os
import re
import signal
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.composition.pair_ask import ask
from tests.e2e.test_serve import children, is_alive
from tests.support.processes import Processes, Titanic, clean_environment, run, until

BACK_S = 60.0


def port_of_four() -> int:
    """A port that was free a moment ago, as were the three behind it."""
    for _ in range(100):
        with ExitStack() as stack:
            first = stack.enter_context(socket.socket())
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            try:
                for number in range(port + 1, port + 4):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", number))
            except (OSError, OverflowError):
                continue
            return port
    raise AssertionError("no four free ports in a row")


def serve_pair(family: Processes, data: Path, *more: str) -> tuple[Titanic, dict[str, Any]]:
    """Both nodes and a gateway, ready, and the facts."""
    where = ("--data", str(data), "--http", "127.0.0.1:0", "--broker", "tcp://127.0.0.1:0")
    server = family.start("serve", "--pair", *where, "--json", *more)
    return server, server.facts(60)


def whole(facts: dict[str, Any]) -> bool:
    """One node is active, the other in sync."""
    answers = ask((facts["primary"]["broker"], facts["backup"]["broker"]), None, "status")
    return sorted(answer.get("state", "") for answer in answers.values()) == ["paired", "passive"]


def words_until(server: Titanic, last: str) -> str:
    """What it prints up to a line with ``last``."""
    assert server.process.stdout is not None
    lines = [server.line(60)]
    while last not in lines[-1]:
        lines.append(server.process.stdout.readline().decode())
        assert lines[-1], server.errors
    return "".join(lines)


def pasted(lines: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """What a shell makes of these lines."""
    return subprocess.run(
        ["sh", "-c", lines],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**clean_environment(), **environment},
    )


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_what_it_prints_works(family: Processes, tmp_path: Path) -> None:
    """Its lines, pasted: a job, its reply, its close; a kill that costs nothing; status; Ctrl-C stops all."""
    port = port_of_four()
    server = family.start(
        *("serve", "--pair", "--data", "jobs", "--http", "127.0.0.1:0"),
        *("--broker", f"tcp://127.0.0.1:{port}"),
    )
    text = words_until(server, "titanic pair handover")
    for number, role in ((0, "primary"), (1, "backup")):
        line = next(line for line in text.splitlines() if line.strip().startswith(role))
        assert f"tcp://127.0.0.1:{port + number}  " in line
        assert f"link tcp://127.0.0.1:{port + 2 + number} (plain)" in line
        assert f"data jobs/{role}" in line
    nodes = f"tcp://127.0.0.1:{port},tcp://127.0.0.1:{port + 1}"
    assert f"titanic worker echo --nodes {nodes} &" in text
    family.start("worker", "echo", "--nodes", nodes)
    curls = [line.strip() for line in text.splitlines() if "curl" in line]
    assert pasted("\n".join(curls)).stdout.split("\n")[:2] == ["hello, titanic", "204"]
    kill = re.search(r"kill -9 (\d+)", text)
    assert kill is not None
    os.kill(int(kill.group(1)), signal.SIGKILL)
    assert pasted("\n".join(curls)).stdout.split("\n")[:2] == ["hello, titanic", "204"]
    until("the word that it is back", lambda: "is back (pid" in server.errors, deadline_s=BACK_S)
    assert "ended with signal SIGKILL; if it was active, the " in server.errors
    facts = {"primary": {"broker": nodes.split(",")[0]}, "backup": {"broker": nodes.split(",")[1]}}
    until("a whole pair", lambda: whole(facts), deadline_s=BACK_S)
    status = run("pair", "status", "--nodes", nodes)
    assert (status.returncode, b"the pair is whole" in status.stdout) == (0, True), status
    below = children(server.process.pid)
    assert len(below) == 3
    assert server.stop(signal.SIGINT, 60) == 0, server.errors
    assert not [pid for pid in below if is_alive(pid)]
    for role in ("primary", "backup"):
        assert run("store", "check", str(tmp_path / "jobs" / role / "titanic.ring")).returncode == 0


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_handover_and_both_sides_over_http(family: Processes, tmp_path: Path) -> None:
    """``/v1/nodes``, ``/metrics`` and the receipts of jobs say who serves and what an answer is worth."""
    server, facts = serve_pair(family, tmp_path / "jobs")
    url, nodes = facts["http"], f"{facts['primary']['broker']},{facts['backup']['broker']}"
    rows = {row["name"]: row for row in httpx.get(f"{url}/v1/nodes", timeout=20).json()["nodes"]}
    before = next(name for name, row in rows.items() if row["role"] == "active")
    assert {row["in_sync"] for row in rows.values()} == {True}
    answer = httpx.post(
        f"{url}/v1/services/x/jobs", content=b"1", headers={"Titanic-Durability": "replicated"}, timeout=20
    )
    assert (answer.status_code, answer.headers["titanic-durability"]) == (202, "replicated"), answer.text
    switched = run("pair", "handover", "--nodes", nodes, "--json")
    assert switched.returncode == 0, switched
    assert sum(answer["done"] for answer in json.loads(switched.stdout).values()) == 1
    until("the other node is active", lambda: whole(facts), deadline_s=BACK_S)
    rows = {row["name"]: row for row in httpx.get(f"{url}/v1/nodes", timeout=20).json()["nodes"]}
    after = next(name for name, row in rows.items() if row["role"] == "active")
    assert after != before
    text = httpx.get(f"{url}/metrics", timeout=20).text
    assert f'titanic_pair_active{{node="{after}"}} 1.0' in text
    assert f'titanic_pair_state_changes_total{{cause="handover",node="{before}"}} 1.0' in text
    assert 'titanic_gateway_failovers_total{process="0"} 1.0' in text
    assert 'titanic_pair_lag_records{node="' + after + '"} 0.0' in text
    assert server.stop(deadline_s=60) == 0, server.errors


@pytest.mark.slow
def test_the_end_of_a_gateway_ends_everything(family: Processes, tmp_path: Path) -> None:
    """Nobody could reach the nodes over HTTP: the exit code says so, and no child is left."""
    server, facts = serve_pair(family, tmp_path / "jobs")
    below = children(server.process.pid)
    (gateway,) = set(below) - {facts[role]["pid"] for role in ("primary", "backup")}
    os.kill(gateway, signal.SIGKILL)
    assert server.wait(60) == 1
    assert "the gateway ended with signal SIGKILL" in server.errors
    assert not [pid for pid in below if is_alive(pid)]


def test_folders_of_the_other_kind_are_refused(family: Processes, tmp_path: Path) -> None:
    """A single store is not left behind by --pair, nor a pair's stores without it; the way out is said."""
    node, _ = family.node(tmp_path / "single")
    assert node.stop() == 0
    refused = run("serve", "--pair", "--data", str(tmp_path / "single"), "--http", "127.0.0.1:0")
    assert refused.returncode == 2
    assert b"mkdir" in refused.stderr
    (tmp_path / "pair").mkdir()
    (tmp_path / "single").rename(tmp_path / "pair" / "primary")
    refused = run("serve", "--data", str(tmp_path / "pair"), "--http", "127.0.0.1:0")
    assert refused.returncode == 2
    assert b"say --pair" in refused.stderr


@pytest.mark.parametrize("broker", ["tcp://127.0.0.1:65533", "ipc:///tmp/titanic-test"])
def test_endpoints_that_cannot_be_derived(broker: str, tmp_path: Path) -> None:
    """Three further ports are needed: wrong use, said before anything is made."""
    refused = run("serve", "--pair", "--broker", broker, "--data", str(tmp_path / "jobs"))
    assert refused.returncode == 2
    assert b"--pair" in refused.stderr
    assert not (tmp_path / "jobs").exists()


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    """The line of the node says which one, and nothing is left running."""
    port = port_of_four()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port + 2))
        taken.listen()
        where = ("--broker", f"tcp://127.0.0.1:{port}", "--http", "127.0.0.1:0")
        refused = run("serve", "--pair", *where, "--data", str(tmp_path / "jobs"))
    assert refused.returncode == 1
    assert str(port + 2).encode() in refused.stderr, refused
