"""The Titanic protocol, RFC 9/TSP, and our further ``titanic.*`` services, as frames.

Plain TSP is as the RFC has it: status digits, then UUID or reply frames. The extended services carry
one msgpack array, the *head*, as their first body frame, and raw frames behind it:

    request   | head | frame ... |            answer   | status, 3 digits | head | frame ... |

``docs/internals/tsp.md`` lists services, heads and statuses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from core.errors import PeerError
from core.pure.jobs import RequestMeta

REQUEST: Final = b"titanic.request"
REPLY: Final = b"titanic.reply"
CLOSE: Final = b"titanic.close"
SUBMIT: Final = b"titanic.submit"
FETCH: Final = b"titanic.fetch"
STATUS: Final = b"titanic.status"
HELLO: Final = b"titanic.hello"
STATS: Final = b"titanic.stats"

PLAIN: Final = (REQUEST, REPLY, CLOSE)
EXTENDED: Final = (SUBMIT, FETCH, STATUS, HELLO, STATS)

OK: Final = b"200"
PENDING: Final = b"300"
UNKNOWN: Final = b"400"
NOT_FOUND: Final = b"404"  # extended only, as all below: never issued here
CONFLICT: Final = b"409"  # the job failed or was cancelled; an id is taken by another request
GONE: Final = b"410"  # issued here, and closed
ERROR: Final = b"500"
UNAVAILABLE: Final = b"503"
FULL: Final = b"507"

RESERVED: Final = (b"mmi.", b"titanic.")
SERVICE_MAX_BYTES: Final = 255
WAIT_MAX_MS: Final = 3_600_000


class SubmitHead(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """``titanic.submit``: the id the caller made and what the job asks for (``accepted_ms`` is ignored)."""

    key: bytes
    meta: RequestMeta


class SubmitAck(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """200 to a submit: the job is stored as ``durability`` says."""

    key: bytes
    state: str
    created_ms: int
    durability: str
    epoch: int
    replayed: bool = False


class FetchHead(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """``titanic.fetch`` and ``titanic.status``: which job, and how long to wait for its end (0: not)."""

    key: bytes
    wait_ms: int = 0


class ReplyHead(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """200 to a fetch; the reply's frames follow."""

    content_type: str
    attempt: int
    replied_ms: int


class JobStatus(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """200 to a status, 300 (pending) and 409 (failed, cancelled) to a fetch."""

    key: bytes
    service: str
    state: str
    attempt: int
    created_ms: int
    content_type: str
    request_bytes: int
    reply_bytes: int
    due_ms: int = 0
    attempts_max: int = 0
    reason: str = ""
    replied_ms: int = 0
    queued_before: int = -1  # jobs of the service ahead of this one; -1: not counted


class ErrorHead(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Every other status: why, for a person."""

    detail: str


class Hello(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """200 to ``titanic.hello``: what a gateway must know of its node."""

    version: str
    role: str  # single | active | passive
    epoch: int
    ready: bool
    reason: str
    durability: str
    id_secret: bytes
    max_body_bytes: int
    started_ms: int
    jobs: int


class Stats(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """200 to ``titanic.stats``: counters since start, gauges of now, and a row per service."""

    counters: dict[str, int]
    gauges: dict[str, float]
    services: dict[str, dict[str, int]]


encode_head = msgspec.msgpack.Encoder().encode
decode_submit = msgspec.msgpack.Decoder(SubmitHead).decode
decode_ack = msgspec.msgpack.Decoder(SubmitAck).decode
decode_fetch = msgspec.msgpack.Decoder(FetchHead).decode
decode_reply_head = msgspec.msgpack.Decoder(ReplyHead).decode
decode_status = msgspec.msgpack.Decoder(JobStatus).decode
decode_error = msgspec.msgpack.Decoder(ErrorHead).decode
decode_hello = msgspec.msgpack.Decoder(Hello).decode
decode_stats = msgspec.msgpack.Decoder(Stats).decode


def service_error(service: bytes) -> str | None:
    """Why ``service`` cannot take jobs, or None if it can (1-255 printable ASCII bytes without ``/``)."""
    if not service:
        return "the service name is empty"
    if len(service) > SERVICE_MAX_BYTES:
        return f"the service name has {len(service)} bytes; the limit is {SERVICE_MAX_BYTES}"
    if not (service.isascii() and service.decode("ascii").isprintable()) or b"/" in service:
        return "a service name is printable ASCII without '/'"
    if service.startswith(RESERVED):
        return "names that begin with 'mmi.' or 'titanic.' are the broker's own"
    return None


def status_of(answer: Sequence[bytes]) -> bytes:
    """The three digits that begin any answer; text after them is ignored (RFC 9). Raises PeerError."""
    if not answer or len(answer[0]) < 3 or not answer[0][:3].isdigit():
        raise PeerError("answer without a status")
    return answer[0][:3]
