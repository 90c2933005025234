"""What is wrong about a pair's flags is said before anything is touched."""

from pathlib import Path

import pytest

from tests.support.processes import run

HERE, THERE = "tcp://127.0.0.1:1", "tcp://127.0.0.1:2"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--role", "primary", "--peer", THERE), "needs --peer-bind and --peer"),
        (("--role", "primary", "--peer-bind", HERE, "--peer", HERE), "where this node itself listens"),
        (("--peer-bind", HERE, "--peer", THERE), "say --role primary or backup"),
        (("--peer", THERE), "say --role primary or backup"),
    ],
)
def test_a_node_with_half_a_pairs_flags_does_not_start(
    flags: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    """Exit 2 and a sentence; a node that forgot --role would serve without a copy, and nobody would know."""
    data = tmp_path / "data"
    done = run("node", "--data", str(data), "--broker", "tcp://127.0.0.1:0", *flags)
    assert done.returncode == 2
    assert words in done.stderr.decode()
    assert not data.exists()


@pytest.mark.parametrize("nodes", [f"{HERE},{HERE}", f"{HERE},{THERE},tcp://127.0.0.1:3"])
@pytest.mark.parametrize(
    "command", [("gateway", "--http", "127.0.0.1:0"), ("worker", "echo"), ("pair", "status")]
)
def test_a_pair_is_two_nodes(command: tuple[str, ...], nodes: str) -> None:
    """The same node twice is no pair, and three are no pair either."""
    done = run(*command, "--nodes", nodes)
    assert done.returncode == 2
    assert "the two of a pair" in done.stderr.decode()
