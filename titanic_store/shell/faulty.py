"""A disk in memory that fails as disks do, from a seed: for tests of this package and of its users.

It keeps two things apart: ``durable``, what survives a power failure for certain, and the writes since
the last sync, in order, of which any part may survive. :meth:`FaultyDisk.crash` decides which.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from random import Random
from typing import Final

SECTORS: Final = (512, 4096)


class PowerCut(BaseException):
    """The machine stopped in the middle of this call."""


class Fate(Enum):
    """What became of a write that was not synced, or of one sector of it."""

    KEPT = "kept"
    DROPPED = "dropped"
    ZEROED = "zeroed"
    GARBAGE = "garbage"


@dataclass(frozen=True, slots=True)
class Fault:
    """From call ``number`` on (counted over all calls, from 0) the disk answers with ``code``.

    ``once``: that call only. ``short``: a write gets half of its bytes onto the disk first.
    """

    number: int
    code: int = errno.EIO
    once: bool = False
    short: bool = False

    def hits(self, number: int) -> bool:
        """Whether call ``number`` fails."""
        return number == self.number if self.once else number >= self.number


class FaultyDisk:
    """The medium under a :class:`FaultyStorage`; it outlives crashes. ``seed`` decides every fate."""

    def __init__(self, seed: int = 0, capacity_bytes: int = 1 << 40) -> None:
        self.seed: Final = seed
        self.random: Final = Random(seed)
        self.capacity_bytes = capacity_bytes
        self.durable = bytearray()
        self.cache = bytearray()
        self.unsynced: list[tuple[int, bytes]] = []
        self.fault: Fault | None = None
        self.cut_at: int | None = None  # power fails in this call
        self.misdirect_at: int | None = None  # this call writes to another place
        self.calls: list[str] = []
        self.locked = False

    def open(self) -> FaultyStorage:
        """The only file on the disk, as a process sees it."""
        assert not self.locked, "one opener"
        self.locked = True
        return FaultyStorage(self)

    def crash(self, sectors: Sequence[int] = SECTORS) -> None:
        """Power fails: every write since the last sync is kept, dropped or torn; then the disk is back.

        A torn write has its own fate for each sector it touches. Zeros and garbage fill the whole sector,
        also where bytes were that had been synced before: sectors are of one of the sizes given.
        """
        sector = self.random.choice(sectors)
        for offset, data in self.unsynced:
            fate = self.random.choice((*Fate, None))
            first = offset // sector * sector
            for begin in range(first, offset + len(data), sector):
                self._settle(offset, data, begin, sector, fate or self.random.choice(tuple(Fate)))
        self.unsynced.clear()
        self.cache = bytearray(self.durable)
        self.locked = False
        self.fault = self.cut_at = None

    def _settle(self, offset: int, data: bytes, begin: int, sector: int, fate: Fate) -> None:
        """Give one sector of one write its fate."""
        end = min(begin + sector, len(self.cache))
        if len(self.durable) < end:
            self.durable.extend(bytes(end - len(self.durable)))
        if fate is Fate.KEPT:
            low, high = max(begin, offset), min(end, offset + len(data))
            self.durable[low:high] = data[low - offset : high - offset]
        elif fate is Fate.ZEROED:
            self.durable[begin:end] = bytes(end - begin)
        elif fate is Fate.GARBAGE:
            self.durable[begin:end] = self.random.randbytes(end - begin)

    def flip(self, offset: int, mask: int = 1) -> None:
        """One byte rots, on the medium and in the cache."""
        for image in (self.durable, self.cache):
            image[offset] ^= mask

    def enter(self, name: str) -> int:
        """Count a call; fail it, or cut the power, if it is its turn. Returns its number."""
        number = len(self.calls)
        self.calls.append(name)
        if number == self.cut_at:
            raise PowerCut(f"power cut in call {number}, {name} (seed {self.seed})")
        if self.fault is not None and not self.fault.short and self.fault.hits(number):
            raise OSError(self.fault.code, f"injected into call {number}, {name} (seed {self.seed})")
        return number


class FaultyStorage:
    """A :class:`~titanic_store.pure.seams.Storage` on a :class:`FaultyDisk`."""

    def __init__(self, disk: FaultyDisk) -> None:
        self._disk = disk
        self._open = True

    def size(self) -> int:
        """Length of the file in bytes."""
        return len(self._disk.cache)

    def read_at(self, offset: int, size: int) -> bytes:
        """``size`` bytes from ``offset``; fewer only at the end of the file."""
        self._disk.enter("read_at")
        return bytes(self._disk.cache[offset : offset + size])

    def write_at(self, offset: int, parts: Sequence[bytes | bytearray | memoryview]) -> None:
        """Write the parts; a power cut in the call leaves them to chance like any unsynced write."""
        disk, data = self._disk, b"".join(parts)
        if len(disk.calls) == disk.cut_at:
            self._store(offset, data)
        number = disk.enter("write_at")
        if number == disk.misdirect_at:
            offset = disk.random.randrange(0, max(1, len(disk.cache) - len(data)), 8)
        if disk.fault is not None and disk.fault.short and disk.fault.hits(number):
            self._store(offset, data[: len(data) // 2])
            raise OSError(disk.fault.code, f"short write injected into call {number} (seed {disk.seed})")
        if offset + len(data) > max(disk.capacity_bytes, len(disk.cache)):
            raise OSError(errno.ENOSPC, "the disk is full")
        self._store(offset, data)

    def _store(self, offset: int, data: bytes) -> None:
        cache = self._disk.cache
        if len(cache) < offset + len(data):
            cache.extend(bytes(offset + len(data) - len(cache)))
        cache[offset : offset + len(data)] = data
        self._disk.unsynced.append((offset, data))

    def sync(self) -> None:
        """All writes so far are durable afterwards. A failed sync leaves them to chance."""
        disk = self._disk
        disk.enter("sync")
        for offset, data in disk.unsynced:
            if len(disk.durable) < offset + len(data):
                disk.durable.extend(bytes(offset + len(data) - len(disk.durable)))
            disk.durable[offset : offset + len(data)] = data
        disk.unsynced.clear()

    def allocate(self, size: int) -> None:
        """The file has at least ``size`` bytes."""
        disk = self._disk
        disk.enter("allocate")
        if size > disk.capacity_bytes:
            raise OSError(errno.ENOSPC, "the disk is full")
        disk.cache.extend(bytes(max(0, size - len(disk.cache))))
        disk.durable.extend(bytes(max(0, size - len(disk.durable))))

    def write_zeros(self, offset: int, size: int) -> None:
        """These bytes are zeros, durably; what else was written stays unsynced."""
        disk = self._disk
        if len(disk.calls) == disk.cut_at:
            self._store(offset, bytes(size))
        disk.enter("write_zeros")
        if offset + size > max(disk.capacity_bytes, len(disk.cache)):
            raise OSError(errno.ENOSPC, "the disk is full")
        for image in (disk.cache, disk.durable):
            image.extend(bytes(max(0, offset + size - len(image))))
            image[offset : offset + size] = bytes(size)

    def truncate(self, size: int) -> None:
        """The file has exactly ``size`` bytes."""
        disk = self._disk
        disk.enter("truncate")
        for image in (disk.cache, disk.durable):
            del image[size:]
            image.extend(bytes(size - len(image)))
        disk.unsynced = [(at, data[: size - at]) for at, data in disk.unsynced if at < size]

    def sync_dir(self) -> None:
        """The file's name and length are durable afterwards."""
        self._disk.enter("sync_dir")

    def close(self) -> None:
        """Give up the file and its lock. May be called again."""
        if self._open:
            self._open = False
            self._disk.locked = False
