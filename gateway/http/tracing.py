"""OpenTelemetry spans of HTTP requests. Imported only where tracing is switched on: the package is optional.

A request's span is a child of the caller's, if it sent a ``traceparent``, and takes its place in the
request's headers: so a job is stored with the context of the submit that made it. Submits under a span of
their own are not grouped on their way to the node; that is the price of seeing each.
"""

from __future__ import annotations

from typing import Final

import msgspec
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, Tracer, get_current_span
from starlette.types import Message, Scope, Send

from core.errors import CoreError
from core.pure import tsp
from core.shell.trace_context import context_of, traceparent_of
from gateway.errors import ProblemError
from gateway.http.exchange import instance_of
from gateway.http.node import Node
from gateway.pure.target import REPLY, job_key

TRACEPARENT: Final = b"traceparent"
JOBS: Final = b"/v1/jobs/"


class HttpSpans:
    """Begins a span per request. ``node`` is asked for the trace of a job whose reply was fetched."""

    def __init__(self, tracer: Tracer, node: Node) -> None:
        self._tracer = tracer
        self._node = node

    def begin(self, scope: Scope) -> RequestSpan:
        """The span of a request that comes in; ``scope`` has its context afterwards."""
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        given = next((value for name, value in headers if name == TRACEPARENT), b"").decode("latin-1")
        span = self._tracer.start_span(
            scope["method"],
            context_of(given),
            SpanKind.SERVER,
            {"http.request.method": scope["method"], "url.path": instance_of(scope)},
        )
        own = traceparent_of(span)
        if own and (span.is_recording() or given):
            kept = [pair for pair in headers if pair[0] != TRACEPARENT]
            scope["headers"] = [*kept, (TRACEPARENT, own.encode("ascii"))]
        return RequestSpan(span, self._node)


class RequestSpan:
    """One request's span, until :meth:`end`."""

    def __init__(self, span: Span, node: Node) -> None:
        self._span = span
        self._node = node
        self._job = b""

    def watching(self, send: Send) -> Send:
        """``send``, listening for the job that a submit made."""

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                for name, value in message.get("headers", ()):
                    if name == b"location" and value.startswith(JOBS):
                        self._job = value[len(JOBS) :]
            await send(message)

        return watched

    async def end(self, scope: Scope, operation: str, route: str, status: int) -> None:
        """The answer is sent, or nobody is there to receive it."""
        span = self._span
        span.update_name(f"{scope['method']} {route}")
        span.set_attribute("http.route", route)
        span.set_attribute("http.response.status_code", status)
        if status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        if self._job:
            span.set_attribute("titanic.job.id", self._job.decode("ascii"))
        if operation == REPLY and span.is_recording():
            await self._link(scope["raw_path"][len(JOBS) :].partition(b"/")[0])
        span.end()

    async def _link(self, argument: bytes) -> None:
        """Whoever fetches a reply is in a trace of its own: a link leads to the job's."""
        key = job_key(argument)
        if key is None:
            return
        self._span.set_attribute("titanic.job.id", key.hex())
        try:
            answer = await self._node.look(tsp.STATUS, key)
            found = tsp.decode_status(answer[1]).traceparent if answer[0] == tsp.OK else ""
        except (CoreError, ProblemError, msgspec.MsgspecError):
            return  # a trace without this link is worth no error
        linked = get_current_span(context_of(found)).get_span_context()
        if linked.is_valid:
            self._span.add_link(linked, Link(linked).attributes)
