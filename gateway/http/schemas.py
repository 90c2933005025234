"""The schemas of the OpenAPI document and their examples."""

from __future__ import annotations

from typing import Any, Final

from gateway.pure.frames import FRAMES_MAX
from gateway.pure.views import CALL_STATES

Json = dict[str, Any]

EXAMPLE_ID: Final = "019aa8e1f2e58d4c9b7a3f0d5c21e88a"
_PATH: Final = f"/v1/jobs/{EXAMPLE_ID}"
_TIME: Final = "2025-11-23T13:53:00.123Z"


def _object(description: str, properties: Json, required: list[str] | None = None) -> Json:
    return {
        "type": "object",
        "description": description,
        "properties": properties,
        "required": required if required is not None else list(properties),
    }


def _text(description: str, **more: Any) -> Json:
    return {"type": "string", "description": description, **more}


def _maybe(kind: str, description: str, **more: Any) -> Json:
    return {"type": [kind, "null"], "description": description, **more}


_ID: Final = _text("32 lower-case hexadecimal digits: a UUID, version 8.", pattern="^[0-9a-f]{32}$")
_SERVICE: Final = _text("The service that does the work.", minLength=1, maxLength=255)
_STATES: Final = ["scheduled", "queued", "running", "succeeded", "failed", "cancelled"]
_STATE: Final = _text("Where the job stands.", enum=_STATES)
_PRIORITY: Final = _text("Within its service, higher priorities run first.", enum=["low", "normal", "high"])
_COUNT: Final = {"type": "integer", "minimum": 0}
_RATE: Final = {"type": "number", "minimum": 0}
_CREATED: Final = _text("When it was accepted.", format="date-time")

