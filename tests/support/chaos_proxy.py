"""A TCP proxy of the tests' own that makes a wire late, deaf in one direction, or unreliable.

It runs in a thread of its own. What it holds back stays in its queue and then in the sender's buffers, as
with a cable that is cut: nobody gets an error, and what was on its way arrives when the cable is whole again.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")

THERE: Final = "there"
"""From whoever connected to whoever listens."""
BACK: Final = "back"
BOTH: Final = (THERE, BACK)
PART_BYTES: Final = 1 << 16
STEP_S: Final = 0.005


class ChaosProxy:
    """Listens at :attr:`port` and passes on to ``target_port`` of 127.0.0.1, until told otherwise.

    ``heard`` is what passed by, if ``listens``. ``dropped_count`` counts connections that :meth:`flap` ended.
    """

    def __init__(self, target_port: int, *, port: int = 0, listens: bool = False) -> None:
        self.heard = bytearray()
        self.dropped_count = 0
        self._listens = listens
        self._target_port = target_port
        self._cut: frozenset[str] = frozenset()
        self._delay_s = 0.0
        self._links: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="chaos proxy", daemon=True)
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._accept, "127.0.0.1", port))
        self.port: int = self._server.sockets[0].getsockname()[1]

    @property
    def endpoint(self) -> str:
        """Where to connect to."""
        return f"tcp://127.0.0.1:{self.port}"

    def cut(self, *ways: str) -> None:
        """Nothing passes in these directions (default: both); connections stay open, and new ones too."""
        self._cut = frozenset(ways or BOTH)

    def delay(self, seconds: float) -> None:
        """Everything arrives so much later, in order."""
        self._delay_s = seconds

    def heal(self) -> None:
        """Everything passes at once again."""
        self._cut, self._delay_s = frozenset(), 0.0

    def flap(self) -> None:
        """Every connection is reset now; new ones are accepted."""
        self._run(self._drop())

    def close(self) -> None:
        """Nobody listens any more, and every connection is closed."""
        self._server.close()
        self._run(self._drop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def __enter__(self) -> ChaosProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _drop(self) -> None:
        links = [*self._links]
        self.dropped_count += len(links)
        for link in links:
            link.cancel()
        await asyncio.gather(*links, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = asyncio.current_task()
        assert link is not None, "called in a task"
        self._links.add(link)
        writers = [writer]
        try:
            while THERE in self._cut:  # the other side does not even learn that somebody wants to connect
                await asyncio.sleep(STEP_S)
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
            writers.append(far_writer)
            ways = [
                asyncio.ensure_future(self._pass(THERE, reader, far_writer)),
                asyncio.ensure_future(self._pass(BACK, far_reader, writer)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass  # nobody listens behind it, or the test ends the connection: both are what it wants
        finally:
            self._links.discard(link)
            for each in writers:
                each.transport.abort()

    async def _pass(self, way: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        late: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(256)
        sending = asyncio.ensure_future(self._deliver(way, late, writer))
        try:
            while part := await reader.read(PART_BYTES):
                if self._listens:
                    self.heard += part
                await late.put((self._loop.time() + self._delay_s, part))
        finally:
            if not sending.done():
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(late.join(), 1 + self._delay_s)
            sending.cancel()

    async def _deliver(
        self, way: str, late: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
    ) -> None:
        while True:
            due, part = await late.get()
            while way in self._cut or self._loop.time() < due:
                await asyncio.sleep(STEP_S)
            writer.write(part)
            await writer.drain()
            late.task_done()
