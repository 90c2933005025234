"""The list of rules in docs/internals/pair.md names every rule, and only tests, bugs and files that exist."""

import re

from tests.simulation.sabotage_joins import BUGS
from tests.support.processes import ROOT

TEXT = (ROOT / "docs/internals/pair.md").read_text().partition("## Rules, where they are")[2]
ROWS = [line.split("|")[1:4] for line in TEXT.splitlines() if line.startswith(("| P", "| D"))]


def test_every_rule_is_listed() -> None:
    """P1 to P10, each with a place and with what fails if it is broken."""
    rules = {row[0].split()[0] for row in ROWS}
    assert rules >= {f"P{number}" for number in range(1, 11)}
    assert all("`" in where and "`" in tests for _, where, tests in ROWS)


def test_every_test_that_is_named_exists() -> None:
    """`tests/file.py::name` is a function of that file."""
    named = re.findall(r"`(tests/[a-z0-9_/]+\.py)::(\w+)`", TEXT)
    assert len(named) > 20
    missing = [f"{path}::{name}" for path, name in named if f"def {name}(" not in (ROOT / path).read_text()]
    assert not missing


def test_every_bug_is_under_a_rule_and_every_file_is_there() -> None:
    """Each bug of the simulator speaks for a rule; no rule names a bug or a file that is gone."""
    bugs = {name for _, _, tests in ROWS for name in re.findall(r"`(\w+)`", tests.partition("bug")[2])}
    assert bugs == set(BUGS)
    files = {name for _, where, _ in ROWS for name in re.findall(r"`([a-z0-9_/]+\.py)`", where)}
    assert [name for name in files if not (ROOT / name).is_file()] == []
