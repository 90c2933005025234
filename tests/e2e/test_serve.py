"""``titanic serve`` and ``make run``: real processes, over TCP, as a user meets them."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.processes import (
    Processes,
    Titanic,
    clean_environment,
    cpu_seconds,
    free_port,
    is_ready,
    run,
    until,
)
from tests.support.sources import ROOT

IDLE_S = 3.0
IDLE_SHARE = 0.01


def serve(family: Processes, data: Path, *more: str) -> tuple[Titanic, dict[str, Any]]:
    """A ready server and its facts."""
    server = family.start(
        *("serve", "--data", str(data), "--http", "127.0.0.1:0", "--broker", "tcp://127.0.0.1:0", "--json"),
        *more,
    )
    return server, server.facts()


def children(pid: int) -> list[int]:
    """The process ids of a process's children (proc(5))."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_job_all_the_way(number: int, family: Processes, tmp_path: Path) -> None:
    """Submit, wait, read again, close with the commands of ``titanic``; then a signal stops everything."""
    server, facts = serve(family, tmp_path / "data")
    at = ("--url", facts["http"])
    family.start("worker", "echo", "--nodes", facts["broker"])
    waited = run("submit", "echo", "--wait", "--json", *at, body=b"\xff\x00 bytes")
    assert waited.returncode == 0, waited.stderr
    job = json.loads(waited.stdout)
    assert job["reply_base64"] == "/wAgYnl0ZXM="
    status = json.loads(run("status", job["id"], "--json", *at).stdout)
    assert (status["state"], status["service"]) == ("succeeded", "echo")
    assert run("reply", job["id"], *at).stdout == b"\xff\x00 bytes"
    assert run("close", job["id"], *at).returncode == 0
    assert run("reply", job["id"], *at).returncode == 1
    assert run("close", job["id"], *at).returncode == 0
    assert b"ready" in run("status", *at).stdout
    below = children(server.process.pid)
    assert len(below) == 2
    assert server.stop(number) == 0, server.errors
    assert not [pid for pid in below if is_alive(pid)]
    assert "stopped" in server.errors
    assert run("store", "check", str(tmp_path / "data" / "titanic.ring")).returncode == 0


def test_exit_codes_of_a_job(family: Processes, tmp_path: Path) -> None:
    """8: no reply yet. 7: the job failed. 1: no such job. 0: there it is."""
    server, facts = serve(family, tmp_path / "data")
    at = ("--url", facts["http"])
    job = run("submit", "false", *at, body=b"x").stdout.decode().strip()
    early = run("reply", job, "--wait", "300ms", *at)
    assert early.returncode == 8
    assert b"titanic reply" in early.stderr
    late = run("submit", "false", "--wait=200ms", *at)
    assert late.returncode == 8, late.stderr
    assert run("status", "0" * 32, *at).returncode == 1
    assert run("submit", "titanic.request", *at).returncode == 1
    answer = httpx.post(f"{facts['http']}/v1/services/false/jobs?attempts=1", content=b"y")
    assert answer.status_code == 202
    family.start("worker", "false", "--exec", "echo no luck >&2; exit 3", "--nodes", facts["broker"])
    failed = run("reply", answer.json()["id"], "--wait", *at)
    assert failed.returncode == 7
    assert b"no luck" in failed.stderr
    assert server.stop() == 0


def test_children_do_not_outlive_a_killed_server(family: Processes, tmp_path: Path) -> None:
    """A kill -9 of the supervisor takes node and gateway along, and the store can be opened again."""
    server, _ = serve(family, tmp_path / "data")
    below = children(server.process.pid)
    assert len(below) == 2
    server.kill()
    until("the children to end", lambda: not any(is_alive(pid) for pid in below))
    again, _ = serve(family, tmp_path / "data")
    assert again.stop() == 0


