"""A small client of the HTTP API: what the job commands need, with errors a person can act on."""

from __future__ import annotations

import json
import mimetypes
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

import httpx

from gateway.cli.console import stamped, start_logging
from gateway.cli.errors import CliError, ExitCode

POLL_S: Final = 20
"""One long-poll; shorter than any proxy's patience."""
CONNECT_S: Final = 5.0
ANSWER_S: Final = 60.0
PAUSE_S: Final = 0.2
"""Between polls when the server did not wait."""
assert POLL_S < ANSWER_S, "a poll ends before the client gives up on it"


class Api:
    """The gateway at ``url``. Raises CliError: 6 not reachable, 7 job failed, 8 no reply yet, else 1."""

    def __init__(self, url: str, verbose: int = 0, token: str | None = None) -> None:
        start_logging(verbose)
        hooks: dict[str, list[Callable[..., Any]]] = (
            {"request": [_trace_request], "response": [_trace_response]} if verbose else {}
        )
        self._url = url
        self._http = httpx.Client(
            base_url=url,
            timeout=httpx.Timeout(ANSWER_S, connect=CONNECT_S),
            event_hooks=hooks,
            headers={"Authorization": f"Bearer {token}"} if token else {},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._http.close()

    def submit(self, service: str, file: str, options: Mapping[str, str], key: str = "") -> dict[str, Any]:
        """The accepted job; it is stored when this returns. The file is streamed, not read whole.

        ``options`` are query parameters. With an idempotency ``key`` the same submit again is answered with
        the same job, and ``replayed`` is true then.
        """
        headers = {"Content-Type": mimetypes.guess_type(file)[0] or "application/octet-stream"}
        if key:
            headers["Idempotency-Key"] = _quoted(key)
        path = f"/v1/services/{_segment(service)}/jobs"
        if file == "-":
            return self._submitted(path, options, sys.stdin.buffer.read(), headers)
        with Path(file).open("rb") as body:
            return self._submitted(path, options, body, headers)

    def _submitted(
        self, path: str, options: Mapping[str, str], body: Any, headers: dict[str, str]
    ) -> dict[str, Any]:
        answer = self._send("POST", path, params=options, content=body, headers=headers)
        job = self._json(answer, {202})
        return {**job, "replayed": True} if "idempotent-replayed" in answer.headers else job

    def reply(self, id_: str, wait_ms: int | None) -> tuple[bytes, str]:
        """(body, content type) of the reply, waited for as long as said; None waits for ever."""
        deadline_s = None if wait_ms is None else time.monotonic() + wait_ms / 1000
        while True:
            left_s = POLL_S if deadline_s is None else deadline_s - time.monotonic()
            headers = {"Prefer": f"wait={min(POLL_S, int(left_s) + 1)}"} if left_s > 0 else {}
            answer = self._send("GET", f"/v1/jobs/{_segment(id_)}/reply", headers=headers)
            if answer.status_code == 200:
                return answer.content, answer.headers.get("content-type", "")
            if answer.status_code == 409:
                raise CliError(problem_line(answer), ExitCode.JOB_FAILED)
            if answer.status_code != 202:
                raise CliError(problem_line(answer))
            if deadline_s is not None and time.monotonic() >= deadline_s:
                raise CliError(f"no reply yet; ask again with: titanic reply {id_} --wait", ExitCode.NOT_YET)
            if "preference-applied" not in answer.headers:
                time.sleep(PAUSE_S)

    def close_job(self, id_: str) -> None:
        """The job and its bytes are gone."""
        answer = self._send("DELETE", f"/v1/jobs/{_segment(id_)}")
        if answer.status_code != 204:
            raise CliError(problem_line(answer))

    def job(self, id_: str) -> dict[str, Any]:
        """How the job stands."""
        return self._json(self._send("GET", f"/v1/jobs/{_segment(id_)}"), {200})

    def act(self, id_: str, verb: str) -> dict[str, Any]:
        """How the job stands after ``cancel`` or ``retry``."""
        return self._json(self._send("POST", f"/v1/jobs/{_segment(id_)}:{verb}"), {200})

    def jobs(self, options: Mapping[str, str], limit: int, page: int) -> tuple[list[dict[str, Any]], str]:
        """(at most ``limit`` jobs, newest first, asked for by pages; the cursor of the rest or "")."""
        found: list[dict[str, Any]] = []
        cursor = options.get("cursor", "")
        while len(found) < limit:
            query = {**options, "limit": str(min(page, limit - len(found)))}
            if cursor:
                query["cursor"] = cursor
            answer = self._json(self._send("GET", "/v1/jobs", params=query), {200})
            found += answer["jobs"]
            cursor = answer["next"] or ""
            if not cursor:
                break
        return found, cursor

    def rows(self, what: str) -> list[dict[str, Any]] | None:
        """All ``services``, or all ``nodes``; None if the key may not see them."""
        answer = self._send("GET", f"/v1/{what}")
        if answer.status_code == httpx.codes.FORBIDDEN:
            return None
        rows: list[dict[str, Any]] = self._json(answer, {200})[what]
        return rows

    def server(self) -> tuple[bool, dict[str, Any]]:
        """Whether the server is ready, and what it says about itself."""
        answer = self._send("GET", "/readyz")
        return answer.status_code == 200, self._json(answer, {200, 503})

    def _send(self, method: str, path: str, **more: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **more)
        except httpx.TransportError as error:
            raise CliError(
                f"no server answers at {self._url} ({str(error) or type(error).__name__}); "
                "start one with 'titanic serve', or say where it is with --url",
                ExitCode.UNREACHABLE,
            ) from None
        except httpx.InvalidURL as error:
            raise CliError(f"{self._url}{path}: {error}", ExitCode.WRONG_USE) from None

    def _json(self, answer: httpx.Response, expected: set[int]) -> dict[str, Any]:
        if answer.status_code not in expected:
            raise CliError(problem_line(answer))
        try:
            values = answer.json()
        except json.JSONDecodeError:
            values = None
        if not isinstance(values, dict):
            raise CliError(
                f"{self._url} answered {answer.status_code} without JSON; is it a titanic gateway?"
            )
        return values


def _quoted(key: str) -> str:
    """A string of RFC 8941. CliError for what a header cannot carry."""
    if not key.isascii() or not key.isprintable():
        raise CliError(f"--key {key!r}: a key is printable ASCII", ExitCode.WRONG_USE)
    escaped = key.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _segment(text: str) -> str:
    """``text`` as one segment of a path, whatever is in it."""
    return quote(text, safe="")


def problem_line(answer: httpx.Response) -> str:
    """One line out of a problem document (RFC 9457), or the status of what is none."""
    try:
        problem = answer.json()
    except (json.JSONDecodeError, UnicodeDecodeError):
        problem = None
    if not isinstance(problem, dict):
        return f"the server answered {answer.status_code} {answer.reason_phrase}"
    title = str(problem.get("title") or answer.reason_phrase)
    detail = str(problem.get("detail") or "")
    return " ".join(f"{answer.status_code} {title}{': ' if detail else ''}{detail}".split())


def _trace_request(request: httpx.Request) -> None:
    stamped(f"> {request.method} {request.url} {_headers(request.headers)}")


def _trace_response(response: httpx.Response) -> None:
    stamped(f"< {response.status_code} {response.reason_phrase} {_headers(response.headers)}")


def _headers(headers: httpx.Headers) -> str:
    hidden = {"authorization", "cookie", "set-cookie"}
    return " ".join(f"{key}={'***' if key in hidden else value!r}" for key, value in headers.items())
