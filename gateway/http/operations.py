"""Each operation of the API as the arguments of its FastAPI route: name, words, answers and errors.

Kept apart from the code that serves them: this is what a user of the API reads, the code is what keeps it.
"""

from __future__ import annotations

from typing import Any, Final

from fastapi import Response

import gateway.http.contract as doc
from gateway.pure import problems

Operation = dict[str, Any]

_JOB_PATH: Final = f"/v1/jobs/{doc.EXAMPLE_ID}"
_THIS: Final = "$request.path.id"
_WAITED: Final = {"Preference-Applied": doc.APPLIED}
_ETAG: Final = {"ETag": {"description": "Changes when the document does.", "schema": {"type": "string"}}}

SUBMIT: Final[Operation] = {
    "operation_id": "titanic.request",
    "tags": ["jobs"],
    "summary": "Submit a job",
    "description": (
        "Stores the body as a job of the service and answers once it is on disk. With `Prefer: wait=N` the "
        "answer is the reply itself if it is there in time; a job that *fails* within that time is answered "
        "with 409 and its `Location`.\n\nSent again after a lost answer, this makes a second job."
    ),
    "status_code": 202,
    "response_class": Response,
    "responses": {
        202: doc.json_answer(
            "The job is stored.",
            "Accepted",
            {**doc.RECEIPT, **_WAITED, "Retry-After": doc.RETRY_AFTER},
        )
        | {"links": doc.links("$response.body#/id", "job.get", "titanic.reply", "titanic.close")},
        200: doc.reply_answer("The reply: it came while the request waited.", {**doc.RECEIPT, **_WAITED}),
        **doc.errors(
            "/v1/services/wordcount/jobs",
            problems.BAD_SERVICE,
            problems.BAD_PARAMETER,
            problems.BAD_HEADER,
            problems.BAD_FRAMES,
            problems.NOT_ACCEPTABLE,
            problems.JOB_FAILED,
            problems.JOB_CANCELLED,
            problems.JOB_GONE,
            problems.BODY_TOO_LARGE,
            *doc.NODE_TROUBLE,
            problems.LESS_DURABLE,
            problems.STORE_FULL,
        ),
    },
    "openapi_extra": {
        "parameters": [
            doc.SERVICE,
            doc.TIMEOUT,
            doc.ATTEMPTS,
            doc.PREFER,
            doc.DURABILITY,
            doc.ACCEPT,
            doc.REQUEST_ID,
        ],
        "requestBody": {
            "description": "Any bytes, also none. The Content-Type is kept with the job.",
            "content": {
                "text/plain": {"schema": {"type": "string"}, "example": "to be or not to be"},
                "application/octet-stream": {"schema": {}},
                doc.FRAMES: {"schema": doc.schema("Frames"), "example": {"frames": ["b25l", "dHdv"]}},
            },
        },
    },
}

REPLY: Final[Operation] = {
    "operation_id": "titanic.reply",
    "tags": ["jobs"],
    "summary": "Fetch the reply",
    "description": (
        "The worker's bytes, as often as you ask, until the job is closed. A reply of one frame is sent raw. "
        f"One of several frames is sent as `{doc.FRAMES}`, and refused with 406 if `Accept` rules that out."
    ),
    "response_class": Response,
    "responses": {
        200: doc.reply_answer("The reply.", _WAITED) | {"links": doc.links(_THIS, "titanic.close")},
        202: doc.json_answer(
            "Not there yet: the job's status.",
            "Job",
            {"Retry-After": doc.RETRY_AFTER, **_WAITED},
        )
        | {"links": doc.links(_THIS, "job.get", "titanic.reply", "titanic.close")},
        **doc.errors(
            f"{_JOB_PATH}/reply",
            problems.MALFORMED_ID,
            problems.BAD_PARAMETER,
            problems.NEVER_ISSUED,
            problems.NOT_ACCEPTABLE,
            problems.JOB_FAILED,
            problems.JOB_CANCELLED,
            problems.JOB_GONE,
            *doc.NODE_TROUBLE,
        ),
    },
    "openapi_extra": {"parameters": [doc.ID, doc.PREFER, doc.ACCEPT, doc.REQUEST_ID]},
}

CLOSE: Final[Operation] = {
    "operation_id": "titanic.close",
    "tags": ["jobs"],
    "summary": "Close a job",
    "description": (
        "Deletes request and reply, durably. A job that has not run yet will not run. Closing twice, or "
        "closing what never was, is no error: what you want is so."
    ),
    "status_code": 204,
    "response_class": Response,
    "response_description": "The job is gone.",
    "responses": doc.errors(_JOB_PATH, problems.MALFORMED_ID, problems.BAD_PARAMETER, *doc.NODE_TROUBLE),
    "openapi_extra": {"parameters": [doc.ID, doc.REQUEST_ID]},
}

STATUS: Final[Operation] = {
    "operation_id": "job.get",
    "tags": ["jobs"],
    "summary": "Look at a job",
    "description": (
        "Where the job stands. With `Prefer: wait=N` the answer comes when the job has ended, or after N "
        "seconds."
    ),
    "response_class": Response,
    "responses": {
        200: doc.json_answer("The job's status.", "Job", {**_ETAG, **_WAITED})
        | {"links": doc.links(_THIS, "titanic.reply", "titanic.close")},
        304: {"description": "Nothing changed since the answer with this ETag.", "headers": _ETAG},
        **doc.errors(
            _JOB_PATH,
            problems.MALFORMED_ID,
            problems.BAD_PARAMETER,
            problems.NEVER_ISSUED,
            problems.JOB_GONE,
            *doc.NODE_TROUBLE,
        ),
    },
    "openapi_extra": {"parameters": [doc.ID, doc.PREFER, doc.IF_NONE_MATCH, doc.REQUEST_ID]},
}

LIVE: Final[Operation] = {
    "operation_id": "livez",
    "tags": ["operations"],
    "summary": "Is the process alive?",
    "description": "Yes, if it answers. The node is not asked.",
    "response_class": Response,
    "responses": {200: doc.json_answer("Yes.", "Live")},
}

READY: Final[Operation] = {
    "operation_id": "readyz",
    "tags": ["operations"],
    "summary": "Does the node take work?",
    "description": "Asks the node. One that starts, replays or is passive does not, and the problem says so.",
    "response_class": Response,
    "responses": {
        200: doc.json_answer("Yes.", "Ready"),
        **doc.errors("/readyz", *doc.NODE_TROUBLE),
    },
}

METRICS: Final[Operation] = {
    "operation_id": "metrics",
    "tags": ["operations"],
    "summary": "Counters for Prometheus",
    "description": "Requests by route and status, long-polls, and the node's own counters.",
    "response_class": Response,
    "responses": {
        200: {
            "description": "Prometheus text format.",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        },
        **doc.errors("/metrics", problems.INTERNAL),
    },
}
