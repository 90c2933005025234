"""Who knocks before the store is open is told how far it is, instead of finding nobody."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from core.errors import PeerError
from core.pure import mdp, tsp
from core.pure.jobs import Now
from core.pure.mdp_messages import ClientRequest
from core.shell.clock import Clock
from core.shell.door import Door

MESSAGE_MAX_BYTES = 1 << 20
FRAMES_MAX_COUNT = 64


class WaitingRoom:
    """Listens where the node will: ``titanic.hello`` is answered with ``hello()``, the rest with 503.

    Workers get no answer; they offer themselves again once the node serves. :meth:`close` before the node
    opens its own door.
    """

    def __init__(self, hello: Callable[[], tsp.Hello], curve: Path | None = None) -> None:
        self._hello = hello
        self._door = Door(
            Clock(),
            self._receive,
            self._ignore,
            self._ignore,
            self._nothing,
            message_max_bytes=MESSAGE_MAX_BYTES,
            frames_max=FRAMES_MAX_COUNT,
            curve=curve,
        )

    def open(self, endpoint: str) -> str:
        """Listen; returns the endpoint bound. zmq.ZMQError if it is taken."""
        return self._door.open(endpoint)

    def close(self) -> None:
        """The endpoint is free again."""
        self._door.close()

    def _receive(self, frames: list[bytes]) -> None:
        try:
            message = mdp.parse(frames)
        except PeerError:
            return  # not for us to judge: the node counts such peers once it serves
        if not isinstance(message, ClientRequest):
            return
        hello = self._hello()
        if message.service == tsp.HELLO:
            answer = (tsp.OK, tsp.encode_head(hello))
        else:
            answer = (tsp.UNAVAILABLE, tsp.encode_head(tsp.ErrorHead(hello.reason)))
        self._door.send(mdp.to_client(message.path, message.service, answer, version=message.version))

    def _ignore(self, identity: bytes, now: Now) -> None:
        """Nothing is kept for anybody here."""

    def _nothing(self) -> None:
        """Nothing happens behind a batch."""
