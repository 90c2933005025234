"""A minimal Majordomo broker, written from RFC 7 and RFC 8 alone: what somebody else would run.

``python broker.py [ENDPOINT]`` prints the endpoint it is bound to. It shares no code with this project, on
purpose; it takes every liberty the RFC leaves (no fairness, no expiry of requests).
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict, deque

import zmq

HEARTBEAT_S = 1.0
EXPIRY_S = 3.0


class Worker:
    """Somebody who said READY."""

    def __init__(self, service: bytes) -> None:
        self.service = service
        self.seen = time.monotonic()


class Broker:
    """One ROUTER for clients and workers."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self.socket = socket
        self.workers: dict[bytes, Worker] = {}
        self.idle: defaultdict[bytes, deque[bytes]] = defaultdict(deque)
        self.requests: defaultdict[bytes, deque[tuple[bytes, list[bytes]]]] = defaultdict(deque)

    def serve(self) -> None:
        """Until the process is ended."""
        beaten = time.monotonic()
        while True:
            if self.socket.poll(100):
                identity, *frames = self.socket.recv_multipart()
                self.handle(identity, frames)
            now = time.monotonic()
            if now - beaten >= HEARTBEAT_S:
                beaten = now
                for worker in self.workers:
                    self.socket.send_multipart([worker, b"", b"MDPW01", b"\x04"])
            for name in [name for name, worker in self.workers.items() if now - worker.seen > EXPIRY_S]:
                self.remove(name)

    def handle(self, identity: bytes, frames: list[bytes]) -> None:
        """One message of a peer."""
        at = frames.index(b"") if b"" in frames else len(frames)
        envelope, rest = frames[:at], frames[at + 1 :]
        if rest[:1] == [b"MDPC01"] and len(rest) >= 3:
            self.request([identity, *envelope], rest[1], rest[2:])
        elif rest[:1] == [b"MDPW01"] and not envelope and len(rest) >= 2:
            self.command(identity, rest[1], rest[2:])

    def request(self, path: list[bytes], service: bytes, body: list[bytes]) -> None:
        """A client asks. What the REQUEST calls the client's address is one frame: the path, joined."""
        if service == b"mmi.service":
            known = any(worker.service == body[-1] for worker in self.workers.values())
            self.reply(path, service, [b"200" if known else b"404"])
        elif service.startswith(b"mmi."):
            self.reply(path, service, [b"501"])
        else:
            self.requests[service].append((b"|".join(part.hex().encode() for part in path), body))
            self.dispatch(service)

    def reply(self, path: list[bytes], service: bytes, body: list[bytes]) -> None:
        self.socket.send_multipart([*path, b"", b"MDPC01", service, *body])

    def command(self, identity: bytes, command: bytes, rest: list[bytes]) -> None:
        """A worker speaks."""
        worker = self.workers.get(identity)
        if command == b"\x01" and worker is None and len(rest) == 1:
            self.workers[identity] = Worker(rest[0])
            self.idle[rest[0]].append(identity)
            self.dispatch(rest[0])
        elif worker is None or command == b"\x01":
            self.remove(identity)
            self.socket.send_multipart([identity, b"", b"MDPW01", b"\x05"])
        elif command == b"\x03":
            worker.seen = time.monotonic()
            path = [bytes.fromhex(part.decode()) for part in rest[0].split(b"|")]
            self.reply(path, worker.service, rest[2:])
            self.idle[worker.service].append(identity)
            self.dispatch(worker.service)
        elif command == b"\x04":
            worker.seen = time.monotonic()
        elif command == b"\x05":
            self.remove(identity)

    def dispatch(self, service: bytes) -> None:
        """Requests to idle workers, while there are both."""
        while self.requests[service] and self.idle[service]:
            identity = self.idle[service].popleft()
            address, body = self.requests[service].popleft()
            self.socket.send_multipart([identity, b"", b"MDPW01", b"\x02", address, b"", *body])

    def remove(self, identity: bytes) -> None:
        worker = self.workers.pop(identity, None)
        if worker is not None and identity in self.idle[worker.service]:
            self.idle[worker.service].remove(identity)


def main(endpoint: str) -> None:
    """Bind and serve."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.linger = 0
        socket.bind(endpoint)
        sys.stdout.write(f"{socket.getsockopt_string(zmq.LAST_ENDPOINT)}\n")
        sys.stdout.flush()
        Broker(socket).serve()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:*")
