"""The ring in the terminal: a cell per chunk in the order of the file, and what pins the tail."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

CELL_CHARS: Final = 7
WIDTH_CHARS: Final = 80
STYLES: Final = {"head": "bold cyan", "alive": "green", "dead": "yellow", "free": "dim"}
SIGNS: Final = {"head": ">", "alive": "#", "dead": "x", "free": "."}
LEGEND: Final = {
    "head": "is being written",
    "alive": "holds live records",
    "dead": "holds none, but an older chunk does",
    "free": "free",
}


def show(document: Mapping[str, Any]) -> None:
    """Facts, the picture and the pins on stdout; in colour on a terminal that has it."""
    from rich.console import Console
    from rich.text import Text

    width = None if sys.stdout.isatty() else WIDTH_CHARS
    console = Console(file=sys.stdout, width=width, highlight=False)
    names = max(map(len, document["facts"]), default=0)
    for name, value in document["facts"].items():
        console.print(Text(f"{name.replace('_', ' '):{names}}  {_readable(name, value)}"))
    if document["forecast"] is not None:
        console.print(f"at this pace: {_forecast(document['forecast'])}", soft_wrap=True)
    console.print()
    chunks = document["chunks"]
    per_line = max(1, (console.width - 8) // CELL_CHARS)
    for first in range(0, len(chunks), per_line):
        line = Text(f"{first:>6}  ", style="dim")
        for chunk in chunks[first : first + per_line]:
            line.append(_cell(chunk), style=STYLES.get(chunk["state"], ""))
        console.print(line, no_wrap=True)
    if document["chunks_omitted"]:
        console.print(f"        and {document['chunks_omitted']} more")
    legend = Text("        ")
    for state, meaning in LEGEND.items():
        legend.append(f"{SIGNS[state]} {meaning}   ", style=STYLES[state])
    console.print(legend)
    _show_pins(console.print, document)


def _forecast(found: Mapping[str, Any]) -> str:
    """When the store will be full, in words."""
    from gateway.pure.units import format_duration, format_size

    growth = found["growth_bytes_per_minute"]
    used = f"{format_size(found['needed_bytes'])} of {format_size(found['usable_bytes'])} are needed"
    if growth is None:
        return f"not known yet; {used}"
    if found["full_at"] is None:
        return f"{'it does not grow' if growth >= 0 else 'it shrinks'}; {used}"
    in_words = format_duration(max(1, found["full_in_s"] // 60) * 60_000)
    when = f"full in about {in_words}" if found["full_in_s"] else "full now"
    return f"{when} ({found['full_at']}), {format_size(growth)} more each minute; {used}"


def _cell(chunk: Mapping[str, Any]) -> str:
    """The sign of the state and the turn, or the sign alone if the slot is free."""
    turn = str(chunk["turn"])[1 - CELL_CHARS + 1 :] if chunk["turn"] else ""
    return f"{SIGNS.get(chunk['state'], '?')}{turn:<{CELL_CHARS - 1}}"


def _show_pins(write: Any, document: Mapping[str, Any]) -> None:
    tail = document["facts"].get("tail_turn")
    pins: Sequence[Mapping[str, Any]] = document["pins"]
    write()
    if not pins:
        write(f"nothing pins the tail (turn {tail})")
        return
    write(f"the tail (turn {tail}) is pinned by:")
    for pin in pins:
        write(f"  {pin['job']}  its {pin['part']} at offset {pin['offset']}")
    if (alive := _alive(document, tail)) > len(pins):
        write(f"  and {alive - len(pins)} more")


def _alive(document: Mapping[str, Any], turn: object) -> int:
    return next((chunk["alive"] for chunk in document["chunks"] if chunk["turn"] == turn), 0)


def _readable(name: str, value: Any) -> str:
    if name.endswith("_bytes") and isinstance(value, int):
        from gateway.pure.units import format_size

        return f"{value} ({format_size(value)})" if value >= 1024 else str(value)
    return str(value)
