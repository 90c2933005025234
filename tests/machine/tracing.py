"""A node under strace: what the kernel was asked for, in order, and errors put into its answers."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from tests.support.processes import until

CALLS: Final = ("pwrite64", "pwritev", "pwritev2", "fdatasync", "fallocate", "sendto", "sendmsg", "write")
_LINE: Final = re.compile(r"(?P<thread>\d+) +(?P<at_s>\d+\.\d+) (?P<text>.*)")
_ENTRY: Final = re.compile(r"(?P<call>\w+)\((?P<fd>\d+)?")
_RESULT: Final = re.compile(r"= (?P<result>-?\d+)")


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a trace: a call began (``result`` None), ended, or did both."""

    at_s: float
    call: str
    begins: bool
    result: int | None
    injected: bool
    text: str


@cache
def why_not() -> str:
    """Why nothing can be traced here; empty if it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    probe = subprocess.run(
        ["strace", "-f", "-qq", "--seccomp-bpf", "-e", "trace=fdatasync", "true"],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    return "" if probe.returncode == 0 else f"strace does not work here: {probe.stderr.strip()}"


def under(log: Path, *inject: str) -> list[str]:
    """The command that becomes another, traced into ``log``; ``inject`` as strace's ``-e inject=``."""
    faults = [word for fault in inject for word in ("-e", f"inject={fault}")]
    return [
        *("strace", "-D", "-f", "-ttt", "-s", "256", "--seccomp-bpf", "-o", str(log)),
        *("-e", f"trace={','.join(CALLS)}", *faults),
    ]


def finished(log: Path, pid: int) -> list[str]:
    """The lines of a trace once the tracer, which outlives the process, has written its end."""
    return until("strace has written the end", lambda: _finished(log, pid))


def _finished(log: Path, pid: int) -> list[str]:
    lines = log.read_text(errors="replace").splitlines()
    ended = any(line.startswith(f"{pid} ") and "+++ " in line for line in lines[-20:])
    return lines if ended else []


def events(lines: list[str]) -> list[Event]:
    """What was traced, in the order of the kernel's answers."""
    found = []
    for line in lines:
        match = _LINE.match(line)
        if match is None:
            continue
        text = match["text"]
        resumed = re.match(r"<\.\.\. (\w+) resumed>", text)
        entry = _ENTRY.match(text)
        if resumed is None and entry is None:
            continue
        result = None if "<unfinished" in text else _RESULT.search(text.rpartition(")")[2])
        found.append(
            Event(
                at_s=float(match["at_s"]),
                call=resumed[1] if resumed is not None else entry["call"] if entry is not None else "",
                begins=resumed is None,
                result=int(result["result"]) if result is not None else None,
                injected="(INJECTED)" in text,
                text=text,
            )
        )
    return found


def ended_at_s(lines: list[str]) -> float:
    """When the last thread of the traced process ended."""
    return float([line for line in lines if "+++ " in line][-1].split()[1])
