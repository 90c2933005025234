"""Tests that cannot fail, sleep for luck or say nothing are no tests."""

import ast
from pathlib import Path
from typing import Final

import pytest

from tests.support import sources

FILES: Final = [path for path in sources.files("tests") if path.name.startswith("test_")]
CHECKERS: Final = ("check_", "assert_", "expect_", "verify_", "prove_")
RAISERS: Final = ("raises", "fail", "until", "warns")
FUNCTION_MAX_LINES: Final = 60
FILE_MAX_LINES: Final = 450


def asserts(function: sources.Function) -> bool:
    """Whether the function can fail on purpose: an assert, pytest.raises, or a helper named as a check."""
    if any(isinstance(node, ast.Assert | ast.Raise) for node in ast.walk(function)):
        return True
    names = [name.lstrip("._") for _, name in sources.calls(function)]
    return any(name in RAISERS or name.startswith((*CHECKERS, *RAISERS)) for name in names)


@pytest.mark.parametrize("path", FILES, ids=sources.label)
def test_every_test_asserts_and_states_a_fact(path: Path) -> None:
    """Each test has an assertion and a docstring that says what is true."""
    tests = [function for function in sources.functions(path) if function.name.startswith("test_")]
    assert not [test.name for test in tests if not asserts(test)], "tests without an assertion"
    assert not [test.name for test in tests if not ast.get_docstring(test)], "tests that state no fact"


@pytest.mark.parametrize("path", FILES, ids=sources.label)
def test_no_sleep_for_luck(path: Path) -> None:
    """Tests own the clock or wait for a condition with a deadline (``tests.support.processes.until``)."""
    slept = [
        line
        for line, name in sources.calls(sources.tree(path))
        if name == ".sleep" and not _yields(path, line)
    ]
    assert not slept, f"{sources.label(path)} sleeps in lines {slept}"


def _yields(path: Path, line: int) -> bool:
    """``asyncio.sleep(0)`` gives the loop a turn and waits for nothing."""
    return "sleep(0)" in path.read_text().splitlines()[line - 1]


@pytest.mark.parametrize("path", FILES, ids=sources.label)
def test_no_mock_of_our_own_code(path: Path) -> None:
    """Fakes implement the owner's Protocol; nothing is patched in from a mocking library."""
    wrong = [name for _, name in sources.imports(path) if sources.within(name, "unittest.mock", "mock")]
    assert not wrong, f"{sources.label(path)}: {wrong}"


@pytest.mark.parametrize("path", sources.files(*sources.PACKAGES), ids=sources.label)
def test_what_fits_on_a_screen(path: Path) -> None:
    """Functions and files stay short enough to be read in one piece."""
    long = [
        f"{function.name}: {length} lines"
        for function in sources.functions(path)
        if (length := (function.end_lineno or function.lineno) - function.lineno + 1) > FUNCTION_MAX_LINES
    ]
    lines = len(path.read_text().splitlines())
    assert not long, f"{sources.label(path)}: {long}"
    assert lines <= FILE_MAX_LINES, f"{sources.label(path)} has {lines} lines"
