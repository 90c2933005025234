"""A DEALER that connects without encryption, on a plain socket in the loop's own thread.

libzmq's has a thread of its own, hands each message to ours with a wake, and pyzmq makes an object per frame:
most of what a message costs a gateway or a worker. Here what arrived together is one read, what is said in
one turn is one write, and there is no second thread (``docs/decisions/0022-own-dealer-for-null.md``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from core.pure.zmtp import NAME_MAX_BYTES, Wire, dealer, ping
from core.shell.connection import prepared

OnMessage = Callable[[list[bytes]], None]
Trace = Callable[[str, list[bytes]], None]

HEARTBEAT_MS: Final = 2_000
HEARTBEAT_TIMEOUT_MS: Final = 6_000
RECONNECT_MS: Final = 100
RECONNECT_MAX_MS: Final = 1_000
MESSAGE_MAX_BYTES: Final = (
    1 << 30
)  # of one message, from a node we chose ourselves; the node's own cap is lower
FRAMES_MAX_COUNT: Final = 1_024
CONNECT_S: Final = 10.0  # of one attempt, the handshake not included
HANDSHAKE_TICKS: Final = 5
SILENCE_TICKS: Final = HEARTBEAT_TIMEOUT_MS // HEARTBEAT_MS
READ_BYTES: Final = 65_536
READ_MAX_BYTES: Final = 1 << 20  # of a long frame
FLUSH_COUNT: Final = 32  # messages in one system call
FLUSH_BYTES: Final = 65_536  # a frame that is longer goes out at once
DRAIN_COUNT: Final = 16  # reads before the end
QUEUE_MAX_COUNT: Final = 10_000  # messages that wait for a connection, or for a peer that does not read
QUEUE_MAX_BYTES: Final = 256 << 20
assert HEARTBEAT_TIMEOUT_MS > 2 * HEARTBEAT_MS, "one late heartbeat is not a death"

_TCP: Final = re.compile(r"tcp://([A-Za-z0-9][A-Za-z0-9._-]*):([0-9]{1,5})")

log = logging.getLogger("titanic.link")


def plain_address(endpoint: str) -> tuple[str, int] | None:
    """(host, port) of an endpoint that a :class:`PlainLink` can connect to; None: not one of those."""
    match = _TCP.fullmatch(endpoint)
    if match is None or not 0 < int(match[2]) < 65_536:
        return None
    return match[1], int(match[2])


class PlainLink:
    """Hands every message that arrives to ``on_message`` and sends without ever blocking.

    Connects by itself, and again, with back-off, when the connection ends or is silent for too long; what
    is sent meanwhile goes out when the peer is there; unless it ``keeps`` nothing for another connection.
    ``on_made`` is told when the handshake is done, ``on_lost``, from the loop, when a connection has ended,
    with or without one, ``on_refused`` when an attempt to make one has failed. Messages that do not fit into
    ``queue_max_count`` or ``queue_max_bytes`` are dropped, newest first, and counted in ``dropped_count``;
    so are those the kernel had not taken when a connection ended, as far as they were begun.
    Every call is made in the loop's thread.
    """

    def __init__(
        self,
        address: tuple[str, int],
        on_message: OnMessage,
        *,
        name: bytes = b"",
        on_made: Callable[[], None] | None = None,
        on_lost: Callable[[], None] | None = None,
        on_refused: Callable[[], None] | None = None,
        trace: Trace | None = None,
        queue_max_count: int = QUEUE_MAX_COUNT,
        queue_max_bytes: int = QUEUE_MAX_BYTES,
        heartbeat_ms: int = HEARTBEAT_MS,
        reconnect_max_ms: int = RECONNECT_MAX_MS,
        keeps: bool = True,
    ) -> None:
        if len(name) > NAME_MAX_BYTES or name[:1] == b"\0":
            raise ValueError(f"{name!r} is not a name that a socket may have")
        self.dropped_count = 0
        self.queued_bytes = 0
        self._address = address
        self._on_message = on_message
        self._role = dealer(name)
        self._on_made = on_made
        self._on_lost = on_lost
        self._on_refused = on_refused
        self._trace = trace
        self._queue_max = queue_max_count
        self._queue_max_bytes = queue_max_bytes
        self._heartbeat_ms = heartbeat_ms
        self._reconnect_max_ms = reconnect_max_ms
        self._keeps = keeps
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = None
        self._wire = self._fresh_wire()
        self._waiting: deque[Sequence[bytes]] = deque()  # messages of this turn, or behind ``head``
        self._head = b""  # what the kernel did not take, from ``head_at`` on
        self._head_at = 0
        self._flows = False  # connected, and the kernel takes what is sent
        self._heard = self._said = False  # since the last tick
        self._silent_ticks = 0
        self._pause_ms = RECONNECT_MS
        self._ended = asyncio.Event()
        self._dialing: asyncio.Task[None] | None = None
        self._handle: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    # -- life

    def start(self) -> None:
        """Connect, and stay connected."""
        self._dialing = self._loop.create_task(self._stay_connected())

    def close(self, linger_ms: int = 1_000) -> None:
        """The connection is closed. What was sent has ``linger_ms`` to go out if there is one."""
        if self._closed:
            return
        self._closed = True
        for handle in (self._dialing, self._timer, self._handle):
            if handle is not None:
                handle.cancel()
        if self._flows and linger_ms:
            self._flush()
        if self._socket is not None and linger_ms and self._wire.opened:
            self._linger(self._socket, time.monotonic() + linger_ms / 1_000)
        self.dropped_count += len(self._waiting) + bool(self._head)
        self._waiting.clear()
        if self._socket is not None:
            self._let_go(self._socket)

    def _linger(self, ours: socket.socket, until: float) -> None:
        """The kernel has taken what was sent, or ``until`` has come; then it delivers it by itself."""
        poller = select.poll()
        poller.register(ours, select.POLLOUT)
        while self._head and (rest_s := until - time.monotonic()) > 0:
            if poller.poll(rest_s * 1_000):
                self._on_writable()
        with contextlib.suppress(OSError):
            ours.shutdown(socket.SHUT_WR)
            for _ in range(DRAIN_COUNT):  # closing with unread bytes would reset what is still on its way
                if not ours.recv(READ_BYTES):
                    break

    # -- connecting

    async def _stay_connected(self) -> None:
        while True:
            ours = await self._dial()
            if ours is not None:
                self._ended.clear()
                self._adopt(ours)
                await self._ended.wait()
            elif self._on_refused is not None:
                self._loop.call_soon(self._tell_refused)
            await asyncio.sleep(self._pause_ms / 1_000)
            self._pause_ms = min(2 * self._pause_ms, self._reconnect_max_ms)

    async def _dial(self) -> socket.socket | None:
        """A connected socket, or None."""
        host, port = self._address
        try:
            found = await self._loop.getaddrinfo(
                host, port, family=socket.AF_INET, type=socket.SOCK_STREAM, flags=_flags_for(host)
            )
        except (OSError, UnicodeError):
            return None
        for family, kind, protocol, _, address in found:
            ours = prepared(socket.socket(family, kind, protocol))
            try:
                async with asyncio.timeout(CONNECT_S):
                    await self._loop.sock_connect(ours, address)
                if ours.getsockname() != ours.getpeername():  # a free local port may meet itself
                    return ours
                ours.close()
            except OSError:  # TimeoutError is one
                ours.close()
            except BaseException:
                ours.close()
                raise
        return None

    def _adopt(self, ours: socket.socket) -> None:
        self._socket, self._wire = ours, self._fresh_wire()
        self._silent_ticks = 0
        self._loop.add_reader(ours.fileno(), self._on_readable, ours)
        self._timer = self._loop.call_later(self._heartbeat_ms / 1_000, self._on_tick)
        self._say()

    def _fresh_wire(self) -> Wire:
        return Wire(b"", message_max_bytes=MESSAGE_MAX_BYTES, frames_max=FRAMES_MAX_COUNT, role=self._role)

    def _end(self) -> None:
        """The connection is over; another is made after a pause."""
        ours = self._socket
        if ours is None:
            return
        self._let_go(ours)
        if self._head:
            self._head, self._head_at = b"", 0
            self.dropped_count += 1
        if not self._keeps:
            self.dropped_count += len(self._waiting)
            self._waiting.clear()
        self.queued_bytes = sum(len(frame) for frames in self._waiting for frame in frames)
        if self._timer is not None:
            self._timer.cancel()
        self._ended.set()
        if not self._closed:
            self._loop.call_soon(self._tell_lost)

    def _let_go(self, ours: socket.socket) -> None:
        self._socket, self._flows = None, False
        self._loop.remove_reader(ours.fileno())
        self._loop.remove_writer(ours.fileno())
        ours.close()

    def _tell_lost(self) -> None:
        if self._on_lost is not None and not self._closed:
            self._on_lost()

    def _tell_refused(self) -> None:
        if self._on_refused is not None and not self._closed:
            self._on_refused()

    def _on_tick(self) -> None:
        """A heartbeat has passed: a silent peer is asked whether it is there, and given up if it is not."""
        self._timer = self._loop.call_later(self._heartbeat_ms / 1_000, self._on_tick)
        wire = self._wire
        self._silent_ticks = 0 if self._heard else self._silent_ticks + 1
        if self._silent_ticks > (SILENCE_TICKS if wire.opened else HANDSHAKE_TICKS) and (
            wire.pings or not wire.opened
        ):
            self._end()
        elif wire.pings and self._flows and not (self._heard and self._said):
            wire.out.append(
                ping(SILENCE_TICKS * self._heartbeat_ms)
            )  # it, too, gives us up when it hears nothing
            self._say()
        self._heard = self._said = False

    # -- out

    def send(self, frames: Sequence[bytes]) -> None:
        """The message goes out at the end of the turn, or waits for room; it never blocks or raises."""
        if self._trace is not None:
            self._trace("out", list(frames))
        waiting = self._waiting
        if not self._flows:
            size_bytes = sum(map(len, frames))
            if len(waiting) >= self._queue_max or self.queued_bytes + size_bytes > self._queue_max_bytes:
                self.dropped_count += 1
                return
            self.queued_bytes += size_bytes
            waiting.append(frames)
            return
        waiting.append(frames)
        if len(waiting) >= FLUSH_COUNT or len(frames[-1]) > FLUSH_BYTES:
            self._flush()
        elif self._handle is None:
            self._handle = self._loop.call_soon(self._end_turn)

    def _end_turn(self) -> None:
        self._handle = None
        self._flush()

    def _flush(self) -> None:
        """What waits, in one system call; what the kernel does not take waits for it."""
        if not self._flows or not self._waiting:
            return
        out, encode = self._wire.out, self._wire.encode
        for frames in self._waiting:
            encode(frames, out, 0)
        self._waiting.clear()
        self._say()

    def _say(self) -> None:
        """What the wire has to say goes out."""
        ours, out = self._socket, self._wire.out
        if ours is None or not out or self._head:
            return
        data = b"".join(out)
        out.clear()
        self._said = True
        try:
            sent = ours.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._end()
            return
        if sent < len(data):
            self._head, self._head_at, self._flows = data, sent, False
            self.queued_bytes += len(data)
            self._loop.add_writer(ours.fileno(), self._on_writable)

    def _on_writable(self) -> None:
        """The kernel has room: for what it did not take, then for what waited behind that."""
        ours = self._socket
        if ours is None:
            return
        try:
            sent = ours.send(memoryview(self._head)[self._head_at :])
        except BlockingIOError:
            return
        except OSError:
            self._end()
            return
        self._heard = self._said = True  # it reads
        self._head_at += sent
        if self._head_at < len(self._head):
            return
        self.queued_bytes -= len(self._head)
        self._head, self._head_at = b"", 0
        if self._wire.opened:
            self._head = self._next_head()
            self.queued_bytes += len(self._head)
        if not self._head:
            self._flows = self._wire.opened
            self._loop.remove_writer(ours.fileno())

    def _next_head(self) -> bytes:
        """Some of the messages that wait, as bytes."""
        waiting, out, size_bytes = self._waiting, self._wire.out, 0
        while waiting and size_bytes < FLUSH_BYTES:
            frames = waiting.popleft()
            size_bytes += sum(map(len, frames))
            self._wire.encode(frames, out, 0)
        self.queued_bytes -= size_bytes
        data = b"".join(out)
        out.clear()
        return data

    # -- in

    def _on_readable(self, ours: socket.socket) -> None:
        if ours is not self._socket:
            return
        try:
            data = ours.recv(min(self._wire.wanted_bytes, READ_MAX_BYTES) or READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._end()
            return
        self._heard = True
        self._hand_on(data)

    def _hand_on(self, data: bytes) -> None:
        wire, was_opened = self._wire, self._wire.opened
        messages = wire.receive(data, READ_BYTES)
        if wire.opened and not was_opened:
            self._welcomed()
            messages = wire.receive(b"", READ_BYTES)
        if wire.out:
            self._say()
        if wire.broken is not None:
            log.warning("ended the connection to %s:%d: %s", *self._address, wire.broken)
            self._end()
        if messages:
            self._deliver(messages)

    def _welcomed(self) -> None:
        """The handshake is done: what waited may go."""
        self._pause_ms = RECONNECT_MS
        assert self._socket is not None, "a connection that was welcomed"
        if self._on_made is not None:
            self._loop.call_soon(self._on_made)
        if self._head:
            return  # behind what the kernel did not take of the handshake
        self._head = self._next_head()
        self._flows = not self._head
        if self._head:
            self.queued_bytes += len(self._head)
            self._loop.add_writer(self._socket.fileno(), self._on_writable)

    def _deliver(self, messages: list[list[bytes]]) -> None:
        """To the owner, one by one; a read brings at most ``READ_BYTES`` of them."""
        on_message, trace = self._on_message, self._trace
        rest = iter(messages)
        try:
            for frames in rest:
                if self._closed:
                    return
                if trace is not None:
                    trace("in", frames)
                on_message(frames)
        except BaseException:  # the loop's handler is told; the others are not to suffer
            self._loop.call_soon(self._deliver, list(rest))
            raise


def _flags_for(host: str) -> int:
    """Numbers are asked of nobody."""
    return socket.AI_NUMERICHOST if host.replace(".", "").isdecimal() else 0