SCHEMAS: Final[Json] = {
    "Links": _object(
        "Where to go on.",
        {
            "status": _text("GET: the job's status."),
            "reply": _text("GET: the job's reply."),
            "close": _text("DELETE: close the job."),
        },
    ),
    "Accepted": _object(
        "A job that is stored.",
        {
            "id": _ID,
            "service": _SERVICE,
            "state": {**_STATE, "enum": [*_STATES, "closed"]},
            "created_at": _CREATED,
            "links": {"$ref": "#/components/schemas/Links"},
        },
    ),
    "Job": _object(
        "All there is to say about a job. null: not known, or not yet.",
        {
            "id": _ID,
            "service": _SERVICE,
            "state": _STATE,
            "created_at": _CREATED,
            "attempts": {"type": "integer", "minimum": 0, "description": "Attempts begun."},
            "attempts_max": _maybe("integer", "Attempts before the job fails; 0: no end.", minimum=0),
            "content_type": _maybe("string", "Content-Type of the request."),
            "request_bytes": {"type": "integer", "minimum": 0, "description": "Size of the request."},
            "reply_bytes": _maybe("integer", "Size of the reply.", minimum=0),
            "due_at": _maybe("string", "When a scheduled job or a retry may run.", format="date-time"),
            "replied_at": _maybe("string", "When the reply was stored.", format="date-time"),
            "last_error": _maybe("string", "Why the last attempt failed."),
            "queued_before": _maybe("integer", "Jobs of the service ahead of this one.", minimum=0),
            "priority": _PRIORITY,
            "expires_at": _maybe("string", "When it is given up if no attempt began.", format="date-time"),
            "ended_at": _maybe("string", "When it succeeded, failed or was cancelled.", format="date-time"),
            "kept_until": _maybe("string", "When its retention ends and it is closed.", format="date-time"),
            "progress": _maybe("string", "The last partial result of the running attempt, as text."),
            "owner": _maybe("string", "The id of the API key that submitted it."),
            "callback": {
                "anyOf": [{"$ref": "#/components/schemas/Callback"}, {"type": "null"}],
                "description": "Whom to tell of its end; null if the submit named nobody.",
            },
            "links": {"$ref": "#/components/schemas/Links"},
        },
    ),
    "Callback": _object(
        "How far the callback of a job is.",
        {
            "url": _text("Where it goes."),
            "state": _text("`waiting` for the job's end, or what became of it.", enum=list(CALL_STATES)),
            "attempts": {**_COUNT, "description": "Deliveries tried since the job's end."},
            "next_attempt_at": _maybe("string", "When the next is tried, or could be.", format="date-time"),
            "last_attempt_at": _maybe("string", "When the last one was tried.", format="date-time"),
            "last_error": _maybe("string", "Why the last one failed."),
        },
    ),
    "JobRow": _object(
        "A job in a list: what is known of it without reading the disk. null: not known, or not yet.",
        {
            "id": _ID,
            "service": _SERVICE,
            "state": _STATE,
            "created_at": _CREATED,
            "attempts": {**_COUNT, "description": "Attempts begun."},
            "priority": _PRIORITY,
            "due_at": _maybe("string", "When a scheduled job or a retry may run.", format="date-time"),
            "ended_at": _maybe("string", "When it succeeded, failed or was cancelled.", format="date-time"),
            "last_error": _maybe("string", "Why the last attempt failed."),
            "owner": _maybe("string", "The id of the API key that submitted it."),
            "links": {"$ref": "#/components/schemas/Links"},
        },
    ),
    "JobPage": _object(
        "A page of jobs, newest first.",
        {
            "jobs": {"type": "array", "items": {"$ref": "#/components/schemas/JobRow"}},
            "next": _maybe("string", "The `cursor` of the next page; null on the last one."),
        },
    ),
    "Service": _object(
        "A service: its workers, its jobs by state, and how it goes.",
        {
            "name": _SERVICE,
            "paused": {"type": "boolean", "description": "No job of it is handed out."},
            "workers": {**_COUNT, "description": "Workers that are there."},
            "workers_idle": {**_COUNT, "description": "Those of them that wait for work."},
            "scheduled": {**_COUNT, "description": "Jobs that wait for their time, retries included."},
            "queued": {**_COUNT, "description": "Jobs that wait for a worker."},
            "running": _COUNT,
            "succeeded": {**_COUNT, "description": "Jobs whose reply is there and which are not closed."},
            "failed": {**_COUNT, "description": "Dead letters: all their attempts failed, or they expired."},
            "cancelled": _COUNT,
            "oldest_queued_at": _maybe("string", "When the oldest queued job was made.", format="date-time"),
            "accepted_per_minute": _RATE,
            "succeeded_per_minute": _RATE,
            "failed_per_minute": {**_RATE, "description": "Failed attempts."},
            "links": {"type": "object", "additionalProperties": {"type": "string"}},
        },
    ),
    "ServiceList": _object(
        "All services, sorted by name.",
        {
            "services": {"type": "array", "items": {"$ref": "#/components/schemas/Service"}},
            "now": _text("The node's time.", format="date-time"),
            "truncated": {"type": "boolean", "description": "There are more services than one answer has."},
        },
    ),
    "Store": _object(
        "The store: how full it is, what pins it, and how it lies in its file.",
        {
            "facts": {
                "type": "object",
                "description": "Counts, bytes and words, by name.",
                "additionalProperties": {"type": ["integer", "string"]},
            },
            "pins": {"type": "array", "items": {"$ref": "#/components/schemas/Pin"}},
            "chunks": {"type": "array", "items": {"$ref": "#/components/schemas/Chunk"}},
            "chunks_omitted": {**_COUNT, "description": "Chunks that are not shown."},
            "forecast": {
                "anyOf": [{"$ref": "#/components/schemas/Forecast"}, {"type": "null"}],
                "description": "How it grows; null where nobody looks.",
            },
        },
    ),
    "Forecast": _object(
        "A straight line through the last ten minutes. null: not known yet, or it does not grow.",
        {
            "needed_bytes": {**_COUNT, "description": "What open jobs need, their endings included."},
            "usable_bytes": {**_COUNT, "description": "What they can need before a submit is answered 507."},
            "growth_bytes_per_minute": _maybe("integer", "Below 0 when it shrinks."),
            "full_in_s": _maybe("integer", "When it is full at this pace.", minimum=0),
            "full_at": _maybe("string", "The same as a time.", format="date-time"),
        },
    ),
    "Pin": _object(
        "A job with a record in the oldest chunk: until it is closed or moved, the tail of the ring stays.",
        {
            "job": _ID,
            "part": _text("Which record it is.", enum=["request", "reply"]),
            "offset": {**_COUNT, "description": "Where it lies in the file."},
            "status": _text("GET: the job's status."),
        },
    ),
    "Chunk": _object(
        "A chunk of the file.",
        {
            "turn": {**_COUNT, "description": "Grows with each use of a chunk; 0: never used, or free."},
            "state": _text("What it holds.", enum=["head", "alive", "dead", "free"]),
            "alive": {**_COUNT, "description": "Records in it that are still needed."},
        },
    ),
    "NodeList": _object(
        "The nodes behind this gateway.",
        {"nodes": {"type": "array", "items": {"$ref": "#/components/schemas/Node"}}},
    ),
    "Node": _object(
        "What a node says of itself, or what its peer last heard of one that is silent. null: not known.",
        {
            "name": _maybe("string", "Which node of a pair it is: primary or backup; null: not of a pair."),
            "endpoint": _maybe("string", "Where clients and workers find it."),
            "reachable": {"type": "boolean", "description": "It answered this gateway just now."},
            "role": _text("What the node is.", enum=["single", "active", "passive", "unknown"]),
            "state": _maybe("string", "Of a pair: its state, as docs/internals/pair.md lists them."),
            "ready": {"type": "boolean"},
            "reason": _maybe("string", "Why it is not ready."),
            "version": _maybe("string", "Version of the node."),
            "epoch": _maybe("integer", "Grows with every change of the active node."),
            "durability": _maybe("string", "What an accepted job is worth."),
            "jobs": _maybe("integer", "Open jobs."),
            "started_at": _maybe("string", "When the node started.", format="date-time"),
            "sequence": _maybe("integer", "The last record of its journal."),
            "lag": _maybe(
                "integer", "Records of the active node that this one is not known to have on disk."
            ),
            "in_sync": _maybe("boolean", "It holds every acknowledged job, as far as can be known."),
            "replication": _maybe(
                "string", "When a job is acknowledged: on both disks (sync) or one (local)."
            ),
            "link_encrypted": _maybe("boolean", "The wire between the two nodes is."),
            "heard_ms_ago": _maybe("integer", "When its peer heard of it last; only if it is not reachable."),
        },
    ),
    "Frames": _object(
        "Several frames in one body.",
        {
            "frames": {
                "type": "array",
                "minItems": 1,
                "maxItems": FRAMES_MAX,
                "items": {"type": "string", "contentEncoding": "base64"},
            }
        },
    )
    | {"additionalProperties": False},
    "Problem": _object(
        "A problem document, RFC 9457. Further members depend on the type.",
        {
            "type": _text("Leads to the explanation of this kind of problem.", format="uri-reference"),
            "title": _text("The kind of problem, for people."),
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "detail": _text("What happened this time."),
            "instance": _text("The path of the request.", format="uri-reference"),
        },
    ),
    "Live": _object("The process serves requests.", {"status": {"const": "ok"}}),
    "Ready": _object(
        "The node takes work.",
        {
            "status": {"const": "ready"},
            "version": _text("Version of the node."),
            "role": _text("What the node is.", enum=["single", "active", "passive"]),
            "epoch": {"type": "integer", "description": "Grows with every change of the active node."},
            "durability": _text("What an accepted job is worth."),
            "jobs": {"type": "integer", "description": "Open jobs."},
            "started_at": _text("When the node started.", format="date-time"),
            "idempotency_key_lifetime_s": {
                **_COUNT,
                "description": "How long an Idempotency-Key is remembered, from its first use.",
            },
        },
    ),
}

