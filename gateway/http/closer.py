"""Closes that come while one is under way travel as one message, as submits do (coalescer.py)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from core.pure import tsp
from gateway.http.coalescer import HOLD_S, own_error

GROUP_MAX: Final = 256
assert GROUP_MAX <= tsp.BATCH_MAX_COUNT, "a group is one message"

_Waiting = list[tuple[bytes, "asyncio.Future[None]"]]


class Closer:
    """Groups closes by owner; ``send`` closes them."""

    def __init__(self, send: Callable[[Sequence[bytes], str], Awaitable[None]]) -> None:
        self._close = send
        self._owner = ""
        self._waiting: _Waiting = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._handle: asyncio.Handle | None = None

    async def close(self, key: bytes, owner: str) -> None:
        """The job is gone; raises what a close of its own would have raised."""
        loop = asyncio.get_running_loop()
        if self._waiting and (owner != self._owner or len(self._waiting) >= GROUP_MAX):
            self._flush()
        if not self._waiting:
            self._owner = owner
            if self._tasks:
                self._handle = loop.call_later(HOLD_S, self._flush)
            else:
                self._handle = loop.call_soon(self._flush)
        future: asyncio.Future[None] = loop.create_future()
        self._waiting.append((key, future))
        await future

    def _flush(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        waiting, self._waiting = self._waiting, []
        if waiting:
            task = asyncio.get_running_loop().create_task(self._send(waiting, self._owner))
            self._tasks.add(task)
            task.add_done_callback(self._answered)

    def _answered(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not self._tasks:
            self._flush()

    async def _send(self, waiting: _Waiting, owner: str) -> None:
        try:
            await self._close([key for key, _ in waiting], owner)
        except Exception as error:
            for _, future in waiting:
                if not future.done():
                    future.set_exception(own_error(error))
            return
        for _, future in waiting:
            if not future.done():
                future.set_result(None)
