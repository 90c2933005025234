"""Clients and workers for a broker under test, in one process, so cheap that the broker is what is measured.

Peers are plain TCP sockets that speak the part of ZMTP 3.0 (RFC 23) they need: one NULL handshake, then
messages that are encoded once. A worker's answer is its request with one byte changed; the client cuts what
it receives into answers of one size. So a request costs the load three or four system calls and a few
microseconds, the same for every broker, where libzmq and pyzmq cost more than the broker does. Every byte
that comes back is compared with what must come back, and every request must be answered exactly once.
"""

from __future__ import annotations

import resource
import select
import socket
import struct
import time
from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import urlsplit

from bench.load import BODY_BYTES, LoadResult

HEARTBEAT_S: Final = 2.5
PATIENCE_S: Final = 20.0
PAUSE_S: Final = 0.00005
READ_BYTES: Final = 1 << 16  # from 128 KiB on malloc asks the kernel each time, which costs 20 µs
MORE, LONG, COMMAND = 1, 2, 4  # flags of a frame

Tags = Callable[[list[bytes]], None]


def frame(body: bytes, flags: int = 0) -> bytes:
    """| flags u8 | size u8, or u64 with LONG | body |."""
    if len(body) > 255:
        return struct.pack("!BQ", flags | LONG, len(body)) + body
    return struct.pack("!BB", flags, len(body)) + body


def message(*parts: bytes) -> bytes:
    """A message of several frames."""
    return b"".join(frame(part, MORE) for part in parts[:-1]) + frame(parts[-1])


def _property(name: bytes, value: bytes) -> bytes:
    return bytes((len(name),)) + name + struct.pack("!I", len(value)) + value


GREETING: Final = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
READY: Final = frame(
    b"\x05READY" + _property(b"Socket-Type", b"DEALER") + _property(b"Identity", b""), COMMAND
)

REGISTERED: Final = b"", b"MDPW01", b"\x01"
BEAT: Final = message(b"", b"MDPW01", b"\x04")
GOODBYE: Final = message(b"", b"MDPW01", b"\x05")
WORK: Final = message(b"", b"MDPW01", b"\x02")[:-3] + b"\x01\x01\x02"  # what a REQUEST begins with
COMMAND_AT: Final = len(WORK) - 1
ANSWERED: Final = b"\x03"

TAG_BYTES: Final = 8
BODY: Final = b"x" * BODY_BYTES
TAIL: Final = frame(BODY)


def _connected(endpoint: str) -> socket.socket:
    """A connection, as soon as the broker listens."""
    parts = urlsplit(endpoint)
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return socket.create_connection((parts.hostname, parts.port), PATIENCE_S)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


class Peer:
    """One connection after its handshake."""

    def __init__(self, endpoint: str) -> None:
        self.socket = _connected(endpoint)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(GREETING)
        theirs = self._exactly(len(GREETING))
        if theirs[:1] != b"\xff" or theirs[10] < 3 or theirs[12:17] != b"NULL\0":
            raise SystemExit(f"bench: {endpoint} does not speak ZMTP 3 with NULL")
        self.socket.sendall(READY)
        flags, size = self._exactly(2)
        if flags != COMMAND or not self._exactly(size).startswith(b"\x05READY"):
            raise SystemExit(f"bench: {endpoint} did not answer READY")
        self.rest = b""

    def _exactly(self, count: int) -> bytes:
        got = b""
        while len(got) < count:
            piece = self.socket.recv(count - len(got))
            if not piece:
                raise SystemExit("bench: the broker ended a connection")
            got += piece
        return got

    def send(self, data: bytes) -> None:
        """All of it; what is in flight is bounded, so the kernel has room."""
        sent = self.socket.send(data)
        if sent != len(data):
            self.socket.sendall(data[sent:])

    def read(self, flags: int = 0) -> bytes:
        """What is there, behind what was left over."""
        try:
            data = self.socket.recv(READ_BYTES, flags)
        except BlockingIOError:
            return b""
        if not data:
            raise SystemExit("bench: the broker ended a connection")
        if self.rest:
            data, self.rest = self.rest + data, b""
        return data

    def messages(self, data: bytes) -> list[bytes]:
        """The whole messages in ``data``, as they came; a PING is answered, the rest is kept."""
        found, start, at = [], 0, 0
        while at + 2 <= len(data):
            flags, size, head = data[at], data[at + 1], 2
            if flags & LONG:
                if at + 9 > len(data):
                    break
                size, head = struct.unpack_from("!Q", data, at + 1)[0], 9
            end = at + head + size
            if end > len(data):
                break
            if flags & COMMAND:
                if data.startswith(b"\x04PING", at + head):
                    self.send(frame(b"\x04PONG" + data[at + head + 7 : end], COMMAND))
                start = end
            elif not flags & MORE:
                found.append(data[start:end])
                start = end
            at = end
        self.rest = data[start:]
        return found


