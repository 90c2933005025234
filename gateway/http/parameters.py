"""The parameters of the OpenAPI document: path, query and header."""

from __future__ import annotations

from typing import Any, Final

from core.pure.tsp import CALLBACK_MAX_CHARS
from gateway.http.schemas import EXAMPLE_ID
from gateway.pure.negotiate import FRAMES_TYPE
from gateway.pure.query import ATTEMPTS_LIMIT, LIST_DEFAULT, LIST_MAX, STATES

Json = dict[str, Any]

FRAMES: Final = FRAMES_TYPE.decode()
_DURATION: Final = "such as `30s`, `5m`, `1h30m`, `7d` or ISO 8601 `PT30S`"


def _parameter(where: str, name: str, description: str, schema_: Json, **more: Any) -> Json:
    """One parameter. The docs fill in the example only of those that a request must have."""
    if where != "path" and "example" in more:
        schema_ = {**schema_, "examples": [more.pop("example")]}
    required = {"required": True} if where == "path" else {}
    return {"name": name, "in": where, **required, "description": description, "schema": schema_, **more}


ID: Final = _parameter(
    "path",
    "id",
    "The job's id; upper case and the dashes of a UUID are accepted.",
    {"type": "string", "pattern": "^([0-9A-Fa-f]{32}|[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})$"},
    example=EXAMPLE_ID,
)
SERVICE: Final = _parameter(
    "path",
    "service",
    "The service that shall do the work: 1 to 255 printable ASCII characters without `/`, not beginning with "
    "`mmi.` or `titanic.`. It need not have workers yet.",
    {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -.0-~]+$"},
    example="wordcount",
)
PREFER: Final = _parameter(
    "header",
    "Prefer",
    "`wait=N`: wait up to N seconds for the job to end (RFC 7240). Anything else is ignored.",
    {"type": "string"},
    example="wait=10",
)
REQUEST_ID: Final = _parameter(
    "header",
    "X-Request-ID",
    "Sent back as it is, if it is at most 128 printable ASCII characters.",
    {"type": "string"},
)
TIMEOUT: Final = _parameter(
    "query",
    "timeout",
    f"How long one attempt may take, 1ms to 7d, {_DURATION}. Without it, the server's default.",
    {"type": "string"},
    example="5m",
)
ATTEMPTS: Final = _parameter(
    "query",
    "attempts",
    "Attempts before the job fails; 0: try for ever. Without it, the server's default.",
    {"type": "integer", "minimum": 0, "maximum": ATTEMPTS_LIMIT},
    example=5,
)
DURABILITY: Final = _parameter(
    "header",
    "Titanic-Durability",
    "The least durability that is good enough. Less is refused with 503, and nothing is stored.",
    {"type": "string", "enum": ["replicated", "fsync", "interval", "memory"]},
)
ACCEPT: Final = _parameter(
    "header",
    "Accept",
    f"Name `{FRAMES}` to get the reply as frames even if it is a single one.",
    {"type": "string"},
)
IF_NONE_MATCH: Final = _parameter(
    "header", "If-None-Match", "The `ETag` of an earlier answer: 304 if nothing changed.", {"type": "string"}
)
DELAY: Final = _parameter(
    "query",
    "delay",
    f"The first attempt begins no sooner than this after the acceptance, up to 366d, {_DURATION}.",
    {"type": "string"},
    example="10s",
)
NOT_BEFORE: Final = _parameter(
    "query",
    "not_before",
    "The first attempt begins no sooner than at this time (RFC 3339, with its zone). Not together with "
    "`delay`.",
    {"type": "string"},
    example="2025-11-23T14:00:00Z",
)
EXPIRES: Final = _parameter(
    "query",
    "expires",
    f"The job fails if no attempt began within this time of the acceptance, up to 366d, {_DURATION}.",
    {"type": "string"},
    example="1h",
)
RETENTION: Final = _parameter(
    "query",
    "retention",
    f"The job is closed by itself this long after its end, up to 366d, {_DURATION}. Without it, the server's "
    "default.",
    {"type": "string"},
    example="7d",
)
PRIORITY: Final = _parameter(
    "query",
    "priority",
    "Within its service, higher priorities run first.",
    {"type": "string", "enum": ["low", "normal", "high"], "default": "normal"},
)
CALLBACK: Final = _parameter(
    "query",
    "callback",
    "An http or https URL to which the job's end is posted, signed as Standard Webhooks has it: at least "
    "once, with retries for about 16 hours unless the server is set otherwise. The status of the job says "
    "how far that is. Private, loopback and link-local targets are refused unless the server allows them.",
    {"type": "string", "format": "uri", "maxLength": CALLBACK_MAX_CHARS, "pattern": "^https?://[^#@ ]+$"},
    example="https://shop.example/hooks/titanic",
)
OPTIONS: Final = (TIMEOUT, ATTEMPTS, PRIORITY, DELAY, NOT_BEFORE, EXPIRES, RETENTION, CALLBACK)
IDEMPOTENCY_KEY: Final = _parameter(
    "header",
    "Idempotency-Key",
    "Makes the request repeatable: the same key with the same request, by the same caller and for the same "
    "service, is answered with the first job again. A quoted string or a token of at most 255 bytes, "
    "remembered for 24 hours unless `/readyz` says otherwise.",
    {"type": "string", "maxLength": 255},
    example='"order-4711"',
)
TRACEPARENT: Final = _parameter(
    "header",
    "Traceparent",
    "W3C trace context: stored with the job.",
    {"type": "string"},
)
LIST_SERVICE: Final = _parameter(
    "query",
    "service",
    "Only jobs of this service.",
    {"type": "string", "minLength": 1, "maxLength": 255},
)
LIST_STATE: Final = _parameter(
    "query", "state", "Only jobs in this state.", {"type": "string", "enum": list(STATES)}
)
LIST_LIMIT: Final = _parameter(
    "query",
    "limit",
    "The most jobs of a page.",
    {"type": "integer", "minimum": 1, "maximum": LIST_MAX, "default": LIST_DEFAULT},
)
LIST_CURSOR: Final = _parameter(
    "query",
    "cursor",
    "The `next` of the page before.",
    {"type": "string", "pattern": "^([0-9a-f]{2}){1,64}$"},
)
EVENTS_SERVICE: Final = _parameter(
    "query",
    "service",
    "Only events of this service.",
    {"type": "string", "minLength": 1, "maxLength": 255},
)
LAST_EVENT_ID: Final = _parameter(
    "header",
    "Last-Event-ID",
    "The `id` of the last event that was seen: the stream goes on behind it. Without it, from now.",
    {"type": "string", "pattern": "^[0-9]{1,18}$"},
)
