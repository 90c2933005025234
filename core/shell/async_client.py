"""The client for asyncio: Majordomo calls, plain TSP (RFC 9), and all that our nodes do beyond it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

from core.errors import CoreError, PeerError, ServerUnreachableError
from core.pure import tsp
from core.pure.ids import parse_id
from core.shell.client_errors import (
    JobFailedError,
    JobUnknownError,
    ReplyPendingError,
    RequestRefusedError,
    TitanicFailedError,
)
from core.shell.curve import ClientKeys
from core.shell.dealer import NodeDealer
from core.shell.extended import Extended, Frame, JobOptions, to_bytes
from core.shell.link import TraceLine

CALL_TIMEOUT_S: Final = 30.0
WAIT_FIRST_S: Final = 0.01
WAIT_MOST_S: Final = 1.0
WAIT_ASK_S: Final = 5.0  # an ask the node took down with it is given up after this, and asked again
assert WAIT_FIRST_S < WAIT_MOST_S, "waiting backs off"


class Client(Extended):
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
        by_libzmq: bool = False,
    ) -> None:
        if isinstance(nodes, str):
            raise ValueError("nodes is a sequence of endpoints, such as ['tcp://127.0.0.1:5555']")
        self.timeout_s = timeout_s
        self._dealer = NodeDealer(nodes, keys=keys, trace=trace, by_libzmq=by_libzmq)

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
            to_bytes(service),
            [to_bytes(frame) for frame in frames],
            self.timeout_s if timeout_s is None else timeout_s,
        )

    async def submit(
        self,
        service: Frame,
        *frames: Frame,
        options: JobOptions | None = None,
        idempotency_key: str = "",
        timeout_s: float | None = None,
    ) -> str:
        """The UUID (32 hex digits) of a durable job: its request is stored when this returns (RFC 9).

        Raises RequestRefusedError and TitanicFailedError. A submit whose answer was lost may have made a
        job all the same; plain TSP has no way to find it. With options or an idempotency key, which need a
        node of ours, it is repeated under one id instead (see :meth:`submit_with`); KeyMismatchError.
        """
        if options is not None or idempotency_key:
            limit_s = self.timeout_s if timeout_s is None else timeout_s
            ack = await self.submit_with(service, frames, options, idempotency_key, limit_s)
            return ack.key.hex()
        status, rest = await self._tsp(tsp.REQUEST, [service, *frames], timeout_s)
        if status == tsp.OK and rest and (key := parse_id(_text(rest))) is not None:
            return key.hex()
        if status == tsp.UNKNOWN:
            raise RequestRefusedError(
                f"request for {_text([to_bytes(service)])!r} refused {_text(rest)}".strip()
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

        A node that has said :meth:`hello` is asked to wait itself.

        Outlives a node that is away meanwhile. After ``timeout_s`` raises ReplyPendingError, or
        ServerUnreachableError if the last ask was not answered; else as :meth:`reply`.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        pause_s = WAIT_FIRST_S
        while True:
            left_s = deadline - loop.time()
            try:
                if self._mint is not None:
                    reply = await self._fetch(job_id, min(WAIT_ASK_S, max(left_s, 0)))
                    pause_s = WAIT_FIRST_S
                else:
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


def _text(frames: Sequence[bytes]) -> str:
    return b" ".join(frames).decode("utf-8", "replace")


def _unexpected(service: bytes, status: bytes, rest: Sequence[bytes]) -> CoreError:
    """The error for a status that is not told apart above."""
    if status == tsp.ERROR:
        return TitanicFailedError(f"{service.decode()}: internal error {_text(rest)}".strip())
    return PeerError(
        f"{service.decode()} answered {status.decode()} {_text(rest)}, which RFC 9 does not know"
    )
