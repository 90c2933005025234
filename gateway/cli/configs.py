"""``titanic config show``."""

from __future__ import annotations

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
    width = max(map(len, values))
    shown = {key: ",".join(value) if isinstance(value, list) else str(value) for key, value in values.items()}
    value_width = max(map(len, shown.values()))
    for key, value in shown.items():
        fact(f"{key:{width}}  {value:{value_width}}  {where[key]}")
