"""Real processes for tests: started, waited for by condition with a deadline, and always reaped."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, TypeVar

import core

T = TypeVar("T")

DEADLINE_S: Final = 30.0
ROOT: Final = Path(__file__).resolve().parents[2]
CODE: Final = Path(core.__file__).resolve().parents[1]
"""Where the packages are that are tried here: the working tree, or its compiled build."""

IMPORTS: Final = {"PYTHONPATH": f"{CODE}{os.pathsep}{ROOT}", "PYTHONSAFEPATH": "1"}
"""Environment with which a child imports what its parent does."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def until(
    what: str, condition: Callable[[], T | None], *, deadline_s: float = DEADLINE_S, pause_s: float = 0.02
) -> T:
    """The first result of ``condition`` that is true. AssertionError with ``what`` after the deadline."""
    end = time.monotonic() + deadline_s
    while not (result := condition()):
        assert time.monotonic() < end, f"not within {deadline_s} s: {what}"
        time.sleep(pause_s)
    return result


@dataclass(slots=True)
class Titanic:
    """A ``titanic`` process; its stderr is kept in a file so that no pipe can fill up."""

    process: subprocess.Popen[bytes]
    error_file: IO[bytes]
    name: str

    @property
    def errors(self) -> str:
        """What it said on stderr so far."""
        self.error_file.flush()
        return Path(self.error_file.name).read_text(errors="replace")

    def line(self, deadline_s: float = DEADLINE_S) -> str:
        """The next line of stdout. AssertionError when it ends or stays silent."""
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            assert selector.select(deadline_s), f"{self.name} said nothing in {deadline_s} s\n{self.errors}"
        line = self.process.stdout.readline()
        assert line, f"{self.name} ended with {self.process.wait(DEADLINE_S)}\n{self.errors}"
        return line.decode()

    def facts(self, deadline_s: float = DEADLINE_S) -> dict[str, Any]:
        """The ready line that ``--json`` asks for."""
        facts: dict[str, Any] = json.loads(self.line(deadline_s))
        return facts

    def kill(self) -> None:
        """``kill -9``, and the process is reaped."""
        self.process.kill()
        self.process.wait(DEADLINE_S)

    def stop(self, number: int = signal.SIGTERM, deadline_s: float = DEADLINE_S) -> int:
        """The exit code after a signal. AssertionError if it does not end in time."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait(deadline_s)

    def wait(self, deadline_s: float = DEADLINE_S) -> int:
        """The exit code. AssertionError if it does not end in time."""
        try:
            return self.process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} still runs after {deadline_s} s\n{self.errors}") from None


class Processes:
    """Starts ``titanic`` processes and reaps every one of them at the end of the block."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[Titanic] = []

    def start(
        self,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        under: Sequence[str] = (),
    ) -> Titanic:
        """``titanic`` with these arguments, running; ``under`` is a command that becomes it."""
        error_file = tempfile.NamedTemporaryFile(  # noqa: SIM115 - closed when the process is reaped
            dir=self._folder, prefix=f"{arguments[0]}-", suffix=".err", delete=False
        )
        process = subprocess.Popen(
            [*under, sys.executable, "-m", "gateway.cli", *arguments],
            cwd=cwd or self._folder,
            env={**clean_environment(), **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=error_file,
        )
        titanic = Titanic(process, error_file, f"titanic {' '.join(arguments)}")
        self._running.append(titanic)
        return titanic

    def node(
        self,
        data: Path,
        *more: str,
        broker: str = "tcp://127.0.0.1:0",
        env: Mapping[str, str] | None = None,
    ) -> tuple[Titanic, str]:
        """A ready node and its endpoint."""
        node = self.start("node", "--data", str(data), "--broker", broker, "--json", *more, env=env)
        return node, node.facts()["broker"]

    def gateway(self, nodes: str, *more: str, http: str = "127.0.0.1:0") -> tuple[Titanic, str]:
        """A gateway whose ``/readyz`` is 200, and its URL."""
        gateway = self.start("gateway", "--nodes", nodes, "--http", http, "--json", *more)
        url = gateway.facts()["http"]
        until(f"{url} ready\n{gateway.errors}", lambda: is_ready(url))
        return gateway, url

    def reap(self) -> None:
        """No process that was started here is left."""
        for titanic in self._running:
            if titanic.process.poll() is None:
                titanic.process.kill()
            titanic.process.wait(DEADLINE_S)
            if titanic.process.stdout is not None:
                titanic.process.stdout.close()
            titanic.error_file.close()


def run(
    *arguments: str,
    body: bytes = b"",
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    deadline_s: float = DEADLINE_S,
) -> subprocess.CompletedProcess[bytes]:
    """``titanic`` with these arguments, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "gateway.cli", *arguments],
        input=body,
        cwd=cwd,
        env={**clean_environment(), **(env or {})},
        capture_output=True,
        timeout=deadline_s,
        check=False,
    )


def clean_environment() -> dict[str, str]:
    """The environment without settings of ours, and with the working tree importable."""
    kept = {key: value for key, value in os.environ.items() if not key.upper().startswith("TITANIC_")}
    return {**kept, **IMPORTS, "COLUMNS": "200", "NO_COLOR": "1"}


def is_ready(url: str) -> bool:
    """Whether ``/readyz`` answers 200."""
    import httpx

    try:
        return httpx.get(f"{url}/readyz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def cpu_seconds(pid: int) -> float:
    """User and system time a process has used so far (proc(5), fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def processes(folder: Path) -> Iterator[Processes]:
    """Processes that are reaped at the end of the block, whatever happens in it."""
    family = Processes(folder)
    try:
        yield family
    finally:
        family.reap()
