"""``titanic serve``, ``node``, ``gateway``, ``broker`` and ``service``: the processes that stay."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.console import Json, Verbose, facts, note, patience, start_logging, tracer
from gateway.cli.curve import CurveDir
from gateway.composition import settings as config
from gateway.composition.leash import hold_leash

Data = Annotated[Path | None, typer.Option(help="Folder of the store [./titanic-data].", metavar="DIR")]
Http = Annotated[str | None, typer.Option(help="Where to serve HTTP [127.0.0.1:8080].", metavar="HOST:PORT")]
Broker = Annotated[
    str | None, typer.Option(help="Where the broker is [tcp://127.0.0.1:5555].", metavar="ENDPOINT")
]
Bind = Annotated[
    str | None, typer.Option(help="Where the broker listens [tcp://127.0.0.1:5555].", metavar="ENDPOINT")
]
Nodes = Annotated[
    str | None,
    typer.Option(help="Where the node is [tcp://127.0.0.1:5555].", metavar="ENDPOINT[,ENDPOINT]"),
]
Fsync = Annotated[
    str | None,
    typer.Option(help="When a job counts as stored [always].", metavar="always|interval:50ms|never"),
]
StoreMax = Annotated[str | None, typer.Option(help="The store stays below this [4GiB].", metavar="SIZE")]
MaxBody = Annotated[
    str | None, typer.Option(help="Largest body of a request or reply [8MiB].", metavar="SIZE")
]
Insecure = Annotated[
    bool | None,
    typer.Option(
        "--insecure", help="Allow addresses that other machines reach, though nobody is authenticated."
    ),
]


def serve(
    data: Data = None,
    http: Http = None,
    broker: Broker = None,
    fsync: Fsync = None,
    store_max: StoreMax = None,
    max_body: MaxBody = None,
    insecure: Insecure = None,
    curve_dir: CurveDir = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Run a node and a gateway until Ctrl-C.

    Everything is on this machine; the store is made when it is not there.
    """
    start_logging(verbose)
    flags = {
        "data": data,
        "http": http,
        "broker": broker,
        "fsync": fsync,
        "store_max": store_max,
        "max_body": max_body,
        "insecure": insecure,
        "curve_dir": curve_dir,
    }
    settings = config.load(flags)

    def ready(values: dict[str, Any]) -> None:
        facts(values, as_json, title="titanic is ready; Ctrl-C stops it")

    raise typer.Exit(supervise(settings, verbose, ready))


def supervise(
    settings: config.Settings,
    verbose: int,
    ready: Callable[[dict[str, Any]], None],
    more: Any = (),
) -> int:
    """Run node, gateway and ``more`` until they end; the exit code."""
    import asyncio

    from gateway.composition.serve import serve as run

    with patience("starting") as done:

        def started(values: dict[str, Any]) -> None:
            done()
            ready(values)

        return asyncio.run(run(settings, verbose=verbose, more=more, note=note, ready=started))


def node(
    data: Data = None,
    broker: Bind = None,
    fsync: Fsync = None,
    store_max: StoreMax = None,
    max_body: MaxBody = None,
    insecure: Insecure = None,
    curve_dir: CurveDir = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Run a node: broker, Titanic service and store."""
    from gateway.composition import node as composition

    flags = {
        "data": data,
        "broker": broker,
        "fsync": fsync,
        "store_max": store_max,
        "max_body": max_body,
        "insecure": insecure,
        "curve_dir": curve_dir,
    }
    settings = config.load(flags)
    _refuse_open("broker", settings)

    def ready(values: dict[str, Any]) -> None:
        facts(values, as_json, title="node is ready; Ctrl-C stops it")

    _run(composition.run(settings, trace=tracer(verbose), ready=ready))


def gateway(
    nodes: Nodes = None,
    http: Http = None,
    max_body: MaxBody = None,
    insecure: Insecure = None,
    curve_dir: CurveDir = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Run a gateway: the HTTP face of a node.

    It keeps nothing, so it may come and go, and there may be several.
    """
    from gateway.composition import gateway as composition

    settings = config.load(
        {"nodes": nodes, "http": http, "max_body": max_body, "insecure": insecure, "curve_dir": curve_dir}
    )
    config.refuse_open_address("http", settings.http, insecure=settings.insecure)

    def ready(values: dict[str, Any]) -> None:
        facts(values, as_json, title="gateway is ready; Ctrl-C stops it")

    hold_leash()
    raise typer.Exit(composition.run(settings, trace=tracer(verbose), ready=ready))


def broker(
    bind: Bind = None,
    insecure: Insecure = None,
    curve_dir: CurveDir = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Run a plain Majordomo broker.

    Without a Titanic service, and with nothing on disk: see titanic service, or titanic node for both.
    """
    from core.shell.standalone import run_broker

    flags = {"broker": bind, "insecure": insecure, "curve_dir": curve_dir}
    settings = config.load(flags, {"broker": "bind"})
    _refuse_open("bind", settings)

    def ready(endpoint: str) -> None:
        facts({"broker": endpoint}, as_json, title="broker is ready; Ctrl-C stops it")

    _run(run_broker(settings.broker, tracer(verbose), ready, curve=settings.curve_dir))


def service(
    broker: Broker = None,
    data: Data = None,
    fsync: Fsync = None,
    store_max: StoreMax = None,
    max_body: MaxBody = None,
    curve_dir: CurveDir = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Run Titanic as a process of its own.

    It works at any broker that speaks MDP/0.1, as a worker and a client of it.
    """
    from gateway.composition import node as composition

    flags = {
        "broker": broker,
        "data": data,
        "fsync": fsync,
        "store_max": store_max,
        "max_body": max_body,
        "curve_dir": curve_dir,
    }

    def ready(values: dict[str, Any]) -> None:
        facts(values, as_json, title="service is ready; Ctrl-C stops it")

    _run(composition.run_separate(config.load(flags), trace=tracer(verbose), ready=ready))


def _refuse_open(key: str, settings: config.Settings) -> None:
    """A broker that others can reach has keys, or somebody said ``--insecure``. SettingsError."""
    has_keys = settings.curve_dir is not None
    config.refuse_open_address(key, settings.broker, insecure=settings.insecure, curve=has_keys)


def _run(work: Coroutine[Any, Any, int]) -> None:
    """Run ``work`` on the fastest loop there is; the process ends with its exit code."""
    import asyncio

    import uvloop

    hold_leash()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        raise typer.Exit(runner.run(work))


def add_to(app: typer.Typer) -> None:
    """The five commands are in ``app``."""
    app.command(epilog="Example: titanic serve --data ./titanic-data --http 127.0.0.1:8080")(serve)
    app.command(epilog="Example: titanic node --data ./titanic-data --broker tcp://127.0.0.1:5555")(node)
    app.command(epilog="Example: titanic gateway --nodes tcp://127.0.0.1:5555 --http 127.0.0.1:8080")(gateway)
    app.command(epilog="Example: titanic broker --bind tcp://127.0.0.1:5555 -v")(broker)
    app.command(epilog="Example: titanic service --broker tcp://127.0.0.1:5555 --data ./titanic-data")(
        service
    )
