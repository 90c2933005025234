"""The file of API keys on disk: read whole, written whole under another name and renamed, mode 0600."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from gateway.errors import KeyFileError
from gateway.pure.keys import ID_CHARS, KeyRecord, decode_file, encode_file, hash_secret
from gateway.pure.webhooks import SECRET_BYTES as CALLBACK_SECRET_BYTES
from gateway.pure.webhooks import encode_secret

FILE_MAX_BYTES: Final = 16 * 1024 * 1024
SECRET_BYTES: Final = 32

Stamp = tuple[int, int, int]
"""What changes when the file does: modification time in ns, size, inode."""


def stamp(path: Path) -> Stamp | None:
    """The stamp of the file, None if there is none. Raises KeyFileError if it cannot be looked at."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from error
    return found.st_mtime_ns, found.st_size, found.st_ino


def read(path: Path) -> list[KeyRecord]:
    """All keys of the file. Raises KeyFileError, with the path."""
    try:
        with path.open("rb") as file:
            raw = file.read(FILE_MAX_BYTES + 1)
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from error
    if len(raw) > FILE_MAX_BYTES:
        raise KeyFileError(f"{path} is larger than {FILE_MAX_BYTES} bytes")
    try:
        return decode_file(raw)
    except KeyFileError as error:
        raise KeyFileError(f"{path}: {error}") from error


def new_secret() -> str:
    """256 random bits as text."""
    return secrets.token_urlsafe(SECRET_BYTES)


def new_callback_secret() -> str:
    """What shall sign the callbacks of a key's jobs."""
    return encode_secret(secrets.token_bytes(CALLBACK_SECRET_BYTES))


def new_id() -> str:
    """The public half of a key."""
    return secrets.token_hex(ID_CHARS // 2)


def token(record: KeyRecord, secret: str) -> str:
    """What a client sends behind ``Bearer``."""
    assert hash_secret(secret.encode()) == record.sha256, "the secret is this record's"
    return f"{record.id}.{secret}"


def update(path: Path, change: Callable[[list[KeyRecord]], list[KeyRecord]]) -> None:
    """Replace the file by what ``change`` makes of its keys (none if there is no file), durably and at once.

    Concurrent updates wait for each other. What ``change`` makes is checked like a file that is read.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path.with_name(path.name + ".lock")):
        changed = encode_file(change(read(path) if path.exists() else []))
        decode_file(changed)
        fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(changed)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
