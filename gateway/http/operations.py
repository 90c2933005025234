"""Each operation of the API as the arguments of its FastAPI route: name, words, answers and errors.

Kept apart from the code that serves them: this is what a user of the API reads, the code is what keeps it.
"""

from __future__ import annotations

import json
from typing import Any, Final

from fastapi import Response

import gateway.http.contract as doc
import gateway.http.parameters as given
from gateway.http.schemas import ACCEPTED_EXAMPLE, EXAMPLE_ID
from gateway.pure import problems

Operation = dict[str, Any]

NDJSON: Final = "application/x-ndjson"

_JOB_PATH: Final = f"/v1/jobs/{EXAMPLE_ID}"
_THIS: Final = "$request.path.id"
_WAITED: Final = {"Preference-Applied": doc.APPLIED}
_ETAG: Final = {"ETag": {"description": "Changes when the document does.", "schema": {"type": "string"}}}

_STORED: Final = {name: value for name, value in doc.RECEIPT.items() if name != "Location"}
_BATCH_ANSWER: Final = json.dumps(ACCEPTED_EXAMPLE, separators=(",", ":")) + "\n"

SUBMIT: Final[Operation] = {
    "operation_id": "titanic.request",
    "tags": ["jobs"],
    "summary": "Submit a job",
    "description": (
        "Stores the body as a job of the service and answers once it is on disk. With `Prefer: wait=N` the "
        "answer is the reply itself if it is there in time; a job that *fails* within that time is answered "
        "with 409 and its `Location`.\n\nSent again after a lost answer, this makes a second job, unless "
        "both "
        "have the same `Idempotency-Key`."
    ),
    "status_code": 202,
    "response_class": Response,
    "responses": {
        202: doc.json_answer(
            "The job is stored.",
            "Accepted",
            {**doc.RECEIPT, **_WAITED, **doc.REPLAYED, "Retry-After": doc.RETRY_AFTER},
        )
        | {"links": doc.links("$response.body#/id", "job.get", "titanic.reply", "titanic.close")},
        200: doc.reply_answer(
            "The reply: it came while the request waited.", {**doc.RECEIPT, **_WAITED, **doc.REPLAYED}
        ),
        **doc.errors(
            "/v1/services/wordcount/jobs",
            problems.BAD_SERVICE,
            problems.BAD_PARAMETER,
            problems.BAD_HEADER,
            problems.BAD_FRAMES,
            *doc.GUARDED,
            problems.NOT_ACCEPTABLE,
            problems.JOB_FAILED,
            problems.JOB_CANCELLED,
            problems.JOB_GONE,
            problems.BODY_TOO_LARGE,
            problems.KEY_REUSED,
            problems.QUOTA_EXCEEDED,
            *doc.NODE_TROUBLE,
            problems.LESS_DURABLE,
            problems.STORE_FULL,
        ),
    },
    "openapi_extra": {
        "parameters": [
            given.SERVICE,
            *given.OPTIONS,
            given.IDEMPOTENCY_KEY,
            given.PREFER,
            given.DURABILITY,
            given.ACCEPT,
            given.TRACEPARENT,
            given.REQUEST_ID,
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
            *doc.GUARDED,
            problems.NEVER_ISSUED,
            problems.NOT_ACCEPTABLE,
            problems.JOB_FAILED,
            problems.JOB_CANCELLED,
            problems.JOB_GONE,
            *doc.NODE_TROUBLE,
        ),
    },
    "openapi_extra": {"parameters": [given.ID, given.PREFER, given.ACCEPT, given.REQUEST_ID]},
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
    "responses": doc.errors(
        _JOB_PATH, problems.MALFORMED_ID, problems.BAD_PARAMETER, *doc.GUARDED, *doc.NODE_TROUBLE
    ),
    "openapi_extra": {"parameters": [given.ID, given.REQUEST_ID]},
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
            *doc.GUARDED,
            problems.NEVER_ISSUED,
            problems.JOB_GONE,
            *doc.NODE_TROUBLE,
        ),
    },
    "openapi_extra": {"parameters": [given.ID, given.PREFER, given.IF_NONE_MATCH, given.REQUEST_ID]},
}

