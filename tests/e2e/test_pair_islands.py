"""A pair on networks of its own: cables are pulled, in network namespaces, where root allows it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.islands import SCENARIOS, Islands
from tests.support.processes import ROOT, clean_environment


@pytest.fixture(scope="module")
def allowed() -> None:
    """Skipped, with the reason, where namespaces cannot be made."""
    if shutil.which("ip") is None:
        pytest.skip("there is no ip command (Debian: apt-get install iproute2)")
    islands = Islands(f"tjtry{os.getpid()}")
    try:
        islands.make()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespaces with veth here: {error.stderr.decode().strip()}")
    finally:
        islands.remove()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_cables_are_pulled(name: str, allowed: None, tmp_path: Path) -> None:
    """Exactly one node goes on, no caller is failed, nothing is lost, and after healing they are a pair."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.islands", str(tmp_path), name],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
