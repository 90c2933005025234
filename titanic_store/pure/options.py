"""Options of a store: frozen values, checked when built."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

KIB: Final = 1 << 10
MIB: Final = 1 << 20
GIB: Final = 1 << 30

CHUNK_MIN_BYTES: Final = 64 * KIB
CHUNK_MAX_BYTES: Final = GIB
SECTOR_BYTES: Final = 4096
ALIGNMENTS: Final = (8, 512, SECTOR_BYTES)
FLOOR_MIN_CHUNKS: Final = 4
INTERVAL_MAX_MS: Final = 60_000

_INTERVAL: Final = re.compile(r"interval:([1-9][0-9]{0,5})ms")


class Sync(StrEnum):
    """When records are synced."""

    ALWAYS = "always"
    INTERVAL = "interval"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Policy:
    """What an acknowledgement is worth (R12): on disk, on disk within ``interval_ms``, or in memory."""

    sync: Sync = Sync.ALWAYS
    interval_ms: int = 0

    def __post_init__(self) -> None:
        if self.sync is Sync.INTERVAL and not 1 <= self.interval_ms <= INTERVAL_MAX_MS:
            raise ValueError(f"the sync interval is 1 to {INTERVAL_MAX_MS} ms, not {self.interval_ms}")

    @classmethod
    def parse(cls, text: str) -> Policy:
        """``always``, ``interval:50ms`` or ``never``; ValueError says which words are known."""
        if text in (Sync.ALWAYS, Sync.NEVER):
            return cls(Sync(text))
        match = _INTERVAL.fullmatch(text)
        if match is None:
            raise ValueError(f"'{text}' is neither 'always', 'interval:50ms' nor 'never'")
        return cls(Sync.INTERVAL, int(match[1]))

    @property
    def durability(self) -> str:
        """The label of every acknowledgement: ``fsync``, ``interval; ms=N`` or ``memory``."""
        match self.sync:
            case Sync.ALWAYS:
                return "fsync"
            case Sync.INTERVAL:
                return f"interval; ms={self.interval_ms}"
            case Sync.NEVER:
                return "memory"


@dataclass(frozen=True, slots=True)
class Options:
    """``chunk_bytes``, ``floor_chunks`` and ``align_bytes`` matter at creation only; the file keeps them.

    ``reply_reserve_bytes`` are kept for the reply of every open job; larger replies share a pool (R8).
    ``queue_max_bytes`` bounds what waits for the disk. ``scrub_bytes_per_second`` 0: no scrub (R19).
    ``network_fs``: use a network file system, locks and syncs or not (R14).
    """

    chunk_bytes: int = 16 * MIB
    floor_chunks: int = FLOOR_MIN_CHUNKS
    align_bytes: int = SECTOR_BYTES
    max_bytes: int = 16 * GIB
    policy: Policy = field(default_factory=Policy)
    reply_reserve_bytes: int = KIB
    queue_max_bytes: int = 64 * MIB
    scrub_bytes_per_second: int = MIB
    network_fs: bool = False

    def __post_init__(self) -> None:
        if not CHUNK_MIN_BYTES <= self.chunk_bytes <= CHUNK_MAX_BYTES or self.chunk_bytes % SECTOR_BYTES:
            raise ValueError(
                f"a chunk has {CHUNK_MIN_BYTES} to {CHUNK_MAX_BYTES} bytes, a multiple of {SECTOR_BYTES};"
                f" not {self.chunk_bytes}"
            )
        if self.align_bytes not in ALIGNMENTS:
            raise ValueError(f"batches are aligned to one of {ALIGNMENTS} bytes, not {self.align_bytes}")
        if self.floor_chunks < FLOOR_MIN_CHUNKS:
            raise ValueError(f"a store has at least {FLOOR_MIN_CHUNKS} chunks, not {self.floor_chunks}")
        if min(self.reply_reserve_bytes, self.scrub_bytes_per_second) < 0 or self.queue_max_bytes < MIB:
            raise ValueError(f"no size is negative, and the queue has at least {MIB} bytes")
        if self.max_bytes < self.floor_chunks * self.chunk_bytes + 2 * SECTOR_BYTES:
            raise ValueError(
                f"a store of at most {self.max_bytes} bytes has no room for"
                f" {self.floor_chunks} chunks of {self.chunk_bytes}"
            )
