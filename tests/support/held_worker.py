"""A worker in the guide's style, as a process: it works until it is told what to answer, and beats only idle.

``python held_worker.py ENDPOINT SERVICE``. Prints ``ready``, then ``work BODY`` for each REQUEST; the next
line of stdin is the reply. Nothing of this project is in it.
"""

from __future__ import annotations

import sys
import time

import zmq


def main(endpoint: str, service: bytes) -> None:
    """Serve until stdin ends."""
    context = zmq.Context()
    while True:
        socket = context.socket(zmq.DEALER)
        socket.linger = 1_000
        socket.connect(endpoint)
        socket.send_multipart([b"", b"MDPW01", b"\x01", service])
        say("ready")
        serve(socket)
        socket.close()
        say("disconnected")


def serve(socket: zmq.Socket[bytes]) -> None:
    """Answer requests until the broker says DISCONNECT."""
    beaten = time.monotonic()
    while True:
        if socket.poll(100):
            _, _, command, *rest = socket.recv_multipart()
            if command == b"\x05":
                return
            if command == b"\x02":
                address, _, *body = rest
                say("work " + b" ".join(body).decode())
                line = sys.stdin.readline()
                if not line:
                    sys.exit(0)
                socket.send_multipart([b"", b"MDPW01", b"\x03", address, b"", line.strip().encode()])
        if time.monotonic() - beaten > 1:
            beaten = time.monotonic()
            socket.send_multipart([b"", b"MDPW01", b"\x04"])


def say(line: str) -> None:
    """One line of stdout."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2].encode())
