"""The curl scripts run as they stand."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import clean_environment
from tests.support.sources import ROOT, label

SCRIPTS = sorted((ROOT / "openapi" / "curl").glob("*.sh"))


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("script", SCRIPTS, ids=label)
def test_script(script: Path) -> None:
    """Every answer is as the script expects it, and no process is left behind."""
    env = {**clean_environment(), "TITANIC": f"{sys.executable} -m gateway.cli"}
    done = subprocess.run(
        ["sh", str(script)], env=env, cwd=os.sep, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all as documented" in done.stdout


@pytest.mark.parametrize(
    "checker",
    [("dash", "-n"), ("shellcheck", "-x", "-P", "openapi/curl", "-s", "sh", "-S", "warning")],
    ids=" ".join,
)
@pytest.mark.parametrize("script", SCRIPTS, ids=label)
def test_script_is_posix_sh(script: Path, checker: tuple[str, ...]) -> None:
    """No shell but the plainest is needed, nor jq; a wrong step ends it."""
    if shutil.which(checker[0]) is None:
        pytest.skip(f"{checker[0]} is not installed")
    done = subprocess.run(
        [*checker, str(script)], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    text = script.read_text()
    assert "set -eu" in text
    assert "jq" not in text.split()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_script_fails_on_a_deviation(tmp_path: Path) -> None:
    """The script is no decoration: with a worker that miscounts it ends with an error that says so."""
    wrong = (ROOT / "openapi" / "curl" / "durable-job.sh").read_text()
    assert "--exec 'wc -w'" in wrong
    folder = tmp_path / "openapi" / "curl"
    folder.mkdir(parents=True)
    script = folder / "durable-job.sh"
    script.write_text(wrong.replace("--exec 'wc -w'", "--exec 'wc -l'"))
    shutil.copy(ROOT / "LICENSE", tmp_path / "LICENSE")
    env = {**clean_environment(), "TITANIC": f"{sys.executable} -m gateway.cli"}
    done = subprocess.run(
        ["sh", str(script)], env=env, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 1
    assert "wc -w says" in done.stderr
