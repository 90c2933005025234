"""Clients and workers for a broker under test, in one process and as cheap as pyzmq allows.

What is measured is the broker: peers are plain DEALER sockets below pyzmq's Python layer, the same for every
broker, with frames from RFC 7.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from typing import Any, Final

import zmq

from bench.load import BODY_BYTES, LoadResult

NOBLOCK: Final = int(zmq.NOBLOCK)
MORE: Final = int(zmq.SNDMORE)
HEARTBEAT_S: Final = 2.5
PATIENCE_S: Final = 20.0
PAUSE_S: Final = 0.00005


class Peer:
    """One DEALER."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> None:
        self.socket: zmq.Socket[bytes] = context.socket(zmq.DEALER)
        self.socket.set_hwm(0)
        self.socket.linger = 0
        self.socket.connect(endpoint)
        self._send: Any = super(zmq.Socket, self.socket).send
        self._receive: Any = super(zmq.Socket, self.socket).recv

    def send(self, *frames: bytes) -> None:
        """One message."""
        send = self._send
        for frame in frames[:-1]:
            send(frame, MORE)
        send(frames[-1], 0)

    def receive(self) -> list[bytes] | None:
        """One message, or None if there is none."""
        receive = self._receive
        try:
            frame = receive(NOBLOCK, False)
        except zmq.Again:
            return None
        frames = [frame.bytes]
        while frame.more:
            frame = receive(NOBLOCK, False)
            frames.append(frame.bytes)
        return frames


class Load:
    """A client and its workers at one broker."""

    def __init__(self, endpoint: str) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 16_384)), hard))
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.context.set(zmq.MAX_SOCKETS, 4_096)
        self.endpoint = endpoint
        self.client = Peer(self.context, endpoint)
        self.workers: list[Peer] = []
        self.idle: list[Peer] = []
        self.poller = zmq.Poller()
        self.poller.register(self.client.socket, zmq.POLLIN)
        self.by_socket: dict[Any, Peer] = {}
        self.beaten = 0.0
        self.body = b"x" * BODY_BYTES

    def close(self) -> None:
        """Everything is closed."""
        for worker in self.workers + self.idle:
            worker.send(b"", b"MDPW01", b"\x05")
            worker.socket.close(100)
        self.client.socket.close(0)
        self.context.term()

    def work(self, service: bytes, count: int) -> None:
        """So many workers that answer at once."""
        for _ in range(count):
            worker = Peer(self.context, self.endpoint)
            worker.send(b"", b"MDPW01", b"\x01", service)
            self.workers.append(worker)
            self.poller.register(worker.socket, zmq.POLLIN)
            self.by_socket[worker.socket] = worker

    def stand_by(self, services: list[bytes]) -> None:
        """One worker for each of these services, who only beats."""
        for service in services:
            worker = Peer(self.context, self.endpoint)
            worker.send(b"", b"MDPW01", b"\x01", service)
            self.idle.append(worker)

    def turn(self, wait_ms: int, on_reply: Callable[[list[bytes]], None]) -> bool:
        """One poll: workers answer what they have, the client's replies are handed on, all beat when due.

        False if there was nothing to do.
        """
        ready = self.poller.poll(wait_ms)
        for socket, _ in ready:
            worker = self.by_socket.get(socket)
            if worker is None:
                while (reply := self.client.receive()) is not None:
                    on_reply(reply)
            else:
                while (frames := worker.receive()) is not None:
                    if frames[2] == b"\x02":
                        worker.send(b"", b"MDPW01", b"\x03", frames[3], b"", *frames[5:])
        now = time.monotonic()
        if now - self.beaten > HEARTBEAT_S:
            self.beaten = now
            for worker in self.workers:
                worker.send(b"", b"MDPW01", b"\x04")
            for worker in self.idle:
                while worker.receive() is not None:
                    pass
                worker.send(b"", b"MDPW01", b"\x04")
        return bool(ready)

    def ask(self, service: bytes, tag: bytes) -> None:
        """One request; its answer brings the tag back in the body."""
        self.client.send(b"", b"MDPC01", service, tag, self.body)

    def until_served(self, service: bytes) -> None:
        """Wait until a request is answered."""
        answers: list[list[bytes]] = []
        self.ask(service, b"first")
        deadline = time.monotonic() + PATIENCE_S
        while not answers:
            self.turn(100, answers.append)
            if time.monotonic() > deadline:
                raise SystemExit(f"bench: no answer from the broker at {self.endpoint}")

    def closed_loop(self, service: bytes, in_flight: int, seconds: float) -> LoadResult:
        """Always so many requests under way."""
        took: list[float] = []
        clock = time.perf_counter
        stop = clock() + seconds
        sent: dict[bytes, float] = {}
        number = 0

        def ask() -> None:
            nonlocal number
            number += 1
            tag = b"%d" % number
            sent[tag] = clock()
            self.ask(service, tag)

        def on_reply(frames: list[bytes]) -> None:
            now = clock()
            took.append(now - sent.pop(frames[3]))
            if now < stop:
                ask()

        started = clock()
        for _ in range(in_flight):
            ask()
        while sent and clock() < stop + PATIENCE_S:
            self.turn(100, on_reply)
        return _result(took, clock() - started, len(sent))

    def open_loop(self, service: bytes, per_second: float, seconds: float) -> LoadResult:
        """Requests at fixed moments, whatever comes back; a latency counts from the moment it was due."""
        took: list[float] = []
        clock = time.perf_counter
        due: dict[bytes, float] = {}
        total, number = int(per_second * seconds), 0

        def on_reply(frames: list[bytes]) -> None:
            took.append(clock() - due.pop(frames[3]))

        started = clock()
        while (number < total or due) and clock() < started + seconds + PATIENCE_S:
            while number < total and (at := started + number / per_second) <= clock():
                tag = b"%d" % number
                due[tag] = at
                self.ask(service, tag)
                number += 1
            if not self.turn(0, on_reply):
                time.sleep(PAUSE_S)  # not spinning: there are as many cores as brokers and loads
        return _result(took, clock() - started, len(due))


def _result(took: list[float], elapsed: float, errors: int) -> LoadResult:
    took.sort()
    if not took:
        raise SystemExit("bench: not one request was answered")
    return LoadResult(
        len(took) / elapsed, took[len(took) // 2] * 1e3, took[int(len(took) * 0.99)] * 1e3, errors
    )
