"""The guide's reusable Binary Star: two endpoints, a voter, callbacks for new active and new passive.

    star = BinaryStar(primary=True, local="tcp://*:5003", remote="tcp://localhost:5004")
    star.voter("tcp://*:5001", handler)      # handler(frames) -> frames of the answer, or None
    star.new_active = load_the_state
    await star.run()

It replicates nothing, as in the guide: state that must survive a failover is recreated by the application, or
kept by ``titanic node --role`` with its replicated journal, which has rules of its own.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

import zmq

from core.pure import bstar
from core.shell.pump import SocketPump
from core.shell.sockets import bind_router

log = logging.getLogger("titanic.bstar")

Handler = Callable[[list[bytes]], Sequence[bytes] | None]
STATE_MAX_BYTES: Final = 64
STATES_WAITING: Final = 10


class BinaryStar:
    """One of two servers. ``local`` is where it publishes its state, ``remote`` where its peer does.

    ``new_active`` and ``new_passive`` are called, without arguments, when the state changes; replace them
    before :meth:`run`. ``heartbeat_ms`` must be the same on both servers.
    """

    def __init__(
        self, *, primary: bool, local: str, remote: str, heartbeat_ms: int = bstar.HEARTBEAT_MS
    ) -> None:
        self.new_active: Callable[[], None] = _nothing
        self.new_passive: Callable[[], None] = _nothing
        self._heartbeat_s = heartbeat_ms / 1_000
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._star = bstar.BinaryStar(primary=primary, now_ms=_now_ms(), expiry_ms=2 * heartbeat_ms)
        self._publisher = self._context.socket(zmq.PUB)
        self._subscriber = self._context.socket(zmq.SUB)
        self._voters: list[tuple[zmq.Socket[bytes], Handler]] = []
        self._pumps: list[SocketPump] = []
        self._ended: asyncio.Future[None] | None = None
        try:
            for socket in (self._publisher, self._subscriber):
                socket.set(zmq.LINGER, 0)
                socket.set(zmq.MAXMSGSIZE, STATE_MAX_BYTES)
            self._publisher.set(zmq.SNDHWM, STATES_WAITING)
            self._subscriber.set(zmq.RCVHWM, STATES_WAITING)
            self._subscriber.set(zmq.SUBSCRIBE, b"")
            self._publisher.bind(local)
            self._subscriber.connect(remote)
        except BaseException:
            self.close()
            raise

    @property
    def state(self) -> bstar.State:
        """Primary or backup (waiting for the peer), active or passive."""
        return self._star.state

    def voter(self, endpoint: str, handler: Handler) -> str:
        """Serve clients at ``endpoint``, a ROUTER, while active; their requests are votes. The real endpoint.

        ``handler`` gets the frames behind the identity and returns those of the answer, None for none.
        A passive server does not answer: its clients time out and ask the other one. zmq.ZMQError.
        """
        socket, bound = bind_router(self._context, endpoint)
        self._voters.append((socket, handler))
        return bound

    async def run(self) -> None:
        """Serve until :meth:`stop` or cancelled. BothActiveError when two servers claim to be active."""
        loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        self._pumps.append(SocketPump(self._subscriber, self._on_peer))
        for socket, handler in self._voters:
            self._pumps.append(self._voter_pump(socket, handler))
        for pump in self._pumps:
            pump.start()
        beating = asyncio.ensure_future(self._beat())
        try:
            await self._ended
        finally:
            beating.cancel()
            self.close()

    def stop(self) -> None:
        """:meth:`run` returns."""
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    def close(self) -> None:
        """All sockets are closed. May be called again."""
        for pump in self._pumps:
            pump.close(0)
        for socket in (self._publisher, self._subscriber, *(socket for socket, _ in self._voters)):
            socket.close(linger=0)
        self._context.term()

    def _voter_pump(self, socket: zmq.Socket[bytes], handler: Handler) -> SocketPump:
        def receive(frames: list[bytes]) -> None:
            serve, changed = self._star.on_request(_now_ms())
            if changed:
                self._announce()
            answer = handler(frames[1:]) if serve else None
            if answer is not None:
                pump.send([frames[0], *answer])

        pump = SocketPump(socket, receive, on_unreachable=_forget)
        return pump

    async def _beat(self) -> None:
        while True:
            self._publisher.send(self.state.value, zmq.NOBLOCK)
            await asyncio.sleep(self._heartbeat_s)

    def _on_peer(self, frames: list[bytes]) -> None:
        try:
            changed = self._star.on_peer(frames[0], _now_ms())
        except ValueError:
            log.warning("the peer published %r, which is no state", frames[0][:STATE_MAX_BYTES])
            return
        except bstar.BothActiveError as error:
            if self._ended is not None and not self._ended.done():
                self._ended.set_exception(error)
            return
        if changed:
            self._announce()

    def _announce(self) -> None:
        log.info("%s now", self.state.name.lower())
        if self.state is bstar.State.ACTIVE:
            self.new_active()
        elif self.state is bstar.State.PASSIVE:
            self.new_passive()


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def _nothing() -> None:
    """Nobody wants to be told."""


def _forget(frames: list[bytes]) -> None:
    """A client that went away has no use for its answer."""
