"""Submits that are ready in the same turn of the loop travel as one message.

A message costs each process about ten microseconds of ZeroMQ whatever is in it, a large part of a submit.
Under load many requests are read in one turn: those that ask for the same (same service, type, options and
owner; one frame) become one ``titanic.batch``, each with its own id and its own answer. Alone, a submit is
sent as ever, in the same turn. Nothing waits for company.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from core.pure import tsp
from core.pure.jobs import RequestMeta
from gateway.errors import ProblemError
from gateway.pure.submission import line_problem

GROUP_MAX: Final = 128
GROUP_MAX_BYTES: Final = 1 << 20
FRAME_MAX_BYTES: Final = 1 << 16
"""A larger body goes alone: copying it is what costs."""
assert GROUP_MAX <= tsp.BATCH_MAX_COUNT, "a group is a batch"

SendOne = Callable[[RequestMeta, Sequence[bytes]], Awaitable[tsp.SubmitAck]]
SendMany = Callable[[RequestMeta, Sequence[bytes]], Awaitable[tsp.BatchAck]]
_Waiting = list[tuple[bytes, "asyncio.Future[tsp.SubmitAck]"]]


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

    async def submit(self, meta: RequestMeta, frame: bytes) -> tsp.SubmitAck:
        """Store a job of one frame; raises what a submit of its own would have raised."""
        if len(frame) > FRAME_MAX_BYTES:
            return await self._one(meta, (frame,))
        loop = asyncio.get_running_loop()
        if self._waiting and (
            self._bytes > GROUP_MAX_BYTES or len(self._waiting) >= GROUP_MAX or meta != self._meta
        ):
            self._flush()
        if not self._waiting:
            self._meta = meta
            loop.call_soon(self._flush)  # behind all the requests that this turn has read
        future: asyncio.Future[tsp.SubmitAck] = loop.create_future()
        self._waiting.append((frame, future))
        self._bytes += len(frame)
        return await future

    def _flush(self) -> None:
        waiting, meta = self._waiting, self._meta
        if not waiting:
            return  # it went with a group that was full
        assert meta is not None, "who waits asked for something"
        self._waiting, self._bytes = [], 0
        task = asyncio.get_running_loop().create_task(self._send(meta, waiting))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, meta: RequestMeta, waiting: _Waiting) -> None:
        try:
            if len(waiting) == 1:
                _resolve(waiting[0][1], await self._one(meta, (waiting[0][0],)))
                return
            self.groups_count += 1
            self.grouped_count += len(waiting)
            ack = await self._many(meta, [frame for frame, _ in waiting])
            for line, (frame, future) in zip(ack.lines, waiting, strict=True):
                if line.status == _OK:
                    stored = tsp.SubmitAck(line.key, line.state, ack.created_ms, ack.durability, ack.epoch)
                    _resolve(future, stored)
                elif line.status == _CONFLICT:  # a collision of ids: it gets another one
                    _resolve(future, await self._one(meta, (frame,)))
                else:
                    _refuse(future, line_problem(line))
        except Exception as error:
            for _, future in waiting:
                _refuse(future, error)


_OK: Final = int(tsp.OK)
_CONFLICT: Final = int(tsp.CONFLICT)


def _resolve(future: asyncio.Future[tsp.SubmitAck], ack: tsp.SubmitAck) -> None:
    if not future.done():
        future.set_result(ack)


def _refuse(future: asyncio.Future[tsp.SubmitAck], error: Exception) -> None:
    """Each gets an error of its own: problems are given headers by who sends them."""
    if future.done():
        return
    if isinstance(error, ProblemError):
        error = ProblemError(error.kind, error.detail, extra=error.extra, headers=error.headers)
    future.set_exception(error)
