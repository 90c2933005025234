"""One HTTP exchange on bare ASGI: reading a bounded body, sending an answer or a problem document."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

import msgspec
from starlette.types import Receive, Scope, Send

from core.errors import PeerError, ServerUnreachableError
from gateway.errors import ClientGoneError, Headers, ProblemError
from gateway.pure import problems
from gateway.pure.answers import RETRY_SOON
from gateway.pure.query import BadParametersError

REQUEST_ID: Final = b"x-request-id"
REQUEST_ID_MAX_BYTES: Final = 128
LINGER_S: Final = 2.0
LINGER_BYTES: Final = 64 * 1024 * 1024

_LOG: Final = logging.getLogger("titanic.gateway")
_NO_STORE: Final = (b"cache-control", b"no-store")


async def read_body(receive: Receive, declared: bytes | None, limit_bytes: int) -> bytes:
    """The request's whole body. Raises ProblemError (413) before more than the limit is kept.

    ``declared`` is the Content-Length, if there is one. Raises ClientGoneError.
    """
    if declared is not None and int(declared) > limit_bytes:
        raise _too_large(limit_bytes, f"The body has {int(declared)} bytes")
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGoneError("the client closed its connection while it sent its body")
    body: bytes = message.get("body", b"")
    if message.get("more_body", False) or len(body) > limit_bytes:
        return await _read_rest(receive, body, limit_bytes)
    return body


async def _read_rest(receive: Receive, first: bytes, limit_bytes: int) -> bytes:
    parts, size, more = [first], len(first), True
    while True:
        if size > limit_bytes:
            raise _too_large(limit_bytes, f"The body has more than {limit_bytes} bytes")
        if not more:
            return b"".join(parts)
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError("the client closed its connection while it sent its body")
        part: bytes = message.get("body", b"")
        parts.append(part)
        size += len(part)
        more = message.get("more_body", False)


def _too_large(limit_bytes: int, what: str) -> ProblemError:
    return ProblemError(
        problems.BODY_TOO_LARGE,
        f"{what}; the limit is {limit_bytes}.",
        extra={"limit_bytes": limit_bytes},
        headers=((b"connection", b"close"),),
    )


def echoed(request_id: bytes | None) -> Headers:
    """The X-Request-ID to send back: the client's own, if it is short printable ASCII."""
    if request_id is None or len(request_id) > REQUEST_ID_MAX_BYTES:
        return ()
    if not request_id or not (request_id.isascii() and request_id.decode("ascii").isprintable()):
        return ()
    return ((REQUEST_ID, request_id),)


def as_problem(error: Exception, scope: Scope) -> ProblemError:
    """The problem that ends a request after ``error``; what nobody foresaw is logged under an id."""
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, BadParametersError):
        faults = [{"parameter": fault.parameter, "detail": fault.detail} for fault in error.faults]
        return ProblemError(problems.BAD_PARAMETER, str(error), extra={"errors": faults})
    if isinstance(error, ServerUnreachableError):
        return ProblemError(problems.NODE_UNREACHABLE, str(error), headers=RETRY_SOON)
    if isinstance(error, PeerError | msgspec.MsgspecError):
        return ProblemError(problems.BAD_ANSWER, str(error))
    headers: Mapping[bytes, bytes] = dict(scope["headers"])
    given = echoed(headers.get(REQUEST_ID))
    request_id = given[0][1].decode("ascii") if given else uuid.uuid4().hex
    _LOG.error(
        "request %s failed: %s %s",
        request_id,
        scope["method"],
        scope["path"],
        exc_info=error,
        extra={"request_id": request_id},
    )
    detail = "The gateway met a defect of its own; it is logged under request_id."
    return ProblemError(problems.INTERNAL, detail, extra={"request_id": request_id})


def instance_of(scope: Scope) -> str:
    """The path of the request as a URI reference (RFC 3986), whatever the client wrote there."""
    return quote(scope["path"], safe="/:@!$&'()*+,;=~")


def render(problem: ProblemError, scope: Scope) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """The problem document and its headers, without X-Request-ID."""
    body = problems.encode(problem.kind, problem.detail, instance_of(scope), problem.extra)
    headers = [
        (b"content-type", problems.MEDIA_TYPE),
        (b"content-length", b"%d" % len(body)),
        _NO_STORE,
        *problem.headers,
    ]
    return body, headers


async def send_problem(error: Exception, scope: Scope, receive: Receive, send: Send) -> int:
    """Answer with the problem that ``error`` stands for; returns its status."""
    problem = as_problem(error, scope)
    body, headers = render(problem, scope)
    if all(name != REQUEST_ID for name, _ in problem.headers):
        headers.extend(echoed(dict(scope["headers"]).get(REQUEST_ID)))
    await send({"type": "http.response.start", "status": problem.kind.status, "headers": headers})
    if problem.kind is problems.BODY_TOO_LARGE:
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await _linger(receive)
        body = b""
    await send({"type": "http.response.body", "body": body})
    return problem.kind.status


async def _linger(receive: Receive) -> None:
    """Throw away, for a while, what the client still sends.

    Closing at once would reset the connection, and the client might never see why (RFC 9112, 9.6).
    """
    size = 0
    try:
        async with asyncio.timeout(LINGER_S):
            while size < LINGER_BYTES:
                message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
                size += len(message.get("body", b""))
    except TimeoutError:
        return  # it had its time
