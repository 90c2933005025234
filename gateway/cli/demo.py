"""``make run``: the server, an echo worker and three lines of curl to paste."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.console import fact, note, start_logging
from gateway.cli.errors import ExitCode, explain
from gateway.cli.processes import supervise
from gateway.cli.tryout import curl_lines
from gateway.composition import settings as config
from gateway.composition.serve import Program

app = typer.Typer(rich_markup_mode=None, add_completion=False)


def echo_worker(facts: dict[str, Any]) -> Program:
    """A worker of the service ``echo`` at the node of these facts."""
    return Program("worker", ["worker", "echo", "--nodes", str(facts["broker"]), "--json"])


@app.command()
def run(
    http: Annotated[str | None, typer.Option(metavar="HOST:PORT")] = None,
    broker: Annotated[str | None, typer.Option(metavar="ENDPOINT")] = None,
    data: Annotated[Path | None, typer.Option(metavar="DIR")] = None,
) -> None:
    """Run server and echo worker until Ctrl-C, and print three curl lines once they serve."""
    start_logging(0)
    settings = config.load({"http": http, "broker": broker, "data": data})

    def ready(values: dict[str, Any]) -> None:
        fact(f"titanic is ready at {values['http']} (docs: {values['http']}/docs), an echo worker is there.")
        fact(
            f"Broker {values['broker']}, data {values['data']}. Ctrl-C stops everything. Try, line by line:\n"
        )
        for line in curl_lines(values["http"]):
            fact(f"  {line}")
        fact("")

    raise typer.Exit(supervise(settings, 0, ready, [echo_worker]))


def main() -> int:
    """Run; the exit code. Errors are one line, as those of ``titanic``."""
    try:
        result = app(standalone_mode=False)
    except Exception as error:
        known = explain(error)
        if known is None:
            raise
        note(f"titanic: {known[0]}")
        return known[1]
    return result if isinstance(result, int) else ExitCode.DONE


if __name__ == "__main__":
    sys.exit(main())
