"""The operations that concern services, events, nodes and the server itself; see operations.py."""

from __future__ import annotations

from typing import Any, Final

from fastapi import Response

import gateway.http.contract as doc
import gateway.http.parameters as given
from gateway.http.schemas import EXAMPLE_ID
from gateway.pure import problems

Operation = dict[str, Any]

_SERVICE_PATH: Final = "/v1/services/wordcount"
_OPEN: Final[dict[str, Any]] = {"security": []}
_SERVICE_LINKS: Final = {
    name: {
        "operationId": f"service.{name}",
        "parameters": {"service": "$request.path.service"},
        "description": text,
    }
    for name, text in (("pause", "Hand out no job of it."), ("resume", "Hand out its jobs again."))
}
_EVENT: Final = (
    f'retry: 1000\n\nid: 4711\nevent: accepted\ndata: {{"at":"2025-11-23T13:53:00.123Z","kind":"accepted",'
    f'"job":"{EXAMPLE_ID}","service":"wordcount","attempt":0,"detail":null}}\n\n'
)

SERVICES: Final[Operation] = {
    "operation_id": "service.list",
    "tags": ["services"],
    "summary": "List the services",
    "description": (
        "Every service that has workers or jobs, sorted by name: workers, jobs by state, age, rates. A "
        "key that "
        "is bound to services sees those."
    ),
    "response_class": Response,
    "responses": {
        200: doc.json_answer("The services.", "ServiceList"),
        **doc.errors("/v1/services", problems.BAD_PARAMETER, *doc.GUARDED, *doc.NODE_TROUBLE),
    },
    "openapi_extra": {"parameters": [given.REQUEST_ID]},
}

SERVICE: Final[Operation] = {
    "operation_id": "service.get",
    "tags": ["services"],
    "summary": "Look at a service",
    "description": "Workers, jobs by state, age of the oldest queued job, rates, and whether it is paused.",
    "response_class": Response,
    "responses": {
        200: doc.json_answer("The service.", "Service") | {"links": _SERVICE_LINKS},
        **doc.errors(
            _SERVICE_PATH,
            problems.BAD_SERVICE,
            problems.BAD_PARAMETER,
            *doc.GUARDED,
            problems.NO_SUCH_SERVICE,
            problems.METHOD_NOT_ALLOWED,
            *doc.NODE_TROUBLE,
        ),
    },
    "openapi_extra": {"parameters": [given.SERVICE, given.REQUEST_ID]},
}


def _set(name: str, summary: str, description: str) -> Operation:
    return {
        "operation_id": f"service.{name}",
        "tags": ["services"],
        "summary": summary,
        "description": description,
        "response_class": Response,
        "responses": {
            200: doc.json_answer("It is so, durably.", "Service"),
            **doc.errors(
                f"{_SERVICE_PATH}:{name}",
                problems.BAD_SERVICE,
                problems.BAD_PARAMETER,
                *doc.GUARDED,
                *doc.NODE_TROUBLE,
                problems.STORE_FULL,
            ),
        },
        "openapi_extra": {"parameters": [given.SERVICE, given.REQUEST_ID]},
    }


PAUSE: Final = _set(
    "pause",
    "Pause a service",
    "No job of it is handed out any more; running attempts go on, and submits are accepted. It stays paused "
    "across restarts. Pausing twice is no error. Needs the scope `admin`.",
)
RESUME: Final = _set(
    "resume", "Resume a service", "Its jobs are handed out again, oldest first. Needs the scope `admin`."
)

EVENTS: Final[Operation] = {
    "operation_id": "events",
    "tags": ["operations"],
    "summary": "Follow what happens",
    "description": (
        "Server-sent events, one for each step in the life of a job: `accepted`, `started`, `retrying`, "
        "`progress`, `succeeded`, `failed`, `cancelled`, `retried`, `closed`, and `callback` for each try of "
        "one; `paused` and `resumed` of services. An event is sent when what it tells is durable. `id` is "
        "the sequence in the journal: a "
        "client that comes back with `Last-Event-ID` goes on behind it, at any gateway and after a restart. "
        "The server keeps a window of events; what fell out of it is told by a `gap` event with `after` and "
        "`to`. A stream ends after an hour at the latest; EventSource comes back by itself."
    ),
    "response_class": Response,
    "responses": {
        200: {
            "description": "The stream.",
            "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _EVENT}},
        },
        **doc.errors(
            "/v1/events",
            problems.BAD_PARAMETER,
            problems.BAD_HEADER,
            *doc.GUARDED,
            *doc.NODE_TROUBLE,
            problems.TOO_MANY_STREAMS,
        ),
    },
    "openapi_extra": {"parameters": [given.EVENTS_SERVICE, given.LAST_EVENT_ID, given.REQUEST_ID]},
}

