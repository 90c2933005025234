"""One accepted socket of a :class:`core.shell.router.Router`, and how it is set up."""

from __future__ import annotations

import contextlib
import socket
from collections import deque
from collections.abc import Sequence
from typing import Final

from core.pure.zmtp import Wire, decoded

HEAD_BYTES: Final = 65_536  # of messages that are written together when the kernel has room again
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
            "at_rest",
            "blocked",
            "born_tick",
            "doubted",
            "fd",
            "head",
            "head_at",
            "heard_tick",
            "identity",
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
        self.waiting: deque[Sequence[bytes] | bytes] = deque()  # messages of this turn, or behind ``head``
        self.rest: list[list[bytes]] = []  # messages it has sent that the owner has not seen
        self.waiting_bytes = 0  # counted while blocked
        self.head = b""  # what the kernel did not take, from ``head_at`` on
        self.head_at = 0
        self.blocked = False
        self.at_rest = False  # whether it is welcome and what comes next begins a message
        self.identity = wire.identity  # of the peer, once it is welcome
        self.welcome = False  # whether its handshake is done and its name is its own
        self.doubted = False
        self.born_tick = self.heard_tick = tick

    def to_write(self) -> bytes:
        """What the wire has to say and the messages of this turn. They stay until they are cleared."""
        waiting, out = self.waiting, self.wire.out
        if len(waiting) == 1 and not out:
            only = waiting[0]
            if isinstance(only, bytes):
                return only
        encode = self.wire.encode
        for message in waiting:
            if isinstance(message, bytes):
                out.append(message)
            else:
                encode(message, out)
        data = b"".join(out)
        out.clear()
        return data

    def next_head(self) -> int:
        """The head is gone: some of the messages behind it are the next. How many bytes more wait."""
        waiting, out, size_bytes = self.waiting, self.wire.out, 0
        while waiting and size_bytes < HEAD_BYTES:
            frames = waiting.popleft()
            assert not isinstance(frames, bytes), "written messages are sent or made frames"
            size_bytes += sum(map(len, frames))
            self.wire.encode(frames, out)
        self.waiting_bytes -= size_bytes
        self.head, self.head_at = b"".join(out), 0
        out.clear()
        return len(self.head) - size_bytes

    def undelivered(self) -> list[list[bytes]]:
        """The messages that wait, as frames with the identity in front."""
        identity = self.wire.identity
        return [
            [identity, *decoded(message)] if isinstance(message, bytes) else list(message)
            for message in self.waiting
        ]
