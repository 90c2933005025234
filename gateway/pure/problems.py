"""Problem documents, RFC 9457: one table, which the answers, the OpenAPI document and the docs share.

``type`` is the relative reference ``/problems#slug``: it resolves on the gateway that answered, without
internet, to the heading that explains the problem. An absolute address was refused: it would name a
site that an isolated network cannot reach.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

MEDIA_TYPE: Final = b"application/problem+json"
PAGE: Final = "/problems"


class ProblemKind(NamedTuple):
    """One kind of error: its heading in the docs is ``slug``."""

    slug: str
    status: int
    title: str
    meaning: str
    remedy: str

    @property
    def type(self) -> str:
        """The problem's ``type`` member."""
        return f"{PAGE}#{self.slug}"


MALFORMED_HTTP: Final = ProblemKind(
    "malformed-http",
    400,
    "The request is not HTTP",
    "The bytes on the connection could not be read as an HTTP/1.1 request. The connection is closed.",
    "Look at what sends them: a TLS client on a plain port, a proxy that splits requests, a broken header.",
)
MALFORMED_ID: Final = ProblemKind(
    "malformed-id",
    400,
    "Not a job id",
    "A job id is 32 hexadecimal digits in either case, with or without the four dashes of a UUID.",
    "Use the `id` or the `Location` that the submit answered with.",
)
BAD_SERVICE: Final = ProblemKind(
    "bad-service-name",
    400,
    "Not a service that takes jobs",
    "A service name is 1 to 255 printable ASCII characters without `/`. Names that begin with `mmi.` or "
    "`titanic.` belong to the broker and take no jobs.",
    "Choose another name; percent-encode characters that a URL does not carry as they are.",
)
BAD_PARAMETER: Final = ProblemKind(
    "bad-parameter",
    400,
    "A parameter cannot be used",
    "A query parameter is unknown, given twice, or has a value out of its range. `errors` names each one. "
    "Unknown parameters are refused so that a misspelt option never passes for an accepted one.",
    "Correct or remove the parameters named in `errors`.",
)
BAD_HEADER: Final = ProblemKind(
    "bad-header",
    400,
    "A header cannot be used",
    "A header that the gateway reads has a value it cannot work with.",
    "Correct the header named in the detail.",
)
BAD_FRAMES: Final = ProblemKind(
    "bad-frames",
    400,
    "Not a frames document",
    "The body was announced as `application/vnd.titanic.frames+json` and is not "
    '`{"frames": ["<base64>", …]}` with 1 to 64 frames.',
    "Correct the body, or send it under its own Content-Type as a single frame.",
)
BAD_BATCH: Final = ProblemKind(
    "bad-batch",
    400,
    "Not a batch",
    "The body of a batch holds no line, or more lines than one commit takes. A line is the body of one job.",
    "Send 1 to 1000 lines, each ended by a line feed; send more in further batches.",
)
UNAUTHENTICATED: Final = ProblemKind(
    "unauthenticated",
    401,
    "Who are you?",
    "This server has API keys, and the request brought none that it knows. A key that was revoked is "
    "not known any more.",
    "Send `Authorization: Bearer <key-id>.<secret>`; `titanic keys create` makes a key.",
)
FORBIDDEN: Final = ProblemKind(
    "forbidden",
    403,
    "The key does not allow this",
    "The key is known, and lacks the scope or the service that the request needs.",
    "Use a key with the scope named in the detail, or one that is bound to this service.",
)
NO_SUCH_ROUTE: Final = ProblemKind(
    "no-such-route",
    404,
    "No such route",
    "Nothing is served at this path.",
    "The routes are listed at `/docs`.",
)
NO_SUCH_SERVICE: Final = ProblemKind(
    "no-such-service",
    404,
    "No such service",
    "The service has no workers and no jobs, and never had any since the node started.",
    "Services come into being with their first job or their first worker; `/v1/services` lists them.",
)
NEVER_ISSUED: Final = ProblemKind(
    "never-issued",
    404,
    "No such job",
    "The id was never issued here. Ids carry a keyed tag, so this is known for ever, without a list of "
    "old jobs.",
    "Check the id, and that this is the server which issued it.",
)
METHOD_NOT_ALLOWED: Final = ProblemKind(
    "method-not-allowed",
    405,
    "Method not allowed",
    "The path exists and does not take this method.",
    "Use one of the methods in the `Allow` header.",
)
NOT_ACCEPTABLE: Final = ProblemKind(
    "not-acceptable",
    406,
    "The reply has several frames",
    "A reply of several frames has one representation, `application/vnd.titanic.frames+json`, and the "
    "request's `Accept` rules it out.",
    "Accept `application/vnd.titanic.frames+json`, or leave `Accept` out.",
)
REQUEST_TIMEOUT: Final = ProblemKind(
    "request-timeout",
    408,
    "The request came too slowly",
    "The whole request did not arrive within the server's deadline. The connection is closed and "
    "nothing was stored.",
    "Send faster, or in smaller pieces.",
)
WRONG_STATE: Final = ProblemKind(
    "wrong-state",
    409,
    "Not in this state",
    "A job that has ended cannot be cancelled, and only a failed one can be retried. "
    "`state` says where the job stands.",
    "Look at the job; close it when it is done.",
)
JOB_FAILED: Final = ProblemKind(
    "job-failed",
    409,
    "The job failed",
    "All attempts failed, or the job expired before it ran. `attempts` and `last_error` say how. The job "
    "is kept until it is closed.",
    "Read `last_error`; submit again when the cause is gone, and close this job.",
)
JOB_CANCELLED: Final = ProblemKind(
    "job-cancelled",
    409,
    "The job was cancelled",
    "The job was cancelled before it had a reply, and will not run.",
    "Close it, or submit again.",
)
JOB_GONE: Final = ProblemKind(
    "job-gone",
    410,
    "The job is closed",
    "The id was issued here, and the job has been closed or its retention is over. Request and reply are "
    "deleted.",
    "Nothing more can be had from this id.",
)
BODY_TOO_LARGE: Final = ProblemKind(
    "body-too-large",
    413,
    "The body is too large",
    "The request's body is over the limit in `limit_bytes`. It was not read to its end and nothing was "
    "stored; the connection is closed.",
    "Send less, keep large data elsewhere and submit a reference to it, or raise the server's limit.",
)
UNSUPPORTED_TYPE: Final = ProblemKind(
    "unsupported-media-type",
    415,
    "Not this media type",
    "A batch is `application/x-ndjson`: one job per line.",
    "Send the batch under that Content-Type; a single job of any type goes to `/jobs`.",
)
KEY_REUSED: Final = ProblemKind(
    "idempotency-key-reused",
    422,
    "The Idempotency-Key belongs to another request",
    "The same key was used before, by the same caller and for the same service, with another body, "
    "other options or another Content-Type. Nothing was stored.",
    "Use a new key for a new request; repeat a request exactly as it was.",
)
RATE_LIMITED: Final = ProblemKind(
    "rate-limited",
    429,
    "Too many requests",
    "The key's rate is used up. `RateLimit-Policy` says what it is, `RateLimit` what is left of it.",
    "Try again after `Retry-After` seconds.",
)
QUOTA_EXCEEDED: Final = ProblemKind(
    "quota-exceeded",
    429,
    "Too many open jobs",
    "The key has as many open jobs as it may have. Nothing was stored.",
    "Close jobs that are done, then try again.",
)
HEADERS_TOO_LARGE: Final = ProblemKind(
    "headers-too-large",
    431,
    "The headers are too large",
    "The request line and the headers together are over the server's limit, or there are too many of "
    "them. The connection is closed.",
    "Send fewer or shorter headers.",
)
INTERNAL: Final = ProblemKind(
    "internal-error",
    500,
    "The gateway failed",
    "A defect in the gateway. It is logged under `request_id`. A submit that ended like this may or may "
    "not have been stored.",
    "Report it with the `request_id`.",
)
NODE_ERROR: Final = ProblemKind(
    "node-error",
    500,
    "The node could not do it",
    "The node answered that it failed, for example because a stored record did not pass its checksum.",
    "Read the detail and the node's log.",
)
BAD_ANSWER: Final = ProblemKind(
    "bad-node-answer",
    502,
    "The node's answer makes no sense",
    "Something answered at the node's address, and not as a node of this version does.",
    "Check the gateway's `--nodes` and the versions of both.",
)
NODE_UNREACHABLE: Final = ProblemKind(
    "node-unreachable",
    503,
    "No node answers",
    "No node answered in time. A submit that ended like this may or may not have been stored; the gateway "
    "repeated it under one id for as long as it had patience.",
    "Try again after `Retry-After` seconds.",
)
NODE_NOT_READY: Final = ProblemKind(
    "node-not-ready",
    503,
    "The node is not ready",
    "The node is there and takes no work now: it is starting, passive, or its journal stopped.",
    "Try again after `Retry-After` seconds; `/readyz` says what it waits for.",
)
TOO_MANY_STREAMS: Final = ProblemKind(
    "too-many-streams",
    503,
    "Too many event streams",
    "As many event streams are open as this server keeps at a time.",
    "Try again after `Retry-After` seconds, or ask for `/v1/jobs` now and then instead.",
)
TOO_MANY_BACKUPS: Final = ProblemKind(
    "too-many-backups",
    503,
    "No backup now",
    "As many backups are being read as the node keeps images for, or the store needed the room of this one.",
    "Try again after `Retry-After` seconds.",
)
LESS_DURABLE: Final = ProblemKind(
    "less-durable",
    503,
    "The demanded durability is not to be had",
    "The request demanded a level in `Titanic-Durability`, and the node offers less. Nothing was stored.",
    "Demand less, or start the node with the durability you need.",
)
STORE_FULL: Final = ProblemKind(
    "store-full",
    507,
    "The store is full",
    "There is no room for a job and its reply. Nothing was stored. Replies and closes still work.",
    "Close jobs that are done, or raise `--store-max`; then try again.",
)

