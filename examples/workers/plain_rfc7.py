"""An echo worker from RFC 7 alone: pyzmq, no library of ours. Any Majordomo worker works with the node.

``python examples/workers/plain_rfc7.py [ENDPOINT]``. It stops at the first DISCONNECT or after 7.5 s of
silence; a worker for keeps would then open a new socket and say READY again, as the library does.
"""

from __future__ import annotations

import sys
import time

import zmq

READY, REQUEST, REPLY, HEARTBEAT, DISCONNECT = b"\x01", b"\x02", b"\x03", b"\x04", b"\x05"
HEARTBEAT_MS = 2_500
LIVENESS = 3


def main(endpoint: str, service: bytes) -> int:
    """Serve until the broker leaves."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 1_000
        socket.connect(endpoint)
        socket.send_multipart([b"", b"MDPW01", READY, service])
        heard = beaten = time.monotonic()
        while time.monotonic() - heard < LIVENESS * HEARTBEAT_MS / 1000:
            if socket.poll(HEARTBEAT_MS // 2):
                _, _, command, *rest = socket.recv_multipart()
                heard = time.monotonic()
                if command == DISCONNECT:
                    return 0
                if command == REQUEST:
                    client, _, *body = rest
                    socket.send_multipart([b"", b"MDPW01", REPLY, client, b"", *body])
            if time.monotonic() - beaten >= HEARTBEAT_MS / 1000:
                beaten = time.monotonic()
                socket.send_multipart([b"", b"MDPW01", HEARTBEAT])
    return 1


if __name__ == "__main__":
    arguments = [*sys.argv[1:], "tcp://127.0.0.1:5555"]
    sys.exit(main(arguments[0], b"echo"))
