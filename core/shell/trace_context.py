"""From a ``traceparent`` to OpenTelemetry's context and back; imported only where tracing is switched on."""

from __future__ import annotations

from typing import Final

from opentelemetry.context import Context
from opentelemetry.propagators.textmap import default_getter
from opentelemetry.trace import Span
from opentelemetry.trace.propagation import tracecontext

_propagator: Final = tracecontext.TraceContextTextMapPropagator()


def context_of(traceparent: str) -> Context:
    """The context to begin a span in; an empty one if there is no trace."""
    return _propagator.extract({"traceparent": traceparent}, Context(), default_getter)


def traceparent_of(span: Span) -> str:
    """The ``traceparent`` of what happens within ``span``, "" if it has no valid context."""
    found = span.get_span_context()
    if not found.is_valid:
        return ""
    return f"00-{found.trace_id:032x}-{found.span_id:016x}-{int(found.trace_flags):02x}"