LIST: Final[Operation] = {
    "operation_id": "job.list",
    "tags": ["jobs"],
    "summary": "List jobs",
    "description": (
        "Newest first. A page may be shorter than its limit, even empty, and not be the last one: go on "
        "while "
        "there is a `next`. The cursor stays good whatever is submitted or closed meanwhile. A key without "
        "the scope `admin` sees its own jobs."
    ),
    "response_class": Response,
    "responses": {
        200: doc.json_answer(
            "A page.",
            "JobPage",
            {"Link": {"description": '`rel="next"`: the next page.', "schema": {"type": "string"}}},
        )
        | {"links": doc.next_page()},
        **doc.errors("/v1/jobs", problems.BAD_PARAMETER, *doc.GUARDED, *doc.NODE_TROUBLE),
    },
    "openapi_extra": {
        "parameters": [
            given.LIST_SERVICE,
            given.LIST_STATE,
            given.LIST_LIMIT,
            given.LIST_CURSOR,
            given.REQUEST_ID,
        ]
    },
}

BATCH: Final[Operation] = {
    "operation_id": "job.batch",
    "tags": ["jobs"],
    "summary": "Submit many jobs at once",
    "description": (
        "Each line of the body is the body of a job, under the Content-Type `application/json`; empty lines "
        "are skipped. The answer has a line for each, in order: what a single submit would have "
        "answered, or a "
        "problem document. All accepted lines are durable in one commit. An `Idempotency-Key` covers the "
        "whole "
        "batch."
    ),
    "status_code": 202,
    "response_class": Response,
    "responses": {
        202: {
            "description": "A line per job.",
            "headers": {**_STORED, **doc.REPLAYED},
            "content": {NDJSON: {"schema": {"type": "string"}, "example": _BATCH_ANSWER}},
        },
        **doc.errors(
            "/v1/services/wordcount/jobs:batch",
            problems.BAD_SERVICE,
            problems.BAD_PARAMETER,
            problems.BAD_HEADER,
            problems.BAD_BATCH,
            *doc.GUARDED,
            problems.BODY_TOO_LARGE,
            problems.UNSUPPORTED_TYPE,
            problems.KEY_REUSED,
            problems.QUOTA_EXCEEDED,
            *doc.NODE_TROUBLE,
            problems.LESS_DURABLE,
            problems.STORE_FULL,
        ),
    },
    "openapi_extra": {
        "parameters": [
            given.SERVICE,
            *given.OPTIONS,
            given.IDEMPOTENCY_KEY,
            given.DURABILITY,
            given.TRACEPARENT,
            given.REQUEST_ID,
        ],
        "requestBody": {
            "required": True,
            "description": "1 to 1000 lines, at most 32 MiB in all.",
            "content": {NDJSON: {"schema": {"type": "string"}, "example": '{"page": 1}\n{"page": 2}\n'}},
        },
    },
}


def _act(name: str, summary: str, description: str) -> Operation:
    return {
        "operation_id": f"job.{name}",
        "tags": ["jobs"],
        "summary": summary,
        "description": description,
        "response_class": Response,
        "responses": {
            200: doc.json_answer("Done, durably: the job's status.", "Job")
            | {"links": doc.links(_THIS, "job.get", "titanic.reply", "titanic.close")},
            **doc.errors(
                f"{_JOB_PATH}:{name}",
                problems.MALFORMED_ID,
                problems.BAD_PARAMETER,
                *doc.GUARDED,
                problems.NEVER_ISSUED,
                problems.WRONG_STATE,
                problems.JOB_GONE,
                *doc.NODE_TROUBLE,
                problems.STORE_FULL,
            ),
        },
        "openapi_extra": {"parameters": [given.ID, given.REQUEST_ID]},
    }


CANCEL: Final = _act(
    "cancel",
    "Cancel a job",
    "The job will not run (again); a running attempt is abandoned, and its reply thrown away. Cancelling "
    "twice "
    "is no error. 409 if the job has ended otherwise.",
)
RETRY: Final = _act(
    "retry",
    "Retry a dead letter",
    "A failed job is queued again with all its attempts. 409 if it has not failed.",
)
