"""The real file: one descriptor, locked, positional reads and writes, fdatasync."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from titanic_store.errors import (
    NetworkFileSystemError,
    StoreInUseError,
    StoreMissingError,
    StoreUnwritableError,
)

NETWORK_KINDS: Final = frozenset(
    (
        *(
            "9p",
            "afs",
            "ceph",
            "cifs",
            "coda",
            "davfs",
            "gfs2",
            "glusterfs",
            "lustre",
            "ncpfs",
            "nfs",
            "nfs4",
        ),
        *("ocfs2", "smb3", "smbfs", "vboxsf", "virtiofs"),
        *("fuse.cephfs", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs"),
    )
)
"""Where a lock may not exclude, or a sync may not reach a disk."""

_JOIN_MAX_BYTES = 1 << 20
_IOV_MAX = 1024
_ZEROS = memoryview(bytes(_JOIN_MAX_BYTES))


class FileStorage:
    """A :class:`~titanic_store.pure.seams.Storage` on a file system. Made by :func:`open_file`."""

    def __init__(self, fd: int, path: Path) -> None:
        self._fd = fd
        self._zeros_fd = -1
        self.path = path

    def size(self) -> int:
        """Length of the file in bytes."""
        return os.fstat(self._fd).st_size

    def read_at(self, offset: int, size: int) -> bytes:
        """``size`` bytes from ``offset``; fewer only at the end of the file."""
        data = os.pread(self._fd, size, offset)
        if len(data) == size or not data:
            return data
        rest = [data]
        missing = size - len(data)
        while missing and (data := os.pread(self._fd, missing, offset + size - missing)):
            rest.append(data)
            missing -= len(data)
        return b"".join(rest)

    def write_at(self, offset: int, parts: Sequence[bytes | bytearray | memoryview]) -> None:
        """Write all parts; a short write is completed (R13). Small parts are joined, large ones are not."""
        total = sum(map(len, parts))
        if total <= _JOIN_MAX_BYTES:
            self._write(offset, b"".join(parts) if len(parts) != 1 else parts[0])
            return
        for first in range(0, len(parts), _IOV_MAX):
            group = parts[first : first + _IOV_MAX]
            size = sum(map(len, group))
            written = os.pwritev(self._fd, group, offset)
            if written != size:
                self._write(offset + written, memoryview(b"".join(group))[written:])
            offset += size

    def _write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        written = os.pwrite(self._fd, data, offset)
        while written != len(data):
            if not written:
                raise OSError(errno.EIO, "the file takes no more bytes")
            data = memoryview(data)[written:]
            offset += written
            written = os.pwrite(self._fd, data, offset)

    def sync(self) -> None:
        """All writes that returned before this call are durable afterwards."""
        os.fdatasync(self._fd)

    def allocate(self, size: int) -> None:
        """The file has at least ``size`` bytes, with room on the disk for each."""
        known = self.size()
        if size > known:
            os.posix_fallocate(self._fd, known, size - known)

    def fill_holes(self) -> None:
        """Every byte of the file has its room on the disk (R9). A restored or copied file may have holes.

        StoreUnwritableError if the disk has too little: better now than in the middle of a commit.
        """
        found = os.fstat(self._fd)
        if found.st_blocks * 512 >= found.st_size:
            return
        try:
            os.posix_fallocate(self._fd, 0, found.st_size)
        except OSError as error:
            reason = f"it has holes that cannot be filled ({error.strerror}); make room on the disk"
            raise StoreUnwritableError(str(self.path), reason) from error

    def write_zeros(self, offset: int, size: int) -> None:
        """These bytes are zeros, durably."""
        if self._zeros_fd < 0:
            # a second open file: it has its own memory of errors, and its syncs wait for its own range only
            self._zeros_fd = os.open(f"/proc/self/fd/{self._fd}", os.O_RDWR | os.O_CLOEXEC | os.O_DSYNC)
        written = 0
        while written < size:
            count = os.pwrite(self._zeros_fd, _ZEROS[: size - written], offset + written)
            if not count:
                raise OSError(errno.EIO, "the file takes no more bytes")
            written += count

    def truncate(self, size: int) -> None:
        """The file has exactly ``size`` bytes."""
        os.ftruncate(self._fd, size)

    def sync_dir(self) -> None:
        """The file's name and length are durable afterwards."""
        os.fsync(self._fd)
        directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def publish(self, path: Path) -> None:
        """The file is at ``path`` from now on, durably, in place of whatever was there."""
        self.path.replace(path)
        self.path = path
        self.sync_dir()

    def close(self) -> None:
        """Give up the file and its lock. May be called again."""
        fds = (self._fd, self._zeros_fd)
        self._fd = self._zeros_fd = -1
        for fd in fds:
            if fd >= 0:
                os.close(fd)


def open_file(path: Path, *, create: bool = False, read_only: bool = False) -> FileStorage:
    """Open and lock ``path``: exclusively, or shared with other readers (R14).

    ``create`` makes an empty file, or empties one that nobody has locked. Raises StoreMissingError,
    StoreInUseError, StoreUnwritableError.
    """
    flags = os.O_CLOEXEC | (os.O_RDONLY if read_only else os.O_RDWR) | (os.O_CREAT if create else 0)
    try:
        fd = os.open(path, flags, 0o600)
    except FileNotFoundError:
        raise StoreMissingError(str(path)) from None
    except OSError as error:
        raise StoreUnwritableError(str(path), error.strerror or str(error)) from error
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if read_only else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        here, there = os.fstat(fd), path.stat()
        if (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino):
            raise StoreInUseError(str(path))  # replaced between open and lock
        if create:
            os.ftruncate(fd, 0)
    except BlockingIOError:
        os.close(fd)
        raise StoreInUseError(str(path)) from None
    except FileNotFoundError:
        os.close(fd)
        raise StoreInUseError(str(path)) from None  # another opener renamed it between open and lock
    except BaseException:
        os.close(fd)
        raise
    return FileStorage(fd, path)


def refuse_network_fs(path: Path) -> None:
    """Raises NetworkFileSystemError if ``path`` is, or would be, on a network file system (R14).

    Looked up in ``/proc/self/mountinfo``: the mount with the longest path that is a parent. Where that file
    does not exist nothing is refused.
    """
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return
    kind = file_system_of(path.resolve(), mounts)
    if kind in NETWORK_KINDS:
        raise NetworkFileSystemError(str(path), kind)


def file_system_of(path: Path, mounts: str) -> str:
    """The type of the file system at the absolute ``path``, by the text of a mountinfo file (proc(5))."""
    found, found_parts = "", -1
    for line in mounts.splitlines():
        fields, _, rest = line.partition(" - ")
        point = Path(fields.split()[4].encode().decode("unicode_escape"))
        # a later mount on the same point hides the earlier one
        if path.is_relative_to(point) and len(point.parts) >= found_parts:
            found, found_parts = rest.split()[0], len(point.parts)
    return found
