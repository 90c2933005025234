"""The error tree of ``titanic_store``: the class says what is wrong, ``exit_code`` how a command ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final
from uuid import UUID

TOUCHED_MAX_COUNT: Final = 8
"""So many job ids are named in a message."""


class StoreError(Exception):
    """The store cannot do what was asked; the subclass says why."""

    exit_code: ClassVar[int] = 1


class StoreInUseError(StoreError):
    """Another process has the file open; stop it first, or use its data folder from there."""

    exit_code = 4

    def __init__(self, path: str) -> None:
        super().__init__(f"{path} is in use by another process")
        self.path = path


class StoreMissingError(StoreError):
    """There is no such file; check the path."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path} does not exist")
        self.path = path


class StoreUnwritableError(StoreError):
    """The data folder or file cannot be created, read or written; check its owner, mode and free space."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path} cannot be used: {reason}")
        self.path, self.reason = path, reason


class NotAStoreError(StoreError):
    """The file does not begin like a store; nothing in it was touched."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path} is not a titanic store")
        self.path = path


class UnknownVersionError(StoreError):
    """A later version of this program wrote the file; use that version (R15)."""

    exit_code = 5


class DamagedStoreError(StoreError):
    """Acknowledged bytes are missing or wrong; they are reported and never returned (R2, R18)."""

    exit_code = 3

    def __init__(
        self, offset: int, reason: str, keys: Sequence[bytes] | None = None, last_seq: int | None = None
    ) -> None:
        text = f"damage at offset {offset}: {reason}"
        if keys is not None:
            named = ", ".join(str(UUID(bytes=key)) for key in keys[:TOUCHED_MAX_COUNT])
            more = f" and {len(keys) - TOUCHED_MAX_COUNT} more" if len(keys) > TOUCHED_MAX_COUNT else ""
            text += (
                f"; jobs touched, as far as known: {named or 'none'}{more}; run 'titanic store check' on the"
                " file, then restore a backup, or start once with --accept-loss: what can be read is kept,"
                " and a report names the rest"
            )
        super().__init__(text)
        self.offset, self.reason, self.keys = offset, reason, tuple(keys or ())
        self.last_seq = last_seq  # of the log before the hole, if it is one


class RingFullError(StoreError):
    """No room for a job and its ending; retry after ``retry_ms``, once jobs are closed (R8)."""

    def __init__(self, need_bytes: int, free_bytes: int, retry_ms: int = 5_000) -> None:
        super().__init__(f"need {need_bytes} bytes, {free_bytes} free")
        self.need_bytes, self.free_bytes, self.retry_ms = need_bytes, free_bytes, retry_ms


class RingBusyError(RingFullError):
    """The disk is behind: too much is queued, or space is just being won back; retry after ``retry_ms``."""


class RecordTooLargeError(StoreError):
    """A record must fit into one chunk; send less, or create the store with larger chunks."""

    def __init__(self, size_bytes: int, max_bytes: int) -> None:
        super().__init__(f"a record of {size_bytes} bytes; the limit is {max_bytes}")
        self.size_bytes, self.max_bytes = size_bytes, max_bytes


class RecordsGoneError(StoreError):
    """The ring has moved on: records asked for are no longer in it; make a full copy (P6)."""

    def __init__(self, sequence: int, first_seq: int) -> None:
        super().__init__(f"record {sequence} is gone; the oldest there is is {first_seq}")
        self.sequence, self.first_seq = sequence, first_seq


class ForeignRecordError(StoreError):
    """A record of the peer does not continue this log; find the last common record (P2, P6)."""


class CutRefusedError(StoreError):
    """What lies below the cut was given up because of what lies above it; make a full copy (P6)."""

    def __init__(self, sequence: int, floor_seq: int) -> None:
        super().__init__(
            f"cannot cut after {sequence}: space was used again because of records up to {floor_seq}"
        )
        self.sequence, self.floor_seq = sequence, floor_seq


class NetworkFileSystemError(StoreError):
    """Locks and syncs of network file systems cannot be relied on; use a local disk, or insist (R14)."""

    def __init__(self, path: str, kind: str) -> None:
        super().__init__(f"{path} is on a network file system ({kind})")
        self.path, self.kind = path, kind


class StoreFailedError(StoreError):
    """A write or a sync failed; nothing more is acknowledged, end the process (R11)."""
