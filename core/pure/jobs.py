"""What a job is: its state, its entry in memory, and what its records say about it.

The journal keeps one :class:`Job` per live job in its index (memory per open job is a published
figure, so there is exactly one object, shared by the journal and the Titanic service). The journal
owns ``request_at`` and ``reply_at`` and nothing else; the Titanic service owns all other fields.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Final, NamedTuple

import msgspec

KEY_BYTES: Final = 16
DEFAULT_ATTEMPTS_MAX: Final = 25


class Now(NamedTuple):
    """One reading of both clocks, taken by a shell: deadlines use ``mono_ms``, records ``wall_ms``."""

    mono_ms: int
    wall_ms: int


class Kind(IntEnum):
    """The kind of a journal record; the numbers are part of the file format and never reused."""

    REQUEST = 1  # opens a job: RequestMeta, then the request's frames
    ATTEMPT = 2  # a step in the job's life: AttemptMeta, no body
    REPLY = 3  # the job's one reply: ReplyMeta, then the reply's frames
    CLOSE = 4  # the job and all its bytes are gone: CloseMeta, no body
    CANCEL = 5  # the job will not run (again): CloseMeta, no body
    KEY = 6  # an idempotency key, alive until closed: KeyMeta, no body
    JOB = 7  # a relocated job: its full state in one record (written by the journal only)
    MARK = 8  # no job: what is before it is durable (written by the journal only)
    SETTING = 9  # a durable setting such as a paused service, alive until closed: no body


class State(IntEnum):
    """Where a job stands. ACCEPTING, CLOSING and ENDING wait for the disk and are told to nobody."""

    ACCEPTING = 0
    SCHEDULED = 1
    QUEUED = 2
    RUNNING = 3
    SUCCEEDED = 4
    FAILED = 5
    CANCELLED = 6
    CLOSING = 7
    ENDING = 8  # its reply, death or cancellation is being written
    BINDING = 9  # no job at all: the entry of a KEY or SETTING record


DELIVERED: Final = 1
GIVEN_UP: Final = 2
ENDED: Final = (State.SUCCEEDED, State.FAILED, State.CANCELLED)


class Outcome(IntEnum):
    """What an ATTEMPT record says happened."""

    STARTED = 0
    FAILED = 1  # this attempt failed; the job runs again at ``due_ms``
    DEAD = 2  # attempts exhausted or expired: a dead letter
    RETRIED = 3  # a dead letter was put back by hand; attempts start again
    PROGRESS = 4  # a PARTIAL of the running attempt, in ``progress``
    CALLED = 5  # the callback of a job that has ended was delivered; ``attempt`` counts its deliveries
    CALL_FAILED = 6  # one delivery failed; the next one at ``due_ms``
    CALL_GIVEN_UP = 7  # no further delivery


SHARE_MS: Final = 64


class EndTimes:
    """One int object for ends that are less than 64 ms apart: 28 bytes less for most jobs that have ended."""

    __slots__ = ("_last_ms",)

    def __init__(self) -> None:
        self._last_ms = 0

    def shared(self, at_ms: int) -> int:
        """``at_ms``, or up to 64 ms earlier."""
        if not 0 <= at_ms - self._last_ms < SHARE_MS:
            self._last_ms = at_ms
        return self._last_ms


class Share(msgspec.Struct, frozen=True, gc=False):
    """Whose a job is, and what its request counts as in bytes; one object for all jobs that agree in both."""

    name: str = ""
    size_bytes: int = 0


NOBODY: Final = Share()


class Job(msgspec.Struct, eq=False, gc=False):
    """One live job in memory. ``request_at``/``reply_at`` belong to the journal (0: no such record).

    ``due_ms`` is wall time: when a scheduled job or a retry may run (0: at once), when an ended job ended
    (see :class:`EndTimes`), when a key ends. ``owner`` and ``service`` are shared between jobs. A msgspec
    struct, because an object that the cycle collector does not track costs 16 bytes less, and collections
    stay as cheap with a million jobs as with none. It must never refer to anything that refers back to it.
    """

    key: bytes
    request_at: int = 0
    reply_at: int = 0
    service: bytes = b""
    state: int = State.ACCEPTING
    attempt: int = 0
    priority: int = 1
    due_ms: int = 0
    owner: Share = NOBODY
    retention_ms: int = 0  # 0: the default


# Record metadata: msgpack arrays, so that new fields can be added at the end with a default. Times are
# wall-clock milliseconds since 1970. ``frame_sizes`` is empty for the usual single frame.


class RequestMeta(msgspec.Struct, array_like=True, gc=False):
    """Everything a REQUEST says about its job, written once. 0 or "" means: the server's default.

    Not frozen: the intake stamps what a client sent in place, which costs a tenth of making another.
    """

    service: bytes
    accepted_ms: int
    content_type: str = ""
    frame_sizes: tuple[int, ...] = ()
    priority: int = 1  # 0 low, 1 normal, 2 high
    timeout_ms: int = 0  # of one attempt
    attempts_max: int = -1  # -1: default; 0: for ever
    not_before_ms: int = 0
    expires_ms: int = 0  # give up if not started by then
    retention_ms: int = 0  # of the reply
    owner: str = ""  # id of the API key that submitted it
    idempotency: bytes = b""  # key of the KEY record
    traceparent: str = ""
    callback: str = ""
    fingerprint: bytes = b""  # of the request, as the caller of the idempotency key sees it
    key_lifetime_ms: int = 0  # of the idempotency key
    body_bytes: int = 0  # of the request, or the mean of those accepted with it; 0: it has no owner


class AttemptMeta(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One step in a job's life."""

    outcome: int
    attempt: int
    at_ms: int
    reason: str = ""
    due_ms: int = 0
    worker: bytes = b""
    progress: bytes = b""


