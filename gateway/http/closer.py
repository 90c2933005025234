"""Closes that come while one is under way travel as one message, as submits do (coalescer.py)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from core.pure import tsp
from gateway.http.coalescer import HOLD_S, own_error

GROUP_MAX: Final = 256
assert GROUP_MAX <= tsp.BATCH_MAX_COUNT, "a group is one message"


class Closing(Protocol):
    """Who waits for a close; exactly one of the two is called, once."""

    def closed(self) -> None:
        """The job is gone, durably."""
        ...

    def refused(self, error: Exception) -> None:
        """It may not be, and nobody knows; the error is this one's own."""
        ...


class _Promise:
    """A future of the close."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.future: asyncio.Future[None] = loop.create_future()

    def closed(self) -> None:
        """See Closing."""
        if not self.future.done():
            self.future.set_result(None)

    def refused(self, error: Exception) -> None:
        """See Closing."""
        if not self.future.done():
            self.future.set_exception(error)


_Waiting = list[tuple[bytes, Closing]]


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
        promise = _Promise(asyncio.get_running_loop())
        self.add(key, owner, promise)
        await promise.future

    def add(self, key: bytes, owner: str, closing: Closing) -> None:
        """As :meth:`close`, for whoever wants to be called; never from inside this call."""
        loop = asyncio.get_running_loop()
        if self._waiting and (owner != self._owner or len(self._waiting) >= GROUP_MAX):
            self._flush()
        if not self._waiting:
            self._owner = owner
            if self._tasks:
                self._handle = loop.call_later(HOLD_S, self._flush)
            else:
                self._handle = loop.call_soon(self._flush)
        self._waiting.append((key, closing))

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
            for _, closing in waiting:
                closing.refused(own_error(error))
            return
        for _, closing in waiting:
            closing.closed()
