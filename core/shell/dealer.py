"""Calls to a node, any number at a time over one DEALER socket.

Each call puts an 8-byte counter before the empty delimiter of its MDP/0.1 request; the broker returns it
untouched (the envelope stack of RFC 7), so answers may come in any order and each finds its caller.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from core.errors import PeerError, ServerUnreachableError
from core.pure import mdp
from core.pure.watch_heads import TOLD
from core.shell.curve import ClientKeys
from core.shell.link import LINGER_MS, Link, TraceLine, open_link

TICK_S: Final = 0.05  # calls time out this much late at the most
TAG_BYTES: Final = 8
_Bucket = dict[bytes, asyncio.Future[list[bytes]]]


class NodeDealer:
    """Pipelined MDP/0.1 calls to the node at the first of ``endpoints``.

    Made and used in one running loop: :meth:`start`, any number of concurrent :meth:`call`, :meth:`close`.
    ``late_count`` counts answers nobody waited for any more, ``invalid_count`` messages that were none.
    ``told`` is given the body frames of each ``titanic.told``, which answers no call.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        keys: ClientKeys | None = None,
        trace: TraceLine | None = None,
        by_libzmq: bool = False,
    ) -> None:
        if not endpoints:
            raise ValueError("no endpoint to connect to")
        self.endpoints = tuple(endpoints)
        self.patient = False
        self.told: Callable[[list[bytes]], None] | None = None
        self.late_count = 0
        self.invalid_count = 0
        self._keys = keys
        self._trace = trace
        self._by_libzmq = by_libzmq
        self._counter = 0
        self._calls: dict[bytes, _Bucket] = {}  # by tag: the bucket of its deadline, which holds the future
        self._buckets: dict[int, _Bucket] = {}  # by tick of the deadline; empty ones go when their tick comes
        self._swept_tick = 0
        self._timer: asyncio.TimerHandle | None = None
        self._link: Link | None = None

    @property
    def endpoint(self) -> str:
        """Where calls go now."""
        return self.endpoints[0]

    @property
    def failovers_count(self) -> int:
        """There is no other node to go on at."""
        return 0

    @property
    def pending(self) -> int:
        """How many calls wait for their answer."""
        return len(self._calls)

    @property
    def dropped_count(self) -> int:
        """Requests that found the send queue full."""
        return self._link.dropped_count if self._link is not None else 0

    def start(self) -> None:
        """Connect, without waiting for the node; once. Raises ValueError for a bad endpoint."""
        assert self._link is None, "a dealer starts once"
        self._loop = asyncio.get_running_loop()
        self._link = open_link(
            self.endpoint,
            self._on_message,
            keys=self._keys,
            trace=self._trace,
            on_lost=self._on_lost,
            by_libzmq=self._by_libzmq,
        )
        self._link.start()

    def close(self) -> None:
        """The socket is closed and every call still pending raises ServerUnreachableError."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._fail_all("the connection was closed here before an answer came")
        if self._link is not None:
            self._link.close(LINGER_MS)
            self._link = None

    def fail_pending(self, why: str) -> None:
        """Every call that waits raises ServerUnreachableError with ``why`` at once."""
        self._fail_all(why)

    async def call(self, service: bytes, body: Sequence[bytes], timeout_s: float) -> list[bytes]:
        """The body frames of the answer.

        Raises ServerUnreachableError after ``timeout_s`` (at most ``TICK_S`` later), and at once when the
        connection is lost: the request may or may not have been carried out. Cancelling the call drops its
        answer.
        """
        link = self._link
        if link is None:
            raise ServerUnreachableError(
                f"{self.endpoint}: not connected; start() comes before and close() after"
            )
        tick = int((self._loop.time() + timeout_s) / TICK_S) + 1
        self._counter += 1
        tag = self._counter.to_bytes(TAG_BYTES, "big")
        bucket = self._buckets.get(tick)
        if bucket is None:
            bucket = self._buckets[tick] = {}
            if self._timer is None:
                self._swept_tick = int(self._loop.time() / TICK_S)
                self._timer = self._loop.call_later(TICK_S, self._sweep)
        future: asyncio.Future[list[bytes]] = self._loop.create_future()
        bucket[tag] = future
        self._calls[tag] = bucket
        try:
            link.send(mdp.client_request(service, body, envelope=(tag,)))
            return await future
        except BaseException:
            if self._calls.pop(tag, None) is not None:
                bucket.pop(tag, None)
            raise

    async def ask_all(
        self, service: bytes, body: Sequence[bytes], timeout_s: float
    ) -> list[tuple[str, list[bytes] | str]]:
        """The one node: where it is, and the body frames of its answer, or why there is none."""
        return [(self.endpoint, await self.ask(service, body, timeout_s))]

    async def ask(self, service: bytes, body: Sequence[bytes], timeout_s: float) -> list[bytes] | str:
        """See :meth:`call`; the reason instead of an error."""
        try:
            return await self.call(service, body, timeout_s)
        except ServerUnreachableError as error:
            return str(error)

    def _on_message(self, frames: list[bytes]) -> None:
        try:
            reply = mdp.parse_client_reply(frames)
        except PeerError:
            self.invalid_count += 1
            return
        if reply.service == TOLD:
            if self.told is not None:
                self.told(list(reply.body))
            return
        envelope = reply.envelope
        bucket = self._calls.pop(envelope[0], None) if len(envelope) == 1 else None
        if bucket is None:
            self.late_count += 1
            return
        future = bucket.pop(envelope[0])
        if not future.done():
            future.set_result(list(reply.body))

    def _on_lost(self) -> None:
        """The peer is gone, and with it the answers it owed: whoever asked had better ask again at once."""
        self._fail_all("the connection was lost before an answer came")

    def _fail_all(self, why: str) -> None:
        for bucket in self._buckets.values():
            self._fail(bucket, why)
        self._buckets.clear()
        self._calls.clear()

    def _sweep(self) -> None:
        """Fail what is due; runs every tick while calls are pending and not at all otherwise."""
        now_tick = int(self._loop.time() / TICK_S)
        if now_tick - self._swept_tick > len(self._buckets):  # the process slept, or few calls are open
            due = [tick for tick in self._buckets if tick <= now_tick]
        else:
            due = [tick for tick in range(self._swept_tick, now_tick + 1) if tick in self._buckets]
        self._swept_tick = now_tick
        for tick in due:
            bucket = self._buckets.pop(tick)
            for tag in bucket:
                del self._calls[tag]
            self._fail(bucket, "no answer in time")
        if self._calls:
            self._timer = self._loop.call_later(TICK_S, self._sweep)
        else:
            self._buckets.clear()
            self._timer = None

    def _fail(self, bucket: _Bucket, why: str) -> None:
        for future in bucket.values():
            if not future.done():
                future.set_exception(
                    ServerUnreachableError(
                        f"{self.endpoint}: {why}; check that a node or broker is running there"
                    )
                )
        bucket.clear()
