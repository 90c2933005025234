"""Chunk header, digest and trailer: codecs under the drawings in ``docs/internals/data-file.md``."""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple
from zlib import crc32

from titanic_store.pure.records import HEADER_BYTES, ROW

CHUNK_HEADER_BYTES: Final = 4096
TRAILER_BYTES: Final = 96

_CHUNK_MAGIC: Final = b"TiChunk\n"
_CHUNK: Final = Struct("<8sQQQQQII16sI")
_SEAL_MAGIC: Final = b"TiSealed"
_SEAL: Final = Struct("<8sQQQQQQIIIIIIIII")
assert _CHUNK.size == 76, "as drawn"
assert _SEAL.size == TRAILER_BYTES - 4, "as drawn"


class ChunkHeader(NamedTuple):
    """The begin of a chunk: its turn, and how it continues the chunk before."""

    turn: int
    offset: int
    first_seq: int
    durable_seq: int
    epoch: int
    incarnation: int
    prev_crc: int
    store_uuid: bytes


class Seal(NamedTuple):
    """The trailer of a sealed chunk: where its digest is, and how it links to its neighbours."""

    turn: int
    offset: int
    first_seq: int
    last_seq: int
    epoch: int
    digest_offset: int
    incarnation: int
    record_count: int
    rows_bytes: int
    metas_bytes: int
    digest_crc: int
    first_prev_crc: int
    last_crc: int
    records_end: int


def encode_chunk_header(header: ChunkHeader, salt: int) -> bytes:
    """80 bytes."""
    head = _CHUNK.pack(_CHUNK_MAGIC, *header, 0)
    return head + crc32(head, salt).to_bytes(4, "little")


def decode_chunk_header(raw: bytes, offset: int, store_uuid: bytes, salt: int) -> ChunkHeader | None:
    """The chunk header at ``offset``; None if there is none of this store that belongs there."""
    size = _CHUNK.size
    if len(raw) < size + 4 or crc32(raw[:size], salt) != int.from_bytes(raw[size : size + 4], "little"):
        return None
    magic, *fields, _zero = _CHUNK.unpack_from(raw)
    header = ChunkHeader(*fields)
    if magic != _CHUNK_MAGIC or header.offset != offset or header.store_uuid != store_uuid:
        return None
    return header


def encode_seal(seal: Seal, salt: int) -> bytes:
    """96 bytes."""
    head = _SEAL.pack(_SEAL_MAGIC, *seal, 0)
    return head + crc32(head, salt).to_bytes(4, "little")


def decode_seal(raw: bytes, offset: int, turn: int, chunk: int, salt: int) -> Seal | None:
    """The trailer at ``offset`` of the chunk at ``chunk``; None unless it seals ``turn`` and adds up."""
    size = _SEAL.size
    if len(raw) < TRAILER_BYTES or crc32(raw[:size], salt) != int.from_bytes(
        raw[size:TRAILER_BYTES], "little"
    ):
        return None
    magic, *fields, _zero = _SEAL.unpack_from(raw)
    seal = Seal(*fields)
    if (
        magic != _SEAL_MAGIC
        or seal.offset != offset
        or seal.turn != turn
        or seal.rows_bytes != seal.record_count * ROW.size
        or seal.last_seq - seal.first_seq + 1 != seal.record_count
        or not chunk + CHUNK_HEADER_BYTES <= seal.digest_offset
        or seal.digest_offset + seal.rows_bytes + seal.metas_bytes > offset
    ):
        return None
    return seal


def encode_digest(
    header: ChunkHeader,
    rows: bytes | bytearray,
    metas: bytes | bytearray,
    last: tuple[int, int, int, int],
    records_end: int,
    shape: tuple[int, int, int],
) -> tuple[int, list[bytes | bytearray]]:
    """Offset and parts of the digest and trailer that seal the chunk with ``header``.

    ``last``: sequence, header crc, incarnation and epoch of its last record, or of the one before it if it
    has none; ``records_end`` is relative to the chunk; ``shape``: chunk_bytes, align_bytes, salt.
    """
    chunk_bytes, align_bytes, salt = shape
    last_seq, last_crc, incarnation, epoch = last
    trailer = header.offset + chunk_bytes - TRAILER_BYTES
    at = trailer - len(rows) - len(metas) & -align_bytes
    assert align_up(header.offset + records_end, align_bytes) <= at, "the room for the digest was kept free"
    seal = Seal(
        turn=header.turn,
        offset=trailer,
        first_seq=header.first_seq,
        last_seq=last_seq,
        epoch=epoch,
        digest_offset=at,
        incarnation=incarnation,
        record_count=len(rows) // ROW.size,
        rows_bytes=len(rows),
        metas_bytes=len(metas),
        digest_crc=crc32(metas, crc32(rows, salt)),
        first_prev_crc=header.prev_crc,
        last_crc=last_crc,
        records_end=records_end,
    )
    gap = bytes(trailer - at - len(rows) - len(metas))
    return at, [rows, metas, gap, encode_seal(seal, salt)]


def max_record_bytes(chunk_bytes: int, align_bytes: int) -> int:
    """How many bytes of body plus twice the meta a record can have."""
    return chunk_bytes - CHUNK_HEADER_BYTES - TRAILER_BYTES - 2 * align_bytes - HEADER_BYTES - ROW.size - 8


def align_up(offset: int, align_bytes: int) -> int:
    """The next multiple of ``align_bytes``, a power of two."""
    return offset + align_bytes - 1 & -align_bytes
