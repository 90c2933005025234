"""The superblock: what the store is, and where its ring begins.

Drawing: ``docs/internals/data-file.md``, "Superblock". Written alternately to two places.
"""

from __future__ import annotations

from enum import IntFlag
from struct import Struct
from typing import Final
from zlib import crc32

import msgspec

from titanic_store.errors import DamagedStoreError, NotAStoreError, UnknownVersionError
from titanic_store.pure.decisions import STARTS, Half, Start
from titanic_store.pure.options import ALIGNMENTS, CHUNK_MAX_BYTES, CHUNK_MIN_BYTES, SECTOR_BYTES

VERSION: Final = 1
MAGIC: Final = b"TITANIC\n"
SUPERBLOCK_BYTES: Final = 4096
BASE_BYTES: Final = 2 * SUPERBLOCK_BYTES
"""Where slot 0 begins."""

_PREFIX: Final = Struct("<8sII")
_FIELDS: Final = Struct("<Q16s32s32sIIIIQIIQQQQII16sQQ")
_CRC_AT: Final = SUPERBLOCK_BYTES - 4
_ZEROS: Final = bytes(_CRC_AT - _PREFIX.size - _FIELDS.size)
assert _PREFIX.size + _FIELDS.size == 208, "as drawn"


class Flag(IntFlag):
    """Words of a superblock."""

    CLEAN = 1  # closed in order: ``durable_seq`` is the last sequence there is
    OUTDATED = 2  # P3: may lack acknowledged jobs
    PEER_OUTDATED = 4  # P4: acknowledges alone
    LAST_ACTIVE = 8  # P5
    PAIR_NEW = 16  # P5: the pair has never served
    UNSHARED = 32  # P7: what is behind ``peer_seq`` may have been acknowledged by this node alone
    HOLED = 64  # R2: the log was cut at a hole, and the peer has what was behind it


class Superblock(msgspec.Struct, frozen=True):
    """One generation. Times are unix milliseconds; see the specification for each field."""

    generation: int
    store_uuid: bytes
    salt: bytes
    id_secret: bytes
    chunk_bytes: int
    chunk_count: int
    align_bytes: int
    floor_chunks: int
    tail_turn: int
    incarnation: int
    flags: int
    epoch: int
    durable_seq: int
    created_ms: int
    written_ms: int
    role: int = 0
    peer_uuid: bytes = bytes(16)
    peer_seq: int = 0
    tail_seq: int = 0

    @property
    def offset(self) -> int:
        """Where this generation belongs."""
        return SUPERBLOCK_BYTES * (self.generation & 1)

    @property
    def file_bytes(self) -> int:
        """How long the file is at least."""
        return BASE_BYTES + self.chunk_count * self.chunk_bytes


def encode_superblock(block: Superblock) -> bytes:
    """4096 bytes."""
    body = (
        _PREFIX.pack(MAGIC, VERSION, 0)
        + _FIELDS.pack(
            block.generation,
            block.store_uuid,
            block.salt,
            block.id_secret,
            block.chunk_bytes,
            block.chunk_count,
            block.align_bytes,
            block.floor_chunks,
            block.tail_turn,
            block.incarnation,
            block.flags,
            block.epoch,
            block.durable_seq,
            block.created_ms,
            block.written_ms,
            block.role,
            0,
            block.peer_uuid,
            block.peer_seq,
            block.tail_seq,
        )
        + _ZEROS
    )
    return body + crc32(body).to_bytes(4, "little")


def decode_superblock(raw: bytes) -> Superblock | None:
    """The superblock in ``raw``; None if it is not whole. UnknownVersionError if a later version wrote it."""
    if len(raw) != SUPERBLOCK_BYTES:
        return None
    if crc32(raw[:_CRC_AT]) != int.from_bytes(raw[_CRC_AT:], "little"):
        return None
    magic, version, features = _PREFIX.unpack_from(raw)
    if magic != MAGIC:
        return None
    if version != VERSION or features:
        raise UnknownVersionError(
            f"the file has format version {version}, features {features:#x};"
            f" this program reads version {VERSION}, features 0x0"
        )
    fields = _FIELDS.unpack_from(raw, _PREFIX.size)
    return Superblock(*fields[:16], *fields[17:])


def newest_superblock(raw: bytes, path: str) -> Superblock:
    """The newest valid superblock in the first 8192 bytes of a file, as the table of decisions has it.

    Raises NotAStoreError (never was one), UnknownVersionError, DamagedStoreError (was one).
    """
    halves = (raw[:SUPERBLOCK_BYTES], raw[SUPERBLOCK_BYTES:BASE_BYTES])
    start = STARTS[judge_half(halves[0]), judge_half(halves[1])]
    if start is Start.NOT_OURS:
        raise NotAStoreError(path)
    if start is Start.DAMAGED:
        raise DamagedStoreError(0, "neither superblock passes its checksum")
    # decoding says which other version, if one half is of another
    found = [block for half in halves if (block := decode_superblock(half)) is not None]
    newest = max(found, key=lambda block: block.generation)
    if (
        not CHUNK_MIN_BYTES <= newest.chunk_bytes <= CHUNK_MAX_BYTES
        or newest.chunk_bytes % SECTOR_BYTES
        or newest.align_bytes not in ALIGNMENTS
        or newest.chunk_count < 1
    ):
        raise DamagedStoreError(newest.offset, "the superblock contradicts itself")
    return newest


def judge_half(raw: bytes) -> Half:
    """What one superblock is."""
    try:
        if decode_superblock(raw) is not None:
            return Half.VALID
    except UnknownVersionError:
        return Half.OTHER
    return Half.BROKEN if raw.startswith(MAGIC) else Half.BLANK
