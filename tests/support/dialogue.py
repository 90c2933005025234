"""Documents that are run: the ``console`` blocks of a page, in one shell, held against what the page shows.

In a block, a line that begins with ``$ `` is a command (``> `` carries it on); what follows is its output.
In the output ``…`` stands for anything that differs from run to run, and a line that is only ``…`` for any
number of lines.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FENCE: Final = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHELL_S: Final = 90.0


@dataclass(frozen=True, slots=True)
class Step:
    """A command and the output that the page shows for it."""

    command: str
    shown: str


def steps(text: str) -> Iterator[Step]:
    """Every command of every ``console`` block, in order. ValueError for output without a command."""
    for block in FENCE.findall(text):
        command: list[str] = []
        shown: list[str] = []
        for line in block.splitlines():
            if line.startswith("$ "):
                if command:
                    yield Step("\n".join(command), "\n".join(shown))
                command, shown = [line[2:]], []
            elif line.startswith("> ") and not shown:
                command.append(line[2:])
            elif command:
                shown.append(line)
            else:
                raise ValueError(f"a block begins without a command: {line}")
        if command:
            yield Step("\n".join(command), "\n".join(shown))


def matches(shown: str, printed: str) -> bool:
    """Whether ``printed`` is what the page shows: ``…`` is anything within a line, or whole lines."""
    pattern = ""
    for line in shown.strip().splitlines():
        if line.strip() == "…":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += "[^\n]*".join(re.escape(part) for part in line.rstrip().split("…")) + r"[ \t]*\n"
    text = "".join(f"{line.rstrip()}\n" for line in printed.replace("\r", "").strip().splitlines())
    return re.fullmatch(pattern, text) is not None


def run_steps(
    found: list[Step], *, env: Mapping[str, str], cwd: Path, replaced: Mapping[str, str]
) -> list[tuple[Step, str]]:
    """(step, what it printed) of each, run in one ``sh``; ``replaced`` names what the page calls otherwise.

    Output has the names of the page again. stdout and stderr come as a terminal would show them.
    """
    mark = "=== end of step ==="
    script = "".join(f"{step.command}\nprintf '\\n{mark}\\n'\n" for step in found)
    for page, here in replaced.items():
        script = script.replace(page, here)
    done = subprocess.run(
        ["sh"],
        input=script.encode(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(env),
        cwd=cwd,
        timeout=SHELL_S,
        check=False,
    )
    text = done.stdout.decode(errors="replace")
    for page, here in replaced.items():
        text = text.replace(here, page)
    parts = text.split(f"\n{mark}\n")
    assert len(parts) == len(found) + 1, f"the shell ended early:\n{text}"
    return list(zip(found, parts, strict=False))