KINDS: Final = (
    MALFORMED_HTTP,
    MALFORMED_ID,
    BAD_SERVICE,
    BAD_PARAMETER,
    BAD_HEADER,
    BAD_FRAMES,
    BAD_BATCH,
    UNAUTHENTICATED,
    FORBIDDEN,
    NO_SUCH_ROUTE,
    NO_SUCH_SERVICE,
    NEVER_ISSUED,
    METHOD_NOT_ALLOWED,
    NOT_ACCEPTABLE,
    REQUEST_TIMEOUT,
    WRONG_STATE,
    JOB_FAILED,
    JOB_CANCELLED,
    JOB_GONE,
    BODY_TOO_LARGE,
    UNSUPPORTED_TYPE,
    KEY_REUSED,
    RATE_LIMITED,
    QUOTA_EXCEEDED,
    HEADERS_TOO_LARGE,
    INTERNAL,
    NODE_ERROR,
    BAD_ANSWER,
    NODE_UNREACHABLE,
    NODE_NOT_READY,
    TOO_MANY_STREAMS,
    TOO_MANY_BACKUPS,
    LESS_DURABLE,
    STORE_FULL,
)
assert len({kind.slug for kind in KINDS}) == len(KINDS), "a slug is one heading"

_encode = msgspec.json.Encoder().encode