class ReplyMeta(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Everything a REPLY says besides its frames."""

    replied_ms: int
    attempt: int
    frame_sizes: tuple[int, ...] = ()
    content_type: str = ""


class CloseMeta(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Why and when a job was closed or cancelled."""

    at_ms: int
    cause: str = "client"  # client | retention | expired | merge


class KeyMeta(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An idempotency key's binding; the record's key is the hash of (owner, service, key)."""

    job: bytes
    fingerprint: bytes
    expires_ms: int


class CallMeta(msgspec.Struct, array_like=True, gc=False):
    """How far the callback of a job is. Not frozen: it is brought up to date in place."""

    tries: int = 0  # deliveries tried since the job's (last) end
    due_ms: int = 0  # wall time before which no other is tried
    settled: int = 0  # 0 open, 1 delivered, 2 given up
    round: int = 0  # how often the job was put back by hand: each end is called for anew
    at_ms: int = 0  # of the last delivery
    reason: str = ""  # of the last failure


class StateMeta(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a relocated JOB record carries in place of the ATTEMPT records it makes redundant."""

    state: int
    attempt: int
    due_ms: int
    reason: str = ""
    expires: bool = True  # whether the expiry its request asks for still counts
    progress: bytes = b""
    call: CallMeta | None = None  # of a job with a callback


class SettingMeta(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A durable setting of a service; in force from its record until it is closed."""

    name: str  # paused
    service: bytes
    at_ms: int


_encoder = msgspec.msgpack.Encoder()
encode_meta = _encoder.encode
decode_request = msgspec.msgpack.Decoder(RequestMeta).decode
decode_attempt = msgspec.msgpack.Decoder(AttemptMeta).decode
decode_reply = msgspec.msgpack.Decoder(ReplyMeta).decode
decode_close = msgspec.msgpack.Decoder(CloseMeta).decode
decode_key = msgspec.msgpack.Decoder(KeyMeta).decode
decode_setting = msgspec.msgpack.Decoder(SettingMeta).decode
decode_state = msgspec.msgpack.Decoder(StateMeta).decode

_READ: Final[dict[int, Callable[[bytes], object]]] = {
    Kind.REQUEST: decode_request,
    Kind.ATTEMPT: decode_attempt,
    Kind.REPLY: decode_reply,
    Kind.CANCEL: decode_close,
    Kind.KEY: decode_key,
    Kind.JOB: decode_state,
    Kind.SETTING: decode_setting,
}
"""The metas that say more than that the record is there: a CLOSE closes whatever is in it."""


def unreadable(kind: int, meta: bytes) -> str:
    """Why a record's meta cannot be read; empty if it can, or if nobody needs to. Of a JOB: its state."""
    try:
        if kind in _READ:
            _READ[kind](meta)
    except ValueError as error:  # msgspec's, and that of text which is not UTF-8
        return str(error)
    return ""


def split_frames(body: bytes, sizes: tuple[int, ...]) -> list[bytes]:
    """Cut a stored body back into its frames; no sizes means one frame."""
    if not sizes:
        return [body]
    frames, at = [], 0
    for size in sizes:
        frames.append(body[at : at + size])
        at += size
    return frames