LINKS_VALUE: Final[Json] = {"status": _PATH, "reply": f"{_PATH}/reply", "close": _PATH}
ACCEPTED_EXAMPLE: Final = {
    "id": EXAMPLE_ID,
    "service": "wordcount",
    "state": "queued",
    "created_at": _TIME,
    "links": LINKS_VALUE,
}
JOB_EXAMPLE: Final = {
    "id": EXAMPLE_ID,
    "service": "wordcount",
    "state": "running",
    "created_at": _TIME,
    "attempts": 1,
    "attempts_max": 25,
    "content_type": "text/plain",
    "request_bytes": 1071,
    "reply_bytes": None,
    "due_at": None,
    "replied_at": None,
    "last_error": None,
    "queued_before": None,
    "priority": "normal",
    "expires_at": None,
    "ended_at": None,
    "kept_until": None,
    "callback": None,
    "progress": None,
    "owner": None,
    "links": LINKS_VALUE,
}
ROW_EXAMPLE: Final = {
    "id": EXAMPLE_ID,
    "service": "wordcount",
    "state": "failed",
    "created_at": _TIME,
    "attempts": 25,
    "priority": "normal",
    "due_at": None,
    "ended_at": _TIME,
    "last_error": "exit status 1",
    "owner": None,
    "links": LINKS_VALUE,
}
SERVICE_EXAMPLE: Final = {
    "name": "wordcount",
    "paused": False,
    "workers": 4,
    "workers_idle": 1,
    "scheduled": 0,
    "queued": 0,
    "running": 3,
    "succeeded": 12,
    "failed": 1,
    "cancelled": 0,
    "oldest_queued_at": None,
    "accepted_per_minute": 61.5,
    "succeeded_per_minute": 60.0,
    "failed_per_minute": 0.5,
    "links": {
        "self": "/v1/services/wordcount",
        "submit": "/v1/services/wordcount/jobs",
        "batch": "/v1/services/wordcount/jobs:batch",
        "pause": "/v1/services/wordcount:pause",
        "resume": "/v1/services/wordcount:resume",
    },
}
NODE_EXAMPLE: Final = {
    "name": "primary",
    "endpoint": "tcp://10.0.0.1:5555",
    "reachable": True,
    "role": "active",
    "state": "paired",
    "ready": True,
    "reason": None,
    "version": "0.1.0",
    "epoch": 2,
    "durability": "replicated",
    "jobs": 42,
    "started_at": _TIME,
    "sequence": 4711,
    "lag": 0,
    "in_sync": True,
    "replication": "sync",
    "link_encrypted": True,
    "heard_ms_ago": None,
}

