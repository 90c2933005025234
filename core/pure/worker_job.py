"""What a handler gets and gives: one unit of work, its idempotency key, its reply."""

from __future__ import annotations

import inspect
import typing
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import msgspec

from core.errors import CoreError
from core.pure.traces import TRACE_BYTES, unpack

# The client-address frame of a durable job: | "J" | job key: 16 | attempt: u32, big-endian | trace: 0 or 25 |
JOB_MARK: Final = b"J"
JOB_ADDRESS_BYTES: Final = 21
_ADDRESS_SIZES: Final = (JOB_ADDRESS_BYTES, JOB_ADDRESS_BYTES + TRACE_BYTES)
_KEY: Final = slice(1, 17)

MEMORY_MAX_COUNT: Final = 1_000
MEMORY_MAX_BYTES: Final = 16 * 1024 * 1024

Handler = Callable[["WorkerJob"], Any]
"""Takes a job; returns bytes, str, a sequence of bytes, or an awaitable of one; raising fails the attempt."""


class AttemptFailedError(CoreError):
    """Raised by a handler to fail this attempt for the reason given; the job is tried again later."""


class ReplyMemoryError(CoreError):
    """The memory of replies cannot be read or written; look at its file. The worker goes on without it."""


class WorkerJob(msgspec.Struct, frozen=True):
    """One attempt at one job.

    ``id`` is the idempotency key: 32 hex digits, the same for every attempt at a durable job, and empty for
    a plain Majordomo request, which is delivered once at most. ``attempt`` counts from 1. ``traceparent`` is
    the trace context (W3C) of the attempt, if whoever submitted the job, or the node, has one.
    """

    service: str
    frames: Sequence[bytes]
    address: bytes
    id: str = ""
    attempt: int = 1
    report: Callable[[bytes], None] | None = None
    traceparent: str = ""

    def progress(self, said: bytes | str) -> bool:
        """Tell the client, or whoever looks at the job, how far it is; callable from any thread.

        Sent as a PARTIAL (RFC 18), which a worker of ``version=2`` has; False: nobody will hear of it.
        """
        if self.report is None:
            return False
        self.report(said.encode() if isinstance(said, str) else said)
        return True

    @property
    def body(self) -> bytes:
        """All frames as one."""
        return self.frames[0] if len(self.frames) == 1 else b"".join(self.frames)


def is_job_address(address: bytes) -> bool:
    """Whether a client-address frame is that of a durable job."""
    return len(address) in _ADDRESS_SIZES and address.startswith(JOB_MARK)


def job_of(
    service: str,
    address: bytes,
    frames: Sequence[bytes],
    report: Callable[[bytes], None] | None = None,
) -> WorkerJob:
    """The job behind a REQUEST; any address that is not a node's own is a plain request."""
    if not is_job_address(address):
        return WorkerJob(service, frames, address, report=report)
    attempt = int.from_bytes(address[17:JOB_ADDRESS_BYTES], "big")
    trace = unpack(address[JOB_ADDRESS_BYTES:])
    return WorkerJob(service, frames, address, address[_KEY].hex(), attempt, report, trace)


def memory_key(job: WorkerJob) -> bytes:
    """What to remember the reply under; empty if it must not be remembered.

    Only an id that is a UUID (RFC 9562: variant bits 10) counts: a client whose identity happens to look
    like a job address, all printable, would otherwise get its first reply for ever.
    """
    if not job.id or job.address[9] >> 6 != 0b10:
        return b""
    return job.address[_KEY] + job.service.encode()


def to_frames(result: object) -> list[bytes]:
    """A handler's result as reply frames; raises AttemptFailedError for anything that is no reply."""
    if isinstance(result, bytes):
        return [result]
    if isinstance(result, str):
        return [result.encode()]
    if isinstance(result, bytearray | memoryview):
        return [bytes(result)]
    if isinstance(result, Sequence) and all(isinstance(frame, bytes) for frame in result):
        return list(result)
    raise AttemptFailedError(
        f"the handler returned {type(result).__name__}, not bytes, str or a sequence of bytes"
    )


def reason_of(error: BaseException) -> str:
    """One line that says why an attempt failed."""
    text = str(error).strip()
    if isinstance(error, AttemptFailedError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def adapt(function: Callable[..., Any]) -> Handler:
    """A handler from a user's function: it gets the body as bytes, or the job if annotated ``WorkerJob``."""
    return function if _wants_job(function) else _BodyOnly(function)


class _BodyOnly:
    """Calls a function of bytes with the body of the job; tells the event loop's kind of function through."""

    def __init__(self, function: Callable[[bytes], Any]) -> None:
        self.function = function

    def __call__(self, job: WorkerJob) -> Any:
        return self.function(job.body)


def is_async(handler: Callable[..., Any]) -> bool:
    """Whether calling it gives an awaitable."""
    if isinstance(handler, _BodyOnly):
        return is_async(handler.function)
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(
        getattr(handler, "__call__", None)  # noqa: B004  an object with an async __call__
    )


def _wants_job(function: Callable[..., Any]) -> bool:
    target = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004
    try:
        hints = typing.get_type_hints(target)
    except (NameError, TypeError, AttributeError):
        hints = dict(getattr(target, "__annotations__", {}))
    hints.pop("return", None)
    first = next(iter(hints.values()), None)
    return first is WorkerJob or (isinstance(first, str) and first.split(".")[-1] == "WorkerJob")


class Memory(Protocol):
    """Replies already given. A ``blocking`` one is written in the handler's thread, before the reply goes."""

    @property
    def blocking(self) -> bool:
        """Whether :meth:`put` may take its time."""
        ...

    def get(self, key: bytes) -> Sequence[bytes] | None:
        """The reply kept under ``key``, if it is still there. ReplyMemoryError."""
        ...

    def put(self, key: bytes, frames: Sequence[bytes]) -> None:
        """Keep this reply. ReplyMemoryError."""
        ...


class ReplyMemory:
    """The replies given last, bounded by count and bytes: a redelivered job is answered, not done again."""

    blocking = False

    def __init__(self, max_count: int = MEMORY_MAX_COUNT, max_bytes: int = MEMORY_MAX_BYTES) -> None:
        self.size_bytes = 0
        self._max_count, self._max_bytes = max_count, max_bytes
        self._kept: OrderedDict[bytes, Sequence[bytes]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: bytes) -> Sequence[bytes] | None:
        """The reply kept under ``key``, if it is still there."""
        return self._kept.get(key)

    def put(self, key: bytes, frames: Sequence[bytes]) -> None:
        """Keep this reply, unless it alone is over the limit; the oldest make room."""
        size_bytes = sum(map(len, frames))
        if not key or size_bytes > self._max_bytes or key in self._kept:
            return
        self._kept[key] = frames
        self.size_bytes += size_bytes
        while len(self._kept) > self._max_count or self.size_bytes > self._max_bytes:
            _, dropped = self._kept.popitem(last=False)
            self.size_bytes -= sum(map(len, dropped))
