"""A listening socket: some connections a turn, and a rest when descriptors are used up."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Final

ACCEPT_COUNT: Final = 32  # connections per turn
ACCEPT_PAUSE_S: Final = 0.1  # when descriptors are used up

_NO_ROOM: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Listener:
    """Hands every accepted socket to ``on_accepted`` from :meth:`start` on."""

    def __init__(
        self,
        listening: socket.socket,
        on_accepted: Callable[[socket.socket], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._socket = listening
        self._on_accepted = on_accepted
        self._loop = loop
        self._pause: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Connections are accepted from now on."""
        self._socket.setblocking(False)
        self._resume()

    def close(self) -> None:
        """Nobody is accepted any more."""
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self._socket.fileno(), self._accept)

    def _accept(self) -> None:
        for _ in range(ACCEPT_COUNT):
            try:
                accepted, _ = self._socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _NO_ROOM:
                    self._loop.remove_reader(self._socket.fileno())
                    self._pause = self._loop.call_later(ACCEPT_PAUSE_S, self._resume)
                    return
                continue  # the peer was gone before we looked
            self._on_accepted(accepted)
