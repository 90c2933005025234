"""The error tree of ``core``: the class says whose fault it is and what to do."""

from __future__ import annotations


class CoreError(Exception):
    """Something in the messaging core went wrong; the subclass says what to do."""


class PeerError(CoreError):
    """The peer broke its protocol; drop the message, count it, and treat the peer as invalid."""

    def __init__(self, what: str, identity: bytes = b"") -> None:
        super().__init__(what)
        self.identity = identity


class JournalFullError(CoreError):
    """No room for a job and its ending; retry after ``retry_ms``, once jobs are closed."""

    def __init__(self, need_bytes: int, free_bytes: int, retry_ms: int = 0) -> None:
        text = f"need {need_bytes} bytes, {free_bytes} free"
        super().__init__(f"{text}; try again in {retry_ms} ms" if retry_ms else text)
        self.need_bytes, self.free_bytes, self.retry_ms = need_bytes, free_bytes, retry_ms


class JournalBusyError(JournalFullError):
    """The disk is behind, and nothing more is queued; retry after ``retry_ms``."""


class JournalFailedError(CoreError):
    """The journal stopped after a failed write or sync; nothing more is acknowledged, end the process."""


class DamagedRecordError(CoreError):
    """A stored record failed its checksum; it is mended from the peer, or reported, and never returned."""

    def __init__(self, where: str, at: int = 0) -> None:
        super().__init__(f"damaged record: {where}")
        self.where, self.at = where, at


class ServerUnreachableError(CoreError):
    """No node answered in time; check that one is running at the given endpoint."""
