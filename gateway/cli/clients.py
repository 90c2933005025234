"""``titanic client``: Majordomo and the Titanic protocol from the shell, at any MDP/0.1 broker."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, Final, TypeVar

import typer

from core.shell.client import Client, ReplyPendingError
from gateway.cli.console import File, Json, Verbose, fact, facts, note, patience, raw, read_body, tracer
from gateway.cli.curve import CurveDir, client_keys
from gateway.cli.errors import CliError, ExitCode
from gateway.cli.waiting import Wait, WaitCommand, wait_ms
from gateway.composition import settings as config
from gateway.pure import units

CALL_TIMEOUT: Final = "30s"
SLICE_S: Final = 3600.0
"""One turn of waiting for ever."""

T = TypeVar("T")

Service = Annotated[str, typer.Argument(help="Name of the service.", metavar="SERVICE")]
JobId = Annotated[str, typer.Argument(help="The job's UUID.", metavar="ID")]
Timeout = Annotated[str, typer.Option(help="How long an answer may take.", metavar="DURATION")]

app = typer.Typer(
    help="Speak Majordomo and the Titanic protocol.", no_args_is_help=True, rich_markup_mode=None
)


@app.callback()
def group(
    ctx: typer.Context,
    broker: Annotated[
        str | None,
        typer.Option(help="Where the broker is [tcp://127.0.0.1:5555].", metavar="ENDPOINT[,ENDPOINT]"),
    ] = None,
    curve_dir: CurveDir = None,
) -> None:
    """Speak Majordomo and the Titanic protocol (RFC 7 and RFC 9) at any broker."""
    ctx.obj = {"nodes": broker, "curve_dir": curve_dir}


@app.command(epilog="Example: titanic client --broker tcp://127.0.0.1:5555 call mmi.service body.txt")
def call(
    ctx: typer.Context,
    service: Service,
    file: File = "-",
    timeout: Timeout = CALL_TIMEOUT,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Send a request and print its reply. Nothing is stored."""
    body = read_body(file)
    reply = _run(ctx, timeout, verbose, lambda client: client.call(service, body), f"calling {service}")
    _print_frames(reply, as_json)


@app.command(cls=WaitCommand, epilog="Example: titanic client request echo body.txt --wait -v")
def request(
    ctx: typer.Context,
    service: Service,
    file: File = "-",
    wait: Wait = None,
    timeout: Timeout = CALL_TIMEOUT,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Store a request; print its UUID, or wait for its reply.

    With --wait the UUID goes to stderr and the job stays until it is closed.
    """
    limit_ms = wait_ms(wait)
    body = read_body(file)

    async def work(client: Client) -> list[bytes] | None:
        job_id = await client.submit(service, body)
        if wait is None:
            facts({"id": job_id}, as_json=True) if as_json else fact(job_id)
            return None
        note(f"stored as {job_id}")
        return await _wait(client, job_id, limit_ms)

    frames = _run(ctx, timeout, verbose, work, f"waiting for {service}")
    if frames is not None:
        _print_frames(frames, as_json)


@app.command(
    cls=WaitCommand, epilog="Example: titanic client reply 019ab0c1d2e38f4aa5b6c7d8e9f0a1b2 --wait 30s"
)
def reply(
    ctx: typer.Context,
    id_: JobId,
    wait: Wait = None,
    timeout: Timeout = CALL_TIMEOUT,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Print a job's reply.

    The exit code is 8 if it is not there yet and 7 if the job failed.
    """
    limit_ms = wait_ms(wait)
    frames = _run(ctx, timeout, verbose, lambda client: _wait(client, id_, limit_ms), f"waiting for {id_}")
    _print_frames(frames, as_json)


@app.command(epilog="Example: titanic client close 019ab0c1d2e38f4aa5b6c7d8e9f0a1b2")
def close(
    ctx: typer.Context,
    id_: JobId,
    timeout: Timeout = CALL_TIMEOUT,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Delete a job's request and reply for good.

    Closing again changes nothing.
    """
    _run(ctx, timeout, verbose, lambda client: client.close(id_), f"closing {id_}")
    if as_json:
        facts({"id": id_, "state": "closed"}, as_json=True)


async def _wait(client: Client, job_id: str, limit_ms: int | None) -> list[bytes]:
    """The reply's frames. Raises ReplyPendingError when ``limit_ms`` is over; None waits for ever."""
    if limit_ms is not None:
        return await client.wait(job_id, limit_ms / 1000)
    while True:
        try:
            return await client.wait(job_id, SLICE_S)
        except ReplyPendingError:
            continue


def _run(
    ctx: typer.Context, timeout: str, verbose: int, work: Callable[[Client], Awaitable[T]], what: str
) -> T:
    """The result of ``work`` with a connected client."""
    try:
        timeout_s = units.parse_duration_ms(timeout) / 1000
    except units.UnitError as error:
        raise CliError(f"--timeout: {error}", ExitCode.WRONG_USE) from None
    settings = config.load(ctx.obj, {"nodes": "broker"})
    keys = client_keys(settings)

    async def connected() -> T:
        async with Client(
            settings.node_endpoints,
            timeout_s=timeout_s,
            keys=keys,
            trace=tracer(verbose),
            by_libzmq=settings.zmtp == "libzmq",
        ) as client:
            return await work(client)

    with patience(what):
        return asyncio.run(connected())


def _print_frames(frames: Sequence[bytes], as_json: bool) -> None:
    """A single frame as it is; several one per line; as JSON each as text, or base64 if it is not UTF-8."""
    if as_json:
        facts({"frames": [_readable(frame) for frame in frames]}, as_json=True)
        return
    raw(b"\n".join(frames))


def _readable(frame: bytes) -> Any:
    try:
        return frame.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(frame).decode()}