class Client(Peer):
    """Sends requests for one service and takes each answer once."""

    def __init__(self, endpoint: str, service: bytes) -> None:
        super().__init__(endpoint)
        lead = message(b"", b"MDPC01", service, b"")[:-2]
        self._answer_lead = lead + struct.pack("!BB", MORE, TAG_BYTES)
        self._lead = self._answer_lead
        self._size = len(self._lead) + TAG_BYTES + len(TAIL)
        self._tag_at = len(self._lead)
        self._number = 0

    def ask(self, count: int) -> list[bytes]:
        """So many requests in one write; their tags."""
        lead, first = self._lead, self._number
        self._number += count
        tags = [b"%08d" % number for number in range(first, first + count)]
        self.send(b"".join([piece for tag in tags for piece in (lead, tag, TAIL)]))
        return tags

    def answers(self) -> list[bytes]:
        """The tags of the answers that are there; each answer is what its request was, byte for byte."""
        data = self.read()
        size, lead, tag_at = self._size, self._lead, self._tag_at
        tail_at = tag_at + TAG_BYTES
        tags: list[bytes] = []
        at, end = 0, len(data)
        while at + size <= end:
            if not data.startswith(lead, at) or not data.startswith(TAIL, at + tail_at):
                return tags + self._slowly(data[at:])
            tags.append(data[at + tag_at : at + tail_at])
            at += size
        self.rest = data[at:]
        return tags

    def _slowly(self, data: bytes) -> list[bytes]:
        """Something else came between: a command of ZMTP, or a mistake."""
        tags: list[bytes] = []
        for one in self.messages(data):
            tag = one[self._tag_at : self._tag_at + TAG_BYTES]
            if one != self._lead + tag + TAIL:
                raise SystemExit(f"bench: a wrong answer: {one[:80]!r}")
            tags.append(tag)
        return tags


class Worker(Peer):
    """Registered for one service; answers at once."""

    def __init__(self, endpoint: str, service: bytes) -> None:
        super().__init__(endpoint)
        self.send(message(*REGISTERED, service))

    def turn(self) -> None:
        """Answer what is there: mostly one request, a worker has no more at a time."""
        data = self.read(socket.MSG_DONTWAIT)
        if not data:
            return
        if data.startswith(WORK) and data.endswith(TAIL) and data.count(WORK) == 1:
            self.send(data[:COMMAND_AT] + ANSWERED + data[COMMAND_AT + 1 :])
            return
        for one in self.messages(data):
            if one.startswith(WORK):
                self.send(one[:COMMAND_AT] + ANSWERED + one[COMMAND_AT + 1 :])


