"""The guide's Binary Star: its table, and its story told with real processes."""

import itertools
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from core.pure.bstar import TABLE, BinaryStar, BothActiveError, Event, State
from tests.support.processes import IMPORTS, ROOT, free_port

HEARTBEAT_MS = 200
DEADLINE_S = 20.0


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_every_pair_of_state_and_event_has_one_outcome(state: State, event: Event) -> None:
    """A row, a refusal that changes nothing, or a fatal error; there is no fourth."""
    star = BinaryStar(primary=True, now_ms=0)
    star.state = state
    if event in (Event.REQUEST, Event.REQUEST_IN_SILENCE):
        now_ms = 10_000 if event is Event.REQUEST_IN_SILENCE else 0
        serve, _ = star.on_request(now_ms)
        assert star.state is TABLE.get((state, event), state)
        assert serve == (star.state is State.ACTIVE)
    elif (state, event) in TABLE:
        star.on_peer(event.value, 0)
        assert star.state is TABLE[state, event]
    else:
        with pytest.raises(BothActiveError):
            star.on_peer(event.value, 0)


@pytest.mark.parametrize("published", [b"", b"0", b"5", b"6", b"33", b"\xff" * 64])
def test_what_is_no_state_changes_nothing(published: bytes) -> None:
    """A stranger on the wire moves no server, and is not taken for a sign of life."""
    star = BinaryStar(primary=False, now_ms=0, expiry_ms=100)
    star.state = State.PASSIVE
    with pytest.raises(ValueError):
        star.on_peer(published, 99)
    assert star.on_request(100) == (True, True)


def test_no_vote_while_the_active_is_heard() -> None:
    """A request makes the passive active after the expiry, and not a millisecond before."""
    star = BinaryStar(primary=False, now_ms=0, expiry_ms=2_000)
    star.on_peer(State.ACTIVE.value, 1_000)
    assert star.on_request(2_999) == (False, False)
    assert star.on_request(3_000) == (True, True)
    assert star.state is State.ACTIVE


def test_a_backup_alone_serves_nobody() -> None:
    """Only a primary may start without ever having seen its peer."""
    backup, primary = (BinaryStar(primary=role, now_ms=0) for role in (False, True))
    assert backup.on_request(60_000) == (False, False)
    assert primary.on_request(60_000) == (True, True)


class Program:
    """A child whose lines of stdout can be waited for."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
            env={**os.environ, **IMPORTS},
            text=True,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.strip())

    def expect(self, wanted: str) -> None:
        """The line ``wanted`` comes. AssertionError after the deadline."""
        end = time.monotonic() + DEADLINE_S
        while True:
            left_s = end - time.monotonic()
            assert left_s > 0, f"'{wanted}' did not come"
            try:
                if self._lines.get(timeout=left_s) == wanted:
                    return
            except queue.Empty:
                continue

    def counts(self, server: int, least: int) -> int:
        """Some count above ``least`` came back from ``server``."""
        end = time.monotonic() + DEADLINE_S
        while time.monotonic() < end:
            try:
                words = self._lines.get(timeout=max(0.01, end - time.monotonic())).split()
            except queue.Empty:
                continue
            if len(words) == 2 and words[1] == str(server) and int(words[0]) > least:
                return int(words[0])
        raise AssertionError(f"server {server} did not count beyond {least}")

    def kill(self) -> None:
        """``kill -9``, and reaped."""
        self.process.kill()
        self.process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        assert self.process.stdout is not None
        self.process.stdout.close()


class Stage:
    """Ports of a pair, and its actors."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        ports = [free_port() for _ in range(4)]
        self.clients = [f"tcp://127.0.0.1:{port}" for port in ports[:2]]
        self.links = [f"tcp://127.0.0.1:{port}" for port in ports[2:]]

    def server(self, number: int) -> Program:
        program = Program(
            "examples/bstar/server.py",
            *("-p", "-b")[number : number + 1],
            *("--clients", self.clients[number], "--local", self.links[number]),
            *("--remote", self.links[1 - number], "--heartbeat-ms", str(HEARTBEAT_MS)),
        )
        self._stack.callback(program.kill)
        program.expect("ready")
        return program

    def client(self) -> Program:
        program = Program("examples/bstar/client.py", *self.clients, "300", str(2 * HEARTBEAT_MS))
        self._stack.callback(program.kill)
        return program


@pytest.fixture
def stage() -> Iterator[Stage]:
    with ExitStack() as stack:
        yield Stage(stack)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["primary first", "backup first"])
def test_the_story_of_the_guide(stage: Stage, order: tuple[int, int]) -> None:
    """Kill the primary, bring it back, kill the backup: the client counts on, and nothing fails back."""
    servers = {number: stage.server(number) for number in order}
    servers[0].expect("active")
    servers[1].expect("passive")
    client = stage.client()
    count = client.counts(0, 0)
    servers[0].kill()
    count = client.counts(1, count)
    servers[1].expect("active")
    servers[0] = stage.server(0)
    servers[0].expect("passive")
    count = client.counts(1, count)
    servers[1].kill()
    last = client.counts(0, count)
    servers[0].expect("active")
    assert last > count, "it counts on"