NODES: Final[Operation] = {
    "operation_id": "node.list",
    "tags": ["operations"],
    "summary": "List the nodes",
    "description": (
        "Role, state, epoch, sequence and lag of the node behind this gateway, or of both nodes of a pair. "
        "Both are asked; of one that does not answer is told what the other heard of it last."
    ),
    "response_class": Response,
    "responses": {
        200: doc.json_answer("The nodes.", "NodeList"),
        **doc.errors("/v1/nodes", problems.BAD_PARAMETER, *doc.GUARDED, *doc.NODE_TROUBLE),
    },
    "openapi_extra": {"parameters": [given.REQUEST_ID]},
}

STORE: Final[Operation] = {
    "operation_id": "store.get",
    "tags": ["operations"],
    "summary": "Look at the store",
    "description": (
        "How full it is, when it will be full at the present pace, what pins the oldest chunk of the ring, "
        "and its chunks as they lie in the file. "
        "`facts` "
        "has counts, bytes and words; docs/internals/data-file.md explains them."
    ),
    "response_class": Response,
    "responses": {
        200: doc.json_answer("The store.", "Store"),
        **doc.errors("/v1/store", problems.BAD_PARAMETER, *doc.GUARDED, *doc.NODE_TROUBLE),
    },
    "openapi_extra": {"parameters": [given.REQUEST_ID]},
}

BACKUP: Final[Operation] = {
    "operation_id": "store.backup",
    "tags": ["operations"],
    "summary": "Take a backup",
    "description": (
        "An image of the store as of now, byte for byte a file that a node can be started with, while the "
        "server goes on working. Check it against `Repr-Digest`, or with `titanic store check`. If the store "
        "needs the room that the image pins, the answer is cut short of its Content-Length. Needs the scope "
        "`admin`."
    ),
    "response_class": Response,
    "responses": {
        200: {
            "description": "The image.",
            "headers": {
                "Repr-Digest": {"description": "SHA-256, as RFC 9530 has it.", "schema": {"type": "string"}},
                "Titanic-Sequence": {
                    "description": "Every record up to this one is in the image.",
                    "schema": {"type": "integer"},
                },
            },
            "content": {"application/octet-stream": {"schema": {}}},
        },
        **doc.errors(
            "/v1/store/backup",
            problems.BAD_PARAMETER,
            *doc.GUARDED,
            *doc.NODE_TROUBLE,
            problems.TOO_MANY_BACKUPS,
        ),
    },
    "openapi_extra": {"parameters": [given.REQUEST_ID]},
}

LIVE: Final[Operation] = {
    "operation_id": "livez",
    "tags": ["operations"],
    "summary": "Is the process alive?",
    "description": "Yes, if it answers. The node is not asked.",
    "response_class": Response,
    "responses": {200: doc.json_answer("Yes.", "Live"), **doc.errors("/livez")},
    "openapi_extra": _OPEN,
}

READY: Final[Operation] = {
    "operation_id": "readyz",
    "tags": ["operations"],
    "summary": "Does the node take work?",
    "description": (
        "Asks the node. One that starts, replays or is passive does not, and the problem says so; of a pair "
        "it has `role`, `state`, `epoch` and `active_at`, where the active node is."
    ),
    "response_class": Response,
    "responses": {
        200: doc.json_answer("Yes.", "Ready"),
        **doc.errors("/readyz", *doc.NODE_TROUBLE),
    },
    "openapi_extra": _OPEN,
}

METRICS: Final[Operation] = {
    "operation_id": "metrics",
    "tags": ["operations"],
    "summary": "Counters for Prometheus",
    "description": (
        "Requests by route and status, long-polls, and the node's own counters. With several gateway "
        "processes on one port, whichever is asked answers for all of them."
    ),
    "response_class": Response,
    "responses": {
        200: {
            "description": "Prometheus text format.",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        },
        **doc.errors("/metrics", *doc.GUARDED, problems.INTERNAL),
    },
}
