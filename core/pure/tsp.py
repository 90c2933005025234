"""The Titanic protocol, RFC 9/TSP, and our further ``titanic.*`` services, as frames.

Plain TSP is as the RFC has it: status digits, then UUID or reply frames. The extended services carry
one msgpack array, the *head*, as their first body frame, and raw frames behind it:

    request   | head | frame ... |            answer   | status, 3 digits | head | frame ... |

``docs/internals/tsp.md`` lists services, heads and statuses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import msgspec

from core.errors import PeerError
from core.pure.jobs import CallMeta, RequestMeta

T = TypeVar("T")

REQUEST: Final = b"titanic.request"
REPLY: Final = b"titanic.reply"
CLOSE: Final = b"titanic.close"
SUBMIT: Final = b"titanic.submit"
FETCH: Final = b"titanic.fetch"
STATUS: Final = b"titanic.status"
BATCH: Final = b"titanic.batch"
PACK: Final = b"titanic.pack"
DELETE: Final = b"titanic.delete"
CANCEL: Final = b"titanic.cancel"
RETRY: Final = b"titanic.retry"
LIST: Final = b"titanic.list"
SERVICES: Final = b"titanic.services"
PAUSE: Final = b"titanic.pause"
RESUME: Final = b"titanic.resume"
EVENTS: Final = b"titanic.events"
CALLBACKS: Final = b"titanic.callbacks"
CALLED: Final = b"titanic.called"
HELLO: Final = b"titanic.hello"
STATS: Final = b"titanic.stats"

PLAIN: Final = (REQUEST, REPLY, CLOSE)
EXTENDED: Final = (
    SUBMIT, FETCH, STATUS, BATCH, PACK, DELETE, CANCEL, RETRY, LIST, SERVICES, PAUSE, RESUME, EVENTS,
    CALLBACKS, CALLED, HELLO, STATS,
)  # fmt: skip

OK: Final = b"200"
PENDING: Final = b"300"
UNKNOWN: Final = b"400"
NOT_FOUND: Final = b"404"  # extended only, as all below: never issued here
CONFLICT: Final = b"409"  # the job's state forbids it; an id is taken by another request
GONE: Final = b"410"  # issued here, and closed
MISMATCH: Final = b"422"  # the idempotency key belongs to another request
ERROR: Final = b"500"
PASSIVE: Final = b"421"  # of a pair: ask the other node
UNAVAILABLE: Final = b"503"
FULL: Final = b"507"

RESERVED: Final = (b"mmi.", b"titanic.")
SERVICE_MAX_BYTES: Final = 255
WAIT_MAX_MS: Final = 3_600_000
BATCH_MAX_COUNT: Final = 1_000  # lines of one batch: a broker's message has at most 1,024 frames
LIST_MAX_COUNT: Final = 1_000
SERVICES_MAX_COUNT: Final = 1_000
EVENTS_MAX_COUNT: Final = 1_000
CALLS_MAX_COUNT: Final = 100
CALLBACK_MAX_CHARS: Final = 2_048
STATES: Final = ("scheduled", "queued", "running", "succeeded", "failed", "cancelled")


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
    """``titanic.fetch`` and ``titanic.status``: which job, and how long to wait for its end (0: not).

    With an ``owner``, here and in every other head, another owner's job is as if it had never been.
    """

    key: bytes
    wait_ms: int = 0
    owner: str = ""


class JobHead(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """``titanic.cancel``, ``titanic.retry`` and ``titanic.delete``: which job.

    To delete, ``key`` may be up to a thousand ids, one behind the other.
    """

    key: bytes
    owner: str = ""


class ReplyHead(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """200 to a fetch; the reply's frames follow."""

    content_type: str
    attempt: int
    replied_ms: int


