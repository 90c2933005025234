"""``titanic worker``: a command, a Python function or an echo as the worker of a service."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from gateway.cli.console import Json, Verbose, facts, tracer
from gateway.cli.curve import CurveDir, client_keys
from gateway.cli.errors import CliError, ExitCode
from gateway.composition import settings as config
from gateway.composition import telemetry
from gateway.composition.leash import hold_leash

if TYPE_CHECKING:
    import asyncio

    from core.pure.worker_job import Handler, Memory

ECHO: Final = "echo"
CONCURRENCY_MAX: Final = 500
PROTOCOLS: Final = {"0.1": 1, "0.2": 2}


def worker(
    service: Annotated[str, typer.Argument(help="Name of the service.", metavar="SERVICE")],
    command: Annotated[
        str | None,
        typer.Option("--exec", help="Shell command: body on stdin, reply from stdout.", metavar="CMD"),
    ] = None,
    python: Annotated[
        str | None, typer.Option(help="Function that makes a reply of a body.", metavar="MODULE:FUNCTION")
    ] = None,
    nodes: Annotated[
        str | None,
        typer.Option(help="Where the node is [tcp://127.0.0.1:5555].", metavar="ENDPOINT[,ENDPOINT]"),
    ] = None,
    concurrency: Annotated[
        int, typer.Option(help="Jobs at the same time.", metavar="N", min=1, max=CONCURRENCY_MAX)
    ] = 1,
    identity: Annotated[
        str, typer.Option(help="Name of this worker at the broker (default: a random one).", metavar="NAME")
    ] = "",
    memory: Annotated[
        Path | None,
        typer.Option(help="Keep replies here: what was done is not done again.", metavar="FILE"),
    ] = None,
    protocol: Annotated[
        str, typer.Option(help="Version of MDP; 0.2 tells progress.", metavar="0.1|0.2")
    ] = "0.1",
    curve_dir: CurveDir = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Work for a service until Ctrl-C. Without --exec and --python, the service 'echo' replies what it gets.

    A command that exits with anything but 0, or a function that raises, is a failed attempt: the job is
    tried again. Work is done at least once, so after a crash the same job may come a second time; with
    --memory, a job whose reply is in the file is answered from it.
    """
    from core.shell.exec_worker import run_worker

    _check(service, protocol)
    handler = _handler(service, command, python)
    settings = config.load({"nodes": nodes, "curve_dir": curve_dir})
    tracing = telemetry.tracer(settings, "worker")
    if tracing is not None:
        from core.shell.tracing import traced

        handler = traced(handler, tracing)
    endpoints, keys = settings.node_endpoints, client_keys(settings)
    values = {"service": service, "nodes": ",".join(endpoints), "concurrency": concurrency}
    with _remembering(memory) as kept:
        facts(values, as_json, title="worker runs; Ctrl-C stops it when the jobs at hand are done")
        _settle()
        try:
            code = run_worker(
                service, handler, endpoints, concurrency, identity, tracer(verbose), keys,
                version=PROTOCOLS[protocol], memory=kept, by_libzmq=settings.zmtp == "libzmq",
                loop_factory=_loop_factory(command),
            )  # fmt: skip
        except ValueError as error:
            raise CliError(str(error), ExitCode.WRONG_USE) from None
    raise typer.Exit(code)


def _loop_factory(command: str | None) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The fastest loop there is; for commands asyncio's, whose ways with children we know (exec_worker)."""
    if command is not None or sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop


def _settle() -> None:
    """The process is as it will stay."""
    from gateway.composition.collector import calm_collector

    hold_leash()
    calm_collector()


def _check(service: str, protocol: str) -> None:
    from core.pure.tsp import service_error

    why = service_error(service.encode("utf-8", "surrogateescape"))
    if why is not None:
        raise CliError(f"SERVICE: {why}", ExitCode.WRONG_USE)
    if protocol not in PROTOCOLS:
        raise CliError(f"--protocol is {' or '.join(PROTOCOLS)}, not {protocol!r}", ExitCode.WRONG_USE)


@contextmanager
def _remembering(path: Path | None) -> Iterator[Memory | None]:
    """The memory of replies in the file, closed at the end; None without a file."""
    if path is None:
        yield None
        return
    from core.shell.sqlite_memory import SqliteReplyMemory

    with closing(SqliteReplyMemory(path)) as kept:
        yield kept


def _handler(service: str, command: str | None, python: str | None) -> Handler:
    from core.shell import exec_worker

    if command is not None and python is not None:
        raise CliError("--exec and --python exclude each other", ExitCode.WRONG_USE)
    if command is not None:
        return exec_worker.exec_handler(command)
    if python is not None:
        try:
            return exec_worker.python_handler(python)
        except exec_worker.HandlerNameError as error:
            raise CliError(f"--python: {error}", ExitCode.WRONG_USE) from None
    if service != ECHO:
        raise CliError(
            f"what shall the worker of '{service}' do? Say --exec CMD or --python MODULE:FUNCTION",
            ExitCode.WRONG_USE,
        )
    return exec_worker.echo_handler


def add_to(app: typer.Typer) -> None:
    """The command is in ``app``."""
    app.command(epilog="Example: titanic worker wordcount --exec 'wc -w' --concurrency 4")(worker)
