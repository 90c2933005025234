"""From an HTTP submit to what the node is asked to store, and from a batch's answer to its lines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from core.pure import tsp
from core.pure.jobs import RequestMeta
from gateway.errors import ProblemError
from gateway.pure import idempotency, problems
from gateway.pure.answers import problem_of
from gateway.pure.keys import Caller
from gateway.pure.packing import Stored
from gateway.pure.query import DEFAULTS, SubmitOptions
from gateway.pure.trace import traceparent
from gateway.pure.views import AcceptedView

CONTENT_TYPE_MAX_BYTES: Final = 255
BATCH_TYPE: Final = b"application/x-ndjson"
LINE_TYPE: Final = "application/json"

Headers = Mapping[bytes, bytes]


def content_type_of(headers: Headers) -> bytes:
    """The Content-Type header. Raises ProblemError (400) if it is absurdly long."""
    content_type = headers.get(b"content-type", b"")
    if len(content_type) > CONTENT_TYPE_MAX_BYTES:
        detail = f"Content-Type has {len(content_type)} bytes; the limit is {CONTENT_TYPE_MAX_BYTES}."
        raise ProblemError(problems.BAD_HEADER, detail)
    return content_type


def binding_of(headers: Headers, caller: Caller, service: bytes) -> bytes:
    """Where the node keeps the request's Idempotency-Key, b"" if it has none. Raises ProblemError (400)."""
    value = headers.get(b"idempotency-key")
    if value is None:
        return b""
    try:
        return idempotency.binding(caller.owner, service, idempotency.parse_key(value))
    except ValueError as error:
        raise ProblemError(problems.BAD_HEADER, str(error)) from error


def request_meta(
    service: bytes,
    content_type: str,
    options: SubmitOptions,
    caller: Caller,
    headers: Headers,
    *,
    now_ms: int,
    binding: bytes = b"",
    fingerprint: bytes = b"",
) -> RequestMeta:
    """What the node stores with the frames: delays become times, as of ``now_ms``."""
    trace = headers.get(b"traceparent")
    return RequestMeta(
        service,
        0,
        content_type,
        (),
        options.priority,
        options.timeout_ms,
        options.attempts_max,
        max(now_ms + options.delay_ms, options.not_before_ms) if options.delay_ms else options.not_before_ms,
        now_ms + options.expires_after_ms if options.expires_after_ms else 0,
        options.retention_ms,
        caller.owner,
        binding,
        traceparent(trace) if trace is not None else "",
        options.callback,
        fingerprint,
    )


def plain_meta(service: bytes, content_type: str, caller: Caller) -> RequestMeta:
    """:func:`request_meta` of a request without options, key or trace."""
    return request_meta(service, content_type, DEFAULTS, caller, {}, now_ms=0)


def batch_lines(body: bytes, lines_max: int) -> list[bytes]:
    """The lines of an NDJSON body, without their ends; empty ones are none. Raises ProblemError (400)."""
    lines = [line.removesuffix(b"\r") for line in body.split(b"\n")]
    lines = [line for line in lines if line]
    if not 1 <= len(lines) <= lines_max:
        detail = f"The batch has {len(lines)} lines; there must be 1 to {lines_max}."
        raise ProblemError(problems.BAD_BATCH, detail)
    return lines


def too_large(size_bytes: int, limit_bytes: int) -> ProblemError:
    """The problem of one line that no job can hold."""
    detail = f"The line has {size_bytes} bytes; the limit is {limit_bytes}."
    return ProblemError(problems.BODY_TOO_LARGE, detail, extra={"limit_bytes": limit_bytes})


def line_problem(line: tsp.BatchLine) -> ProblemError:
    """The problem of a line that the node refused."""
    if line.status == int(tsp.CONFLICT):
        return ProblemError(problems.NODE_ERROR, "The new id was taken; submit the job again.")
    return problem_of((b"%03d" % line.status, tsp.encode_head(tsp.ErrorHead(line.detail))))


def encode_lines(
    refused: Mapping[int, ProblemError], stored: Stored | None, service_json: bytes, instance: str
) -> bytes:
    """A batch's answer: a line per line of the request, each what a single submit would have been answered.

    ``refused`` are those that were not sent to the node; ``stored`` says what became of the others.
    """
    if stored is not None and not stored.lines:
        lines: Iterable[bytes] = _accepted.encode_many(
            stored.keys, service_json, stored.state, stored.created_ms
        )
        if not refused:
            return b"".join(lines)
        count = len(refused) + len(stored.keys)
    else:
        found = stored.lines if stored is not None else ()
        lines = [_encode_line(line, stored, service_json, instance) for line in found]
        count = len(refused) + len(found)
    answered = iter(lines)
    return b"".join(
        _problem_line(refused[at], instance) if at in refused else next(answered) for at in range(count)
    )


def _encode_line(line: tsp.BatchLine, stored: Stored | None, service_json: bytes, instance: str) -> bytes:
    if line.status == int(tsp.OK):
        assert stored is not None, "a line is acknowledged by a batch"
        document = _accepted.encode(line.key.hex().encode(), service_json, line.state, stored.created_ms)
        return document + b"\n"
    return _problem_line(line_problem(line), instance)


def _problem_line(problem: ProblemError, instance: str) -> bytes:
    return problems.encode(problem.kind, problem.detail, instance, problem.extra) + b"\n"


_accepted: Final = AcceptedView()
