"""A Binary Star echo server (the guide's bstarsrv2): ``python examples/bstar/server.py -p`` or ``-b``.

Start one of each, in any order, and ``client.py``; then kill and restart them.
"""

from __future__ import annotations

import argparse
import asyncio
import logging

from core.shell.bstar import BinaryStar


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser()
    role = parser.add_mutually_exclusive_group(required=True)
    role.add_argument("-p", "--primary", action="store_true")
    role.add_argument("-b", "--backup", action="store_true")
    parser.add_argument("--clients", default="", help="where clients ask")
    parser.add_argument("--local", default="", help="where this server publishes its state")
    parser.add_argument("--remote", default="", help="where its peer does")
    parser.add_argument("--heartbeat-ms", type=int, default=1_000)
    given = parser.parse_args()
    clients, local, remote = (5001, 5003, 5004) if given.primary else (5002, 5004, 5003)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        asyncio.run(
            serve(
                given.primary,
                given.clients or f"tcp://127.0.0.1:{clients}",
                given.local or f"tcp://127.0.0.1:{local}",
                given.remote or f"tcp://127.0.0.1:{remote}",
                given.heartbeat_ms,
            )
        )
    except KeyboardInterrupt:
        print("stopped")


async def serve(primary: bool, clients: str, local: str, remote: str, heartbeat_ms: int) -> None:
    """Echo whatever clients send, while active."""
    star = BinaryStar(primary=primary, local=local, remote=remote, heartbeat_ms=heartbeat_ms)
    star.new_active = lambda: print("active", flush=True)
    star.new_passive = lambda: print("passive", flush=True)
    star.voter(clients, lambda frames: frames)
    print("ready", flush=True)
    await star.run()


if __name__ == "__main__":
    main()
