"""The one place that drives a plain ZeroMQ socket from an asyncio loop (uvloop too).

What makes it more than ``add_reader``: ``ZMQ_FD`` is edge-triggered and an edge may be consumed by any
call on the socket, so after every receive *and every send* ``ZMQ_EVENTS`` must be looked at until it is
empty (zmq_getsockopt(3)). ``zmq.asyncio`` does this too, at the price of a future and a loop turn per
message; here a batch of messages costs one turn.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import zmq

OnMessage = Callable[[list[bytes]], None]
Trace = Callable[[str, list[bytes]], None]
Admit = Callable[[zmq.Frame, list[bytes]], bool]

FRAMES_MAX_COUNT: Final = 1_024

TURN_MAX_S: Final = 0.02  # of handling messages before timers and other callbacks get their turn
LOOK_COUNT: Final = 8  # messages between two looks at the clock
QUEUE_MAX_BYTES: Final = 256 * 1024 * 1024
PEER_SHARE: Final = 10  # a single peer that does not read may fill this fraction (1/n) of the send queue
RETRIES_PER_TURN: Final = 8  # blocked peers tried before other callbacks of the loop get their turn
RETRY_S: Final = 0.01  # while peers are blocked: the edge that frees one may be consumed by a send to another

_NOBLOCK: Final = int(zmq.NOBLOCK)
_MORE: Final = int(zmq.SNDMORE) | _NOBLOCK
_EVENTS: Final = zmq.EVENTS
_POLLIN: Final = int(zmq.POLLIN)
_Again: Final = zmq.Again
_ZMQError: Final = zmq.ZMQError


class SocketPump:
    """Hands every message that arrives to ``on_message`` and sends without ever blocking.

    ``on_message`` gets a fresh list it may keep. ``after_batch`` follows each run of at most ``max_batch``
    messages; then other callbacks of the loop have their turn. ``on_unreachable`` is given, from the loop
    and never from inside :meth:`send`, each message whose peer a ROUTER (with ``ROUTER_MANDATORY``) cannot
    reach, in the order they were sent. ``admit`` looks at the first frame, with its ZMTP metadata, before
    ``on_message`` does; what it refuses is dropped. Of a message with more than ``frames_max`` frames only
    the first ``frames_max + 1`` are copied, so that the reader sees that it is too long.
    Messages that do not fit into ``send_queue_max`` messages or ``send_queue_max_bytes`` are dropped, newest
    first, and counted in ``dropped_count``. The pump owns the socket from :meth:`start` to :meth:`close`;
    every call is made in the loop's thread.
    """

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        on_message: OnMessage,
        *,
        on_unreachable: Callable[[list[bytes]], None] | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
        max_batch: int = 200,
        frames_max: int = FRAMES_MAX_COUNT,
        admit: Admit | None = None,
        send_queue_max: int = 10_000,
        send_queue_max_bytes: int = QUEUE_MAX_BYTES,
        after_batch: Callable[[], None] | None = None,
        trace: Trace | None = None,
    ) -> None:
        self.dropped_count = 0
        self.queued_count = 0
        self.queued_bytes = 0
        self._socket = socket
        self._on_message = on_message
        self._on_unreachable = on_unreachable
        self._after_batch = after_batch
        self._trace = trace
        self._max_batch = max_batch
        self._frames_max = frames_max
        self._admit = admit
        self._queue_max = send_queue_max
        self._queue_max_bytes = send_queue_max_bytes
        self._loop = loop if loop is not None else asyncio.get_running_loop()
        self._is_router = socket.get(zmq.TYPE) == zmq.ROUTER
        self._peer_max = max(1, send_queue_max // PEER_SHARE) if self._is_router else send_queue_max
        # pyzmq's methods below its Python layer: 5 × as fast as send_multipart, 1.8 × as recv_multipart.
        self._send_frame = super(zmq.Socket, socket).send
        self._receive_frame = super(zmq.Socket, socket).recv
        self._get = super(zmq.Socket, socket).get
        self._blocked: dict[bytes, deque[list[bytes]]] = {}  # by identity; b"" unless ROUTER
        self._retry: list[bytes] = []
        self._unreachable: list[list[bytes]] = []
        self._touched = False  # sent since EVENTS was last seen empty
        self._in_turn = False
        self._handle: asyncio.Handle | None = None
        self._retry_timer: asyncio.TimerHandle | None = None
        self._fd = -1

    def start(self) -> None:
        """Messages flow from now on, also those that were there before."""
        assert self._fd == -1, "a pump starts once"
        self._fd = int(self._get(zmq.FD))
        self._loop.add_reader(self._fd, self._turn)
        self._schedule()

    def send(self, frames: Sequence[bytes]) -> None:
        """Give the message to the socket, or keep it until there is room; no peer makes it block or raise."""
        if self._trace is not None:
            self._trace("out", list(frames))
        if self._blocked and (frames[0] if self._is_router else b"") in self._blocked:
            self._enqueue(frames)
            return
        send = self._send_frame
        sent_count = 0
        try:
            for frame in frames[:-1]:
                send(frame, _MORE)
                sent_count += 1
            send(frames[-1], _NOBLOCK)
        except _ZMQError as error:
            self._failed(error, frames, sent_count)
        if not self._touched:
            self._touched = True
            if not self._in_turn:
                self._schedule()

    def unwatch(self) -> None:
        """The socket's monitor says nothing more; its reader may be closed after this, and never before.

        libzmq's IO thread hands events over with a blocking send: to a monitor whose reader is gone it
        blocks for ever, and with it every socket of the context.
        """
        if self._fd != -2:
            self._socket.disable_monitor()

    def close(self, linger_ms: int = 1000) -> None:
        """The socket is closed; it has ``linger_ms`` to deliver what it had taken.

        What was still queued here is dropped and counted.
        """
        if self._fd == -2:
            return
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
        self._fd = -2
        if self._handle is not None:
            self._handle.cancel()
        if self._retry_timer is not None:
            self._retry_timer.cancel()
        for identity in list(self._blocked):
            self._flush_peer(identity)
        self.dropped_count += self.queued_count
        self.queued_count = self.queued_bytes = 0
        self._blocked.clear()
        self._socket.close(linger=linger_ms)

    def _schedule(self) -> None:
        if self._handle is None and self._fd >= 0:
            self._handle = self._loop.call_soon(self._continue)

    def _continue(self) -> None:
        """The turn after a send or a full batch: look at EVENTS, since the edge may be gone."""
        self._handle = None
        if self._fd == -2:
            return
        if self._unreachable or self._retry or self._get(_EVENTS) & _POLLIN:  # type: ignore[operator]
            self._turn()
        else:
            self._touched = False

    def _on_retry(self) -> None:
        self._retry_timer = None
        if self._blocked:
            self._retry_timer = self._loop.call_later(RETRY_S, self._on_retry)
            self._turn()

    def _turn(self) -> None:
        """One bounded run of receiving, reporting and flushing."""
        self._in_turn = True
        try:
            if self._blocked and not self._retry:
                self._retry = list(self._blocked)
            again = self._drain()
            if self._unreachable:
                self._report()
            if self._retry:
                self._flush()
        except BaseException:
            again = True  # the rest of the batch is still there; the loop's handler is told of the error
            raise
        finally:
            self._in_turn = False
            if (again or self._touched or self._retry or self._unreachable) and self._fd != -2:
                self._schedule()

    def _drain(self) -> bool:
        """Receive until empty, ``max_batch`` or 20 ms; True if there may be more."""
        receive, on_message, trace, admit = self._receive_frame, self._on_message, self._trace, self._admit
        count, again = 0, False
        end = self._loop.time() + TURN_MAX_S
        while count < self._max_batch:
            self._touched = False
            try:
                first = frame = receive(_NOBLOCK, False)
            except _Again:
                break
            frames = [frame.bytes]
            while frame.more:
                frame = receive(_NOBLOCK, False)
                if len(frames) <= self._frames_max:
                    frames.append(frame.bytes)
            count += 1
            if admit is not None and not admit(first, frames):
                continue
            if trace is not None:
                trace("in", frames)
            on_message(frames)
            if self._fd == -2:
                return False
            if not count % LOOK_COUNT and self._loop.time() > end:
                again = True
                break
        if count and self._after_batch is not None:
            self._after_batch()
        return again or count == self._max_batch

    def _report(self) -> None:
        unreachable, self._unreachable = self._unreachable, []
        if self._on_unreachable is not None:
            for frames in unreachable:
                self._on_unreachable(frames)

    def _failed(self, error: zmq.ZMQError, frames: Sequence[bytes], sent_count: int) -> None:
        """Sort out a send the socket refused at frame ``sent_count``."""
        if error.errno == zmq.EAGAIN:
            # Refused in the middle means that the peer's pipe has just gone (libzmq lb_t): the socket
            # swallows the rest of this message and takes the next, so the whole message is sent again.
            if 0 < sent_count < len(frames) - 1:
                for frame in frames[sent_count + 1 : -1]:
                    self._send_frame(frame, _MORE)
                self._send_frame(frames[-1], _NOBLOCK)
            self._enqueue(frames)
        elif error.errno == zmq.EHOSTUNREACH and self._is_router:
            self._unreachable.append(list(frames))
            self._schedule()
        else:
            raise error

    def _enqueue(self, frames: Sequence[bytes]) -> None:
        identity = frames[0] if self._is_router else b""
        size_bytes = sum(map(len, frames))
        waiting = self._blocked.get(identity)
        if (
            self.queued_count >= self._queue_max
            or self.queued_bytes + size_bytes > self._queue_max_bytes
            or (waiting is not None and len(waiting) >= self._peer_max)
        ):
            self.dropped_count += 1
            return
        if waiting is None:
            waiting = self._blocked[identity] = deque()
            if self._retry_timer is None and self._fd != -2:
                self._retry_timer = self._loop.call_later(RETRY_S, self._on_retry)
        waiting.append(list(frames))
        self.queued_count += 1
        self.queued_bytes += size_bytes

    def _flush(self) -> None:
        """Try the blocked peers once each since the last wake, a bounded number per turn."""
        for _ in range(min(RETRIES_PER_TURN, len(self._retry))):
            self._flush_peer(self._retry.pop())

    def _flush_peer(self, identity: bytes) -> None:
        """Send what waits for this peer, in order, until it is blocked again."""
        waiting = self._blocked.pop(identity, None)
        while waiting:
            frames = waiting.popleft()
            self.queued_count -= 1
            self.queued_bytes -= sum(map(len, frames))
            unreachable_count = len(self._unreachable)
            self._send_now(frames)
            if identity in self._blocked:  # refused again: it is at the head of the new queue
                self._blocked[identity].extend(waiting)
                return
            if len(self._unreachable) > unreachable_count:
                self._unreachable.extend(waiting)
                self.queued_count -= len(waiting)
                self.queued_bytes -= sum(len(frame) for rest in waiting for frame in rest)
                return

    def _send_now(self, frames: list[bytes]) -> None:
        sent_count = 0
        self._touched = True
        try:
            for frame in frames[:-1]:
                self._send_frame(frame, _MORE)
                sent_count += 1
            self._send_frame(frames[-1], _NOBLOCK)
        except _ZMQError as error:
            self._failed(error, frames, sent_count)
