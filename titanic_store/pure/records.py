"""The record header: a pair of encode and decode under the drawing in ``docs/internals/data-file.md``."""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple
from zlib import crc32

MAGIC: Final = b"TiR1"
HEADER_BYTES: Final = 88
ROW_FROM: Final = 4
ROW_TO: Final = 48
ROW: Final = Struct("<BBHIIQQ16s")
"""kind, flags, zero, meta_bytes, body_bytes, sequence, offset, key: bytes 4 to 47 of a header."""

KEY_BYTES: Final = 16
NO_KEY: Final = bytes(KEY_BYTES)
MOVED: Final = 1
LOST: Final = 2
"""Flags: written by relocation; its body was damaged before, and is not there."""
U32: Final = 0xFFFF_FFFF

_HEAD: Final = Struct("<4sBBHIIQQ16sQQIIIII")
WHOLE_HEAD: Final = Struct(_HEAD.format + "I")
"""With the header's own crc."""
_CRC_AT: Final = 84
_CRCS_AT: Final = 72
_CRCS: Final = Struct("<IIII")
"""Of the meta, the body, the record before, the header."""

_BODY_BYTES_AT: Final = 8
"""In a row."""

_ORIGIN: Final = Struct("<QB3xI")
assert _HEAD.size == _CRC_AT == HEADER_BYTES - 4
assert ROW.size == ROW_TO - ROW_FROM
assert _CRCS_AT + _CRCS.size == HEADER_BYTES

pack_head: Final = _HEAD.pack


class Header(NamedTuple):
    """What a record says about itself. Only :func:`decode_header` makes one, so its crc was right."""

    kind: int
    flags: int
    meta_bytes: int
    body_bytes: int
    sequence: int
    offset: int
    key: bytes
    durable_seq: int
    epoch: int
    incarnation: int
    turn: int
    meta_crc: int
    body_crc: int
    prev_crc: int
    crc: int

    @property
    def size(self) -> int:
        """Bytes from this header to where the next record may begin."""
        return padded(HEADER_BYTES + self.meta_bytes + self.body_bytes)


def padded(size: int) -> int:
    """``size`` rounded up to a multiple of 8."""
    return size + 7 & ~7


def encode_header(header: Header, salt: int) -> bytes:
    """88 bytes; ``header.crc`` is ignored and computed. The ring does the same inline, for speed."""
    head = pack_head(MAGIC, header.kind, header.flags, 0, *header[2:14])
    return head + crc32(head, salt).to_bytes(4, "little")


def decode_header(raw: bytes | memoryview, at: int, offset: int, salt: int) -> Header | None:
    """The header at ``raw[at:]``, which lies at ``offset`` of the file; None if it is none, or misplaced."""
    if len(raw) - at < HEADER_BYTES:
        return None
    crc = int.from_bytes(raw[at + _CRC_AT : at + HEADER_BYTES], "little")
    if crc32(raw[at : at + _CRC_AT], salt) != crc:
        return None
    magic, kind, flags, _zero, *rest = _HEAD.unpack_from(raw, at)
    header = Header._make((kind, flags, *rest, crc))
    return header if magic == MAGIC and header.offset == offset else None


def body_in(image: memoryview, at: int, row: bytes, meta: bytes, salt: int) -> bytes | None:
    """The body of the record at ``image[at:]``, if it is whole and the one of this row and meta of a digest.

    A quarter of what :func:`decode_header` and three slices cost: the row says what the header must say.
    """
    body = at + HEADER_BYTES + len(meta)
    end = body + int.from_bytes(row[_BODY_BYTES_AT : _BODY_BYTES_AT + 4], "little")
    if end > len(image) or image[at + ROW_FROM : at + ROW_TO] != row:
        return None
    meta_crc, body_crc, _, crc = _CRCS.unpack_from(image, at + _CRCS_AT)
    if (
        crc32(image[at : at + _CRC_AT], salt) != crc
        or crc32(meta, salt) != meta_crc
        or crc32(image[body:end], salt) != body_crc
    ):
        return None
    return bytes(image[body:end])


class Origin(NamedTuple):
    """The head of a JOB's meta: where the entry comes from."""

    sequence: int
    kind: int
    state: bytes
    meta: bytes


def encode_origin(origin: Origin) -> bytes:
    """The meta of a JOB record."""
    return _ORIGIN.pack(origin.sequence, origin.kind, len(origin.state)) + origin.state + origin.meta


def decode_origin(meta: bytes) -> Origin | None:
    """The parts of a JOB's meta; None if it has no such parts."""
    if len(meta) < _ORIGIN.size:
        return None
    sequence, kind, state_bytes = _ORIGIN.unpack_from(meta)
    split = _ORIGIN.size + state_bytes
    if len(meta) < split:
        return None
    return Origin(sequence, kind, meta[_ORIGIN.size : split], meta[split:])
