"""A minimal Majordomo worker from RFC 7 alone: ``python worker.py ENDPOINT SERVICE``, replies in capitals.

It shares no code with this project, on purpose. It beats every second, and opens a new socket when the
broker says DISCONNECT or is silent for three.
"""

from __future__ import annotations

import sys
import time

import zmq


def session(context: zmq.Context[zmq.Socket[bytes]], endpoint: str, service: bytes) -> None:
    """From READY until the broker is gone."""
    with context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.connect(endpoint)
        socket.send_multipart([b"", b"MDPW01", b"\x01", service])
        heard = beaten = time.monotonic()
        while time.monotonic() - heard < 3:
            if socket.poll(200):
                empty, header, command, *rest = socket.recv_multipart()
                assert (empty, header) == (b"", b"MDPW01")
                heard = time.monotonic()
                if command == b"\x02":
                    client, empty, *body = rest
                    assert not empty
                    reply = [frame.upper() for frame in body]
                    socket.send_multipart([b"", b"MDPW01", b"\x03", client, b"", *reply])
                elif command == b"\x05":
                    return
            if time.monotonic() - beaten >= 1:
                beaten = time.monotonic()
                socket.send_multipart([b"", b"MDPW01", b"\x04"])


if __name__ == "__main__":
    with zmq.Context() as shared:
        while True:
            session(shared, sys.argv[1], sys.argv[2].encode())
