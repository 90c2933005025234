"""A ROUTER that a test speaks through by hand: frames from the RFCs, nothing of ``core``."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from types import TracebackType
from typing import Self

import zmq

DEADLINE_S = 10.0


class RawRouter:
    """Bound to a free loopback port; ``endpoint`` says which. Use inside a running loop."""

    def __init__(self, endpoint: str = "tcp://127.0.0.1:*") -> None:
        self.socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
        self.socket.set(zmq.LINGER, 0)
        self.socket.bind(endpoint)
        self.endpoint: str = str(self.socket.get_string(zmq.LAST_ENDPOINT))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close(0)

    async def receive(self) -> list[bytes]:
        """The next message, identity first; fails the test after ten seconds."""
        await until(lambda: bool(self.socket.poll(0)))
        return self.socket.recv_multipart()

    async def receive_but(self, *ignored: bytes) -> list[bytes]:
        """The next message of a worker whose command (frame 3) is none of these."""
        while True:
            frames = await self.receive()
            if frames[3] not in ignored:
                return frames

    def send(self, *frames: bytes) -> None:
        self.socket.send_multipart(frames)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition; fails the test after ten seconds."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.001)


def free_endpoint() -> str:
    """A loopback endpoint nobody listens at yet."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"tcp://127.0.0.1:{server.getsockname()[1]}"