def document(
    kind: ProblemKind, detail: str, instance: str, extra: Mapping[str, object] | None = None
) -> dict[str, object]:
    """The problem as a JSON object: type, title, status, detail, instance, then ``extra``."""
    members: dict[str, object] = {
        "type": kind.type,
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        "instance": instance,
    }
    if extra:
        members.update(extra)
    return members


def encode(kind: ProblemKind, detail: str, instance: str, extra: Mapping[str, object] | None = None) -> bytes:
    """:func:`document` as UTF-8 JSON."""
    return _encode(document(kind, detail, instance, extra))


_INTRODUCTION: Final = f"""\
Every error of the API is an `application/problem+json` document (RFC 9457). Its `type` is a link to one of
the headings below, which the gateway itself serves at `{PAGE}`. This page is generated from the table in
`gateway/pure/problems.py`.
"""


def markdown() -> str:
    """The reference page of all problems; each ``type`` is a heading of it."""
    parts = ["# Problems of the HTTP API\n", _INTRODUCTION]
    for kind in KINDS:
        parts.append(f"## {kind.slug}\n")
        parts.append(f"**{kind.status} {kind.title}.** {kind.meaning}\n")
        parts.append(f"*What to do:* {kind.remedy}\n")
    return "\n".join(parts)


def sections() -> str:
    """The same as HTML sections, for the page that the gateway serves."""
    return "\n".join(
        f'<section id="{kind.slug}"><h2>{kind.slug}</h2>'
        f"<p><strong>{kind.status} {_html(kind.title)}.</strong> {_html(kind.meaning)}</p>"
        f"<p><em>What to do:</em> {_html(kind.remedy)}</p></section>"
        for kind in KINDS
    )


def _html(text: str) -> str:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    pieces = escaped.split("`")
    return "".join(f"<code>{piece}</code>" if at % 2 else piece for at, piece in enumerate(pieces))
