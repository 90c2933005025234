"""What a client is told when a request was not carried out; re-exported by :mod:`core.shell.client`."""

from __future__ import annotations

from core.errors import CoreError
from core.pure.tsp import JobStatus


class RequestRefusedError(CoreError):
    """The Titanic service does not take this request; change it before trying again."""


class KeyMismatchError(RequestRefusedError):
    """The idempotency key belongs to another request; use another key."""


class JobUnknownError(CoreError):
    """The id was never issued, is malformed, or its job is closed; there is nothing to fetch."""


class JobFailedError(CoreError):
    """The job failed for good, or its reply cannot be read; look at its status, then close it."""


class JobStateError(CoreError):
    """The job's state does not allow this; ``status`` says how it stands."""

    def __init__(self, what: str, status: JobStatus) -> None:
        super().__init__(f"job {status.key.hex()} cannot be {what}: it is {status.state}")
        self.status = status


class ReplyPendingError(CoreError):
    """The job has no reply yet; ask again later, it is not lost."""


class TitanicFailedError(CoreError):
    """The Titanic service could not do it (status 500, 503, 507); nothing is promised, try again."""