STORE_EXAMPLE: Final[Json] = {
    "facts": {"file_bytes": 67_117_056, "free_bytes": 41_943_040, "jobs": 42, "durability": "fsync"},
    "pins": [{"job": EXAMPLE_ID, "part": "request", "offset": 12_288, "status": _PATH}],
    "chunks": [{"turn": 1, "state": "alive", "alive": 41}, {"turn": 2, "state": "head", "alive": 1}],
    "chunks_omitted": 0,
    "forecast": {
        "needed_bytes": 73_400_320,
        "usable_bytes": 4_227_858_432,
        "growth_bytes_per_minute": 1_048_576,
        "full_in_s": 237_720,
        "full_at": "2025-11-26T07:55:00.000Z",
    },
}
READY_EXAMPLE: Final = {
    "status": "ready",
    "version": "0.1.0",
    "role": "single",
    "epoch": 1,
    "durability": "fsync",
    "jobs": 42,
    "started_at": _TIME,
    "idempotency_key_lifetime_s": 86_400,
}

COMPONENTS: Final[Json] = {
    "schemas": SCHEMAS,
    "examples": {
        "Accepted": {"value": ACCEPTED_EXAMPLE},
        "Job": {"value": JOB_EXAMPLE},
        "Live": {"value": {"status": "ok"}},
        "Ready": {"value": READY_EXAMPLE},
        "JobPage": {"value": {"jobs": [ROW_EXAMPLE], "next": EXAMPLE_ID}},
        "Service": {"value": SERVICE_EXAMPLE},
        "ServiceList": {"value": {"services": [SERVICE_EXAMPLE], "now": _TIME, "truncated": False}},
        "Store": {"value": STORE_EXAMPLE},
        "NodeList": {"value": {"nodes": [NODE_EXAMPLE]}},
    },
    "securitySchemes": {
        "key": {
            "type": "http",
            "scheme": "bearer",
            "description": (
                "`<key-id>.<secret>`, made by `titanic keys create`. A server without keys needs none."
            ),
        }
    },
}
"""Put into the document as they are: FastAPI would drop the nulls of examples."""
