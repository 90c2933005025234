"""CURVE on the wire between the two nodes of a pair: one key, which both nodes hold and nobody else.

To clients a pair is one server: both nodes have the same ``server`` pair of keys in their folders. The wire
between them uses it in both directions. Who connects must prove that it holds the secret key, and who is
connected to must too; every other key, and a peer without keys, is refused before it may speak.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Final

import zmq

from core.errors import PeerError
from core.pure import zap
from core.pure.allow import AllowList, Patterns, Peer
from core.shell.curve import SERVER, ClientKeys, CurveError, fingerprint, load_server
from core.shell.pump import SocketPump

log = logging.getLogger("titanic.pair")

COMPLAIN_EVERY_S: Final = 30.0


def load_link(folder: Path) -> ClientKeys:
    """The keys of a node, and the only ones it will speak to: the same. CurveError."""
    secret = load_server(folder)
    public = zmq.curve_public(secret)
    return ClientKeys(public, public, secret)


class LinkGate:
    """Lets nobody through but who holds the key in ``folder``; serving once it is made (ZAP, RFC 27).

    ``keys`` are those in force. ``refused_count`` counts connections with another key.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], folder: Path) -> None:
        self.refused_count = 0
        self.keys = load_link(folder)
        self._folder = folder
        self._seen = fingerprint(folder / f"{SERVER}.key")
        self._complained_s = -COMPLAIN_EVERY_S
        socket: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.bind(zap.ENDPOINT)
        self._pump = SocketPump(socket, self._on_request)
        self._pump.start()

    def close(self) -> None:
        """Nobody is let in any more."""
        self._pump.close(0)

    def changed(self) -> bool:
        """Whether there is another key than before, which is in force now. One that cannot be used is not."""
        seen = fingerprint(self._folder / f"{SERVER}.key")
        if seen == self._seen:
            return False
        self._seen = seen
        try:
            keys = load_link(self._folder)
        except CurveError as error:
            log.error("the key of the link is kept as it was: %s", error)
            return False
        before, self.keys = self.keys, keys
        return keys != before

    def _on_request(self, frames: list[bytes]) -> None:
        allowed = AllowList({self.keys.public.decode(): Peer("peer", Patterns(), Patterns())})
        try:
            reply = zap.answer(frames, allowed)
        except PeerError as error:
            log.error("libzmq asked what we do not understand: %s", error)
            return
        if reply[4] != b"200":
            self.refused_count += 1
            if time.monotonic() - self._complained_s >= COMPLAIN_EVERY_S:
                self._complained_s = time.monotonic()
                log.error("a connection to the peer's port was refused: it has another key than this node")
        self._pump.send(reply)
