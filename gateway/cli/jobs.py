"""``titanic submit``, ``reply``, ``close`` and ``status``: the HTTP API for people who do not want curl."""

from __future__ import annotations

import base64
from typing import Annotated, Any

import typer

from gateway.cli.console import File, Json, Verbose, fact, facts, note, patience, raw
from gateway.cli.errors import CliError
from gateway.cli.waiting import Wait, WaitCommand, wait_ms
from gateway.composition import settings as config

Url = Annotated[str | None, typer.Option(help="Where the gateway is [http://127.0.0.1:8080].", metavar="URL")]
JobId = Annotated[str, typer.Argument(help="The job's id.", metavar="ID")]


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
    url: Url = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Submit a job; print its id, or wait for its reply."""
    from gateway.cli.api import Api

    limit_ms = wait_ms(wait)
    with Api(config.load({"url": url}).url, verbose) as api, patience(f"submitting to {service}"):
        job = api.submit(service, file)
    if wait is None:
        facts(job, as_json=True) if as_json else fact(job["id"])
        return
    with Api(config.load({"url": url}).url, verbose) as api:
        _await(api, job["id"], limit_ms, as_json)


def reply(
    id_: JobId, wait: Wait = None, url: Url = None, as_json: Json = False, verbose: Verbose = 0
) -> None:
    """Print a job's reply.

    The exit code is 8 if it is not there yet and 7 if the job failed.
    """
    from gateway.cli.api import Api

    with Api(config.load({"url": url}).url, verbose) as api:
        _await(api, id_, wait_ms(wait), as_json)


def _await(api: Any, id_: str, limit_ms: int | None, as_json: bool) -> None:
    with patience(f"waiting for the reply of {id_}"):
        try:
            body, content_type = api.reply(id_, limit_ms)
        except KeyboardInterrupt:
            note(f"the job goes on; get its reply with: titanic reply {id_}")
            raise
    _print_reply(body, {"id": id_, "state": "succeeded", "content_type": content_type}, as_json)


def close(id_: JobId, url: Url = None, as_json: Json = False, verbose: Verbose = 0) -> None:
    """Close a job: request and reply are deleted for good.

    Closing again changes nothing.
    """
    from gateway.cli.api import Api

    with Api(config.load({"url": url}).url, verbose) as api, patience(f"closing {id_}"):
        api.close_job(id_)
    if as_json:
        facts({"id": id_, "state": "closed"}, as_json=True)


def status(
    id_: Annotated[str, typer.Argument(help="A job's id; without it, the server.", metavar="[ID]")] = "",
    url: Url = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Show how a job stands, or the server.

    Without an id, the exit code is 1 if the server is not ready.
    """
    from gateway.cli.api import Api

    with Api(config.load({"url": url}).url, verbose) as api, patience("asking the server"):
        ready, answer = (True, api.job(id_)) if id_ else api.server()
    facts(answer, as_json)
    if not ready:
        raise CliError("the server is not ready; its reason is above")


def add_to(app: typer.Typer) -> None:
    """The four commands are in ``app``."""
    app.command(cls=WaitCommand, epilog="Example: titanic submit wordcount LICENSE --wait")(submit)
    app.command(cls=WaitCommand, epilog="Example: titanic reply 019ab0c1d2e38f4aa5b6c7d8e9f0a1b2 --wait 30s")(
        reply
    )
    app.command(epilog="Example: titanic close 019ab0c1d2e38f4aa5b6c7d8e9f0a1b2")(close)
    app.command(epilog="Example: titanic status 019ab0c1d2e38f4aa5b6c7d8e9f0a1b2 --json")(status)
