"""The error tree of ``titanic_store``: the class says what is wrong, ``exit_code`` how a command ends."""

from __future__ import annotations

from typing import ClassVar


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

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(f"damage at offset {offset}: {reason}")
        self.offset, self.reason = offset, reason


class RingFullError(StoreError):
    """No room for a job and its ending; retry once jobs are closed (R8)."""

    def __init__(self, need_bytes: int, free_bytes: int) -> None:
        super().__init__(f"need {need_bytes} bytes, {free_bytes} free")
        self.need_bytes, self.free_bytes = need_bytes, free_bytes


class RecordTooLargeError(StoreError):
    """A record must fit into one chunk; send less, or create the store with larger chunks."""

    def __init__(self, size_bytes: int, max_bytes: int) -> None:
        super().__init__(f"a record of {size_bytes} bytes; the limit is {max_bytes}")
        self.size_bytes, self.max_bytes = size_bytes, max_bytes


class StoreFailedError(StoreError):
    """A write or a sync failed; nothing more is acknowledged, end the process (R11)."""
