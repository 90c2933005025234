"""The words of the OpenAPI document: schemas, parameters, answers, examples and links.

The three operations of the hot path have no FastAPI signature to read these from, so they are written out;
the others use the same pieces, so that the document reads as one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gateway.pure import problems
from gateway.pure.frames import FRAMES_MAX
from gateway.pure.negotiate import FRAMES_TYPE
from gateway.pure.problems import ProblemKind
from gateway.pure.query import ATTEMPTS_LIMIT

Json = dict[str, Any]

FRAMES: Final = FRAMES_TYPE.decode()
PROBLEM: Final = problems.MEDIA_TYPE.decode()
EXAMPLE_ID: Final = "019aa8e1f2e58d4c9b7a3f0d5c21e88a"
_PATH: Final = f"/v1/jobs/{EXAMPLE_ID}"
_TIME: Final = "2025-11-23T13:53:00.123Z"

TITLE: Final = "Titanic: durable jobs over HTTP"
SUMMARY: Final = "Post bytes, get an id once they are on disk, fetch the reply whenever it is there."
DESCRIPTION: Final = """\
Post the body of a job to a named service. The answer is `202` and an id, and it leaves the server only
**after the job is on disk**. A worker does the work, whenever one is there; delivery is *at least once*,
so workers are idempotent. Fetch the reply by id as often as you like, and close the job when you have it.

```sh
curl -i --data-binary @LICENSE http://127.0.0.1:8080/v1/services/wordcount/jobs   # 202 and Location
curl http://127.0.0.1:8080/v1/jobs/ID/reply            # 202 while there is none, then 200 and the reply
curl -X DELETE http://127.0.0.1:8080/v1/jobs/ID        # 204: closed
```

**Bodies are opaque.** Requests and replies are bytes with a `Content-Type`; nothing looks inside. Several
frames in one body travel as `application/vnd.titanic.frames+json`.

**Waiting.** `Prefer: wait=10` on a submit answers `200` with the reply itself if it comes in time; on reply
and status it is a long-poll. `Preference-Applied` says how long the server was willing to wait.

**Errors** are problem documents (RFC 9457). The `type` of each leads to its explanation at
[/problems](/problems).

