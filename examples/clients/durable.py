"""A durable job over ZeroMQ with the asyncio client: submit, wait, close (RFC 9).

``python examples/clients/durable.py [ENDPOINT]``; the worker for ``echo`` may come at any time later.
"""

from __future__ import annotations

import asyncio
import sys

from core.shell.client import Client


async def main(endpoint: str) -> None:
    """One job, all the way."""
    async with Client([endpoint]) as client:
        job = await client.submit("echo", "Hello, Lucy")  # stored when this returns
        print("job", job)
        print("reply", await client.wait(job, timeout_s=600))
        await client.close(job)


if __name__ == "__main__":
    arguments = [*sys.argv[1:], "tcp://127.0.0.1:5555"]
    asyncio.run(main(arguments[0]))
