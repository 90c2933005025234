"""The rates of keys, counted once for all gateway processes of one port: a file that each maps into memory.

    | slot: key id 8 | tokens f64 | counted at f64, CLOCK_MONOTONIC | ... 16,384 slots, found by the id,
    probed on |

A limit divided by the number of processes would be wrong in both directions: the kernel gives a connection to
one process, so a client with one would get a part of its rate, and one with many the whole only by luck. A
lock around each count costs two system calls, only for keys that have a rate, and is let go by the kernel
when its holder dies.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from pathlib import Path
from struct import Struct
from typing import Final

from gateway.pure.rates import Bucket

FILE_NAME: Final = "rates"
SLOTS_COUNT: Final = 16_384
PROBES_MAX: Final = 64
EMPTY: Final = bytes(8)
SLOT: Final = Struct("<8sdd")
FILE_BYTES: Final = SLOTS_COUNT * SLOT.size


class Meter:
    """The shared counts in ``folder``. OSError if the file cannot be had."""

    def __init__(self, folder: Path) -> None:
        self._fd = os.open(folder / FILE_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.ftruncate(self._fd, FILE_BYTES)  # the same for all; what is there stays
        self._map = mmap.mmap(self._fd, FILE_BYTES)

    def take(self, key_id: str, bucket: Bucket, now_s: float, count: int) -> float:
        """See :meth:`Bucket.take`; ``bucket`` has the rate of the key, and its state afterwards.

        When the table has no room near the key's place, the bucket counts for this process alone.
        """
        raw = bytes.fromhex(key_id)
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            at = self._find(raw)
            if at < 0:
                return bucket.take(now_s, count)
            known, tokens, at_s = SLOT.unpack_from(self._map, at)
            if known == raw:
                bucket.resume(tokens, at_s)
            wait_s = bucket.take(now_s, count)
            SLOT.pack_into(self._map, at, raw, *bucket.state)
            return wait_s
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def _find(self, raw: bytes) -> int:
        """Offset of the key's slot, or of a free one for it, or -1."""
        first = int.from_bytes(raw, "little")
        for step in range(PROBES_MAX):
            at = (first + step) % SLOTS_COUNT * SLOT.size
            if self._map[at : at + len(raw)] in (raw, EMPTY):
                return at
        return -1

    def close(self) -> None:
        """Let go of the file; it stays for the others."""
        self._map.close()
        os.close(self._fd)
