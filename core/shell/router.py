"""A bound ROUTER for peers without encryption, on plain sockets in the loop's own thread.

libzmq hands each message from its IO thread to ours and back, with a wake of a sleeping thread each way,
and pyzmq makes an object per frame. A request that crosses a broker pays for both four times. Here a
readable connection is one system call, the messages of a turn that go to one peer are another, and there is
no second thread (``docs/decisions/0020-own-zmtp-for-null.md``). What is encrypted still goes over libzmq
(:class:`core.shell.pump.SocketPump`, the same calls).
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
import socket
import time
from collections.abc import Callable, Sequence
from typing import Final

from core.errors import PeerError
from core.pure.zmtp import PING, Wire, decoded, encode
from core.shell.connection import Connection, prepared
from core.shell.listener import Listener

OnMessage = Callable[[list[bytes]], None]
OnBytes = Callable[[bytes, bytes], int]
Trace = Callable[[str, list[bytes]], None]

READ_BYTES: Final = 65_536
READ_MAX_BYTES: Final = 1 << 20  # of a long frame
TURN_COUNT: Final = 200  # messages of one connection before others have their turn
TURN_MAX_S: Final = 0.02  # of handling them
LOOK_COUNT: Final = 8  # messages between two looks at the clock
TICK_S: Final = 1.0
HANDSHAKE_TICKS: Final = 5
PING_TICKS: Final = 15  # of silence, then the peer is asked whether it is there
SILENCE_TICKS: Final = 30
DOUBT_TICKS: Final = 2  # of silence, when somebody else comes under the same name
FLUSH_COUNT: Final = 32  # messages to one peer in one system call
FLUSH_BYTES: Final = 65_536  # a frame that is longer goes out at once
PEER_MAX_COUNT: Final = 10_000  # messages that wait for one peer who does not read
QUEUE_MAX_BYTES: Final = 256 << 20  # that wait for all of them
assert PING_TICKS < SILENCE_TICKS, "nobody is given up without being asked"

log = logging.getLogger("titanic.router")


class Router:
    """Hands every message that arrives to ``on_message``, the identity first, and sends without blocking.

    ``on_message`` gets a fresh list it may keep. ``on_bytes`` is asked before it: given an identity and what
    came, from the first byte of a message on, it says how many of the bytes it has done with. ``after_batch``
    ends each turn of the loop in which something arrived. ``on_unreachable`` is given, from the loop and
    never from inside :meth:`send`, each message whose peer is not connected, in the order they were sent.
    ``on_lost`` is told, from the loop too, the identity of a nameless peer as soon as its connection has
    ended: nobody comes back under it.

    Messages that do not fit into ``peer_max_count`` for one peer or ``queue_max_bytes`` for all are
    dropped, newest first, and counted in ``dropped_count``. While half of ``queue_max_bytes`` waits, peers
    that have taken nothing of what waits for them for a whole tick are cut off; ``ended_count`` counts them
    and those that break a limit. Every call is made in the loop's thread.
    """

    def __init__(
        self,
        listener: socket.socket,
        on_message: OnMessage,
        *,
        message_max_bytes: int,
        frames_max: int,
        on_unreachable: Callable[[list[bytes]], None] | None = None,
        on_lost: Callable[[bytes], None] | None = None,
        on_bytes: OnBytes | None = None,
        after_batch: Callable[[], None] | None = None,
        trace: Trace | None = None,
        peer_max_count: int = PEER_MAX_COUNT,
        queue_max_bytes: int = QUEUE_MAX_BYTES,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.dropped_count = 0
        self.ended_count = 0
        self.queued_bytes = 0
        self._on_message = on_message
        self._on_unreachable = on_unreachable
        self._on_lost = on_lost
        self._on_bytes = on_bytes
        self._after_batch = after_batch
        self._trace = trace
        self._message_max = message_max_bytes
        self._frames_max = frames_max
        self._peer_max = peer_max_count
        self._queue_max = queue_max_bytes
        self._loop = loop if loop is not None else asyncio.get_running_loop()
        self._peers: dict[bytes, Connection] = {}  # by identity, after the handshake
        self._connections: dict[int, Connection] = {}  # by descriptor, all
        self._dirty: list[Connection] = []  # have messages to send at the end of the turn
        self._unfinished: list[Connection] = []  # had more messages than a turn takes
        self._unreachable: list[list[bytes]] = []
        self._lost: list[bytes] = []
        self._received = False
        self._handle: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._tick = 0
        self._number = int.from_bytes(os.urandom(4), "big")  # no identity of the process before comes again
        self._closed = False
        self._listener = Listener(listener, self._add, self._loop)

    # -- life

    def start(self) -> None:
        """Connections are accepted and messages flow from now on."""
        self._listener.start()
        self._timer = self._loop.call_later(TICK_S, self._on_tick)

    def close(self, linger_ms: int = 1_000) -> None:
        """Every connection is closed. What was sent has ``linger_ms`` to go out; the rest is counted."""
        if self._closed:
            return
        for connection in self._dirty:
            self._flush(connection)
        self._closed = True
        for handle in (self._handle, self._timer):
            if handle is not None:
                handle.cancel()
        self._listener.close()
        self._linger(time.monotonic() + linger_ms / 1_000)
        for connection in list(self._connections.values()):
            self.dropped_count += len(connection.waiting)
            self._end(connection)

    def _linger(self, until: float) -> None:
        """Wait for those who do not read fast enough, all together until ``until``."""
        poller = select.poll()
        blocked = {fd: one for fd, one in self._connections.items() if one.blocked}
        for fd in blocked:
            poller.register(fd, select.POLLOUT)
        while blocked and (rest_s := until - time.monotonic()) > 0:
            for fd, _ in poller.poll(rest_s * 1_000):
                self._on_writable(blocked[fd])
                if not blocked[fd].blocked:
                    poller.unregister(fd)
                    del blocked[fd]

    def _schedule(self) -> None:
        if self._handle is None and not self._closed:
            self._handle = self._loop.call_soon(self._end_turn)

    def _end_turn(self) -> None:
        """All that was readable has been read: tell the owner, then send what there is for each peer."""
        self._handle = None
        if self._unfinished:
            unfinished, self._unfinished = self._unfinished, []
            for connection in unfinished:
                self._go_on(connection)
        if self._received:
            self._received = False
            if self._after_batch is not None:
                self._after_batch()
        while self._dirty:
            self._flush(self._dirty.pop())
        if self._unreachable or self._lost:
            self._report()

    def _report(self) -> None:
        unreachable, self._unreachable = self._unreachable, []
        lost, self._lost = self._lost, []
        if self._on_unreachable is not None:
            for frames in unreachable:
                self._on_unreachable(frames)
        if self._on_lost is not None:
            for identity in lost:
                self._on_lost(identity)

    def _on_tick(self) -> None:
        self._timer = self._loop.call_later(TICK_S, self._on_tick)
        self.look()

    def look(self) -> None:
        """One tick has passed: who is silent, deaf, or not done with its handshake."""
        self._tick += 1
        crowded = self.queued_bytes > self._queue_max // 2
        for connection in list(self._connections.values()):
            silent = self._tick - connection.heard_tick
            if not silent:
                connection.doubted = False
            elif not connection.welcome:
                if self._tick - connection.born_tick > HANDSHAKE_TICKS:
                    self._end(connection)
            elif connection.blocked and crowded and silent > 1:
                self.ended_count += 1
                log.warning("%s does not read what waits for it: ended", connection.wire.identity.hex())
                self._end(connection)
            else:
                self._judge(connection, silent)

    def _judge(self, connection: Connection, silent: int) -> None:
        """Ask a silent peer that knows the question, and end it when it gives no sign for long enough."""
        wire = connection.wire
        ttl_ticks = wire.ttl_ms // 1_000 + 1 if wire.ttl_ms else SILENCE_TICKS
        if connection.doubted:
            ttl_ticks = DOUBT_TICKS
        if silent > ttl_ticks and (wire.pings or wire.ttl_ms):
            self._end(connection)
        elif wire.pings and silent % PING_TICKS == 0:
            self._ask(connection)

    def _ask(self, connection: Connection) -> None:
        if not connection.blocked:
            connection.wire.out.append(PING)
            self._flush(connection)

    # -- out

    def send(self, frames: Sequence[bytes]) -> None:
        """The message goes out at the end of the turn, or waits for room; it never blocks or raises."""
        if self._trace is not None:
            self._trace("out", list(frames))
        connection = self._peers.get(frames[0])
        if connection is None:
            self._unreachable.append(list(frames))
        elif connection.blocked:
            self._enqueue(connection, frames)
            return
        else:
            waiting = connection.waiting
            waiting.append(frames)
            if len(waiting) == 1:
                self._dirty.append(connection)
            if len(waiting) >= FLUSH_COUNT or len(frames[-1]) > FLUSH_BYTES:
                self._flush(connection)
        if self._handle is None and not self._closed:
            self._handle = self._loop.call_soon(self._end_turn)

    def forward(self, identity: bytes, message: bytes) -> None:
        """The same for a message of ZMTP 2.0 or 3.x that is written already, without the identity."""
        connection = self._peers.get(identity)
        if connection is None or connection.blocked or connection.wire.encode is not encode:
            self.send([identity, *decoded(message)])
            return
        waiting = connection.waiting
        waiting.append(message)
        if len(waiting) == 1:
            self._dirty.append(connection)
        elif len(waiting) >= FLUSH_COUNT or len(message) > FLUSH_BYTES:
            self._flush(connection)
        if self._handle is None and not self._closed:
            self._handle = self._loop.call_soon(self._end_turn)

    def _flush(self, connection: Connection) -> None:
        """What waits, in one system call; what the kernel does not take waits for it."""
        if connection.blocked or connection.fd < 0:
            return
        data = connection.to_write()
        try:
            sent = connection.send(data) if data else 0
        except BlockingIOError:
            sent = 0
        except OSError:
            self._end(connection)
            return
        connection.waiting.clear()
        if sent < len(data):
            connection.head, connection.head_at = data, sent
            connection.blocked = True
            self.queued_bytes += len(data)
            self._loop.add_writer(connection.fd, self._on_writable, connection)

    def _on_writable(self, connection: Connection) -> None:
        """The kernel has room: for what it did not take, then for what waited behind that."""
        head = connection.head
        try:
            sent = connection.send(memoryview(head)[connection.head_at :])
        except BlockingIOError:
            return
        except OSError:
            self._end(connection)
            return
        connection.heard_tick = self._tick
        connection.head_at += sent
        if connection.head_at < len(head):
            return
        self.queued_bytes -= len(head)
        self.queued_bytes += connection.next_head()
        if not connection.head:
            connection.blocked = False
            self._loop.remove_writer(connection.fd)

    def _enqueue(self, connection: Connection, frames: Sequence[bytes]) -> None:
        """Behind what the kernel did not take, within the limits."""
        size_bytes = sum(map(len, frames))
        if len(connection.waiting) >= self._peer_max or self.queued_bytes + size_bytes > self._queue_max:
            self.dropped_count += 1
            return
        connection.waiting.append(frames)
        connection.waiting_bytes += size_bytes
        self.queued_bytes += size_bytes

    # -- in

    def _add(self, accepted: socket.socket) -> None:
        self._number = (self._number + 1) & 0xFFFFFFFF
        identity = b"\0" + self._number.to_bytes(4, "big")
        wire = Wire(identity, message_max_bytes=self._message_max, frames_max=self._frames_max)
        connection = Connection(prepared(accepted), wire, self._tick)
        self._connections[connection.fd] = connection
        self._loop.add_reader(connection.fd, self._on_readable, connection)
        self._flush(connection)

    def _on_readable(self, connection: Connection) -> None:
        wanted = 0 if connection.at_rest else min(connection.wire.wanted_bytes, READ_MAX_BYTES)
        try:
            data = connection.receive(wanted or READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._end(connection)
            return
        connection.heard_tick = self._tick
        if connection.at_rest and self._on_bytes is not None:
            data = self._offer(connection, data, self._on_bytes)
        if data:
            self._hand_on(connection, data)

    def _offer(self, connection: Connection, data: bytes, on_bytes: OnBytes) -> bytes:
        """To the owner, as it came; what is to be made messages of."""
        try:
            used = on_bytes(connection.identity, data)
        except BaseException:  # nobody knows how far it was read
            self._end(connection)
            raise
        if not used:
            return data
        self._received = True
        self._schedule()
        return data[used:] if used < len(data) else b""

    def _hand_on(self, connection: Connection, data: bytes) -> None:
        """What is complete goes to the owner; the rest of more than a turn's worth comes next turn."""
        wire = connection.wire
        messages = wire.receive(data, TURN_COUNT)
        connection.at_rest = connection.welcome and wire.at_rest
        if messages:
            self._received = True
            self._deliver(connection, messages)
            if len(messages) == TURN_COUNT and not connection.rest and connection.fd >= 0:
                self._put_off(connection, [])
            self._schedule()
        if wire.out:
            if connection.blocked:
                wire.out.clear()  # who does not read needs no PONG
            else:
                self._flush(connection)
        if wire.broken is not None:
            self._break(connection, wire.broken)
        elif wire.opened and not connection.welcome:
            self._welcome(connection)

    def _deliver(self, connection: Connection, messages: list[list[bytes]]) -> None:
        """To the owner, one by one, for at most ``TURN_MAX_S``; the rest comes next turn."""
        on_message, trace = self._on_message, self._trace
        rest = iter(messages)
        count, end = 0, self._loop.time() + TURN_MAX_S if len(messages) > LOOK_COUNT else 0.0
        try:
            for frames in rest:
                if self._closed:
                    return
                if trace is not None:
                    trace("in", frames)
                on_message(frames)
                count += 1
                if not count % LOOK_COUNT and end and self._loop.time() > end:
                    break
        except BaseException:  # the loop's handler is told; the others are not to suffer
            self._put_off(connection, list(rest))
            raise
        if count < len(messages):
            self._put_off(connection, list(rest))

    def _put_off(self, connection: Connection, rest: list[list[bytes]]) -> None:
        """Others have their turn; this connection is not read before ``rest`` and what it sent already."""
        connection.rest = rest
        if connection.fd >= 0:
            self._loop.remove_reader(connection.fd)
        self._unfinished.append(connection)
        self._schedule()

    def _go_on(self, connection: Connection) -> None:
        """The rest of a long turn; the connection is read again when nothing is left of it."""
        rest, connection.rest = connection.rest, []
        if connection.fd >= 0:
            self._loop.add_reader(connection.fd, self._on_readable, connection)
        if rest:
            self._received = True
            self._deliver(connection, rest)
        if connection.fd >= 0 and not connection.rest:
            self._hand_on(connection, b"")

    def _welcome(self, connection: Connection) -> None:
        """The handshake is done; a name that somebody else uses is not given twice."""
        identity = connection.wire.identity
        owner = self._peers.get(identity)
        if owner is not None:
            log.warning("a second peer named %r was sent away", identity)
            owner.doubted = True
            self._ask(owner)
            self._end(connection)
            return
        connection.welcome = True
        connection.identity = identity
        self._peers[identity] = connection
        self._hand_on(connection, b"")

    # -- the end of a connection

    def _break(self, connection: Connection, error: PeerError) -> None:
        if connection.welcome:
            self.ended_count += 1
            log.warning("ended the connection of %s: %s", connection.wire.identity.hex(), error)
        self._end(connection)

    def _end(self, connection: Connection) -> None:
        """The connection is closed; what waited for its peer could not be delivered."""
        if connection.fd < 0:
            return
        self._loop.remove_reader(connection.fd)
        if connection.blocked:
            self._loop.remove_writer(connection.fd)
            self.queued_bytes -= len(connection.head) + connection.waiting_bytes
        del self._connections[connection.fd]
        connection.fd = -1
        connection.socket.close()
        if connection.welcome:
            identity = connection.wire.identity
            del self._peers[identity]
            self._unreachable += connection.undelivered()
            if identity[0] == 0:
                self._lost.append(identity)
            self._schedule()
        connection.waiting.clear()
        connection.head = b""
