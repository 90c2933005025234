"""Every call of the client, written once: generators that yield a request and are sent its response.

They do no IO and know no clock; :mod:`gateway.client.clients` drives them, waiting or awaiting. Two
hand-written clients were refused: one of them is always behind.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from gateway.client.values import (
    Accepted,
    ClientError,
    Job,
    JobFailedError,
    Options,
    Page,
    Problem,
    ProblemError,
    Reply,
    UnreachableError,
)

RETRIES: Final = 4
RETRY_AFTER_MAX_S: Final = 30.0
BACKOFF_S: Final = 0.2
POLL_S: Final = 20
RETRIED: Final = (429, 503, 507)
"""Refusals that say when to come again."""


class Ask(NamedTuple):
    """A request to send now."""

    method: str
    path: str
    content: bytes | None = None
    headers: Mapping[str, str] = {}
    params: Mapping[str, str] = {}


class Pause(NamedTuple):
    """Let this much time pass."""

    seconds: float


class Lost(NamedTuple):
    """Sent instead of a response: nobody answered."""

    reason: str


Step = Ask | Pause
Answer = httpx.Response | Lost | None
T = TypeVar("T")
Call = Generator[Step, Answer, T]


def _once(ask: Ask) -> Call[httpx.Response]:
    answer = yield ask
    if isinstance(answer, httpx.Response):
        return answer
    reason = answer.reason if isinstance(answer, Lost) else "no answer"
    raise UnreachableError(f"{ask.method} {ask.path}: {reason}")


def _patiently(ask: Ask) -> Call[httpx.Response]:
    """Repeat what may be repeated: everything here is idempotent, submits by their key."""
    for attempt in range(RETRIES):
        try:
            answer = yield from _once(ask)
        except UnreachableError:
            yield Pause(BACKOFF_S * 2**attempt)
            continue
        if answer.status_code not in RETRIED:
            return answer
        after = answer.headers.get("retry-after", "")
        yield Pause(min(RETRY_AFTER_MAX_S, float(after)) if after.isdigit() else BACKOFF_S * 2**attempt)
    return (yield from _once(ask))


def _expect(answer: httpx.Response, *statuses: int) -> httpx.Response:
    if answer.status_code in statuses:
        return answer
    try:
        problem = msgspec.json.decode(answer.content, type=Problem)
    except msgspec.MsgspecError:
        raise ClientError(
            f"{answer.status_code} without a problem document; is it a titanic gateway?"
        ) from None
    if problem.type in ("/problems#job-failed", "/problems#job-cancelled"):
        raise JobFailedError(problem)
    raise ProblemError(problem)


def _decode(answer: httpx.Response, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(answer.content, type=kind)
    except msgspec.MsgspecError as error:
        raise ClientError(f"an answer that makes no sense: {error}") from error


def _params(options: Options | None) -> dict[str, str]:
    given: dict[str, Any] = msgspec.to_builtins(options) if options is not None else {}
    return {name: str(value) for name, value in given.items()}


def _segment(text: str) -> str:
    return quote(text, safe="")


def submit(
    service: str, body: bytes, content_type: str, idempotency_key: str, options: Options | None
) -> Call[Accepted]:
    """A stored job; repeated under its key until it is."""
    headers = {"Content-Type": content_type, "Idempotency-Key": f'"{idempotency_key}"'}
    path = f"/v1/services/{_segment(service)}/jobs"
    answer = _expect((yield from _patiently(Ask("POST", path, body, headers, _params(options)))), 202)
    return msgspec.structs.replace(
        _decode(answer, Accepted),
        durability=answer.headers.get("titanic-durability", ""),
        replayed=answer.headers.get("idempotent-replayed") == "true",
    )


def batch(
    service: str, lines: Iterable[bytes], idempotency_key: str, options: Options | None
) -> Call[list[Accepted | Problem]]:
    """What became of each line, in order."""
    headers = {"Content-Type": "application/x-ndjson", "Idempotency-Key": f'"{idempotency_key}"'}
    path = f"/v1/services/{_segment(service)}/jobs:batch"
    content = b"".join(line + b"\n" for line in lines)
    answer = _expect((yield from _patiently(Ask("POST", path, content, headers, _params(options)))), 202)
    durability = answer.headers.get("titanic-durability", "")
    found: list[Accepted | Problem] = []
    for line in answer.content.splitlines():
        raw = msgspec.json.decode(line)
        if "title" in raw:
            found.append(msgspec.convert(raw, Problem))
        else:
            found.append(msgspec.convert({**raw, "durability": durability}, Accepted))
    return found


def reply(id_: str, wait_s: int) -> Call[Reply | None]:
    """The reply, None while there is none. Raises JobFailedError."""
    headers = {"Prefer": f"wait={wait_s}"} if wait_s else {}
    answer = yield from _patiently(Ask("GET", f"/v1/jobs/{_segment(id_)}/reply", headers=headers))
    if _expect(answer, 200, 202).status_code == 202:
        return None
    return Reply(answer.content, answer.headers.get("content-type", ""))


def wait(id_: str, polls: int) -> Call[Reply | None]:
    """The reply after at most so many long-polls, None if there is none then."""
    for _ in range(polls):
        found = yield from reply(id_, POLL_S)
        if found is not None:
            return found
    return None


def job(method: str, id_: str, verb: str = "") -> Call[Job]:
    """The job's status, after ``verb`` was done."""
    answer = yield from _patiently(Ask(method, f"/v1/jobs/{_segment(id_)}{verb}"))
    return _decode(_expect(answer, 200), Job)


def close(id_: str) -> Call[None]:
    """The job and its bytes are gone."""
    _expect((yield from _patiently(Ask("DELETE", f"/v1/jobs/{_segment(id_)}"))), 204)


def jobs(service: str, state: str, limit: int, cursor: str) -> Call[Page]:
    """A page of jobs, newest first."""
    given = {"service": service, "state": state, "limit": str(limit), "cursor": cursor}
    params = {name: value for name, value in given.items() if value}
    return _decode(_expect((yield from _patiently(Ask("GET", "/v1/jobs", params=params))), 200), Page)
