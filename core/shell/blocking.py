"""The client for code without an event loop: every call is the asyncio client's, run in a thread."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from core.errors import ServerUnreachableError
from core.shell.async_client import CALL_TIMEOUT_S, Client
from core.shell.curve import ClientKeys
from core.shell.link import TraceLine

_Result = TypeVar("_Result")
_Arguments = ParamSpec("_Arguments")


def blocking(
    method: Callable[Concatenate[Client, _Arguments], Coroutine[Any, Any, _Result]],
) -> Callable[Concatenate[BlockingClient, _Arguments], _Result]:
    """The same method, waited for."""

    def twin(self: BlockingClient, /, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        return self.do(method(self.inner, *args, **kwargs))

    functools.update_wrapper(twin, method)
    return twin


class BlockingClient:
    """:class:`Client` for code without an event loop; usable from several threads at once.

    ``with BlockingClient(["tcp://127.0.0.1:5555"]) as client: ...``. Same methods, arguments and errors.
    """

    def __init__(
        self,
        nodes: Sequence[str],
        *,
        timeout_s: float = CALL_TIMEOUT_S,
        keys: ClientKeys | None = None,
        trace: TraceLine | None = None,
        by_libzmq: bool = False,
    ) -> None:
        self.inner = Client(nodes, timeout_s=timeout_s, keys=keys, trace=trace, by_libzmq=by_libzmq)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.disconnect()

    def connect(self) -> None:
        """See :meth:`Client.connect`; starts the thread."""
        assert self._loop is None, "a client connects once"
        loop = self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=loop.run_forever, name="titanic-client", daemon=True)
        self._thread.start()
        try:
            self.do(_call(self.inner.connect))
        except BaseException:
            self.disconnect()
            raise

    def disconnect(self) -> None:
        """See :meth:`Client.disconnect`; the thread has ended when this returns."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        self.do(_finish(self.inner))
        self._loop = self._thread = None
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    call = blocking(Client.call)
    submit = blocking(Client.submit)
    submit_many = blocking(Client.submit_many)
    reply = blocking(Client.reply)
    wait = blocking(Client.wait)
    close = blocking(Client.close)
    status = blocking(Client.status)
    cancel = blocking(Client.cancel)
    retry = blocking(Client.retry)
    list_jobs = blocking(Client.list_jobs)
    services = blocking(Client.services)
    pause = blocking(Client.pause)
    resume = blocking(Client.resume)
    events = blocking(Client.events)
    hello = blocking(Client.hello)
    stats = blocking(Client.stats)

    def do(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Run it in the client's loop; KeyboardInterrupt cancels it."""
        if self._loop is None:
            work.close()
            raise ServerUnreachableError("not connected: use 'with BlockingClient(...)' or connect()")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise


async def _call(function: Callable[[], None]) -> None:
    function()


async def _finish(client: Client) -> None:
    """Disconnect, and let every call under way see its error before the loop stops."""
    client.disconnect()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others, timeout=1)
