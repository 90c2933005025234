"""Named clients that go away and come back: ``docs/guides/durable-sockets.md`` as it is written, and more."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.hostile import Honest, check_served, counters
from tests.support.processes import DEADLINE_S, ROOT, Processes, clean_environment, until

GUIDE = ROOT / "docs" / "guides" / "durable-sockets.md"


def test_lucy_loses_nothing_while_she_is_away(family: Processes, tmp_path: Path) -> None:
    """The guide's own program, run as the guide says, prints what the guide says it prints."""
    text = GUIDE.read_text()
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (printed,) = re.findall(r"```\n(slow.*?)```", text, re.DOTALL)
    (command,) = re.findall(r"titanic worker slow --exec '(.*)'", text)
    lucy = tmp_path / "lucy.py"
    lucy.write_text(program)
    node, endpoint = family.node(tmp_path / "data")

    def run(*words: str) -> str:
        return subprocess.run(
            [sys.executable, str(lucy), *words],
            env={**clean_environment(), "BROKER": endpoint},
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=True,
        ).stdout

    assert run("ask", "one", "two", "three") == ""
    # Only now, not first as in the guide: on a busy machine her process may take a second to end.
    family.start("worker", "slow", "--nodes", endpoint, "--exec", command)
    until("three are kept", lambda: counters(endpoint)["kept"] == 3)
    assert run("collect") == printed
    counts = counters(endpoint)
    assert (counts["kept_delivered"], counts["kept_dropped"], counts["kept_expired"]) == (3, 0, 0)
    assert node.process.poll() is None


def test_answers_of_titanic_are_kept_too(family: Processes, tmp_path: Path) -> None:
    """The acknowledgement of a stored request waits for a named client that left before the sync."""
    node, endpoint = family.node(tmp_path / "data")
    with Honest(endpoint, b"lucy") as lucy:
        assert lucy.ask(b"mmi.service", b"mmi.service") == [b"200"]
        node.process.send_signal(signal.SIGSTOP)
        lucy.send(b"", b"MDPC01", b"titanic.request", b"later", b"body")
        lucy.leave()
        node.process.send_signal(signal.SIGCONT)
    until("it is kept", lambda: counters(endpoint)["kept"] == 1)
    with Honest(endpoint, b"lucy") as lucy:
        lucy.send(b"", b"MDPC01", b"mmi.service", b"later")
        status, uuid = lucy.answer(b"titanic.request")
        assert status == b"200"
        assert lucy.answer(b"mmi.service") == [b"404"]
        assert lucy.ask(b"titanic.reply", uuid)[0] == b"300"


@pytest.mark.parametrize("name", [b"", b"lucy"])
def test_only_named_clients_are_waited_for(family: Processes, tmp_path: Path, name: bytes) -> None:
    """What a transient client left behind is dropped when its answer finds nobody."""
    _, endpoint = family.node(tmp_path / "data")
    with Honest(endpoint) as worker, Honest(endpoint) as watcher:
        worker.send(b"", b"MDPW01", b"\x01", b"held")
        until("the worker", lambda: watcher.ask(b"mmi.service", b"held") == [b"200"])
        with Honest(endpoint, name) as client:
            client.send(b"", b"MDPC01", b"held", b"question")
            address = worker.receive()[3]
        before = counters(endpoint)
        worker.send(b"", b"MDPW01", b"\x03", address, b"", b"answer")
        if name:
            until("kept", lambda: counters(endpoint)["kept"] == 1)
        else:
            until("dropped", lambda: counters(endpoint)["peers_unreachable"] > before["peers_unreachable"])
            assert counters(endpoint)["kept"] == 0
    check_served(endpoint)