def test_a_child_that_dies_ends_the_server(family: Processes, tmp_path: Path) -> None:
    """The loss of the node is said in a line, the gateway is stopped, the exit code is not 0."""
    server, _ = serve(family, tmp_path / "data")
    node, gateway = children(server.process.pid)
    os.kill(node, signal.SIGKILL)
    assert server.wait() == 1
    assert "the node ended with signal SIGKILL" in server.errors
    assert not is_alive(gateway)


def test_body_limit(family: Processes, tmp_path: Path) -> None:
    """A body over --max-body is 413, declared or chunked, and the connection's peer lives on."""
    server, facts = serve(family, tmp_path / "data", "--max-body", "10KiB")
    url = f"{facts['http']}/v1/services/x/jobs"
    assert httpx.post(url, content=bytes(10 << 10)).status_code == 202
    for content in (bytes((10 << 10) + 1), iter([bytes(1024)] * 11)):
        answer = httpx.post(url, content=content)
        assert answer.status_code == 413
        assert answer.headers["content-type"] == "application/problem+json"
    refused = run("submit", "x", "--url", facts["http"], body=bytes(1 << 20))
    assert refused.returncode == 1
    assert b"413" in refused.stderr
    assert httpx.post(url, content=b"small").status_code == 202
    assert server.stop() == 0


def test_garbage_on_the_broker_port(family: Processes, tmp_path: Path) -> None:
    """Whatever bytes arrive at the broker's port, jobs go on."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    server, facts = serve(family, tmp_path / "data")
    port = int(facts["broker"].rpartition(":")[2])
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16) + b"\x00" + bytes(31)
    for number in range(40):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            garbage = rng.randbytes(rng.randrange(1, 3000))
            try:
                connection.sendall(greeting + garbage if number % 2 else garbage)
            except (BrokenPipeError, ConnectionResetError):
                continue  # refused half-way, as it may be
    family.start("worker", "echo", "--nodes", facts["broker"])
    done = run("submit", "echo", "--wait", "20s", "--url", facts["http"], body=b"still here")
    assert (done.returncode, done.stdout) == (0, b"still here"), done.stderr
    assert server.stop() == 0


@pytest.mark.slow
def test_idle_processes_are_idle(family: Processes, tmp_path: Path) -> None:
    """A node without work, a worker connected, uses less than one percent of a core; so does a gateway."""
    server, facts = serve(family, tmp_path / "data")
    worker = family.start("worker", "echo", "--nodes", facts["broker"])
    assert run("submit", "echo", "--wait", "20s", "--url", facts["http"], body=b"x").returncode == 0
    pids = [*children(server.process.pid), worker.process.pid, server.process.pid]
    before = {pid: cpu_seconds(pid) for pid in pids}
    start = time.monotonic()
    until("some seconds of nothing", lambda: time.monotonic() - start > IDLE_S, pause_s=0.5)
    elapsed = time.monotonic() - start
    used = {pid: (cpu_seconds(pid) - before[pid]) / elapsed for pid in pids}
    assert max(used.values()) < IDLE_SHARE + 0.01 / elapsed, used  # a clock tick is 10 ms
    assert server.stop() == 0


def test_make_run_prints_lines_that_work(tmp_path: Path) -> None:
    """The three curl lines of ``make run`` do what they say when pasted into a shell."""
    http = f"127.0.0.1:{free_port()}"
    broker = f"tcp://127.0.0.1:{free_port()}"
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway.cli.demo", "--http", http, "--broker", broker, "--data", "jobs"],
        cwd=tmp_path,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until("readiness", lambda: is_ready(f"http://{http}"))
        assert process.stdout is not None
        lines: list[str] = []
        while len([line for line in lines if "curl" in line]) < 3:
            lines.append(process.stdout.readline())
            assert lines[-1], process.communicate()
        pasted = subprocess.run(
            ["sh", "-c", "\n".join(line.strip() for line in lines if "curl" in line)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert pasted.stdout.split("\n")[:2] == ["hello, titanic", "204"], pasted
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()
    assert "gateway.cli.demo --http $(HTTP)" in (ROOT / "Makefile").read_text()
