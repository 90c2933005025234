"""Not a broker: a ROUTER that does nothing with what it reads but send the frames a broker would send.

``python -m bench.peers.forwarder ENDPOINT``. A request goes to the next worker without a look at anything
but the header, a reply back to the client in its address frame. One service, no heartbeats, no queue, no
checks, no loop of callbacks: what pyzmq and libzmq cost at least, read and written the cheapest way there
is in Python. The ceiling for any broker over pyzmq.
"""

from __future__ import annotations

import sys
from collections import deque
from typing import Any

import zmq

NOBLOCK = int(zmq.NOBLOCK)
MORE = int(zmq.SNDMORE)


def main(endpoint: str) -> None:
    """For ever."""
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
    socket.setsockopt(zmq.LINGER, 0)
    socket.set_hwm(0)
    socket.bind(endpoint)
    receive: Any = super(zmq.Socket, socket).recv
    send: Any = super(zmq.Socket, socket).send
    idle: deque[bytes] = deque()
    waiting: deque[list[bytes]] = deque()
    while True:
        frame = receive(0, False)
        frames = [frame.bytes]
        while frame.more:
            frame = receive(0, False)
            frames.append(frame.bytes)
        if frames[2] == b"MDPC01":
            waiting.append(frames)
        elif frames[3] == b"\x05":
            idle.remove(frames[0])
        elif frames[3] in (b"\x01", b"\x03"):
            idle.append(frames[0])
            if frames[3] == b"\x03":
                send(frames[4], MORE)
                for part in (b"", b"MDPC01", b"echo", *frames[6:-1]):
                    send(part, MORE)
                send(frames[-1], 0)
        if idle and waiting:
            frames = waiting.popleft()
            send(idle.popleft(), MORE)
            for part in (b"", b"MDPW01", b"\x02", frames[0], b"", *frames[4:-1]):
                send(part, MORE)
            send(frames[-1], 0)


if __name__ == "__main__":
    main(sys.argv[1])
