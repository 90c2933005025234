"""The client library: Majordomo calls and the Titanic protocol (RFC 9/TSP) at any MDP/0.1 broker.

:class:`Client` is for asyncio; :class:`BlockingClient` runs one in a thread of its own, so there is one
implementation beneath. What they do beyond RFC 9 needs one of our nodes.
"""

from core.shell.async_client import CALL_TIMEOUT_S, Client
from core.shell.blocking import BlockingClient
from core.shell.client_errors import (
    JobFailedError,
    JobStateError,
    JobUnknownError,
    KeyMismatchError,
    ReplyPendingError,
    RequestRefusedError,
    TitanicFailedError,
)
from core.shell.extended import JobOptions

__all__ = [
    "CALL_TIMEOUT_S",
    "BlockingClient",
    "Client",
    "JobFailedError",
    "JobOptions",
    "JobStateError",
    "JobUnknownError",
    "KeyMismatchError",
    "ReplyPendingError",
    "RequestRefusedError",
    "TitanicFailedError",
]
