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
    *(
        "tests/core/test_broker.py",
        "tests/core/test_mdp.py",
        "tests/core/test_life.py",
        "tests/core/test_pack.py",
    ),
    *("tests/core/test_router.py", "tests/core/test_link.py", "tests/core/pair/test_healing.py"),
    *("tests/titanic_store/shell/test_ring.py", "tests/titanic_store/shell/test_pairing.py"),
    *("tests/titanic_store/shell/test_opening.py", "tests/titanic_store/shell/test_relocating.py"),
    *("tests/gateway/pure/test_heads.py", "tests/e2e/test_serve.py::test_a_job_all_the_way"),
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
def native(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment of a compiled build, made as ``make native`` does it but not optimised."""
    folder = tmp_path_factory.mktemp("native")
    done = subprocess.run(
        [
            sys.executable,
            "setup.py",
            "-q",
            "build",
            "--build-base",
            str(folder),
            "--build-lib",
            str(folder / "lib"),
        ],
        cwd=ROOT,
        env={**os.environ, "TITANIC_NATIVE": "1", "TITANIC_NATIVE_OPT": "0"},
        capture_output=True,
        text=True,
        timeout=BUILD_LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {"PYTHONPATH": f"{folder / 'lib'}{os.pathsep}{ROOT}", "PYTHONSAFEPATH": "1"}


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
    """Broker, life of a job, wire, store, pair, and a job through the real processes."""
    done = python(native, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *SLICE)
    assert done.returncode == 0, done.stdout[-5_000:] + done.stderr
    assert " passed" in done.stdout
