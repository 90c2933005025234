"""The words of the OpenAPI document: schemas, parameters, answers, examples and links.

The three operations of the hot path have no FastAPI signature to read these from, so they are written out;
the others use the same pieces, so that the document reads as one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gateway.http.schemas import EXAMPLE_ID, LINKS_VALUE
from gateway.pure import problems
from gateway.pure.negotiate import FRAMES_TYPE
from gateway.pure.problems import ProblemKind

Json = dict[str, Any]

FRAMES: Final = FRAMES_TYPE.decode()
PROBLEM: Final = problems.MEDIA_TYPE.decode()

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
    problems.MALFORMED_HTTP: "Invalid HTTP request received.",
    problems.JOB_GONE: "This job is closed; its request and reply are deleted.",
    problems.BODY_TOO_LARGE: "The body has 9000000 bytes; the limit is 8388608.",
    problems.INTERNAL: "The gateway met a defect of its own; it is logged under request_id.",
    problems.NODE_ERROR: "damaged record: reply at 4096",
    problems.BAD_ANSWER: "answer without a status",
    problems.NODE_UNREACHABLE: "no answer within 5 s",
    problems.NODE_NOT_READY: "replaying the journal: 41 %",
    problems.LESS_DURABLE: "The request demands durability 'replicated'; the node offers 'fsync'.",
    problems.STORE_FULL: "the store is full: need 4096 bytes, 512 free",
    problems.METHOD_NOT_ALLOWED: "GET is not one of POST.",
    problems.BAD_BATCH: "The batch has 0 lines; there must be 1 to 1000.",
    problems.UNAUTHENTICATED: "This server needs an API key in Authorization.",
    problems.FORBIDDEN: "The key lacks the scope 'submit'.",
    problems.NO_SUCH_SERVICE: "Nothing is known of a service 'wordcount'.",
    problems.REQUEST_TIMEOUT: "The request was not whole after 30 s.",
    problems.WRONG_STATE: "A job that is succeeded cannot be cancelled.",
    problems.UNSUPPORTED_TYPE: "The body of a batch is application/x-ndjson.",
    problems.KEY_REUSED: "This Idempotency-Key was used for another request.",
    problems.RATE_LIMITED: "The key's rate of 100 requests per second is used up.",
    problems.QUOTA_EXCEEDED: "The key has 1000 open jobs; it may have 1000.",
    problems.HEADERS_TOO_LARGE: "The headers are over the limit of 32768 bytes, 100 headers.",
    problems.TOO_MANY_BACKUPS: "4 images are being read",
    problems.TOO_MANY_STREAMS: "1000 event streams are open, as many as there may be.",
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
        "links": LINKS_VALUE,
    },
    problems.WRONG_STATE: {"id": EXAMPLE_ID, "service": "wordcount", "state": "succeeded"},
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
REPLAYED: Final = {
    "Idempotent-Replayed": {
        "description": "`true`: an earlier request with this Idempotency-Key made the job.",
        "schema": {"const": "true"},
    }
}
_RATE_HEADERS: Final = {
    "RateLimit-Policy": {"description": "The key's rate: `q` in `w` seconds.", "schema": {"type": "string"}},
    "RateLimit": {"description": "`r` are left; all are back in `t` seconds.", "schema": {"type": "string"}},
}
_RETRY_KINDS: Final = (
    problems.NODE_UNREACHABLE,
    problems.NODE_NOT_READY,
    problems.STORE_FULL,
    problems.RATE_LIMITED,
    problems.QUOTA_EXCEEDED,
    problems.TOO_MANY_STREAMS,
    problems.TOO_MANY_BACKUPS,
)
ANY_REQUEST: Final = (problems.MALFORMED_HTTP, problems.REQUEST_TIMEOUT, problems.HEADERS_TOO_LARGE)
GUARDED: Final = (problems.UNAUTHENTICATED, problems.FORBIDDEN, problems.RATE_LIMITED)
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
    """The answers for these kinds of problem and those of any request: one per status, an example each."""
    answers: dict[int | str, Json] = {}
    for kind in (*kinds, *ANY_REQUEST):
        answer = answers.setdefault(
            kind.status,
            {"description": "", "content": {PROBLEM: {"schema": schema("Problem"), "examples": {}}}},
        )
        meaning = f"[{kind.title}](/problems#{kind.slug})."
        answer["description"] = f"{answer['description']} {meaning}".strip()
        value = problems.document(kind, _DETAILS[kind], instance, _EXTRA.get(kind))
        answer["content"][PROBLEM]["examples"][kind.slug] = {"summary": kind.title, "value": value}
        if kind in _RETRY_KINDS:
            answer.setdefault("headers", {})["Retry-After"] = RETRY_AFTER
        if kind is problems.RATE_LIMITED:
            answer["headers"] |= _RATE_HEADERS
    return answers


def links(id_source: str, *operations: str) -> Json:
    """OpenAPI links to these operations on the same job."""
    texts = {
        "job.get": ("status", "How far is it?"),
        "titanic.reply": ("reply", "Fetch its reply."),
        "titanic.close": ("close", "Close it when the reply is in hand."),
        "job.cancel": ("cancel", "Do not run it."),
        "job.retry": ("retry", "Run it again."),
    }
    return {
        texts[operation][0]: {
            "operationId": operation,
            "parameters": {"id": id_source},
            "description": texts[operation][1],
        }
        for operation in operations
    }


def next_page() -> Json:
    """The OpenAPI link from a page of jobs to the next one."""
    return {
        "next": {
            "operationId": "job.list",
            "parameters": {"cursor": "$response.body#/next"},
            "description": "The next page.",
        }
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
