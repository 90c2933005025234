"""The client library: Majordomo calls and the Titanic protocol (RFC 9/TSP) at any MDP/0.1 broker.

:class:`Client` is for asyncio; :class:`BlockingClient` runs one in a thread of its own, so there is one
implementation beneath.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from core.errors import CoreError, PeerError, ServerUnreachableError
from core.pure import tsp
from core.pure.ids import parse_id
from core.shell.curve import ClientKeys
from core.shell.dealer import NodeDealer, TraceLine

CALL_TIMEOUT_S: Final = 30.0
WAIT_FIRST_S: Final = 0.01
WAIT_MOST_S: Final = 1.0
WAIT_ASK_S: Final = 5.0  # an ask the node took down with it is given up after this, and asked again
assert WAIT_FIRST_S < WAIT_MOST_S, "waiting backs off"

Frame = bytes | str
_Result = TypeVar("_Result")


class RequestRefusedError(CoreError):
    """The Titanic service does not take this request; change it before trying again."""


class JobUnknownError(CoreError):
    """The id was never issued, is malformed, or its job is closed; there is nothing to fetch."""


class JobFailedError(CoreError):
    """The job failed for good, or its reply cannot be read; look at its status, then close it."""


class ReplyPendingError(CoreError):
    """The job has no reply yet; ask again later, it is not lost."""


class TitanicFailedError(CoreError):
    """The Titanic service could not do it (status 500); nothing is promised, try again."""


class Client:
    """Calls services and keeps durable jobs at the broker at the first of ``nodes``; for one event loop.

    ``async with Client(["tcp://127.0.0.1:5555"]) as client: ...``. Services and frames may be str (sent as
    UTF-8). Any number of calls may be under way. Every method raises ServerUnreachableError when no answer
    comes within ``timeout_s``: the request may or may not have been carried out. With ``keys``
    (:func:`core.shell.curve.load_client`) the connection is encrypted and both ends know each other.
    """

    def __init__(
        self,
        nodes: Sequence[str],
        *,
        timeout_s: float = CALL_TIMEOUT_S,
        keys: ClientKeys | None = None,
        trace: TraceLine | None = None,
    ) -> None:
        if isinstance(nodes, str):
            raise ValueError("nodes is a sequence of endpoints, such as ['tcp://127.0.0.1:5555']")
        self.timeout_s = timeout_s
        self._dealer = NodeDealer(nodes, keys=keys, trace=trace)

    async def __aenter__(self) -> Self:
        self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.disconnect()

    def connect(self) -> None:
        """Connect, without waiting for the broker. Raises ValueError for a bad endpoint."""
        self._dealer.start()

    def disconnect(self) -> None:
        """The connection is closed; calls under way raise ServerUnreachableError. Jobs are not touched."""
        self._dealer.close()

    async def call(self, service: Frame, *frames: Frame, timeout_s: float | None = None) -> list[bytes]:
        """A plain Majordomo request: the body frames of its reply. Not durable."""
        return await self._dealer.call(
            _bytes(service),
            [_bytes(frame) for frame in frames],
            self.timeout_s if timeout_s is None else timeout_s,
        )

    async def submit(self, service: Frame, *frames: Frame, timeout_s: float | None = None) -> str:
        """The UUID (32 hex digits) of a durable job: its request is stored when this returns (RFC 9).

        Raises RequestRefusedError and TitanicFailedError. A submit whose answer was lost may have made a
        job all the same; plain TSP has no way to find it.
        """
        status, rest = await self._tsp(tsp.REQUEST, [service, *frames], timeout_s)
        if status == tsp.OK and rest and (key := parse_id(_text(rest))) is not None:
            return key.hex()
        if status == tsp.UNKNOWN:
            raise RequestRefusedError(
                f"request for {_text([_bytes(service)])!r} refused {_text(rest)}".strip()
            )
        raise _unexpected(tsp.REQUEST, status, rest)

    async def reply(self, job_id: str, *, timeout_s: float | None = None) -> list[bytes] | None:
        """The reply's frames, or None while there is none; asking again gives the same (RFC 9).

        Raises JobUnknownError and JobFailedError.
        """
        status, rest = await self._tsp(tsp.REPLY, [job_id], timeout_s)
        if status == tsp.OK:
            return rest
        if status == tsp.PENDING:
            return None
        if status == tsp.UNKNOWN:
            raise JobUnknownError(f"job {job_id} is unknown here, closed, or no id at all")
        if status == tsp.ERROR:
            raise JobFailedError(f"job {job_id} failed, or its reply cannot be read {_text(rest)}".strip())
        raise _unexpected(tsp.REPLY, status, rest)

    async def wait(self, job_id: str, timeout_s: float = CALL_TIMEOUT_S) -> list[bytes]:
        """The reply's frames as soon as they are there; asks with growing pauses, at most one second.

        Outlives a node that is away meanwhile. After ``timeout_s`` raises ReplyPendingError, or
        ServerUnreachableError if the last ask was not answered; else as :meth:`reply`.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        pause_s = WAIT_FIRST_S
        while True:
            left_s = deadline - loop.time()
            try:
                reply = await self.reply(job_id, timeout_s=min(WAIT_ASK_S, max(left_s, WAIT_MOST_S)))
            except ServerUnreachableError:
                if loop.time() >= deadline:
                    raise
                continue
            if reply is not None:
                return reply
            left_s = deadline - loop.time()
            if left_s <= 0:
                raise ReplyPendingError(f"job {job_id} has no reply after {timeout_s:g} s")
            await asyncio.sleep(min(pause_s, left_s))
            pause_s = min(pause_s * 1.5, WAIT_MOST_S)

    async def close(self, job_id: str, *, timeout_s: float | None = None) -> None:
        """The job, its request and its reply are gone; closing again is fine (RFC 9).

        Raises JobUnknownError for what is no id, and TitanicFailedError.
        """
        status, rest = await self._tsp(tsp.CLOSE, [job_id], timeout_s)
        if status == tsp.UNKNOWN:
            raise JobUnknownError(f"{job_id!r} is no job id")
        if status != tsp.OK:
            raise _unexpected(tsp.CLOSE, status, rest)

    async def _tsp(
        self, service: bytes, frames: Sequence[Frame], timeout_s: float | None
    ) -> tuple[bytes, list[bytes]]:
        answer = await self.call(service, *frames, timeout_s=timeout_s)
        return tsp.status_of(answer), answer[1:]


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
    ) -> None:
        self._client = Client(nodes, timeout_s=timeout_s, keys=keys, trace=trace)
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
            self._do(_call(self._client.connect))
        except BaseException:
            self.disconnect()
            raise

    def disconnect(self) -> None:
        """See :meth:`Client.disconnect`; the thread has ended when this returns."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        self._do(_finish(self._client))
        self._loop = self._thread = None
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    def call(self, service: Frame, *frames: Frame, timeout_s: float | None = None) -> list[bytes]:
        """See :meth:`Client.call`."""
        return self._do(self._client.call(service, *frames, timeout_s=timeout_s))

    def submit(self, service: Frame, *frames: Frame, timeout_s: float | None = None) -> str:
        """See :meth:`Client.submit`."""
        return self._do(self._client.submit(service, *frames, timeout_s=timeout_s))

    def reply(self, job_id: str, *, timeout_s: float | None = None) -> list[bytes] | None:
        """See :meth:`Client.reply`."""
        return self._do(self._client.reply(job_id, timeout_s=timeout_s))

    def wait(self, job_id: str, timeout_s: float = CALL_TIMEOUT_S) -> list[bytes]:
        """See :meth:`Client.wait`."""
        return self._do(self._client.wait(job_id, timeout_s))

    def close(self, job_id: str, *, timeout_s: float | None = None) -> None:
        """See :meth:`Client.close`."""
        self._do(self._client.close(job_id, timeout_s=timeout_s))

    def _do(self, work: Coroutine[Any, Any, _Result]) -> _Result:
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


def _bytes(frame: Frame) -> bytes:
    return frame.encode() if isinstance(frame, str) else frame


def _text(frames: Sequence[bytes]) -> str:
    return b" ".join(frames).decode("utf-8", "replace")


def _unexpected(service: bytes, status: bytes, rest: Sequence[bytes]) -> CoreError:
    """The error for a status that is not told apart above."""
    if status == tsp.ERROR:
        return TitanicFailedError(f"{service.decode()}: internal error {_text(rest)}".strip())
    return PeerError(
        f"{service.decode()} answered {status.decode()} {_text(rest)}, which RFC 9 does not know"
    )
