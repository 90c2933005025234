"""Servers that rest while others are measured: stopped with SIGSTOP, so that nobody steals processor time."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from bench.processes import answers, free_port, process

T = TypeVar("T")

TITANIC = [sys.executable, "-m", "gateway.cli"]
ECHO = "/v1/services/echo/jobs"
SUBMIT = "/v1/services/bench/jobs"
AWAKE_SECONDS = 30.0


class Stable:
    """The processes of one contender; ``awake`` says whether it serves again after a rest."""

    def __init__(self, pids: Sequence[int], awake: Callable[[], bool]) -> None:
        self._pids = pids
        self._awake = awake

    def rest(self) -> None:
        """None of them runs any more."""
        self._signal(signal.SIGSTOP)

    def wake(self) -> None:
        """All of them run, and serve."""
        self._signal(signal.SIGCONT)
        deadline = time.monotonic() + AWAKE_SECONDS
        while not self._awake():
            if time.monotonic() > deadline:
                raise SystemExit(f"bench: processes {self._pids} did not wake up")
            time.sleep(0.05)

    def resume(self) -> None:
        """All of them may run; nobody waits until they serve."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        for pid in self._pids:
            os.kill(pid, number)

    def measured(self, run: Callable[[], T]) -> Callable[[], T]:
        """``run`` while only these processes are awake."""

        def alone() -> T:
            self.wake()
            try:
                return run()
            finally:
                self.rest()

        return alone


class Titanic(Stable):
    """A node, a gateway and an echo worker of ours; ``url`` is the gateway's."""

    def __init__(
        self,
        stack: ExitStack,
        folder: Path,
        name: str,
        *,
        gateway: Sequence[str] = (*TITANIC, "gateway"),
        headers: Mapping[str, str] | None = None,
        more: Sequence[str] = (),
        worker: bool = True,
    ) -> None:
        log = folder / f"{name}.log"
        http, broker = free_port(), f"tcp://127.0.0.1:{free_port()}"
        self.url, self.port, self.broker, self.log = f"http://127.0.0.1:{http}", http, broker, log
        self.headers = dict(headers or {})
        self._works = worker
        data = ["--data", str(folder / name), "--store-max", "16GiB"]  # nobody closes what is submitted
        node = [*TITANIC, "node", "--broker", broker, *data]
        serve = [*gateway, "--nodes", broker, "--http", f"127.0.0.1:{http}", *more]
        echo = [*TITANIC, "worker", "echo", "--nodes", broker, "--concurrency", "16"]
        started = [stack.enter_context(process(node, lambda: True, log))]
        started.append(stack.enter_context(process(serve, answers(f"{self.url}/readyz"), log)))
        if worker:
            started.append(stack.enter_context(process(echo, lambda: True, log)))
        super().__init__([one.pid for one in started], self._serves)
        stack.callback(self.resume)
        self.wake()
        self.rest()

    def _serves(self) -> bool:
        """A job was worked and closed, or at least stored and closed."""
        prefer = {"Prefer": "wait=2"} if self._works else {}
        asked = urllib.request.Request(
            f"{self.url}{ECHO}", b"awake", {**self.headers, **prefer}, method="POST"
        )
        try:
            with urllib.request.urlopen(asked, timeout=10) as answer:
                done: bool = answer.status == (200 if self._works else 202)
                job = answer.headers["Location"]
            closed = urllib.request.Request(f"{self.url}{job}", headers=self.headers, method="DELETE")
            with urllib.request.urlopen(closed, timeout=10):
                return done
        except (OSError, urllib.error.URLError):
            return False


class NoOp(Stable):
    """uvicorn answering without a look at what it is asked."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/"
        argv = [sys.executable, "-m", "bench.noop", str(port)]
        served = stack.enter_context(process(argv, answers(self.url), folder / "noop.log"))
        super().__init__([served.pid], answers(self.url))
        stack.callback(self.resume)
        self.rest()


def key_file(folder: Path) -> tuple[Path, str]:
    """A key file with one key, and what its Authorization header says."""
    from gateway.http import keyfile
    from gateway.pure.keys import KeyRecord, hash_secret

    secret, path = keyfile.new_secret(), folder / "keys.json"
    record = KeyRecord(keyfile.new_id(), "bench", hash_secret(secret.encode()), ["submit", "read"], 0)
    keyfile.update(path, lambda _: [record])
    return path, f"Bearer {keyfile.token(record, secret)}"


def emptied(stack: ExitStack, folder: Path) -> Path:
    """``folder``, which is gone afterwards."""
    stack.callback(shutil.rmtree, folder)
    return folder
