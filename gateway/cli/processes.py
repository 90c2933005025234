"""``titanic serve``, ``node``, ``gateway``, ``broker`` and ``service``: the processes that stay."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.console import Json, Verbose, facts, note, patience, start_logging, tracer
from gateway.cli.curve import CurveDir
from gateway.cli.tryout import show_pair
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
AcceptLoss = Annotated[
    bool | None,
    typer.Option(
        "--accept-loss",
        help="Open a damaged store without what is lost; a report beside it names that. The old file stays.",
    ),
]
NetworkFs = Annotated[
    bool | None,
    typer.Option("--network-fs", help="Use a data folder on a network file system, at your own risk."),
]
Retention = Annotated[
    str | None,
    typer.Option(help="How long replies are kept; 0s: until closed [7d].", metavar="DURATION"),
]
DeadLetterRetention = Annotated[
    str | None,
    typer.Option(help="How long failed jobs are kept; 0s: until closed [30d].", metavar="DURATION"),
]
Attempts = Annotated[
    int | None, typer.Option(help="Attempts before a job fails; 0: for ever [25].", metavar="N")
]
AttemptTimeout = Annotated[
    str | None, typer.Option(help="How long one attempt may take [30m].", metavar="DURATION")
]
KeyLifetime = Annotated[
    str | None,
    typer.Option(help="How long an idempotency key is remembered [24h].", metavar="DURATION"),
]
Insecure = Annotated[
    bool | None,
    typer.Option(
        "--insecure", help="Allow addresses that other machines reach, though nobody is authenticated."
    ),
]
Gateways = Annotated[
    int | None, typer.Option(help="Gateway processes that share the HTTP port [1].", metavar="N")
]
Keys = Annotated[
    Path | None, typer.Option(help="File of the API keys [keys.json in the data folder].", metavar="FILE")
]
TlsCert = Annotated[Path | None, typer.Option(help="Serve HTTPS with this certificate.", metavar="FILE")]
TlsKey = Annotated[Path | None, typer.Option(help="The key of the certificate.", metavar="FILE")]
RequestDeadline = Annotated[
    str | None, typer.Option(help="How long a request may take to arrive [30s].", metavar="DURATION")
]
CorsOrigins = Annotated[
    str | None, typer.Option(help="Web pages that may use the API [none].", metavar="ORIGIN[,ORIGIN]")
]
CallbackAllow = Annotated[
    str | None,
    typer.Option(
        help="Networks besides public ones that callbacks may go to: loopback, private, 10.1.0.0/16 [none].",
        metavar="NETWORK[,NETWORK]",
    ),
]
LogFormat = Annotated[str | None, typer.Option(help="How to log [text].", metavar="text|json")]


Role = Annotated[
    str | None, typer.Option(help="Which node of a pair this is [single].", metavar="single|primary|backup")
]
PeerBind = Annotated[
    str | None, typer.Option(help="Where this node listens for the other of its pair.", metavar="ENDPOINT")
]
Peer = Annotated[str | None, typer.Option(help="Where the other node listens.", metavar="ENDPOINT")]
Replication = Annotated[
    str | None,
    typer.Option(help="Answer when both disks have a job, or the own one [sync].", metavar="sync|local"),
]
Alone = Annotated[
    str | None,
    typer.Option(help="What an active node without its peer does [serve].", metavar="serve|refuse"),
]
FailoverWait = Annotated[
    str | None,
    typer.Option(help="How long callers wait for a failover instead of failing [30s].", metavar="TIME"),
]


def serve(
    data: Data = None,
    http: Http = None,
    broker: Broker = None,
    gateways: Gateways = None,
    fsync: Fsync = None,
    store_max: StoreMax = None,
    max_body: MaxBody = None,
    retention: Retention = None,
    dead_letter_retention: DeadLetterRetention = None,
    attempts: Attempts = None,
    attempt_timeout: AttemptTimeout = None,
    key_lifetime: KeyLifetime = None,
    keys: Keys = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    request_deadline: RequestDeadline = None,
    cors_origins: CorsOrigins = None,
    callback_allow: CallbackAllow = None,
    log_format: LogFormat = None,
    insecure: Insecure = None,
    pair: Annotated[
        bool | None,
        typer.Option("--pair", help="Two nodes on this machine instead of one, to try what a pair does."),
    ] = None,
    replication: Replication = None,
    alone: Alone = None,
    failover_wait: FailoverWait = None,
    curve_dir: CurveDir = None,
    accept_loss: AcceptLoss = None,
    network_fs: NetworkFs = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Run a node and a gateway until Ctrl-C.

    Everything is on this machine; the store is made when it is not there.
    """
    flags = _settings_among(locals())
    start_logging(verbose)
    settings = config.load(flags)

    def ready(values: dict[str, Any]) -> None:
        if settings.pair and not as_json:
            show_pair(values)
        else:
            facts(values, as_json, title="titanic is ready; Ctrl-C stops it")

    raise typer.Exit(supervise(settings, verbose, ready))


