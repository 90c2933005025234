"""One accepted socket of a :class:`core.shell.router.Router`, and how it is set up."""

from __future__ import annotations

import contextlib
import socket
from collections import deque
from collections.abc import Sequence
from typing import Final

from core.pure.zmtp import Wire

KEEPALIVE: Final = tuple(  # for peers that know no PING: asked by the kernel after a minute, gone after two
    (getattr(socket, name), value)
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))
    if hasattr(socket, name)
)


def prepared(accepted: socket.socket) -> socket.socket:
    """The socket, not blocking, without delay, and asked by the kernel whether its peer is there."""
    accepted.setblocking(False)
    with contextlib.suppress(OSError):  # gone already: the first read tells
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEPALIVE:
            accepted.setsockopt(socket.IPPROTO_TCP, option, value)
    return accepted


class Connection:
    """One accepted socket: what it says (``wire``), and what is still to be said to it."""

    __slots__ = (
        *(
            "blocked",
            "born_tick",
            "doubted",
            "fd",
            "head",
            "head_at",
            "heard_tick",
            "receive",
            "rest",
            "send",
        ),
        *("socket", "waiting", "waiting_bytes", "welcome", "wire"),
    )

    def __init__(self, accepted: socket.socket, wire: Wire, tick: int) -> None:
        self.socket = accepted
        self.fd = accepted.fileno()
        self.send, self.receive = accepted.send, accepted.recv
        self.wire = wire
        self.waiting: deque[Sequence[bytes]] = deque()  # messages of this turn, or behind ``head``
        self.rest: list[list[bytes]] = []  # messages it has sent that the owner has not seen
        self.waiting_bytes = 0  # counted while blocked
        self.head = b""  # what the kernel did not take, from ``head_at`` on
        self.head_at = 0
        self.blocked = False
        self.welcome = False  # whether its handshake is done and its name is its own
        self.doubted = False
        self.born_tick = self.heard_tick = tick