class Load:
    """A client and its workers at one broker."""

    def __init__(self, endpoint: str, service: bytes) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 16_384)), hard))
        self.endpoint = endpoint
        self.service = service
        self.client = Client(endpoint, service)
        self.workers: dict[int, Worker] = {}
        self.idle: list[Worker] = []
        self.epoll = select.epoll()
        self.client_fd = self.client.socket.fileno()
        self.epoll.register(self.client_fd, select.EPOLLIN)
        self.beaten = 0.0

    def close(self) -> None:
        """Everything is closed."""
        for worker in [*self.workers.values(), *self.idle]:
            worker.send(GOODBYE)
            worker.socket.close()
        self.client.socket.close()
        self.epoll.close()

    def work(self, count: int) -> None:
        """So many workers that answer at once."""
        for _ in range(count):
            worker = Worker(self.endpoint, self.service)
            self.workers[worker.socket.fileno()] = worker
            self.epoll.register(worker.socket.fileno(), select.EPOLLIN)

    def stand_by(self, services: Sequence[bytes]) -> None:
        """One worker for each of these services, who only beats."""
        self.idle += [Worker(self.endpoint, service) for service in services]

    def wait_for(self, services: Sequence[bytes]) -> None:
        """One request for each of these services, which nobody serves."""
        for service in services:
            self.client.send(message(b"", b"MDPC01", service, b"%08d" % 0, BODY))

    def turn(self, wait_s: float, on_answers: Tags) -> bool:
        """One poll: workers answer what they have, the client's tags are handed on, all beat when due.

        False if there was nothing to do.
        """
        ready = self.epoll.poll(wait_s)
        for fd, _ in ready:
            if fd == self.client_fd:
                on_answers(self.client.answers())
            else:
                self.workers[fd].turn()
        now = time.monotonic()
        if now - self.beaten > HEARTBEAT_S:
            self.beaten = now
            for worker in self.workers.values():
                worker.send(BEAT)
            for worker in self.idle:
                worker.turn()
                worker.send(BEAT)
        return bool(ready)

    def until_served(self) -> None:
        """Wait until a request is answered, and with it whatever was sent before."""
        answers: list[bytes] = []
        self.client.ask(1)
        deadline = time.monotonic() + PATIENCE_S
        while not answers:
            self.turn(0.1, answers.extend)
            if time.monotonic() > deadline:
                raise SystemExit(f"bench: no answer from the broker at {self.endpoint}")

    def closed_loop(self, in_flight: int, seconds: float) -> LoadResult:
        """Always so many requests under way; latency is that of the request, from its own sending."""
        took: list[float] = []
        clock = time.perf_counter
        started = clock()
        stop = started + seconds
        sent = dict.fromkeys(self.client.ask(in_flight), started)

        def on_answers(tags: list[bytes]) -> None:
            now = clock()
            took.extend([now - sent.pop(tag) for tag in tags])  # a tag twice, or never asked: KeyError
            if now < stop and tags:
                sent.update(dict.fromkeys(self.client.ask(len(tags)), now))

        while sent and clock() < stop + PATIENCE_S:
            self.turn(0.1, on_answers)
        return _result(took, clock() - started, len(sent))

    def open_loop(self, per_second: float, seconds: float) -> LoadResult:
        """Requests at fixed moments, whatever comes back; a latency counts from the moment it was due."""
        took: list[float] = []
        clock = time.perf_counter
        due: dict[bytes, float] = {}
        total, number = int(per_second * seconds), 0

        def on_answers(tags: list[bytes]) -> None:
            now = clock()
            took.extend([now - due.pop(tag) for tag in tags])

        started = clock()
        while (number < total or due) and clock() < started + seconds + PATIENCE_S:
            late = min(total, int((clock() - started) * per_second) + 1) - number
            if late > 0:
                for tag in self.client.ask(late):
                    due[tag] = started + number / per_second
                    number += 1
            if not self.turn(0, on_answers):
                time.sleep(PAUSE_S)  # not spinning: there are as many cores as brokers and loads
        return _result(took, clock() - started, len(due))


def _result(took: list[float], elapsed: float, errors: int) -> LoadResult:
    took.sort()
    if not took:
        raise SystemExit("bench: not one request was answered")
    return LoadResult(
        len(took) / elapsed, took[len(took) // 2] * 1e3, took[int(len(took) * 0.99)] * 1e3, errors
    )
