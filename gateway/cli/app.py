"""The commands of ``titanic`` and the one place where errors become a line and an exit code."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated, Final

import typer

from core.compiled import BUILD
from gateway.cli import clients, configs, curve, jobs, keys, pair, processes, stores, top, workers
from gateway.cli.console import note
from gateway.cli.errors import ExitCode, explain

PLAIN: Final = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    name="titanic",
    help="Durable jobs over HTTP, worked by ZeroMQ workers.",
    epilog="Start here: titanic serve, and in another terminal: titanic worker echo.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings=PLAIN,
)
for room in (processes, workers, jobs, top):
    room.add_to(app)
app.add_typer(clients.app, name="client")
app.add_typer(stores.app, name="store")
app.add_typer(keys.app, name="keys")
app.add_typer(configs.app, name="config")
app.add_typer(curve.app, name="curve")
app.add_typer(pair.app, name="pair")


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"titanic {version('titanic-jobs')}, {BUILD}")
        raise typer.Exit


@app.callback()
def titanic(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Durable jobs over HTTP, worked by ZeroMQ workers."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code. Users' errors are one line on stderr, our own a traceback."""
    command = typer.main.get_command(app)
    try:
        result = command.main(
            args=None if arguments is None else list(arguments), prog_name="titanic", standalone_mode=False
        )
    except (Exception, KeyboardInterrupt) as error:
        known = explain(error)
        if known is None:
            traceback.print_exc()
            note("titanic: this is a bug; please report it with the lines above")
            return ExitCode.FAILED
        line, code = known
        note(f"titanic: {line}")
        return code
    sys.stdout.flush()
    return result if isinstance(result, int) else ExitCode.DONE
