"""``titanic keys``: who may use the HTTP API. A change is in force within a second, without a restart."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.console import Json, Verbose, fact, facts, note, start_logging, tracer
from gateway.cli.curve import CurveDir, client_keys
from gateway.cli.errors import CliError, ExitCode
from gateway.composition import settings as config
from gateway.http import keyfile
from gateway.pure import units
from gateway.pure.keys import SCOPES, KeyRecord, hash_secret
from gateway.pure.views import rfc3339
from gateway.pure.webhooks import encode_secret, server_secret

app = typer.Typer(help="Keys of the HTTP API.", no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(help="Name of the key, or its id.", metavar="NAME")]
Data = Annotated[Path | None, typer.Option(help="Folder of the store [./titanic-data].", metavar="DIR")]
Nodes = Annotated[
    str | None,
    typer.Option(help="Where the node is [tcp://127.0.0.1:5555].", metavar="ENDPOINT[,ENDPOINT]"),
]
File = Annotated[
    Path | None,
    typer.Option("--keys", help="File of the keys [keys.json in the data folder].", metavar="FILE"),
]


@app.callback()
def group() -> None:
    """Keys of the HTTP API. The first one closes the server to everybody without a key."""


@app.command(epilog="Example: titanic keys create shop --scope submit --scope read --service wordcount")
def create(
    name: Annotated[str, typer.Argument(help="What to call the key.", metavar="NAME")],
    scope: Annotated[
        list[str], typer.Option(help="What it may do; repeatable.", metavar="submit|read|admin")
    ],
    service: Annotated[
        list[str] | None, typer.Option(help="Only for this service; repeatable [all].", metavar="NAME")
    ] = None,
    rate: Annotated[
        float, typer.Option(help="Requests per second; 0: no limit.", min=0, metavar="NUMBER")
    ] = 0.0,
    burst: Annotated[int, typer.Option(help="Requests at once [a second's].", min=0, metavar="N")] = 0,
    jobs_max: Annotated[int, typer.Option(help="Open jobs; 0: no limit.", min=0, metavar="N")] = 0,
    bytes_max: Annotated[
        str, typer.Option(help="Bytes of requests of open jobs; 0: no limit.", metavar="SIZE")
    ] = "0",
    data: Data = None,
    keys: File = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Make a key and print it, this once: only its hash is kept."""
    secret = keyfile.new_secret()
    record = KeyRecord(
        id=keyfile.new_id(),
        name=name,
        sha256=hash_secret(secret.encode()),
        scopes=_scopes(scope),
        created_ms=_now_ms(),
        services=service or [],
        rate_per_s=rate,
        burst=burst,
        jobs_max=jobs_max,
        bytes_max=_size(bytes_max),
        callback_secret=keyfile.new_callback_secret(),
    )
    path = _path(data, keys, verbose)

    def add(records: list[KeyRecord]) -> list[KeyRecord]:
        if any(name in (known.name, known.id) for known in records):
            raise CliError(f"{path} has a key {name!r} already; revoke or rotate it", ExitCode.WRONG_USE)
        return [*records, record]

    keyfile.update(path, add)
    _show_secret(record, secret, as_json)


@app.command("list", epilog="Example: titanic keys list --json")
def list_keys(data: Data = None, keys: File = None, as_json: Json = False, verbose: Verbose = 0) -> None:
    """List the keys, without their secrets."""
    path = _path(data, keys, verbose)
    records = keyfile.read(path) if path.exists() else []
    rows = [_row(record) for record in records]
    if as_json:
        facts({"file": str(path), "keys": rows}, as_json=True)
        return
    if not path.exists():
        note(f"{path} does not exist: the server asks nobody for a key")
    for row in rows:
        fact(
            "  ".join(
                f"{key}={','.join(value) if isinstance(value, list) else value}" for key, value in row.items()
            )
        )


@app.command(epilog="Example: titanic keys revoke shop")
def revoke(
    name: Name, data: Data = None, keys: File = None, as_json: Json = False, verbose: Verbose = 0
) -> None:
    """Take a key out of force. Its jobs stay, and only a key with the scope admin sees them then."""
    path = _path(data, keys, verbose)
    record = _find(path, name)
    keyfile.update(path, lambda records: [known for known in records if known.id != record.id])
    facts({"revoked": record.name, "id": record.id}, as_json)


