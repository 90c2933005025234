"""The outgoing half of every connection: a DEALER, our own where nothing is encrypted, else libzmq's."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Final

import zmq
from zmq.utils.monitor import parse_monitor_message

from core.pure import mdp
from core.shell.curve import ClientKeys
from core.shell.plain_link import (
    HEARTBEAT_MS,
    HEARTBEAT_TIMEOUT_MS,
    MESSAGE_MAX_BYTES,
    RECONNECT_MAX_MS,
    RECONNECT_MS,
    OnMessage,
    PlainLink,
    Trace,
    plain_address,
)
from core.shell.pump import SocketPump

LINGER_MS: Final = 1_000

TraceLine = Callable[[str], None]

_monitor_numbers = itertools.count()


def connect_dealer(
    endpoint: str,
    *,
    identity: str = "",
    keys: ClientKeys | None = None,
    context: zmq.Context[zmq.Socket[bytes]] | None = None,
) -> zmq.Socket[bytes]:
    """A DEALER of libzmq connected to ``endpoint``, with every limit this project puts on an outgoing socket.

    With ``keys`` it speaks CURVE, and to no other server than the one they name.
    Connecting does not wait: what is sent meanwhile goes out when the peer is there. A dead connection is
    noticed by ZMTP heartbeats and made again with back-off. Raises ValueError for a bad endpoint.
    """
    if endpoint.startswith("tcp://"):  # libzmq looks at the port only when it connects, and tells nobody
        port = endpoint.rpartition(":")[2]
        if not (port.isdecimal() and 0 < int(port) < 65_536):
            raise ValueError(f"cannot connect to {endpoint!r}: it does not end in a port of 1 to 65535")
    socket: zmq.Socket[bytes] = (context or zmq.Context.instance()).socket(zmq.DEALER)
    socket.set(zmq.LINGER, LINGER_MS)
    socket.set(zmq.MAXMSGSIZE, MESSAGE_MAX_BYTES)
    socket.set(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
    socket.set(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
    socket.set(zmq.HEARTBEAT_TTL, HEARTBEAT_TIMEOUT_MS)
    socket.set(zmq.RECONNECT_IVL, RECONNECT_MS)
    socket.set(zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS)
    try:
        if identity:
            socket.set(zmq.ROUTING_ID, identity.encode())
        if keys is not None:
            keys.apply(socket)
        socket.connect(endpoint)
    except (zmq.ZMQError, OverflowError) as error:
        socket.close(linger=0)
        raise ValueError(f"cannot connect to {endpoint!r} as {identity!r}: {error}") from error
    return socket


def trace_lines(trace: TraceLine | None) -> Trace | None:
    """A link's ``trace`` that writes one decoded line per message: ``> ...`` out, ``< ...`` in."""
    if trace is None:
        return None
    return lambda way, frames: trace(
        f"{'>' if way == 'out' else '<'} {mdp.explain(frames, to_broker=way == 'out')}"
    )


class ZmqLink(SocketPump):
    """A libzmq DEALER that tells of lost and refused connections as a :class:`PlainLink` does.

    ``on_lost`` and ``on_refused`` cost two more sockets of the context, which has room for 1,023.
    """

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        on_message: OnMessage,
        *,
        on_lost: Callable[[], None] | None = None,
        on_refused: Callable[[], None] | None = None,
        trace: Trace | None = None,
    ) -> None:
        super().__init__(socket, on_message, trace=trace)
        self._on_lost = on_lost
        self._on_refused = on_refused
        events = zmq.EVENT_DISCONNECTED if on_lost is not None else 0
        if on_refused is not None:
            events |= zmq.EVENT_CONNECT_RETRIED
        self._monitor: SocketPump | None = None
        if events:
            name = f"inproc://titanic-link-{next(_monitor_numbers)}"
            self._monitor = SocketPump(socket.get_monitor_socket(events, name), self._on_event)

    def start(self) -> None:
        """See SocketPump.start."""
        if self._monitor is not None:
            self._monitor.start()
        super().start()

    def close(self, linger_ms: int = LINGER_MS) -> None:
        """See SocketPump.close; the monitor goes first."""
        if self._monitor is not None:
            self.unwatch()
            self._monitor.close(0)
            self._monitor = None
        super().close(linger_ms)

    def _on_event(self, frames: list[bytes]) -> None:
        number = parse_monitor_message(frames)["event"]
        heard = self._on_lost if number == zmq.EVENT_DISCONNECTED else self._on_refused
        if heard is not None:
            heard()


Link = PlainLink | ZmqLink


def open_link(
    endpoint: str,
    on_message: OnMessage,
    *,
    identity: str = "",
    keys: ClientKeys | None = None,
    trace: TraceLine | None = None,
    on_lost: Callable[[], None] | None = None,
    on_refused: Callable[[], None] | None = None,
    by_libzmq: bool = False,
    watched: bool = True,
) -> Link:
    """A link that connects to ``endpoint`` once it is started. Raises ValueError for a bad endpoint.

    Our own :class:`PlainLink` for TCP without ``keys``, unless libzmq was chosen; anything else by libzmq.
    Not ``watched``: over libzmq, where it costs two sockets more, nobody is told how the connection fares.
    """
    lines = trace_lines(trace)
    address = plain_address(endpoint) if keys is None and not by_libzmq else None
    if address is not None:
        name = identity.encode()
        return PlainLink(address, on_message, name=name, on_lost=on_lost, on_refused=on_refused, trace=lines)
    socket = connect_dealer(endpoint, identity=identity, keys=keys)
    if not watched:
        on_lost = on_refused = None
    return ZmqLink(socket, on_message, on_lost=on_lost, on_refused=on_refused, trace=lines)
