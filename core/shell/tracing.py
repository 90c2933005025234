"""OpenTelemetry spans of attempts: at the node from dispatch to end, at the worker around its handler.

Imported only where tracing is switched on: the package is optional. ``docs/guides/tracing.md`` names the
spans.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

import msgspec
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.util.types import AttributeValue

from core.pure.events import Step
from core.pure.jobs import Job, RequestMeta
from core.pure.worker_job import Handler, WorkerJob, is_async, reason_of
from core.shell.trace_context import context_of, traceparent_of

OUTCOMES: Final = {
    Step.SUCCEEDED: "succeeded",
    Step.RETRYING: "failed",
    Step.FAILED: "failed",
    Step.CANCELLED: "cancelled",
    Step.CLOSED: "closed",
}
"""The events that end an attempt, if one runs."""


class NodeSpans:
    """A span ``dispatch SERVICE`` for each attempt; satisfies AttemptSpans of the Titanic shell."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._open: dict[bytes, Span] = {}

    def started(self, job: Job, meta: RequestMeta) -> str:
        """See AttemptSpans. What the worker does becomes a child of the attempt."""
        service = job.service.decode("ascii", "backslashreplace")
        span = self._tracer.start_span(
            f"dispatch {service}",
            context_of(meta.traceparent),
            SpanKind.PRODUCER,
            {"titanic.job.id": job.key.hex(), "titanic.service": service, "titanic.attempt": job.attempt},
        )
        self._open[job.key] = span
        return traceparent_of(span) or meta.traceparent

    def happened(self, step: int, job: Job, detail: str) -> None:
        """See AttemptSpans."""
        outcome = OUTCOMES.get(step)
        span = self._open.pop(job.key, None) if outcome is not None else None
        if span is None:
            return
        span.set_attribute("titanic.outcome", str(outcome))
        if outcome == "failed":
            span.set_status(Status(StatusCode.ERROR, detail))
        span.end()


def traced(handler: Handler, tracer: Tracer) -> Handler:
    """``handler`` within a span ``process SERVICE``, a child of the attempt; its job has that context."""
    if is_async(handler):

        async def awaited(job: WorkerJob) -> Any:
            with _span(tracer, job) as span:
                return await _failing(span, job, handler)

        return awaited

    def run(job: WorkerJob) -> Any:
        with _span(tracer, job) as span:
            try:
                return handler(_within(span, job))
            except BaseException as error:
                _failed(span, error)
                raise

    return run


async def _failing(span: Span, job: WorkerJob, handler: Callable[[WorkerJob], Any]) -> Sequence[bytes]:
    try:
        result: Sequence[bytes] = await handler(_within(span, job))
        return result
    except BaseException as error:
        _failed(span, error)
        raise


def _span(tracer: Tracer, job: WorkerJob) -> AbstractContextManager[Span]:
    attributes: dict[str, AttributeValue] = {"titanic.service": job.service, "titanic.attempt": job.attempt}
    if job.id:
        attributes["titanic.job.id"] = job.id
    return tracer.start_as_current_span(
        f"process {job.service}",
        context_of(job.traceparent),
        SpanKind.CONSUMER,
        attributes,
        record_exception=False,
        set_status_on_exception=False,
    )


def _within(span: Span, job: WorkerJob) -> WorkerJob:
    return msgspec.structs.replace(job, traceparent=traceparent_of(span) or job.traceparent)


def _failed(span: Span, error: BaseException) -> None:
    """The reason that the job gets; no stack and no value: either may hold what the job holds."""
    span.set_status(Status(StatusCode.ERROR, reason_of(error)))
