"""The guides that show a dialogue are run as they stand, and what they show is what is printed."""

import shutil
import stat
import sys
from pathlib import Path

import pytest

from tests.support.dialogue import Step, matches, run_steps, steps
from tests.support.processes import clean_environment, processes
from tests.support.sources import ROOT

PAGE_HTTP = "http://127.0.0.1:8080"
PAGE_BROKER = "tcp://127.0.0.1:5555"
PAGES = ["docs/guides/http.md", "docs/guides/operations.md"]


def test_steps_and_wildcards() -> None:
    """Commands and outputs are parted, ``…`` is any text or any lines, and a deviation is seen."""
    page = "words\n```console\n$ echo a\na\n$ echo b \\\n> c\nb c\n```\n"
    assert list(steps(page)) == [Step("echo a", "a"), Step("echo b \\\nc", "b c")]
    assert matches("id …, done", "id 17, done\n")
    assert matches("first\n…\nlast", "first\na\nb\nlast\n")
    assert matches("first\n…\nlast", "first\nlast\n")
    assert not matches("first\n…\nlast", "first\na\n")
    assert not matches("id …", "no id 17\n")
    assert not matches("", "something")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("page", PAGES)
def test_guide(page: str, tmp_path: Path) -> None:
    """Every command of the page prints what the page shows."""
    folder = tmp_path / "bin"
    folder.mkdir()
    command = folder / "titanic"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m gateway.cli "$@"\n')
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    with processes(tmp_path) as family:
        server = family.start(
            *("serve", "--data", "titanic-data", "--http", "127.0.0.1:0"),
            *("--broker", "tcp://127.0.0.1:0", "--json"),
            cwd=tmp_path,
        )
        facts = server.facts()
        family.start("worker", "shout", "--exec", "tr a-z A-Z", "--nodes", facts["broker"])
        env = clean_environment()
        env |= {
            "PATH": f"{folder}:{env['PATH']}",
            "TITANIC_URL": facts["http"],
            "TITANIC_NODES": facts["broker"],
        }
        replaced = {PAGE_HTTP: facts["http"], PAGE_BROKER: facts["broker"]}
        found = list(steps((ROOT / page).read_text()))
        assert found, f"{page} has no console block"
        wrong = [
            f"$ {step.command}\nshown:\n{step.shown}\nprinted:\n{printed.strip()}"
            for step, printed in run_steps(found, env=env, cwd=tmp_path, replaced=replaced)
            if not matches(step.shown, printed)
        ]
    assert not wrong, "\n\n".join(wrong)
