"""``titanic submit``, ``reply``, ``close``, ``cancel``, ``retry``, ``status`` and ``jobs``, over HTTP.

For people who do not want curl.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar
from urllib.parse import urlencode

import typer

from gateway.cli.console import File, Json, Verbose, fact, facts, note, patience, raw, table
from gateway.cli.errors import CliError, ExitCode
from gateway.cli.waiting import Wait, WaitCommand, wait_ms
from gateway.composition import settings as config
from gateway.pure import query

if TYPE_CHECKING:
    from gateway.cli.api import Api

JOB_COLUMNS: Final = ("id", "service", "state", "attempts", "priority", "created_at", "last_error")
SERVICE_COLUMNS: Final = (
    "name",
    "workers",
    "workers_idle",
    "scheduled",
    "queued",
    "running",
    "failed",
    "paused",
)
NODE_COLUMNS: Final = (
    "name",
    "role",
    "state",
    "ready",
    "in_sync",
    "version",
    "epoch",
    "durability",
    "jobs",
    "sequence",
    "lag",
)

T = TypeVar("T")

Url = Annotated[str | None, typer.Option(help="Where the gateway is [http://127.0.0.1:8080].", metavar="URL")]
Token = Annotated[
    str | None,
    typer.Option(
        envvar="TITANIC_TOKEN",
        help="A key of the server, if it asks for one.",
        metavar="KEY",
        show_envvar=True,
    ),
]
JobId = Annotated[str, typer.Argument(help="The job's id.", metavar="ID")]


def _ask(url: str | None, token: str | None, verbose: int, what: str, work: Callable[[Api], T]) -> T:
    """The result of ``work`` with the gateway's API."""
    from gateway.cli.api import Api

    with Api(config.load({"url": url}).url, verbose, token) as api, patience(what):
        return work(api)


def _parameters(values: Mapping[str, object], check: Callable[[bytes], object]) -> dict[str, str]:
    """What was given, as query parameters, checked as the server does. CliError names each wrong flag."""
    given = {name: str(value) for name, value in values.items() if value is not None}
    try:
        check(urlencode(given).encode())
    except query.BadParametersError as error:
        faults = "; ".join(f"--{fault.parameter}: {fault.detail}" for fault in error.faults)
        raise CliError(faults, ExitCode.WRONG_USE) from None
    return given


def _print_job(job: Mapping[str, Any], as_json: bool) -> None:
    """Everything about a job as JSON; for people without what is not known and without links."""
    shown = {key: value for key, value in job.items() if value is not None and key != "links"}
    facts(job if as_json else shown, as_json)


def _print_reply(body: bytes, head: dict[str, Any], as_json: bool) -> None:
    """The reply's bytes, or everything about it as JSON: as text if it is UTF-8, else as base64."""
    if not as_json:
        raw(body)
        return
    try:
        facts({**head, "reply": body.decode()}, as_json=True)
    except UnicodeDecodeError:
        facts({**head, "reply_base64": base64.b64encode(body).decode()}, as_json=True)


