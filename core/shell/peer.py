"""The wire between the two nodes of a pair: each binds one socket and connects to the other's.

Messages go out over the connection this node makes and come in over the one its peer makes, so a cable that
is broken in one direction looks like that. What cannot be sent now is dropped: the protocol repeats what
matters. Without keys both are our own sockets in the loop's thread: libzmq hands each message to a thread of
its own and back, which cost more than replicating what is in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

import zmq
from zmq.utils.monitor import parse_monitor_message

from core.pure.peer import FRAMES_MAX_COUNT
from core.shell.peer_keys import LinkGate
from core.shell.plain_link import PlainLink, plain_address
from core.shell.pump import SocketPump
from core.shell.router import Router
from core.shell.sockets import bind_router, listen_tcp

log = logging.getLogger("titanic.pair")

HEARTBEAT_MS: Final = 500
TIMEOUT_MS: Final = 2_000
RECONNECT_MS: Final = 50
RECONNECT_MAX_MS: Final = 500
PROBE_S: Final = 0.2
PROBE_TIMEOUT_S: Final = 1.0
QUEUE_MAX_BYTES: Final = 32 << 20
FRAMES_SEEN_COUNT: Final = FRAMES_MAX_COUNT + 1  # one more than there may be is seen, and refused
REFRESH_S: Final = 1.0
REBIND_S: Final = 0.01
HANDSHAKE_FAILED: Final = (
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)
COMPLAIN_AT: Final = 3  # failures in a row: one or two are of a peer that ends
COMPLAIN_EVERY: Final = 120  # about a minute
KEYS_DIFFER: Final = "both need the same server.key in --curve-dir, or neither has one"


class PeerLink:
    """``on_message(frames)`` is given what the peer says, ``on_refused()`` told that its port is closed.

    With ``curve``, the folder of the broker's keys, both directions are encrypted, and only a peer that
    holds the same key is spoken to. CurveError if that key cannot be used: nothing is bound then.
    """

    def __init__(
        self,
        bind: str,
        peer: str,
        on_message: Callable[[list[bytes]], None],
        on_refused: Callable[[], None],
        after_batch: Callable[[], None],
        *,
        message_max_bytes: int,
        curve: Path | None = None,
    ) -> None:
        self.up = False
        self.rekeyed_count = 0
        self._unresolved = ""
        self._failed_count = self._failed_total = 0  # handshakes, in a row and all in all
        self._peer = peer
        self._on_message = on_message
        self._on_refused = on_refused
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._probing: asyncio.Task[None] | None = None
        self._refresh: asyncio.TimerHandle | None = None
        self._gate: LinkGate | None = None
        self._monitor: SocketPump | None = None
        self._in: Router | SocketPump
        self._out: PlainLink | SocketPump
        address = plain_address(peer) if curve is None else None
        listening = listen_tcp(bind) if address is not None else None
        if address is not None and listening is not None:
            listener, self.endpoint = listening
            self._open_plain(listener, address, after_batch, message_max_bytes)
        else:
            self._open_libzmq(bind, after_batch, message_max_bytes, curve)

    def _open_plain(
        self,
        listener: socket.socket,
        address: tuple[str, int],
        after_batch: Callable[[], None],
        message_max_bytes: int,
    ) -> None:
        self._in = Router(
            listener,
            self._receive,
            message_max_bytes=message_max_bytes,
            frames_max=FRAMES_SEEN_COUNT,
            after_batch=after_batch,
        )
        self._out = PlainLink(
            address,
            _ignore,
            on_made=self._made,
            on_lost=self._lost,
            queue_max_bytes=QUEUE_MAX_BYTES,
            heartbeat_ms=HEARTBEAT_MS,
            reconnect_max_ms=RECONNECT_MAX_MS,
            keeps=False,
        )

    def _open_libzmq(
        self, bind: str, after_batch: Callable[[], None], message_max_bytes: int, curve: Path | None
    ) -> None:
        try:
            if curve is not None:  # before anything binds: whoever comes first is asked for its key
                self._gate = LinkGate(self._context, curve)
            self._router, self.endpoint = bind_router(
                self._context,
                bind,
                message_max_bytes=message_max_bytes,
                secret_key=self._gate.keys.secret if self._gate is not None else b"",
            )
            self._dealing = self._dealer(message_max_bytes)
            # before the connection is made: an event that nobody watches for is gone
            monitor = self._dealing.get_monitor_socket(
                zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | HANDSHAKE_FAILED
            )
            self._dealing.connect(self._peer)
        except BaseException:
            if self._gate is not None:
                self._gate.close()
            self._context.destroy(linger=0)
            raise
        self._in = SocketPump(
            self._router, self._receive, after_batch=after_batch, frames_max=FRAMES_SEEN_COUNT
        )
        self._out = SocketPump(self._dealing, _ignore, send_queue_max_bytes=QUEUE_MAX_BYTES)
        self._monitor = SocketPump(monitor, self._on_event)

    @property
    def encrypted(self) -> bool:
        """Whether the peer must hold this node's key."""
        return self._gate is not None

    @property
    def refused_count(self) -> int:
        """Connections that were refused for their key, on either side."""
        return self._failed_total + (self._gate.refused_count if self._gate is not None else 0)

    def _dealer(self, message_max_bytes: int) -> zmq.Socket[bytes]:
        dealer = self._context.socket(zmq.DEALER)
        for option, value in (
            (zmq.LINGER, 500),
            (zmq.IMMEDIATE, 1),
            (zmq.MAXMSGSIZE, message_max_bytes),
            (zmq.HEARTBEAT_IVL, HEARTBEAT_MS),
            (zmq.HEARTBEAT_TIMEOUT, TIMEOUT_MS),
            (zmq.RECONNECT_IVL, RECONNECT_MS),
            (zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS),
        ):
            dealer.set(option, value)
        if self._gate is not None:
            self._gate.keys.apply(dealer)
        return dealer

    def start(self) -> None:
        """Messages flow from now on."""
        self._in.start()
        if self._monitor is not None:
            self._monitor.start()
        self._out.start()
        self._probe()
        if self._gate is not None:
            self._refresh = asyncio.get_running_loop().call_later(REFRESH_S, self._on_refresh)

    def send(self, frames: list[bytes]) -> None:
        """To the peer, if there is a connection."""
        if self.up:
            self._out.send(frames)

    def close(self) -> None:
        """Everything is closed; what was said last has half a second to leave."""
        if self._probing is not None:
            self._probing.cancel()
        if self._refresh is not None:
            self._refresh.cancel()
        if self._monitor is not None and isinstance(self._out, SocketPump):
            self._out.unwatch()
            self._monitor.close(0)
        self._in.close(0)
        self._out.close(500)
        if self._gate is not None:
            self._gate.close()
        self._context.term()

    # -- another key, read when its file changes

    def _on_refresh(self) -> None:
        assert self._gate is not None, "only with CURVE"
        self._refresh = asyncio.get_running_loop().call_later(REFRESH_S, self._on_refresh)
        if not self._gate.changed():
            return
        self.rekeyed_count += 1
        log.warning("the key of the link has changed; it is up again once the peer has the same one")
        self._router.unbind(self.endpoint)
        self._router.setsockopt(zmq.CURVE_SECRETKEY, self._gate.keys.secret)
        self._dealing.disconnect(self._peer)
        self._gate.keys.apply(self._dealing)
        self._dealing.connect(self._peer)
        self._bind_again()

    def _bind_again(self) -> None:
        try:
            self._router.bind(self.endpoint)
        except zmq.ZMQError:  # libzmq closes the old listener in its own thread
            assert self._refresh is not None, "a key is read by a timer"
            self._refresh.cancel()
            self._refresh = asyncio.get_running_loop().call_later(REBIND_S, self._bind_again)
            return
        assert self._refresh is not None, "a key is read by a timer"
        self._refresh.cancel()
        self._refresh = asyncio.get_running_loop().call_later(REFRESH_S, self._on_refresh)

    def _receive(self, frames: list[bytes]) -> None:
        self._on_message(frames[1:])

    def _on_event(self, frames: list[bytes]) -> None:
        event = parse_monitor_message(frames)["event"]
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._made()
        elif event & HANDSHAKE_FAILED:
            self._strange()
        else:
            self._gone()

    def _made(self) -> None:
        self.up, self._failed_count = True, 0

    def _lost(self) -> None:
        """Our own connection has ended, perhaps before it was one."""
        if self.up:
            self._gone()
        else:
            self._strange()

    def _strange(self) -> None:
        """Somebody is there who does not speak to this node."""
        self._failed_count += 1
        self._failed_total += 1
        if self._failed_count % COMPLAIN_EVERY == COMPLAIN_AT:
            log.error("the peer at %s answers, but not to this node: %s", self._peer, KEYS_DIFFER)
        self._gone()

    def _gone(self) -> None:
        self.up = False
        self._probe()

    def _probe(self) -> None:
        if self._probing is None or self._probing.done():
            self._probing = asyncio.ensure_future(self._probe_until_up())

    async def _probe_until_up(self) -> None:
        """Ask the peer's machine whether anybody listens: a refusal is proof, silence is not (P4)."""
        host, _, port = self._peer.rpartition("/")[2].rpartition(":")
        while not self.up:
            try:
                async with asyncio.timeout(PROBE_TIMEOUT_S):
                    _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
            except ConnectionRefusedError:
                self._on_refused()
            except socket.gaierror as error:
                if str(error) != self._unresolved:
                    self._unresolved = str(error)
                    log.warning("the peer's address %s cannot be resolved: %s", self._peer, error)
            except (OSError, TimeoutError):
                pass  # no answer proves nothing
            await asyncio.sleep(PROBE_S)


def _ignore(frames: list[bytes]) -> None:
    """Nothing comes back over the connection that this node makes."""