**Durability.** Every accepted job says in `Titanic-Durability` what its `202` is worth, and a client may
demand a level in the same header of its request.
"""

TAGS: Final = [
    {"name": "jobs", "description": "Submit work, look at it, fetch its reply, close it."},
    {"name": "operations", "description": "Is the server alive, is it ready, what does it count?"},
]


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
            "state": _STATE,
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
            "links": {"$ref": "#/components/schemas/Links"},
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
        },
    ),
}

_LINKS_VALUE: Final = {"status": _PATH, "reply": f"{_PATH}/reply", "close": _PATH}
ACCEPTED_EXAMPLE: Final = {
    "id": EXAMPLE_ID,
    "service": "wordcount",
    "state": "queued",
    "created_at": _TIME,
    "links": _LINKS_VALUE,
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
    "links": _LINKS_VALUE,
}

READY_EXAMPLE: Final = {
    "status": "ready",
    "version": "0.1.0",
    "role": "single",
    "epoch": 1,
    "durability": "fsync",
    "jobs": 42,
    "started_at": _TIME,
}

COMPONENTS: Final[Json] = {
    "schemas": SCHEMAS,
    "examples": {
        "Accepted": {"value": ACCEPTED_EXAMPLE},
        "Job": {"value": JOB_EXAMPLE},
        "Live": {"value": {"status": "ok"}},
        "Ready": {"value": READY_EXAMPLE},
    },
}
"""Put into the document as they are: FastAPI would drop the nulls of examples."""

_DETAILS: Final[Mapping[ProblemKind, str]] = {
    problems.MALFORMED_ID: "A job id is 32 hexadecimal digits.",
    problems.BAD_SERVICE: "names that begin with 'mmi.' or 'titanic.' are the broker's own",
    problems.BAD_PARAMETER: "retries: unknown; a submit takes timeout and attempts",
    problems.BAD_HEADER: "Content-Type has 300 bytes; the limit is 255.",
    problems.BAD_FRAMES: "0 frames; there must be 1 to 64",
    problems.NEVER_ISSUED: "This id was never issued here.",
    problems.NOT_ACCEPTABLE: "The reply has 2 frames, and Accept rules out the type that carries them.",
    problems.JOB_FAILED: "The job failed after 25 attempts: exit status 1",
    problems.JOB_CANCELLED: "The job was cancelled.",
    problems.JOB_GONE: "This job is closed; its request and reply are deleted.",
    problems.BODY_TOO_LARGE: "The body has 9000000 bytes; the limit is 8388608.",
    problems.INTERNAL: "The gateway met a defect of its own; it is logged under request_id.",
    problems.NODE_ERROR: "damaged record: reply at 4096",
    problems.BAD_ANSWER: "answer without a status",
    problems.NODE_UNREACHABLE: "no answer within 5 s",
    problems.NODE_NOT_READY: "replaying the journal: 41 %",
    problems.LESS_DURABLE: "The request demands durability 'replicated'; the node offers 'fsync'.",
    problems.STORE_FULL: "the store is full: need 4096 bytes, 512 free",
}
_EXTRA: Final[Mapping[ProblemKind, Json]] = {
    problems.BAD_PARAMETER: {
        "errors": [{"parameter": "retries", "detail": "unknown; a submit takes timeout and attempts"}]
    },
    problems.BODY_TOO_LARGE: {"limit_bytes": 8_388_608},
    problems.INTERNAL: {"request_id": "6e7a1c0c2f3b4a5d8e9f001122334455"},
    problems.JOB_FAILED: {
        "id": EXAMPLE_ID,
        "service": "wordcount",
        "state": "failed",
        "attempts": 25,
        "attempts_max": 25,
        "last_error": "exit status 1",
        "links": _LINKS_VALUE,
    },
}

RETRY_AFTER: Final = {
    "description": (
        "Seconds after which it is worth asking again: from the service's measured pace, queue and workers."
    ),
    "schema": {"type": "integer", "minimum": 1},
}
APPLIED: Final = {
    "description": "`wait=N`: how long the server was willing to wait.",
    "schema": {"type": "string"},
}
RECEIPT: Final = {
    "Location": {"description": "Path of the job.", "schema": {"type": "string", "format": "uri-reference"}},
    "Titanic-Durability": {
        "description": "What this answer is worth: `replicated`, `fsync`, `interval; ms=N` or `memory`.",
        "schema": {"type": "string"},
    },
    "Titanic-Epoch": {
        "description": "Epoch of the node that stored the job.",
        "schema": {"type": "integer"},
    },
}
_RETRY_KINDS: Final = (problems.NODE_UNREACHABLE, problems.NODE_NOT_READY, problems.STORE_FULL)
NODE_TROUBLE: Final = (
    problems.INTERNAL,
    problems.NODE_ERROR,
    problems.BAD_ANSWER,
    problems.NODE_UNREACHABLE,
    problems.NODE_NOT_READY,
)


def schema(name: str) -> Json:
    """A reference to one of :data:`SCHEMAS`."""
    return {"$ref": f"#/components/schemas/{name}"}


def json_answer(description: str, name: str, headers: Json | None = None) -> Json:
    """An answer with a JSON body: schema and example ``name``."""
    example = {"example": {"$ref": f"#/components/examples/{name}"}}
    content = {"application/json": {"schema": schema(name), "examples": example}}
    return {"description": description, "content": content, **({"headers": headers} if headers else {})}


def errors(instance: str, *kinds: ProblemKind) -> dict[int | str, Json]:
    """The answers for these kinds of problem, one per status, with an example for each kind."""
    answers: dict[int | str, Json] = {}
    for kind in kinds:
        answer = answers.setdefault(
            kind.status,
            {"description": "", "content": {PROBLEM: {"schema": schema("Problem"), "examples": {}}}},
        )
        meaning = f"[{kind.title}](/problems#{kind.slug})."
        answer["description"] = f"{answer['description']} {meaning}".strip()
        value = problems.document(kind, _DETAILS[kind], instance, _EXTRA.get(kind))
        answer["content"][PROBLEM]["examples"][kind.slug] = {"summary": kind.title, "value": value}
        if kind in _RETRY_KINDS:
            answer["headers"] = {"Retry-After": RETRY_AFTER}
    return answers


def _parameter(where: str, name: str, description: str, schema_: Json, **more: Any) -> Json:
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
    {"type": "string", "maxLength": 128},
)
TIMEOUT: Final = _parameter(
    "query",
    "timeout",
    "How long one attempt may take, 1ms to 7d, such as `30s`, `5m`, `1h30m` or ISO 8601 `PT30S`. "
    "Without it, the server's default.",
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


def links(id_source: str, *operations: str) -> Json:
    """OpenAPI links to these operations on the same job."""
    texts = {
        "job.get": ("status", "How far is it?"),
        "titanic.reply": ("reply", "Fetch its reply."),
        "titanic.close": ("close", "Close it when the reply is in hand."),
    }
    return {
        texts[operation][0]: {
            "operationId": operation,
            "parameters": {"id": id_source},
            "description": texts[operation][1],
        }
        for operation in operations
    }


def reply_answer(description: str, headers: Json) -> Json:
    """An answer that is a reply: raw bytes, or frames."""
    return {
        "description": description,
        "headers": headers,
        "content": {
            "application/octet-stream": {"schema": {"description": "The worker's bytes, as they are."}},
            FRAMES: {"schema": schema("Frames"), "example": {"frames": ["b25l", "dHdv"]}},
        },
    }
