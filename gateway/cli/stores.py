"""``titanic store``: looks at a store file without a server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.console import Json, Verbose, fact, facts, patience, start_logging
from gateway.cli.errors import CliError, ExitCode

app = typer.Typer(help="Look at a store file without a server.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def group() -> None:
    """Look at a store file without a server."""


@app.command(epilog="Example: titanic store check ./titanic-data/titanic.ring --json")
def check(
    file: Annotated[Path, typer.Argument(help="The store's file; nothing in it is changed.", metavar="FILE")],
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Prove every checksum and print what is in the store.

    The server must not run on it. The exit code is 3 for damage, 4 if the store is in use, and 5 for a
    format of another version. A torn tail is no damage: it was never acknowledged.
    """
    from titanic_store import check as check_store

    start_logging(verbose)
    with patience(f"checking {file}"):
        report = check_store(file)
    if as_json:
        problems = [{"offset": problem.offset, "problem": problem.text} for problem in report.problems]
        facts(
            {"file": report.path, **report.facts, "problems": problems, "clean": report.clean}, as_json=True
        )
    else:
        for line in report.lines():
            fact(line)
    if not report.clean:
        raise CliError(f"{file} is damaged, as listed above", ExitCode.DAMAGED_STORE)
