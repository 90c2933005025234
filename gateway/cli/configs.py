"""``titanic config show``."""

from __future__ import annotations

from typing import Any

import typer

from gateway.cli.console import Json, Verbose, fact, facts, start_logging
from gateway.composition import settings as config

app = typer.Typer(help="Settings.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def group() -> None:
    """Settings: flag, then TITANIC_*, then titanic.toml, then the default."""


@app.command(epilog="Example: TITANIC_MAX_BODY=64MiB titanic config show")
def show(as_json: Json = False, verbose: Verbose = 0) -> None:
    """Show each setting with its value and where the value comes from."""
    start_logging(verbose)
    values = config.load().model_dump(mode="json")
    where = config.sources()
    if as_json:
        facts({key: {"value": values[key], "source": where[key]} for key in values}, as_json=True)
        return
    rows = [row for key, value in values.items() for row in _rows(key, value, where[key])]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for key, value, source in rows:
        fact(f"{key:{widths[0]}}  {value:{widths[1]}}  {source}")


def _rows(key: str, value: Any, source: str) -> list[tuple[str, str, str]]:
    """(key, value, source) of a setting; of a table, one for each value in it."""
    if isinstance(value, dict) and value:
        return [row for part, own in value.items() for row in _rows(f"{key}.{part}", own, source)]
    text = ",".join(value) if isinstance(value, list | dict) else str(value)
    return [(key, text, source)]