def submit(
    service: Annotated[str, typer.Argument(help="Name of the service.", metavar="SERVICE")],
    file: File = "-",
    wait: Wait = None,
    key: Annotated[
        str, typer.Option(help="Idempotency key: the same submit again is the same job.", metavar="KEY")
    ] = "",
    delay: Annotated[str | None, typer.Option(help="Do not start before.", metavar="DURATION")] = None,
    expires: Annotated[
        str | None, typer.Option(help="Give up if not started by then.", metavar="DURATION")
    ] = None,
    attempts: Annotated[
        str | None, typer.Option(help="Attempts before it fails; 0: for ever.", metavar="N")
    ] = None,
    timeout: Annotated[
        str | None, typer.Option(help="How long one attempt may take.", metavar="DURATION")
    ] = None,
    priority: Annotated[
        str | None, typer.Option(help="Higher ones run first.", metavar="low|normal|high")
    ] = None,
    retention: Annotated[
        str | None, typer.Option(help="How long the reply is kept.", metavar="DURATION")
    ] = None,
    callback: Annotated[str | None, typer.Option(help="Post the job's end to this.", metavar="URL")] = None,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Submit a job; print its id, or wait for its reply."""
    limit_ms = wait_ms(wait)
    given = {
        "delay": delay,
        "expires": expires,
        "attempts": attempts,
        "timeout": timeout,
        "priority": priority,
        "retention": retention,
        "callback": callback,
    }
    options = _parameters(given, query.submit_options)
    what = f"submitting to {service}"
    job = _ask(url, token, verbose, what, lambda api: api.submit(service, file, options, key))
    if wait is None:
        facts(job, as_json=True) if as_json else fact(job["id"])
        return
    _await(job["id"], limit_ms, url, token, verbose, as_json)


def reply(
    id_: JobId,
    wait: Wait = None,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Print a job's reply.

    The exit code is 8 if it is not there yet and 7 if the job failed.
    """
    _await(id_, wait_ms(wait), url, token, verbose, as_json)


def _await(
    id_: str, limit_ms: int | None, url: str | None, token: str | None, verbose: int, as_json: bool
) -> None:
    what = f"waiting for the reply of {id_}"
    try:
        body, content_type = _ask(url, token, verbose, what, lambda api: api.reply(id_, limit_ms))
    except KeyboardInterrupt:
        note(f"the job goes on; get its reply with: titanic reply {id_}")
        raise
    _print_reply(body, {"id": id_, "state": "succeeded", "content_type": content_type}, as_json)


def close(
    id_: JobId, url: Url = None, token: Token = None, as_json: Json = False, verbose: Verbose = 0
) -> None:
    """Close a job: request and reply are deleted for good.

    Closing again changes nothing.
    """
    _ask(url, token, verbose, f"closing {id_}", lambda api: api.close_job(id_))
    if as_json:
        facts({"id": id_, "state": "closed"}, as_json=True)


def cancel(
    id_: JobId, url: Url = None, token: Token = None, as_json: Json = False, verbose: Verbose = 0
) -> None:
    """Cancel a job that has not ended, and show it.

    Its worker, if it has one, is told to stop. The exit code is 1 if the job has ended otherwise.
    """
    _print_job(_ask(url, token, verbose, f"cancelling {id_}", lambda api: api.act(id_, "cancel")), as_json)


def retry(
    id_: JobId, url: Url = None, token: Token = None, as_json: Json = False, verbose: Verbose = 0
) -> None:
    """Queue a failed job again, with all its attempts, and show it.

    The exit code is 1 if the job has not failed.
    """
    _print_job(_ask(url, token, verbose, f"retrying {id_}", lambda api: api.act(id_, "retry")), as_json)


def status(
    id_: Annotated[str, typer.Argument(help="A job's id; without it, the server.", metavar="[ID]")] = "",
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Show how a job stands; without an id, the server, its nodes and its services.

    Without an id, the exit code is 1 if the server is not ready.
    """
    if id_:
        _print_job(_ask(url, token, verbose, "asking the server", lambda api: api.job(id_)), as_json)
        return
    ready, server, nodes, services = _ask(url, token, verbose, "asking the server", _overview)
    if as_json:
        more = {"nodes": nodes, "services": services} if ready else {}
        facts({**server, **more}, as_json=True)
    else:
        facts(server, as_json=False)
        for columns, rows in ((NODE_COLUMNS, nodes), (SERVICE_COLUMNS, services)):
            if rows:
                fact("")
                table(rows, columns)
    if not ready:
        raise CliError("the server is not ready; its reason is above")


_Rows = list[dict[str, Any]] | None


def _overview(api: Api) -> tuple[bool, dict[str, Any], _Rows, _Rows]:
    """(whether the server is ready, what it says of itself, its nodes, its services)."""
    ready, server = api.server()
    return (ready, server, api.rows("nodes"), api.rows("services")) if ready else (False, server, None, None)


def jobs(
    service: Annotated[str | None, typer.Option(help="Only of this service.", metavar="NAME")] = None,
    state: Annotated[
        str | None, typer.Option(help="Only in this state.", metavar="|".join(query.STATES))
    ] = None,
    limit: Annotated[int, typer.Option(help="At most so many.", metavar="N", min=1)] = query.LIST_DEFAULT,
    cursor: Annotated[
        str | None, typer.Option(help="Go on where another list ended.", metavar="CURSOR")
    ] = None,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """List jobs, newest first.

    If there are more, the cursor to go on with is on stderr, and in the JSON as "next".
    """
    given = {"service": service, "state": state, "cursor": cursor}
    options = _parameters(given, query.list_options)
    what = "asking for jobs"
    rows, rest = _ask(url, token, verbose, what, lambda api: api.jobs(options, limit, query.LIST_MAX))
    if as_json:
        facts({"jobs": rows, "next": rest or None}, as_json=True)
        return
    if rows:
        table(rows, JOB_COLUMNS)
    if rest:
        note(f"there are more: titanic jobs --cursor {rest}, and the same flags")


def add_to(app: typer.Typer) -> None:
    """The seven commands are in ``app``."""
    example = "019ab0c1d2e38f4aa5b6c7d8e9f0a1b2"
    app.command(
        cls=WaitCommand, epilog="Example: titanic submit wordcount LICENSE --key order-17 --attempts 3 --wait"
    )(submit)
    app.command(cls=WaitCommand, epilog=f"Example: titanic reply {example} --wait 30s")(reply)
    app.command(epilog=f"Example: titanic close {example}")(close)
    app.command(epilog=f"Example: titanic cancel {example}")(cancel)
    app.command(epilog=f"Example: titanic retry {example}")(retry)
    app.command(epilog=f"Example: titanic status {example} --json")(status)
    app.command(epilog="Example: titanic jobs --service wordcount --state failed --limit 20")(jobs)
