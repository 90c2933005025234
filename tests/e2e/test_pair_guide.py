"""``docs/guides/pair.md``: its script from one node to a pair is run as it stands."""

import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import clean_environment, free_port
from tests.support.sources import ROOT

PORTS = ("5555", "5556", "5557", "5558", "8080")


def script_of(page: str) -> str:
    """The block of the page that starts a node in the background."""
    (found,) = [block for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) if "NODE=$!" in block]
    return str(found)


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_from_one_node_to_a_pair(tmp_path: Path) -> None:
    """The job submitted to the single node is answered by the pair after its first node was killed."""
    command = tmp_path / "bin" / "titanic"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m gateway.cli "$@"\n')
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    script = script_of((ROOT / "docs/guides/pair.md").read_text())
    for port in PORTS:
        assert f":{port}" in script
        script = script.replace(f":{port}", f":{free_port()}")
    env = clean_environment()
    env["PATH"] = f"{command.parent}:{env['PATH']}"
    shell = subprocess.Popen(
        ["sh", "-c", script],
        cwd=tmp_path,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        said, errors = shell.communicate(timeout=200)
    finally:
        try:
            os.killpg(shell.pid, signal.SIGKILL)  # what the script left behind, if it failed
        except ProcessLookupError:
            pass
        shell.wait()
    assert "the pair is whole" in said, errors
    assert "\nkept\n" in said, said + errors
    assert shell.returncode == 0, errors
