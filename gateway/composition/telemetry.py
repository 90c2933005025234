"""Switching OpenTelemetry on: ``TITANIC_OTEL=1``, and the package's own ``OTEL_*`` variables for the rest."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from gateway.composition.settings import Settings, SettingsError

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

    from core.shell.tracing import NodeSpans


def tracer(settings: Settings, role: str) -> Tracer | None:
    """The tracer of this process, whose spans go to ``OTEL_EXPORTER_OTLP_ENDPOINT`` over HTTP; None: off.

    Off, nothing of the package is imported. ``role`` (gateway, node, worker) becomes the service's name
    unless ``OTEL_SERVICE_NAME`` says another. Raises SettingsError if it is on and not installed.
    """
    if not settings.otel:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise SettingsError(
            f"otel is on, but not installed: pip install 'titanic-jobs[otel]' ({error})"
        ) from None
    number = version("titanic-jobs")
    named = Resource({"service.name": f"titanic-{role}", "service.version": number})
    # What is found in the environment wins, as everywhere else in OpenTelemetry.
    provider = TracerProvider(resource=named.merge(Resource.create({"service.name": f"titanic-{role}"})))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider.get_tracer("titanic", number)


def node_spans(settings: Settings) -> NodeSpans | None:
    """What a node tells of its attempts; None: off. Raises SettingsError."""
    found = tracer(settings, "node")
    if found is None:
        return None
    from core.shell.tracing import NodeSpans

    return NodeSpans(found)
