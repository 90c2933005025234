"""``titanic store``: looks at a store, in its file or at work, and copies it."""

from __future__ import annotations

import asyncio
import base64
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from gateway.cli.console import Json, Verbose, fact, facts, note, patience, start_logging
from gateway.cli.curve import CurveDir, client_keys
from gateway.cli.errors import CliError, ExitCode
from gateway.composition import settings as config

if TYPE_CHECKING:
    from core.shell.curve import ClientKeys
    from titanic_store.shell.resting import Record

Source = Annotated[
    str,
    typer.Argument(
        help="A gateway (http://...), a node (tcp://...), or a store's file that no server has open.",
        metavar="URL|FILE",
    ),
]
Token = Annotated[
    str | None, typer.Option(help="API key, for a gateway that asks for one.", envvar="TITANIC_TOKEN")
]
PINS_COUNT: Final = 10

app = typer.Typer(help="Look at a store, and copy it.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def group() -> None:
    """Look at a store, and copy it."""


@app.command(epilog="Example: titanic store check ./titanic-data/titanic.ring --json")
def check(
    file: Annotated[Path, typer.Argument(help="The store's file; nothing in it is changed.", metavar="FILE")],
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Prove every checksum, read what every record says, and print what is in the store.

    The server must not run on it. The exit code is 3 for damage, 4 if the store is in use, and 5 for a
    format of another version. A torn tail is no damage: it was never acknowledged.
    """
    from core.pure.jobs import unreadable
    from titanic_store import check as check_store

    start_logging(verbose)
    with patience(f"checking {file}"):
        report = check_store(file, judge=unreadable)
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


@app.command(epilog="Example: titanic store dump ./titanic-data/titanic.ring --kind reply --json")
def dump(
    file: Annotated[Path, typer.Argument(help="The store's file; nothing in it is changed.", metavar="FILE")],
    kind: Annotated[
        list[str] | None, typer.Option(help="Only these kinds: request, attempt, reply, close ...")
    ] = None,
    id_: Annotated[str | None, typer.Option("--id", help="Only records of this job.", metavar="ID")] = None,
    first: Annotated[int, typer.Option("--from", help="From this sequence on.", metavar="SEQ")] = 0,
    last: Annotated[int | None, typer.Option("--to", help="Up to this sequence.", metavar="SEQ")] = None,
    live: Annotated[bool, typer.Option("--live", help="Only of jobs that are still open.")] = False,
    bodies: Annotated[bool, typer.Option("--bodies", help="With the bodies.")] = False,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """List the records of a store, oldest first, a line each.

    Damage does not end the list: it is named where it is, and the exit code is 3.
    """
    from titanic_store.shell.resting import Gap, RestingStore

    start_logging(verbose)
    kinds, key = _kinds(kind), _key(id_)
    damaged = False
    with RestingStore(file) as store:
        alive = store.recovered.index if live else None
        for row in store.records():
            if isinstance(row, Gap):
                damaged = True
                note(f"damage at {row.offset}: {row.reason}")
            elif (
                (not kinds or row.kind in kinds)
                and (key is None or row.key == key)
                and first <= row.sequence
                and (last is None or row.sequence <= last)
                and (alive is None or row.key in alive)
            ):
                _print_record(row, bodies=bodies, as_json=as_json)
    if damaged:
        raise CliError(f"{file} is damaged, as named above", ExitCode.DAMAGED_STORE)


def _kinds(names: list[str] | None) -> set[int]:
    from titanic_store import Kind

    known = {kind.name.lower(): int(kind) for kind in Kind}
    for name in names or ():
        if name not in known:
            raise CliError(f"--kind: {name!r} is none of {', '.join(known)}", ExitCode.WRONG_USE)
    return {known[name] for name in names or ()}


def _key(id_: str | None) -> bytes | None:
    try:
        return None if id_ is None else bytes.fromhex(id_)
    except ValueError:
        raise CliError(f"--id: {id_!r} is not hexadecimal", ExitCode.WRONG_USE) from None


def _print_record(record: Record, *, bodies: bool, as_json: bool) -> None:
    from gateway.composition.storefile import describe
    from titanic_store import Kind

    known = {int(kind): kind.name.lower() for kind in Kind}
    name = known.get(record.kind, str(record.kind))
    says = describe(record)
    if as_json:
        head = {
            "sequence": record.sequence,
            "kind": name,
            "moved": record.moved,
            "key": record.key.hex(),
            "offset": record.offset,
            "turn": record.turn,
            "body_bytes": len(record.body),
        }
        facts({**head, "meta": says, **(_body(bytes(record.body)) if bodies else {})}, as_json=True)
        return
    told = " ".join(f"{field}={value}" for field, value in says.items())
    moved = " moved" if record.moved else ""
    fact(
        f"{record.sequence:>9} {name + moved:<8} {record.key.hex()} at {record.offset:<11}"
        f" turn {record.turn:<5} {len(record.body):>8} B  {told}".rstrip()
    )
    if bodies and record.body:
        fact(f"{bytes(record.body)!r}")


def _body(body: bytes) -> dict[str, str]:
    try:
        return {"body": body.decode()}
    except UnicodeDecodeError:
        return {"body_base64": base64.b64encode(body).decode()}


@app.command(epilog="Example: titanic store stats http://127.0.0.1:8080")
def stats(
    source: Source,
    token: Token = None,
    curve_dir: CurveDir = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Show how full a store is, chunk by chunk, when it will be full, and what pins its tail."""
    from gateway.cli import storecopy, storepicture
    from gateway.composition.storefile import resting_facts
    from gateway.pure.views import store_view
    from titanic_store.shell.resting import RestingStore

    start_logging(verbose)
    with patience(f"looking at {source}"):
        if source.startswith(("http://", "https://")):
            document: dict[str, Any] = storecopy.gateway_facts(source, token)
        elif "://" in source:
            keys = _keys(curve_dir)
            document = store_view(asyncio.run(storecopy.node_facts(source, keys, PINS_COUNT)), _now_ms())
        else:
            with RestingStore(Path(source)) as store:
                document = store_view(resting_facts(store, PINS_COUNT), _now_ms())
    if as_json:
        facts(document, as_json=True)
    else:
        storepicture.show(document)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _keys(curve_dir: Path | None) -> ClientKeys | None:
    return client_keys(config.load({"curve_dir": curve_dir}))


@app.command(epilog="Example: titanic store backup http://127.0.0.1:8080 ./monday.ring")
def backup(
    source: Source,
    file: Annotated[
        Path, typer.Argument(help="Where the backup goes; never replaces a file.", metavar="FILE")
    ],
    token: Token = None,
    curve_dir: CurveDir = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Copy a store as it is at this moment; a server that runs on it goes on.

    The copy is checked before it gets its name: what is there afterwards is clean. A gateway that asks for
    API keys wants one with the scope 'admin'. The copy holds the store's secrets: keep it as safe.
    """
    from gateway.cli import storecopy

    start_logging(verbose)
    with patience(f"copying {source}"), storecopy.arriving(file) as (part, sink):
        if source.startswith(("http://", "https://")):
            storecopy.from_gateway(source, token, sink)
        elif "://" in source:
            storecopy.from_node(source, _keys(curve_dir), sink)
        else:
            storecopy.from_file(Path(source), sink)
        sink.finish()
        found = storecopy.proved(part)
    _told({"file": str(file), **found}, sink.size_bytes, as_json)


@app.command(epilog="Example: titanic store restore ./monday.ring ./titanic-data")
def restore(
    file: Annotated[Path, typer.Argument(help="A backup, or any store's file.", metavar="FILE")],
    folder: Annotated[
        Path, typer.Argument(help="The data folder for it; must not have a store yet.", metavar="DIR")
    ],
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Put a backup into a data folder, checked, so that a node can be started on it."""
    from gateway.cli import storecopy
    from gateway.composition.journal import DATA_FILE

    start_logging(verbose)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / DATA_FILE
    with patience(f"restoring {file}"), storecopy.arriving(target) as (part, sink):
        storecopy.from_file(file, sink)
        sink.finish()
        found = storecopy.proved(part)
    _told({"file": str(target), **found}, sink.size_bytes, as_json)


def _told(found: dict[str, Any], size_bytes: int, as_json: bool) -> None:
    if as_json:
        facts(found, as_json=True)
    else:
        live = sum(found["live"].values())
        fact(
            f"{found['file']}: {size_bytes} bytes, {live} live, up to record {found['last_sequence']}; clean"
        )
