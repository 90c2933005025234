"""A Binary Star client (the guide's bstarcli): counts on through every failover.

``python examples/bstar/client.py [ENDPOINT ENDPOINT]``. It asks one server at a time; when that one is silent
it waits for a failover to finish and asks the other. It never asks both: a request is a vote.
"""

from __future__ import annotations

import sys
import time

import zmq

TIMEOUT_MS = 1_000
SETTLE_S = 2.0


def main(endpoints: list[str], timeout_ms: int = TIMEOUT_MS, settle_s: float = SETTLE_S) -> None:
    """Send 1, 2, 3 ... and print each once it came back, with the server that answered."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    server = number = 0
    while True:
        socket = context.socket(zmq.REQ)
        socket.set(zmq.LINGER, 0)
        socket.connect(endpoints[server])
        while True:
            socket.send(b"%d" % (number + 1))
            if not socket.poll(timeout_ms):
                break
            if socket.recv() == b"%d" % (number + 1):
                number += 1
                print(number, server, flush=True)
            time.sleep(timeout_ms / 20_000)
        socket.close()
        server = 1 - server
        print(f"no answer; trying {endpoints[server]}", file=sys.stderr, flush=True)
        time.sleep(settle_s)


if __name__ == "__main__":
    given = sys.argv[1:]
    servers = given[:2] or ["tcp://127.0.0.1:5001", "tcp://127.0.0.1:5002"]
    waits = [int(text) for text in given[2:4]] or [TIMEOUT_MS, int(SETTLE_S * 1_000)]
    try:
        main(servers, waits[0], waits[1] / 1_000)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
