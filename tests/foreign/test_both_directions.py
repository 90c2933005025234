"""Strangers at our broker, our Titanic at a stranger's broker: programs that share no code with ``core``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest

from tests.support import sources
from tests.support.hostile import Honest
from tests.support.processes import DEADLINE_S, ROOT, Processes, run, until

HERE: Final = Path(__file__).parent
STRANGERS: Final = ("broker.py", "worker.py", "client.py")
NODE_MODULES: Final = ROOT / "examples" / "workers" / "node" / "node_modules"

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts programs that are gone when the test ends."""
    running: list[subprocess.Popen[bytes]] = []

    def begin(*arguments: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        environment = {**os.environ, **env} if env else None
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, env=environment)
        running.append(process)
        return process

    yield begin
    for process in running:
        process.kill()
        process.wait(DEADLINE_S)
        assert process.stdout is not None
        process.stdout.close()


def foreign_broker(start: Start) -> str:
    """A stranger's broker, and where it is."""
    process = start(sys.executable, str(HERE / "broker.py"))
    assert process.stdout is not None
    return process.stdout.readline().decode().strip()


def foreign_client(endpoint: str, *words: str) -> str:
    """What the stranger's client prints."""
    done = subprocess.run(
        [sys.executable, str(HERE / "client.py"), endpoint, *words],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def until_there(endpoint: str, service: bytes) -> None:
    """Wait until somebody works for the service."""
    with Honest(endpoint) as client:
        until(f"{service!r} is there", lambda: client.ask(b"mmi.service", service) == [b"200"])


@pytest.mark.parametrize("name", STRANGERS)
def test_strangers_share_nothing_with_us(name: str) -> None:
    """They import the standard library and pyzmq, and nothing of this project."""
    imported = {module for _, module in sources.imports(HERE / name)}
    assert not [module for module in imported if sources.within(module, *sources.PACKAGES, "tests")]
    assert any(sources.within(module, "zmq") for module in imported)


def test_strangers_at_our_broker(family: Processes, start: Start) -> None:
    """A foreign worker and a foreign client find each other at ``titanic broker``."""
    endpoint = family.start("broker", "--bind", "tcp://127.0.0.1:0", "--json").facts()["broker"]
    start(sys.executable, str(HERE / "worker.py"), endpoint, "upper")
    assert foreign_client(endpoint, "call", "upper", "hello") == "HELLO"
    assert foreign_client(endpoint, "call", "mmi.service", "upper") == "200"
    assert foreign_client(endpoint, "call", "mmi.unheard", "of") == "501"


def test_strangers_at_our_node(family: Processes, start: Start, tmp_path: Path) -> None:
    """A foreign client stores, fetches and closes a request that a foreign worker did."""
    _, endpoint = family.node(tmp_path / "data")
    start(sys.executable, str(HERE / "worker.py"), endpoint, "upper")
    assert foreign_client(endpoint, "titanic", "upper", "hello") == "HELLO"


def test_our_titanic_at_a_strangers_broker(family: Processes, start: Start, tmp_path: Path) -> None:
    """Foreign broker, worker and client around ``titanic service``; our client and worker there too."""
    endpoint = foreign_broker(start)
    service = family.start("service", "--broker", endpoint, "--data", str(tmp_path / "data"), "--json")
    service.facts()
    until_there(endpoint, b"titanic.close")
    start(sys.executable, str(HERE / "worker.py"), endpoint, "upper")
    assert foreign_client(endpoint, "titanic", "upper", "hello") == "HELLO"
    ours = run("client", "--broker", endpoint, "request", "upper", "--wait", "20s", body=b"again")
    assert (ours.returncode, ours.stdout) == (0, b"AGAIN"), ours.stderr
    family.start("worker", "echo", "--nodes", endpoint)
    assert foreign_client(endpoint, "titanic", "echo", "as it was") == "as it was"
    plain = run("client", "--broker", endpoint, "call", "echo", body=b"plain")
    assert (plain.returncode, plain.stdout) == (0, b"plain"), plain.stderr
    assert service.stop() == 0, service.errors


def test_our_titanic_survives_a_kill_at_a_strangers_broker(
    family: Processes, start: Start, tmp_path: Path
) -> None:
    """The request outlives kill -9 of the service; the worker comes after that."""
    endpoint = foreign_broker(start)
    arguments = ("service", "--broker", endpoint, "--data", str(tmp_path / "data"), "--json")
    service = family.start(*arguments)
    service.facts()
    until_there(endpoint, b"titanic.request")
    stored = run("client", "--broker", endpoint, "request", "upper", body=b"once")
    assert stored.returncode == 0, stored.stderr
    service.kill()
    family.start(*arguments).facts()
    start(sys.executable, str(HERE / "worker.py"), endpoint, "upper")
    job = stored.stdout.decode().strip()
    reply = run("client", "--broker", endpoint, "reply", job, "--wait", "20s", deadline_s=60)
    assert (reply.returncode, reply.stdout) == (0, b"ONCE"), reply.stderr


def test_a_worker_in_c(family: Processes, start: Start, tmp_path: Path) -> None:
    """``examples/workers/c`` compiles without a warning and works at a node."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    program = tmp_path / "worker"
    if compiler is None or not Path("/usr/include/zmq.h").exists():
        pytest.skip("no C compiler, or no libzmq to compile against (Debian: gcc, libzmq3-dev)")
    source = ROOT / "examples" / "workers" / "c" / "worker.c"
    flags = ("-O2", "-Wall", "-Wextra", "-Werror", "-o", str(program))
    subprocess.run([compiler, *flags, str(source), "-lzmq"], check=True, timeout=DEADLINE_S)
    _, endpoint = family.node(tmp_path / "data")
    start(str(program), endpoint, "upper")
    assert foreign_client(endpoint, "titanic", "upper", "hello") == "HELLO"


def test_a_worker_in_javascript(family: Processes, start: Start, tmp_path: Path) -> None:
    """``examples/workers/node`` works at a node."""
    node = shutil.which("node")
    if node is None or not (NODE_MODULES / "zeromq").is_dir():
        pytest.skip("no node, or its package zeromq is not installed (npm install in examples/workers/node)")
    _, endpoint = family.node(tmp_path / "data")
    start(node, str(NODE_MODULES.parent / "worker.js"), endpoint, "upper")
    assert foreign_client(endpoint, "titanic", "upper", "hello") == "HELLO"
