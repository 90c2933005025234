"""Long-polls: each ends with its answer, with its client, or with the server, whichever is first."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

from gateway.errors import ClientGoneError

T = TypeVar("T")


class Waits:
    """All long-polls and event streams of this process.

    ``full`` says that no more long-polls are kept: a request that prefers to wait is answered at once then,
    which ``Prefer`` allows (RFC 7240, 2).
    """

    def __init__(self, limit: int = 10_000) -> None:
        self.count = 0
        self.streams_count = 0
        self.draining = False
        self._limit = limit
        self._drain: asyncio.Future[None] | None = None
        self._serving: set[asyncio.Task[Any]] = set()

    def drain(self) -> None:
        """The server stops: every wait ends now, and none begins any more. Call it on the loop."""
        self.draining = True
        if self._drain is not None and not self._drain.done():
            self._drain.set_result(None)
        for task in self._serving:
            task.cancel()

    @property
    def full(self) -> bool:
        """Whether no further long-poll begins."""
        return self.draining or self.count >= self._limit

    async def until(
        self, call: Coroutine[Any, Any, T], receive: Receive, *, stream: bool = False
    ) -> T | None:
        """The answer of ``call``; None when the server stops first. The request's body has been read.

        Raises ClientGoneError when the client leaves first, and what ``call`` raises. An event stream is
        counted elsewhere.
        """
        if self._drain is None:
            self._drain = asyncio.get_running_loop().create_future()
        answer = asyncio.ensure_future(call)
        gone = asyncio.ensure_future(_disconnected(receive))
        self.count += not stream
        try:
            ends: set[asyncio.Future[Any]] = {answer, gone, self._drain}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
            if gone.done():
                raise ClientGoneError("the client closed its connection while it waited")
            return None
        finally:
            self.count -= not stream
            answer.cancel()
            gone.cancel()

    async def while_serving(self, call: Coroutine[Any, Any, T]) -> T | None:
        """As :meth:`until`, in a task whose owner cancels it when the client leaves."""
        task = asyncio.current_task()
        assert task is not None, "called in a task"
        self.count += 1
        self._serving.add(task)
        try:
            return await call
        except asyncio.CancelledError:
            if not self.draining or task not in self._serving or task.uncancel():
                raise
            return None
        finally:
            self.count -= 1
            self._serving.discard(task)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
