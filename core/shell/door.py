"""The bound socket of a broker and all that stands beside it: limits, CURVE, kept answers, the guard.

The shell behind it sees messages of admitted peers only, and sends without a thought about who is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import zmq

from core.pure.allow import Admission
from core.pure.jobs import Now
from core.pure.keeping import Keeping, KeepLimits
from core.pure.zmtp import decoded
from core.shell.clock import Clock
from core.shell.curve import Authenticator, CurveError, load_server
from core.shell.guard import Guard
from core.shell.pump import SocketPump
from core.shell.router import Router
from core.shell.sockets import bind_router, listen_tcp, trace_received

REFRESH_S: Final = 1.0
REBIND_S: Final = 0.01

log = logging.getLogger("titanic.door")

OnMessage = Callable[[list[bytes]], None]
OnGone = Callable[[bytes, Now], None]
OnBytes = Callable[[bytes, bytes], int]


class Door:
    """Opened once with :meth:`open`; then ``on_message`` is given each message and :meth:`send` takes any.

    ``on_gone`` is told the identity of a peer that a message could not reach, unless the message is an
    answer that is kept for it; ``on_lost`` that of a nameless peer whose connection has ended, where that
    can be known (not over libzmq); ``on_bytes`` is asked first what of the bytes it can do with as they are,
    and says how many (not over libzmq, nor while tracing); ``on_refused`` is told that of a peer whose
    message was not admitted. ``curve`` is the folder with the broker's keys and its allow-list.
    """

    def __init__(
        self,
        clock: Clock,
        on_message: OnMessage,
        on_gone: OnGone,
        on_refused: OnGone,
        after_batch: Callable[[], None],
        *,
        message_max_bytes: int,
        frames_max: int,
        curve: Path | None = None,
        keep: KeepLimits | None = None,
        accounted_bytes: Callable[[], int] = int,
        on_lost: OnGone | None = None,
        on_bytes: OnBytes | None = None,
        by_libzmq: bool = False,
        trace: Callable[[str], None] | None = None,
    ) -> None:
        self.keeping = Keeping(keep)
        self._clock = clock
        self._on_message = on_message
        self._on_gone = on_gone
        self._on_lost = on_lost
        self._on_bytes = on_bytes if trace is None else None  # who is to see everything sees messages
        self._on_refused = on_refused
        self._after_batch = after_batch
        self._message_max = message_max_bytes
        self._frames_max = frames_max
        self._trace = trace
        self._accounted = accounted_bytes
        self._by_choice = by_libzmq
        self._waits_for = self.keeping.waits_for
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._curve = curve
        self._authenticator: Authenticator | None = None
        self._secret = b""
        if curve is not None:  # before anything binds: whoever comes first is asked for its key
            self._secret = load_server(curve)
            self._authenticator = Authenticator(self._context, curve)
        self._socket: zmq.Socket[bytes] | None = None
        self._endpoint = ""
        self._pump: SocketPump | Router | None = None
        self._guard: Guard | None = None
        self._refresh: asyncio.TimerHandle | None = None

    @property
    def admission(self) -> Admission | None:
        """Who may do what; None without CURVE, when everybody may do everything."""
        return self._authenticator.admission if self._authenticator is not None else None

    def open(self, endpoint: str) -> str:
        """Serve at ``endpoint``; returns the one that is bound. OSError or zmq.ZMQError if it is taken.

        TCP without CURVE is served by our own :class:`Router`, unless libzmq's was chosen; anything else by
        libzmq's.
        """
        try:
            ours = self._authenticator is None and not self._by_choice
            listening = listen_tcp(endpoint) if ours else None
            if listening is not None:
                listener, self._endpoint = listening
                self._pump = self._plain(listener)
            else:
                self._pump = self._by_libzmq(endpoint)
        except BaseException:
            self.close()
            raise
        self._pump.start()
        self._watch()
        if self._authenticator is not None:
            self._start_refreshing()
        return self._endpoint

    def _plain(self, listener: socket.socket) -> Router:
        return Router(
            listener,
            self._receive,
            message_max_bytes=self._message_max,
            frames_max=self._frames_max,
            on_unreachable=self._unreachable,
            on_lost=self._lost if self._on_lost is not None else None,
            on_bytes=self._read if self._on_bytes is not None else None,
            after_batch=self._after_batch,
            trace=trace_received(self._trace),
        )

    def _by_libzmq(self, endpoint: str) -> SocketPump:
        self._socket, self._endpoint = bind_router(
            self._context, endpoint, message_max_bytes=self._message_max, secret_key=self._secret
        )
        return SocketPump(
            self._socket,
            self._receive,
            on_unreachable=self._unreachable,
            after_batch=self._after_batch,
            frames_max=self._frames_max,
            admit=self._admit if self._authenticator is not None else None,
            trace=trace_received(self._trace),
        )

    def close(self) -> None:
        """The socket is closed; answers already given are sent for up to a second."""
        if self._refresh is not None:
            self._refresh.cancel()
        if self._guard is not None:
            self._guard.close()
        if self._pump is not None:
            self._pump.close()
        if self._authenticator is not None:
            self._authenticator.close()
        self._context.term()  # harmless the second time

    def send(self, frames: Sequence[bytes]) -> None:
        """The broker's Outbox: to the peer, or behind what is kept for it already."""
        if self._waits_for(frames[0]) and self.keeping.behind(frames, self._clock.now()):
            return
        assert self._pump is not None, "nothing is sent before open()"
        self._pump.send(frames)

    def forward(self, identity: bytes, message: bytes) -> None:
        """The same for a message that is written already, without the identity."""
        pump = self._pump
        if isinstance(pump, Router) and self._on_bytes is not None and not self._waits_for(identity):
            pump.forward(identity, message)
        else:
            self.send([identity, *decoded(message)])

    def expire(self, now: Now) -> None:
        """Drop what has been kept too long."""
        self.keeping.expire(now)

    def next_deadline(self) -> int | None:
        """When :meth:`expire` has something to do."""
        return self.keeping.next_deadline()

    @property
    def counters(self) -> dict[str, int]:
        """What was kept, dropped, refused and ended here."""
        assert self._pump is not None, "nobody asks before open()"
        assert self._guard is not None, "nobody asks before open()"
        counters = {
            **self.keeping.counters,
            "sends_dropped": self._pump.dropped_count,
            "listener_shut": self._guard.shut_count,
            "connections_ended": self._guard.ended_count + getattr(self._pump, "ended_count", 0),
        }
        if self._authenticator is not None:
            admission = self._authenticator.admission
            counters["connections_refused"] = self._authenticator.connections_refused
            counters["messages_of_unknown_keys"] = admission.refused_count
            counters["identities_stolen"] = admission.stolen_count
        return counters

    def _receive(self, frames: list[bytes]) -> None:
        if self._waits_for(frames[0]):
            self._deliver(frames[0])
        self._on_message(frames)

    def _read(self, identity: bytes, data: bytes) -> int:
        assert self._on_bytes is not None, "nobody reads bytes"
        if self._waits_for(identity):
            self._deliver(identity)
        return self._on_bytes(identity, data)

    def _admit(self, frame: zmq.Frame, frames: list[bytes]) -> bool:
        assert self._authenticator is not None, "only with CURVE"
        if self._authenticator.admit(frame, frames):
            return True
        self._on_refused(frames[0], self._clock.now())
        return False

    def _deliver(self, identity: bytes) -> None:
        assert self._pump is not None, "messages come from the pump"
        for frames in self.keeping.take(identity):
            self._pump.send(frames)

    def _unreachable(self, frames: list[bytes]) -> None:
        now = self._clock.now()
        if not self.keeping.failed(frames, now):
            self._on_gone(frames[0], now)
        self._after_batch()

    def _lost(self, identity: bytes) -> None:
        assert self._on_lost is not None, "nobody is told"
        self._on_lost(identity, self._clock.now())
        self._after_batch()

    def _accounted_bytes(self) -> int:
        queued = self._pump.queued_bytes if self._pump is not None else 0
        return self._accounted() + queued + self.keeping.kept_bytes

    def _watch(self) -> None:
        port = self._endpoint.rpartition(":")[2]
        guard = Guard(int(port) if port.isdecimal() else 0, self._accounted_bytes)
        if self._guard is not None:
            guard.shut_count, guard.ended_count = self._guard.shut_count, self._guard.ended_count
        guard.start()
        self._guard = guard

    # -- keys and allow-list, read again when they change and on SIGHUP

    def _start_refreshing(self) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(ValueError, RuntimeError):  # not in the main thread: the timer is enough
            loop.add_signal_handler(signal.SIGHUP, self._read_again)
        self._refresh = loop.call_later(REFRESH_S, self._on_refresh)

    def _read_again(self, *, always: bool = True) -> None:
        assert self._authenticator is not None, "only with CURVE"
        assert self._curve is not None, "only with CURVE"
        self._authenticator.refresh(always=always)
        try:
            secret = load_server(self._curve)
        except CurveError as error:
            log.error("the key is kept as it was: %s", error)
            return
        if secret != self._secret:
            self._secret = secret
            self._bind_again()

    def _bind_again(self) -> None:
        """Serve under the new key: every connection ends, and comes back if its peer knows that key."""
        assert self._socket is not None, "the key changed before open()"
        assert self._guard is not None, "a listener without a guard"
        log.warning("the server's key has changed; every connection is made anew")
        self._guard.close()  # it holds the listener
        self._socket.unbind(self._endpoint)
        self._socket.setsockopt(zmq.CURVE_SECRETKEY, self._secret)
        self._try_bind()

    def _try_bind(self) -> None:
        assert self._socket is not None, "no socket to bind"
        if self._refresh is not None:
            self._refresh.cancel()
        try:
            self._socket.bind(self._endpoint)
        except zmq.ZMQError:  # libzmq closes the old listener in its own thread
            self._refresh = asyncio.get_running_loop().call_later(REBIND_S, self._try_bind)
            return
        self._watch()
        self._refresh = asyncio.get_running_loop().call_later(REFRESH_S, self._on_refresh)

    def _on_refresh(self) -> None:
        self._refresh = asyncio.get_running_loop().call_later(REFRESH_S, self._on_refresh)
        self._read_again(always=False)