def _settings_among(parameters: Mapping[str, object]) -> dict[str, object]:
    """Those of a command's parameters that are settings."""
    return {name: value for name, value in parameters.items() if name in config.Settings.model_fields}


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
    retention: Retention = None,
    dead_letter_retention: DeadLetterRetention = None,
    attempts: Attempts = None,
    attempt_timeout: AttemptTimeout = None,
    key_lifetime: KeyLifetime = None,
    insecure: Insecure = None,
    curve_dir: CurveDir = None,
    accept_loss: AcceptLoss = None,
    network_fs: NetworkFs = None,
    role: Role = None,
    peer_bind: PeerBind = None,
    peer: Peer = None,
    replication: Replication = None,
    alone: Alone = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Run a node: broker, Titanic service and store. With --role it is one of a pair."""
    from gateway.composition import node as composition

    flags = {
        "data": data,
        "broker": broker,
        "fsync": fsync,
        "store_max": store_max,
        "max_body": max_body,
        "retention": retention,
        "dead_letter_retention": dead_letter_retention,
        "attempts": attempts,
        "attempt_timeout": attempt_timeout,
        "key_lifetime": key_lifetime,
        "insecure": insecure,
        "curve_dir": curve_dir,
        "accept_loss": accept_loss,
        "network_fs": network_fs,
        "role": role,
        "peer_bind": peer_bind,
        "peer": peer,
        "replication": replication,
        "alone": alone,
    }
    settings = config.load(flags)
    _refuse_open("broker", settings)
    if settings.role != "single" and settings.peer_bind is not None:
        has_keys = settings.curve_dir is not None
        config.refuse_open_address(
            "peer-bind", settings.peer_bind, insecure=settings.insecure, curve=has_keys
        )

    def ready(values: dict[str, Any]) -> None:
        facts(values, as_json, title="node is ready; Ctrl-C stops it")

    _run(composition.run(settings, trace=tracer(verbose), ready=ready))


def gateway(
    nodes: Nodes = None,
    http: Http = None,
    max_body: MaxBody = None,
    keys: Keys = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    request_deadline: RequestDeadline = None,
    failover_wait: FailoverWait = None,
    cors_origins: CorsOrigins = None,
    callback_allow: CallbackAllow = None,
    gateways: Annotated[int | None, typer.Option(hidden=True)] = None,
    process: Annotated[int, typer.Option(hidden=True)] = 0,
    metrics_dir: Annotated[Path | None, typer.Option(hidden=True)] = None,
    log_format: LogFormat = None,
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
        {
            "nodes": nodes,
            "http": http,
            "gateways": gateways,
            "max_body": max_body,
            "keys": keys,
            "tls_cert": tls_cert,
            "tls_key": tls_key,
            "request_deadline": request_deadline,
            "failover_wait": failover_wait,
            "cors_origins": cors_origins,
            "callback_allow": callback_allow,
            "log_format": log_format,
            "insecure": insecure,
            "curve_dir": curve_dir,
        }
    )
    start_logging(verbose, as_json=settings.log_format == "json")
    has_keys = settings.keys_file.exists()
    config.refuse_open_address("http", settings.http, insecure=settings.insecure, curve=has_keys)

    def ready(values: dict[str, Any]) -> None:
        facts(values, as_json, title="gateway is ready; Ctrl-C stops it")

    hold_leash()
    seat = composition.Seat(process, metrics_dir)
    raise typer.Exit(composition.run(settings, trace=tracer(verbose), ready=ready, seat=seat))


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

    libzmq = settings.zmtp == "libzmq"
    _run(run_broker(settings.broker, tracer(verbose), ready, curve=settings.curve_dir, by_libzmq=libzmq))


def service(
    broker: Broker = None,
    data: Data = None,
    fsync: Fsync = None,
    store_max: StoreMax = None,
    max_body: MaxBody = None,
    retention: Retention = None,
    dead_letter_retention: DeadLetterRetention = None,
    attempts: Attempts = None,
    attempt_timeout: AttemptTimeout = None,
    key_lifetime: KeyLifetime = None,
    curve_dir: CurveDir = None,
    accept_loss: AcceptLoss = None,
    network_fs: NetworkFs = None,
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
        "retention": retention,
        "dead_letter_retention": dead_letter_retention,
        "attempts": attempts,
        "attempt_timeout": attempt_timeout,
        "key_lifetime": key_lifetime,
        "curve_dir": curve_dir,
        "accept_loss": accept_loss,
        "network_fs": network_fs,
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
