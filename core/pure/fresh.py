"""Bodies that were written a moment ago and are about to be asked for: kept in memory until they are."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

KEPT_MAX_COUNT: Final = 4_096
KEPT_MAX_BYTES: Final = 16 << 20
BODY_MAX_BYTES: Final = 1 << 18
"""A larger body is read back: that costs little beside its size."""


class Fresh:
    """Meta and frames of records by the key of their job; each is given once, the oldest make room.

    What is not here any more is read from the disk, so nothing depends on it but time.
    """

    def __init__(self, max_count: int = KEPT_MAX_COUNT, max_bytes: int = KEPT_MAX_BYTES) -> None:
        self.size_bytes = 0
        self._max_count, self._max_bytes = max_count, max_bytes
        self._kept: OrderedDict[bytes, tuple[bytes, Sequence[bytes], int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, key: bytes, meta: bytes, frames: Sequence[bytes]) -> None:
        """Keep what was just written for the job, if it is not too large."""
        size_bytes = len(frames[0]) if len(frames) == 1 else sum(map(len, frames))
        if size_bytes > BODY_MAX_BYTES:
            return
        self.take(key)
        kept = self._kept
        kept[key] = (meta, frames, size_bytes)
        self.size_bytes += size_bytes
        while len(kept) > self._max_count or self.size_bytes > self._max_bytes:
            self.size_bytes -= kept.popitem(last=False)[1][2]

    def take(self, key: bytes) -> tuple[bytes, Sequence[bytes]] | None:
        """(meta, frames) of the job's record, given up; None: it must be read."""
        found = self._kept.pop(key, None)
        if found is None:
            return None
        meta, frames, size_bytes = found
        self.size_bytes -= size_bytes
        return meta, frames

    def clear(self) -> None:
        """As after a restart."""
        self._kept.clear()
        self.size_bytes = 0
