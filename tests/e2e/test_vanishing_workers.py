"""Busy workers that vanish, over real processes: killed, frozen, late. None of them beats while it works."""

from __future__ import annotations

import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from core.pure import tsp
from core.pure.ids import Mint
from core.pure.jobs import RequestMeta
from tests.support import held_worker
from tests.support.fair import FairClock
from tests.support.hostile import Honest, counters
from tests.support.processes import DEADLINE_S, Processes, processes, until

HEARTBEAT_S: Final = 2.5
SLACK_S: Final = 0.5  # of scheduling on a busy machine

Hire = Callable[[str], "Held"]


class Held:
    """A worker process that answers when it is told to."""

    def __init__(self, endpoint: str, service: str) -> None:
        arguments = [sys.executable, held_worker.__file__, endpoint, service]
        self.process = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, text=False
        )

    def line(self) -> str:
        """What it says next."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().decode().strip()

    def answer(self, text: str) -> None:
        """It may finish what it has, with this reply."""
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode() + b"\n")

    def leave(self) -> None:
        self.process.kill()
        self.process.wait(DEADLINE_S)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One node for all; every test has a service of its own."""
    folder: Path = tmp_path_factory.mktemp("vanish")
    with processes(folder) as family:
        yield _node(family, folder)


def _node(family: Processes, folder: Path) -> str:
    return family.node(folder / "data")[1]


@pytest.fixture
def hire(endpoint: str) -> Iterator[Hire]:
    """Starts workers, one by one registered, and ends them."""
    hired: list[Held] = []

    def start(service: str) -> Held:
        worker = Held(endpoint, service)
        hired.append(worker)
        assert worker.line() == "ready"
        with Honest(endpoint) as client:
            count = sum(w.process.args[3] == service for w in hired)  # type: ignore[index]
            wanted = b"%d" % count
            until("it is registered", lambda: client.ask(b"mmi.workers", service.encode())[1:2] == [wanted])
        return worker

    yield start
    for worker in hired:
        worker.leave()


def submit(client: Honest, service: bytes, body: bytes, timeout_ms: int) -> bytes:
    """A durable job whose attempts may take this long; its UUID."""
    status, head = client.ask(b"titanic.hello", b"")
    mint = Mint(tsp.decode_hello(head).id_secret)
    key = mint.make(time.time_ns() // 1_000_000, secrets.randbits(50))
    meta = RequestMeta(service=service, accepted_ms=0, timeout_ms=timeout_ms)
    status, _ = client.ask(b"titanic.submit", tsp.encode_head(tsp.SubmitHead(key, meta)), body)
    assert status == b"200"
    return key.hex().encode()


def reply(client: Honest, uuid: bytes) -> bytes:
    """The job's reply, as soon as there is one."""
    found = until("a reply", lambda: ask_reply(client, uuid))
    return found[1]


def ask_reply(client: Honest, uuid: bytes) -> list[bytes] | None:
    answer = client.ask(b"titanic.reply", uuid)
    return answer if answer[0] == b"200" else None


@pytest.mark.parametrize("durable", [True, False], ids=["job", "plain request"])
def test_a_killed_worker_is_noticed_within_two_heartbeats(endpoint: str, hire: Hire, durable: bool) -> None:
    """Kill -9 while it works: the next worker has the work in less than two intervals."""
    service = "killed-job" if durable else "killed-plain"
    with Honest(endpoint) as client:
        first = hire(service)
        if durable:
            client.ask(b"titanic.request", service.encode(), b"sum")
        else:
            client.send(b"", b"MDPC01", service.encode(), b"sum")
        assert first.line() == "work sum"
        second = hire(service)
        with FairClock() as clock:
            first.process.kill()
            assert second.line() == "work sum"
            assert clock.elapsed_s < 2 * HEARTBEAT_S + SLACK_S
        second.answer("done")
        if not durable:
            assert client.answer(service.encode()) == [b"done"]


def test_a_frozen_worker_loses_its_job_at_the_attempts_timeout(endpoint: str, hire: Hire) -> None:
    """SIGSTOP: no sooner and not much later; the late reply of the old attempt changes nothing."""
    before = counters(endpoint)["durable_late"]
    with Honest(endpoint) as client:
        first = hire("frozen")
        with FairClock() as clock:
            started = time.monotonic()
            uuid = submit(client, b"frozen", b"sum", 1_000)
            assert first.line() == "work sum"
            second = hire("frozen")
            first.process.send_signal(signal.SIGSTOP)
            assert second.line() == "work sum"
            assert time.monotonic() - started > 1.0
            assert clock.elapsed_s < 1.0 + HEARTBEAT_S + SLACK_S
        second.answer("from the second")
        assert reply(client, uuid) == b"from the second"
        first.answer("from the first")
        first.process.send_signal(signal.SIGCONT)
        until("the late reply is there", lambda: counters(endpoint)["durable_late"] == before + 1)
        assert reply(client, uuid) == b"from the second"
        assert first.line() == "disconnected", "and the late worker begins anew"
        assert first.line() == "ready"


def test_a_late_reply_is_taken_while_its_job_still_waits(endpoint: str, hire: Hire) -> None:
    """Work done is work done: nobody else has the job, so the reply of the old attempt is the reply."""
    before = counters(endpoint)["durable_late"]
    with Honest(endpoint) as client:
        only = hire("late")
        uuid = submit(client, b"late", b"sum", 300)
        assert only.line() == "work sum"
        until("taken away", lambda: client.ask(b"mmi.service", b"late") == [b"404"])
        assert ask_reply(client, uuid) is None
        only.answer("late, but right")
        assert reply(client, uuid) == b"late, but right"
    assert counters(endpoint)["durable_late"] == before + 1