@app.command(epilog="Example: titanic keys rotate shop --grace 24h")
def rotate(
    name: Name,
    grace: Annotated[
        str, typer.Option(help="How long the old secret stays good.", metavar="DURATION")
    ] = "0s",
    data: Data = None,
    keys: File = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Give a key a new secret and print it, this once. Id, scopes and jobs stay.

    Its callbacks get a new secret too; while the grace lasts they are signed with both.
    """
    path = _path(data, keys, verbose)
    try:
        until_ms = _now_ms() + units.parse_duration_ms(grace)
    except units.UnitError as error:
        raise CliError(f"--grace: {error}", ExitCode.WRONG_USE) from None
    old, secret = _find(path, name), keyfile.new_secret()

    def renewed(record: KeyRecord) -> KeyRecord:
        return _replace(
            record,
            sha256=hash_secret(secret.encode()),
            previous_sha256=record.sha256,
            previous_until_ms=until_ms,
            callback_secret=keyfile.new_callback_secret(),
            previous_callback_secret=record.callback_secret,
        )

    keyfile.update(path, _each(old.id, renewed))
    _show_secret(_find(path, old.id), secret, as_json)


@app.command("callback-secret", epilog="Example: titanic keys callback-secret shop")
def callback_secret(
    name: Annotated[
        str | None, typer.Argument(help="Name of the key, or its id [the server's own].", metavar="NAME")
    ] = None,
    data: Data = None,
    keys: File = None,
    nodes: Nodes = None,
    curve_dir: CurveDir = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Show the secret that signs callbacks: a key's, or the server's, which a server without keys uses.

    The server's is asked of its node, unless a setting gives one.
    """
    path = _path(data, keys, verbose)
    record = _find(path, name) if name is not None else None
    if record is not None and record.callback_secret:
        secret = record.callback_secret
    else:
        settings = config.load({"nodes": nodes, "curve_dir": curve_dir})
        given = settings.callback_secret
        secret = given.get_secret_value() if given is not None else _asked(settings, verbose)
    if as_json:
        facts({"callback_secret": secret}, as_json=True)
    else:
        fact(secret)


def _asked(settings: config.Settings, verbose: int) -> str:
    """The server's own secret, from its node."""
    import asyncio

    from core.shell.client import Client

    async def ask() -> bytes:
        client = Client(list(settings.node_endpoints), keys=client_keys(settings), trace=tracer(verbose))
        async with client:
            return (await client.hello()).id_secret

    return encode_secret(server_secret(asyncio.run(ask())))


def _size(text: str) -> int:
    try:
        return units.parse_size(text)
    except units.UnitError as error:
        raise CliError(f"--bytes-max: {error}", ExitCode.WRONG_USE) from None


def _each(id_: str, change: Callable[[KeyRecord], KeyRecord]) -> Callable[[list[KeyRecord]], list[KeyRecord]]:
    return lambda records: [change(record) if record.id == id_ else record for record in records]


def _replace(record: KeyRecord, **changes: Any) -> KeyRecord:
    import msgspec

    return msgspec.structs.replace(record, **changes)


def _find(path: Path, name: str) -> KeyRecord:
    records = keyfile.read(path) if path.exists() else []
    found = next((record for record in records if name in (record.id, record.name)), None)
    if found is None:
        raise CliError(f"{path} has no key {name!r}; 'titanic keys list' shows them", ExitCode.WRONG_USE)
    return found


def _path(data: Path | None, keys: Path | None, verbose: int) -> Path:
    start_logging(verbose)
    return config.load({"data": data, "keys": keys}).keys_file


def _scopes(names: list[str]) -> list[str]:
    unknown = sorted(set(names) - set(SCOPES))
    if unknown:
        raise CliError(f"--scope is one of {', '.join(SCOPES)}, not {unknown[0]!r}", ExitCode.WRONG_USE)
    return [name for name in SCOPES if name in names]


def _row(record: KeyRecord) -> dict[str, Any]:
    return {
        "name": record.name,
        "id": record.id,
        "scopes": record.scopes,
        "services": record.services,
        "rate": record.rate_per_s,
        "jobs_max": record.jobs_max,
        "bytes_max": record.bytes_max,
        "created_at": rfc3339(record.created_ms),
    }


def _show_secret(record: KeyRecord, secret: str, as_json: bool) -> None:
    token = keyfile.token(record, secret)
    if as_json:
        facts({**_row(record), "key": token, "callback_secret": record.callback_secret}, as_json=True)
        return
    note("the key, shown only now; send it as 'Authorization: Bearer KEY':")
    fact(token)
    note(f"'titanic keys callback-secret {record.name}' shows what signs the callbacks of its jobs")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
