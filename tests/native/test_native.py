"""The compiled build: it builds, says so, and the tests that matter most pass on it as they stand."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Final

import pytest

from core.compiled import COMPILED
from tests.support.processes import ROOT

BUILD_LIMIT_S: Final = 400
SLICE: Final = (
    *("tests/core/test_broker.py", "tests/core/test_mdp.py", "tests/core/test_rfc7.py"),
    *("tests/core/test_life.py", "tests/core/test_pack.py", "tests/core/test_router.py"),
    *("tests/core/test_link.py", "tests/core/pair", "tests/titanic_store/shell", "tests/e2e/test_curl.py"),
    *("tests/gateway/pure/test_heads.py", "tests/core/test_broker_properties.py", "tests/fuzz"),
)
"""All of them, with ``make test NATIVE=1``, take as long as the suite."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(2 * BUILD_LIMIT_S),
    pytest.mark.skipif(COMPILED, reason="this is the compiled build already"),
    pytest.mark.skipif(
        shutil.which("cc") is None or not Path(sysconfig.get_path("include"), "Python.h").exists(),
        reason="no C compiler, or no headers of Python (gcc, libc6-dev, python3-dev)",
    ),
]


@pytest.fixture(scope="module")
def native() -> dict[str, str]:
    """Environment of the compiled build, which is made."""
    folder = ROOT / "build" / "native"
    make = ["make", "native", f"BIN={Path(sys.executable).parent}"]
    done = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, timeout=BUILD_LIMIT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "PYTHONSAFEPATH": "1"}


def python(native: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python in the compiled build, to its end."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "TITANIC_"))}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**kept, **native},
        capture_output=True,
        text=True,
        timeout=BUILD_LIMIT_S,
        check=False,
    )


def test_it_says_what_it_is(native: dict[str, str]) -> None:
    """``titanic --version`` ends with the word."""
    done = python(native, "-m", "gateway.cli", "--version")
    assert done.stdout.endswith(", compiled\n"), done.stdout + done.stderr
    done = python({}, "-m", "gateway.cli", "--version")
    assert done.stdout.endswith(", interpreted\n"), done.stdout + done.stderr


def test_the_same_tests_pass(native: dict[str, str]) -> None:
    """Broker, life of a job, wire, store, pair, and a job by curl through the real processes."""
    done = python(native, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *SLICE)
    assert done.returncode == 0, done.stdout[-5_000:] + done.stderr
    assert " passed" in done.stdout
