"""A minimal client of Majordomo (RFC 7) and Titanic (RFC 9), from the RFCs alone.

``python client.py ENDPOINT call SERVICE BODY`` prints the reply; ``... titanic SERVICE BODY`` stores a
request, asks for its reply until it is there, closes it, and prints the reply. It shares no code with this
project, on purpose: a REQ socket, as in the guide.
"""

from __future__ import annotations

import sys
import time

import zmq


def call(socket: zmq.Socket[bytes], service: bytes, *body: bytes) -> list[bytes]:
    """The body of the reply. A REQ socket adds the empty frame itself."""
    socket.send_multipart([b"MDPC01", service, *body])
    if not socket.poll(20_000):
        sys.exit(f"no reply from {service.decode()}")
    header, named, *reply = socket.recv_multipart()
    if (header, named) != (b"MDPC01", service):
        sys.exit(f"not a reply of {service.decode()}: {header!r} {named!r}")
    return reply


def titanic(socket: zmq.Socket[bytes], service: bytes, body: bytes) -> list[bytes]:
    """Store, fetch, close."""
    status, *rest = call(socket, b"titanic.request", service, body)
    if status[:3] != b"200":
        sys.exit(f"titanic.request: {status!r}")
    uuid = rest[0]
    for _ in range(400):
        status, *reply = call(socket, b"titanic.reply", uuid)
        if status[:3] == b"200":
            break
        if status[:3] != b"300":
            sys.exit(f"titanic.reply: {status!r}")
        time.sleep(0.05)
    else:
        sys.exit("no reply after 20 seconds")
    for uuid_again in (uuid, uuid):
        status, *_ = call(socket, b"titanic.close", uuid_again)
        if status[:3] != b"200":
            sys.exit(f"titanic.close: {status!r}")
    status, *_ = call(socket, b"titanic.reply", uuid)
    if status[:3] != b"400":
        sys.exit(f"titanic.reply after close: {status!r}")
    return reply


if __name__ == "__main__":
    with zmq.Context() as context, context.socket(zmq.REQ) as requester:
        requester.linger = 0
        requester.connect(sys.argv[1])
        name, text = sys.argv[3].encode(), sys.argv[4].encode()
        answer = (call if sys.argv[2] == "call" else titanic)(requester, name, text)
        sys.stdout.write(b" ".join(answer).decode() + "\n")
