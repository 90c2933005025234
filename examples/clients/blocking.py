"""The same without an event loop; the client may be shared by threads.

``python examples/clients/blocking.py [ENDPOINT]``
"""

from __future__ import annotations

import sys

from core.shell.client import BlockingClient, JobFailedError, ReplyPendingError


def main(endpoint: str) -> int:
    """One job, all the way; 0 if it succeeded."""
    with BlockingClient([endpoint]) as client:
        job = client.submit("echo", "Hello, Lucy")
        try:
            print(client.wait(job, timeout_s=30))
        except ReplyPendingError:
            print(f"no reply yet; job {job} is kept, ask again later")
            return 8
        except JobFailedError as error:
            print(error)
            return 7
        client.close(job)
    return 0


if __name__ == "__main__":
    arguments = [*sys.argv[1:], "tcp://127.0.0.1:5555"]
    sys.exit(main(arguments[0]))