class JobStatus(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """200 to a status, a cancel and a retry; 300 (pending) and 409 (wrong state) to any."""

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
    priority: int = 1
    ended_ms: int = 0  # when it succeeded, failed or was cancelled
    keep_until_ms: int = 0  # when its retention ends; 0: never, or not ended yet
    expires_ms: int = 0  # given up if not started by then
    owner: str = ""
    progress: bytes = b""  # last PARTIAL of a worker, while the job has not ended
    traceparent: str = ""
    callback: str = ""
    call: CallMeta | None = None  # how far the callback is


class CallbacksHead(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """``titanic.callbacks``: take up to ``limit`` deliveries that are due, waiting ``wait_ms`` for the first.

    Each is the asker's for ``lease_ms``; if it has not reported by then, the next who asks gets it.
    """

    limit: int = 1
    wait_ms: int = 0
    lease_ms: int = 60_000


class CallbacksPage(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """200 to ``titanic.callbacks``: the jobs to deliver, each with its ``callback`` and ``call``."""

    calls: tuple[JobStatus, ...]


class CalledHead(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """``titanic.called``: what became of a delivery; the answer is 200 and a Deleted, once it is durable.

    ``round`` is that of the call that was taken. ``final``: a failure that no other try would mend.
    """

    key: bytes
    round: int
    ok: bool
    reason: str = ""
    final: bool = False


class Deleted(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """200 to a delete: the jobs, if any were of this owner, are gone for good; to a ``called``: noted."""

    key: bytes


class BatchHead(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """``titanic.batch``: the ids the caller made, one per frame behind the head; ``meta`` is that of each.

    With ``meta.idempotency`` line N has a key of its own, derived from it and N, bound to the fingerprint.
    """

    keys: tuple[bytes, ...]
    meta: RequestMeta


class BatchLine(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What became of one line: ``status`` as a submit's; ``key`` is another id's if it was replayed."""

    status: int
    key: bytes
    state: str = ""
    detail: str = ""
    replayed: bool = False


class BatchAck(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """200 to a batch: a line per frame, in order; all that say 200 are stored as ``durability`` says."""

    lines: tuple[BatchLine, ...]
    created_ms: int
    durability: str
    epoch: int


class PackHead(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """``titanic.pack``: a batch whose bodies lie in one frame behind the head, one after the other.

    ``keys`` are the ids the caller made, 16 bytes each; ``sizes`` the lengths of the bodies, u32
    little-endian each; ``meta`` is that of each and has no idempotency key. What a gateway sends under load:
    a frame costs more than a body.
    """

    keys: bytes
    sizes: bytes
    meta: RequestMeta


class PackAck(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """200 to a pack. Without ``lines``: all are stored, as new, and are in ``state``; else as in BatchAck."""

    state: str
    created_ms: int
    durability: str
    epoch: int
    lines: tuple[BatchLine, ...] = ()


class ListHead(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """``titanic.list``: newest first, from ``cursor`` (a page's) on; "" filters nothing."""

    service: str = ""
    state: str = ""  # one of STATES
    limit: int = 100
    cursor: bytes = b""
    owner: str = ""


class JobRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One job of a list: what the node knows without reading the disk."""

    key: bytes
    service: str
    state: str
    attempt: int
    created_ms: int  # as its id says
    priority: int = 1
    due_ms: int = 0  # of a scheduled job
    ended_ms: int = 0
    reason: str = ""
    owner: str = ""


class JobPage(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """200 to a list. A page may be short, even empty: it is the last one only if ``cursor`` is empty."""

    rows: tuple[JobRow, ...]
    cursor: bytes = b""


class ServicesHead(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """``titanic.services``: one by name, or those that begin with ``prefix``, sorted, after ``after``."""

    service: str = ""
    prefix: str = ""
    after: str = ""
    limit: int = 256


class ServiceRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One service: its workers at the broker, its jobs by state, and how it goes."""

    name: str
    workers: int = 0
    workers_idle: int = 0
    requests: int = 0  # transient ones that wait at the broker
    scheduled: int = 0
    queued: int = 0
    running: int = 0
    succeeded: int = 0  # and not closed yet
    failed: int = 0  # dead letters
    cancelled: int = 0
    oldest_ms: int = 0  # when the oldest job that could run now was made; 0: there is none
    accepted_per_minute: float = 0.0
    succeeded_per_minute: float = 0.0
    failed_per_minute: float = 0.0  # attempts
    paused: bool = False


class ServicesPage(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """200 to ``titanic.services``; ``after`` asks for the next page, empty: there is none."""

    rows: tuple[ServiceRow, ...]
    now_ms: int
    after: str = ""


class PauseHead(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """``titanic.pause`` and ``titanic.resume``; the answer is 200 and a ServiceRow, once it is durable."""

    service: str


class EventsHead(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """``titanic.events``: those after ``since`` (-1: after now), waiting ``wait_ms`` for the first."""

    since: int = -1
    wait_ms: int = 0
    limit: int = 100
    service: str = ""
    owner: str = ""


class Event(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One step in the life of a job or a service. ``id`` is the sequence of its journal record.

    ``kind``: accepted, started, retrying (an attempt failed), progress, succeeded, failed, cancelled,
    retried, closed, paused, resumed, callback (a delivery was tried), pair (a node of a pair changed its
    state, as ``detail`` says).
    """

    id: int
    at_ms: int
    kind: str
    key: bytes  # empty for paused, resumed and pair
    service: str
    attempt: int = 0
    detail: str = ""
    owner: str = ""


class EventsPage(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """200 to ``titanic.events``: oldest first. ``next`` is the ``since`` of the next question.

    With ``gap_to``, what lay between the question's ``since`` and it is not known here any more.
    """

    events: tuple[Event, ...]
    next: int
    gap_to: int = -1


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
    batch_max_count: int = BATCH_MAX_COUNT
    key_lifetime_ms: int = 0  # of an idempotency key, unless its request says otherwise
    key_lifetime_max_ms: int = 0
    state: str = ""  # of a node of a pair: its state in the table
    active_at: str = ""  # where the active node of its pair is, if this one knows
    stamp_ms: int = 0  # a node of a pair: its clock; the next greeting of this client brings it back


class Stats(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """200 to ``titanic.stats``: counters since start, gauges of now, and a row per service."""

    counters: dict[str, int]
    gauges: dict[str, float]
    services: dict[str, dict[str, int]]
    owners: dict[str, int] = {}  # open jobs; msgspec copies the default
    owner_bytes: dict[str, int] = {}  # of their requests, each rounded up by at most 1/16


def _decoder(kind: type[T]) -> Callable[[bytes], T]:
    """Decodes a head. Raises msgspec.MsgspecError for whatever is none, text that is no UTF-8 included."""
    decode = msgspec.msgpack.Decoder(kind).decode

    def decode_checked(raw: bytes) -> T:
        try:
            return decode(raw)
        except UnicodeDecodeError as error:
            raise msgspec.DecodeError(f"text that is not UTF-8: {error.reason}") from error

    return decode_checked


encode_head = msgspec.msgpack.Encoder().encode
decode_submit = _decoder(SubmitHead)
decode_ack = _decoder(SubmitAck)
decode_fetch = _decoder(FetchHead)
decode_reply_head = _decoder(ReplyHead)
decode_job = _decoder(JobHead)
decode_deleted = _decoder(Deleted)
decode_batch = _decoder(BatchHead)
decode_batch_ack = _decoder(BatchAck)
decode_pack = _decoder(PackHead)
decode_pack_ack = _decoder(PackAck)
decode_list = _decoder(ListHead)
decode_page = _decoder(JobPage)
decode_services = _decoder(ServicesHead)
decode_services_page = _decoder(ServicesPage)
decode_service_row = _decoder(ServiceRow)
decode_pause = _decoder(PauseHead)
decode_events = _decoder(EventsHead)
decode_events_page = _decoder(EventsPage)
decode_callbacks = _decoder(CallbacksHead)
decode_calls = _decoder(CallbacksPage)
decode_called = _decoder(CalledHead)
decode_status = _decoder(JobStatus)
decode_error = _decoder(ErrorHead)
decode_hello = _decoder(Hello)
decode_stats = _decoder(Stats)


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
