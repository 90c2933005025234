"""Submits that are ready in the same turn of the loop travel as one message.

A message costs each process about ten microseconds of ZeroMQ whatever is in it, a large part of a submit.
Under load many requests are read in one turn: those that ask for the same (same service, type, options and
owner; one frame) become one ``titanic.pack``, each with its own id and its own answer. Alone, a submit is
sent as ever, in the same turn.

While one message is unanswered the next one waits for that answer, or for five milliseconds: it could not be
synced before anyway, and of what comes in the meantime every message saved is saved in both processes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from core.pure import tsp
from core.pure.jobs import RequestMeta
from gateway.errors import ProblemError
from gateway.pure.packing import Stored
from gateway.pure.submission import line_problem

GROUP_MAX: Final = 128
GROUP_MAX_BYTES: Final = 1 << 20
FRAME_MAX_BYTES: Final = 1 << 16
"""A larger body goes alone: copying it is what costs."""
ON_THE_WAY_MAX: Final = 1
HOLD_S: Final = 0.005
assert GROUP_MAX <= tsp.BATCH_MAX_COUNT, "a group is a batch"

SendOne = Callable[[RequestMeta, Sequence[bytes]], Awaitable[tsp.SubmitAck]]
SendMany = Callable[[RequestMeta, Sequence[bytes]], Awaitable[Stored]]


class Submitter(Protocol):
    """Who waits for a submit; exactly one of the two is called, once."""

    def accepted(self, key: bytes, stored: Stored) -> None:
        """The job is stored under ``key``, and ``stored``, which others may share, says how."""
        ...

    def refused(self, error: Exception) -> None:
        """It is not, or nobody knows; the error is this submitter's own."""
        ...


class Promise:
    """A submitter as a future of the acknowledgement."""

    __slots__ = ("future",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.future: asyncio.Future[tsp.SubmitAck] = loop.create_future()

    def accepted(self, key: bytes, stored: Stored) -> None:
        """See Submitter."""
        if not self.future.done():
            self.future.set_result(stored.ack(key))

    def refused(self, error: Exception) -> None:
        """See Submitter."""
        if not self.future.done():
            self.future.set_exception(error)


_Waiting = list[tuple[bytes, Submitter]]


class Coalescer:
    """Groups submits by turn; ``one`` and ``many`` send them."""

    def __init__(self, one: SendOne, many: SendMany) -> None:
        self.groups_count = 0
        self.grouped_count = 0
        self._one, self._many = one, many
        self._meta: RequestMeta | None = None
        self._waiting: _Waiting = []
        self._bytes = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._handle: asyncio.Handle | None = None

    async def submit(self, meta: RequestMeta, frame: bytes) -> tsp.SubmitAck:
        """Store a job of one frame; raises what a submit of its own would have raised."""
        if len(frame) > FRAME_MAX_BYTES:
            return await self._one(meta, (frame,))
        promise = Promise(asyncio.get_running_loop())
        self.add(meta, frame, promise)
        return await promise.future

    def add(self, meta: RequestMeta, frame: bytes, submitter: Submitter) -> None:
        """As :meth:`submit`, for whoever wants to be called; ``frame`` has at most FRAME_MAX_BYTES."""
        waiting = self._waiting
        if waiting and (
            self._bytes > GROUP_MAX_BYTES
            or len(waiting) >= GROUP_MAX
            or (meta is not self._meta and meta != self._meta)
        ):
            self._flush()
            waiting = self._waiting
        if not waiting:
            self._meta = meta
            loop = asyncio.get_running_loop()
            if len(self._tasks) < ON_THE_WAY_MAX:
                self._handle = loop.call_soon(self._flush)  # behind all the requests that this turn reads
            else:
                self._handle = loop.call_later(HOLD_S, self._flush)
        waiting.append((frame, submitter))
        self._bytes += len(frame)

    def _flush(self) -> None:
        waiting, meta = self._waiting, self._meta
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if not waiting:
            return
        assert meta is not None, "who waits asked for something"
        self._waiting, self._bytes = [], 0
        task = asyncio.get_running_loop().create_task(self._send(meta, waiting))
        self._tasks.add(task)
        task.add_done_callback(self._answered)

    def _answered(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if len(self._tasks) < ON_THE_WAY_MAX:
            self._flush()

    async def _send(self, meta: RequestMeta, waiting: _Waiting) -> None:
        done = 0
        try:
            if len(waiting) == 1:
                await self._send_one(meta, *waiting[0])
                return
            self.groups_count += 1
            self.grouped_count += len(waiting)
            stored = await self._many(meta, [frame for frame, _ in waiting])
            if not stored.lines:
                for key, (_, submitter) in zip(stored.keys, waiting, strict=True):
                    done += 1
                    submitter.accepted(key, stored)
                return
            for line, (frame, submitter) in zip(stored.lines, waiting, strict=True):
                done += 1
                await self._judge(line, stored, meta, frame, submitter)
        except Exception as error:
            for _, submitter in waiting[done:]:
                submitter.refused(own_error(error))

    async def _judge(
        self, line: tsp.BatchLine, stored: Stored, meta: RequestMeta, frame: bytes, submitter: Submitter
    ) -> None:
        if line.status == _OK:
            submitter.accepted(line.key, stored.with_state(line.state))
        elif line.status == _CONFLICT:  # a collision of ids: it gets another one
            try:
                await self._send_one(meta, frame, submitter)
            except Exception as error:
                submitter.refused(own_error(error))
        else:
            submitter.refused(line_problem(line))

    async def _send_one(self, meta: RequestMeta, frame: bytes, submitter: Submitter) -> None:
        ack = await self._one(meta, (frame,))
        submitter.accepted(ack.key, Stored.of(ack))


_OK: Final = int(tsp.OK)
_CONFLICT: Final = int(tsp.CONFLICT)


def own_error(error: Exception) -> Exception:
    """Each gets an error of its own: problems are given headers by who sends them."""
    if isinstance(error, ProblemError):
        return ProblemError(error.kind, error.detail, extra=error.extra, headers=error.headers)
    return error
