"""Peers that do not play by the rules: ZMTP 3.1 by hand on a TCP socket, and a node to try them on."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path
from typing import Final, Self

import zmq

from tests.support.processes import Titanic, until

GREETING: Final = b"\xff" + bytes(8) + b"\x7f\x03\x01NULL" + bytes(16) + bytes(32)
MORE: Final = 0x01
LONG: Final = 0x02
COMMAND: Final = 0x04
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
ANSWER_MS: Final = 10_000


def rss_bytes(pid: int) -> int:
    """Memory the process has now (proc(5), statm)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES


def peak_bytes(pid: int) -> int:
    """The most memory the process ever had (VmHWM)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")


def port_of(endpoint: str) -> int:
    return int(endpoint.rpartition(":")[2])


def frame(body: bytes, flags: int = 0) -> bytes:
    """One ZMTP frame (RFC 23)."""
    if len(body) < 256:
        return bytes((flags, len(body))) + body
    return bytes((flags | LONG,)) + struct.pack(">Q", len(body)) + body


def ready(name: bytes = b"", kind: bytes = b"DEALER") -> bytes:
    """The READY command of the NULL mechanism."""
    body = b"\x05READY"
    for key, value in ((b"Socket-Type", kind), (b"Identity", name)):
        body += bytes((len(key),)) + key + struct.pack(">I", len(value)) + value
    return frame(body, COMMAND)


class RawPeer:
    """A TCP connection to a node; :meth:`shake` makes it a ZMTP peer."""

    def __init__(self, endpoint: str, timeout_s: float = 10.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port_of(endpoint)), timeout=timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def shake(self, name: bytes = b"") -> None:
        """Be a DEALER with this name; what the other side says to that is read, to its READY or its end."""
        self.socket.sendall(GREETING + ready(name))
        said = b""
        while b"ROUTER\x08Identity\0\0\0\0" not in said and (data := self.socket.recv(4096)):
            said += data

    def send(self, *frames: bytes) -> None:
        """One message."""
        parts = [frame(part, MORE) for part in frames[:-1]]
        self.socket.sendall(b"".join([*parts, frame(frames[-1])]))

    def is_closed(self) -> bool:
        """Whether the other side has ended the connection; what it said meanwhile is thrown away."""
        self.socket.setblocking(False)
        try:
            while data := self.socket.recv(1 << 16):
                del data
        except BlockingIOError:
            return False
        except OSError:
            return True
        finally:
            self.socket.setblocking(True)
        return True


class Honest:
    """An MDP/0.1 peer that behaves, straight from RFC 7."""

    def __init__(
        self, endpoint: str, name: bytes = b"", keys: tuple[bytes, bytes, bytes] | None = None
    ) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.set(zmq.LINGER, 0)
        if name:
            self.socket.set(zmq.ROUTING_ID, name)
        if keys is not None:
            self.socket.curve_serverkey, self.socket.curve_publickey, self.socket.curve_secretkey = keys
        self.socket.connect(endpoint)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave(0)

    def leave(self, linger_ms: int = 2_000) -> None:
        """Gone, and what was sent is on its way, when this returns."""
        self.socket.close(linger_ms)
        self._context.term()

    def send(self, *frames: bytes) -> None:
        self.socket.send_multipart(frames)

    def ask(self, service: bytes, *body: bytes, timeout_ms: int = ANSWER_MS) -> list[bytes]:
        """The body of the answer. AssertionError if there is none."""
        self.send(b"", b"MDPC01", service, *body)
        return self.answer(service, timeout_ms=timeout_ms)

    def answer(self, service: bytes, *, timeout_ms: int = ANSWER_MS) -> list[bytes]:
        frames = self.receive(timeout_ms)
        assert frames[:3] == [b"", b"MDPC01", service], frames
        return frames[3:]

    def receive(self, timeout_ms: int = ANSWER_MS) -> list[bytes]:
        assert self.socket.poll(timeout_ms), f"nothing came within {timeout_ms} ms"
        return self.socket.recv_multipart()


def check_served(endpoint: str) -> None:
    """A newcomer is answered."""
    with Honest(endpoint) as client:
        assert client.ask(b"mmi.service", b"mmi.service") == [b"200"]


def counters(endpoint: str, keys: tuple[bytes, bytes, bytes] | None = None) -> dict[str, int]:
    """The node's own counters, from ``titanic.stats``."""
    from core.pure import tsp

    with Honest(endpoint, keys=keys) as client:
        status, head = client.ask(b"titanic.stats", b"")
    assert status == b"200"
    return tsp.decode_stats(head).counters


def until_count(node: Titanic, endpoint: str, name: str, least: int) -> None:
    """Wait until a counter has reached a number."""
    until(f"{name} >= {least}\n{node.errors}", lambda: counters(endpoint)[name] >= least, pause_s=0.1)
