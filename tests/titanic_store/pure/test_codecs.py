"""Superblock, chunk header, record header, seal: each refuses what is not exactly what was written."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any
from zlib import crc32

import msgspec
import pytest

from titanic_store import DamagedStoreError, NotAStoreError, UnknownVersionError
from titanic_store.pure.chunks import (
    ChunkHeader,
    Seal,
    decode_chunk_header,
    decode_seal,
    encode_chunk_header,
    encode_seal,
)
from titanic_store.pure.records import (
    HEADER_BYTES,
    ROW,
    ROW_FROM,
    ROW_TO,
    Header,
    Origin,
    body_in,
    decode_header,
    decode_origin,
    encode_header,
    encode_origin,
)
from titanic_store.pure.superblock import (
    MAGIC,
    SUPERBLOCK_BYTES,
    Flag,
    Superblock,
    decode_superblock,
    encode_superblock,
    newest_superblock,
)

SALT = 0x1234_5678
UUID = bytes(range(16))
BASE = 8192 + 3 * 65536
TRAILER_AT = BASE + 65536 - 96

BLOCK = Superblock(
    generation=7,
    store_uuid=UUID,
    salt=b"s" * 32,
    id_secret=b"i" * 32,
    chunk_bytes=1 << 16,
    chunk_count=5,
    align_bytes=4096,
    floor_chunks=4,
    tail_turn=9,
    incarnation=3,
    flags=Flag.CLEAN | Flag.LAST_ACTIVE,
    epoch=2,
    durable_seq=99,
    created_ms=1_000,
    written_ms=2_000,
    role=1,
    peer_uuid=b"p" * 16,
    peer_seq=98,
)
HEADER = Header(1, 0, 5, 300, 42, BASE + 4096, b"k" * 16, 41, 2, 3, 9, 11, 12, 13, 0)
CHUNK = ChunkHeader(9, BASE, 42, 41, 2, 3, 13, UUID)
SEAL = Seal(9, TRAILER_AT, 42, 43, 2, BASE + 60000, 3, 2, 88, 10, 77, 13, 14, 5000)


@dataclass(frozen=True)
class Codec:
    """One codec, with the value ``raw`` must decode to."""

    raw: bytes
    decode: Callable[[bytes], Any]
    value: object


CODECS = {
    "superblock": Codec(encode_superblock(BLOCK), decode_superblock, BLOCK),
    "record": Codec(
        encode_header(HEADER, SALT), lambda raw: decode_header(raw, 0, HEADER.offset, SALT), HEADER
    ),
    "chunk": Codec(
        encode_chunk_header(CHUNK, SALT), lambda raw: decode_chunk_header(raw, BASE, UUID, SALT), CHUNK
    ),
    "seal": Codec(encode_seal(SEAL, SALT), lambda raw: decode_seal(raw, TRAILER_AT, 9, BASE, SALT), SEAL),
}


@pytest.fixture(params=CODECS)
def codec(request: pytest.FixtureRequest) -> Codec:
    """Every test with this fixture holds for all four."""
    return CODECS[request.param]


def test_one_wrong_bit_is_no_header(codec: Codec) -> None:
    """Whatever bit flips, nothing is decoded; the bytes are those of the drawing, without slack."""
    random = Random(1)
    for at in range(len(codec.raw)):
        wrong = bytearray(codec.raw)
        wrong[at] ^= 1 << random.randrange(8)
        assert codec.decode(bytes(wrong)) is None, f"byte {at}"


def test_short_bytes_are_no_header(codec: Codec) -> None:
    """Every proper prefix is refused."""
    for size in range(0, len(codec.raw), 7):
        assert codec.decode(codec.raw[:size]) is None, f"{size} bytes"


def test_zeros_are_no_header(codec: Codec) -> None:
    """A slot that was never written holds nothing."""
    assert codec.decode(bytes(len(codec.raw))) is None


def test_what_was_written_is_read(codec: Codec) -> None:
    """Encode and decode are inverse (the record's crc is computed, not given)."""
    found = codec.decode(codec.raw)
    if isinstance(found, Header):
        found = found._replace(crc=0)
    assert found == codec.value


def test_a_copy_elsewhere_is_refused() -> None:
    """The offset is under the checksum: a misdirected write is not what belongs there (R4)."""
    assert decode_header(CODECS["record"].raw, 0, HEADER.offset + 8, SALT) is None
    assert decode_chunk_header(CODECS["chunk"].raw, BASE + 65536, UUID, SALT) is None
    assert decode_seal(CODECS["seal"].raw, TRAILER_AT + 65536, 9, BASE, SALT) is None


def test_another_store_or_lap_is_refused() -> None:
    """Another salt, another store or another turn is not ours (R4)."""
    assert decode_header(CODECS["record"].raw, 0, HEADER.offset, SALT + 1) is None
    assert decode_chunk_header(CODECS["chunk"].raw, BASE, b"x" * 16, SALT) is None
    assert decode_seal(CODECS["seal"].raw, TRAILER_AT, 13, BASE, SALT) is None


def test_a_seal_must_add_up() -> None:
    """A seal whose numbers contradict each other is refused though its checksum is right."""
    for wrong in (
        SEAL._replace(rows_bytes=87),
        SEAL._replace(last_seq=44),
        SEAL._replace(digest_offset=BASE),
        SEAL._replace(digest_offset=TRAILER_AT - 50),
    ):
        assert decode_seal(encode_seal(wrong, SALT), TRAILER_AT, 9, BASE, SALT) is None


def test_a_row_is_a_slice_of_its_header() -> None:
    """The digest's row is bytes 4 to 47 of the record header."""
    raw = encode_header(HEADER, SALT)
    assert len(raw) == HEADER_BYTES
    kind, flags, _, *rest = ROW.unpack(raw[ROW_FROM:ROW_TO])
    assert (kind, flags, *rest) == HEADER[:7]


def test_the_origin_of_a_relocated_job() -> None:
    """State and meta come apart again; shorter bytes are no origin."""
    origin = Origin(17, 1, b"state", b"meta of the request")
    raw = encode_origin(origin)
    assert decode_origin(raw) == origin
    assert decode_origin(raw[:15]) is None
    assert decode_origin(raw[:18]) is None


def test_the_newest_superblock_wins() -> None:
    """Of two valid generations the higher counts, wherever it is."""
    later = msgspec.structs.replace(BLOCK, generation=8)
    for halves in ((BLOCK, later), (later, BLOCK)):
        raw = b"".join(map(encode_superblock, halves))
        assert newest_superblock(raw, "file").generation == 8


def test_a_torn_superblock_leaves_the_other() -> None:
    """Half of a new generation over an old one is no generation."""
    later = encode_superblock(msgspec.structs.replace(BLOCK, generation=8, durable_seq=100))
    torn = later[:512] + encode_superblock(msgspec.structs.replace(BLOCK, generation=6))[512:]
    assert newest_superblock(torn + encode_superblock(BLOCK), "file").generation == 7


def test_not_ours_other_version_and_damage_are_three_things() -> None:
    """The message says which: not a store, a later version (exit 5), or damage (exit 3) (R15)."""
    with pytest.raises(NotAStoreError):
        newest_superblock(b"", "file")
    with pytest.raises(NotAStoreError):
        newest_superblock(b"#!/bin/sh\n" * 900, "file")
    broken = MAGIC + bytes(SUPERBLOCK_BYTES - len(MAGIC))
    with pytest.raises(DamagedStoreError):
        newest_superblock(broken * 2, "file")
    for at in (8, 12):  # version, features
        with pytest.raises(UnknownVersionError, match="version 1"):
            newest_superblock(_with_byte(at, 2), "file")


def _with_byte(at: int, value: int) -> bytes:
    from zlib import crc32

    raw = bytearray(encode_superblock(BLOCK))
    raw[at] = value
    raw[-4:] = crc32(raw[:-4]).to_bytes(4, "little")
    return bytes(raw)


def test_a_superblock_must_add_up() -> None:
    """A valid checksum over impossible sizes is damage, not a division by zero later."""
    for changes in ({"chunk_bytes": 0}, {"chunk_bytes": 65537}, {"align_bytes": 3}, {"chunk_count": 0}):
        raw = encode_superblock(msgspec.structs.replace(BLOCK, **changes))
        with pytest.raises(DamagedStoreError, match="contradicts"):
            newest_superblock(raw + bytes(SUPERBLOCK_BYTES), "file")


def test_a_body_is_taken_from_an_image_only_if_all_of_its_record_is_right() -> None:
    """Nothing if any bit of header or body is another, or if it is of another place or sequence."""
    salt, meta, body = 77, b"meta", bytes(range(40))
    header = Header(
        *(1, 0, len(meta), len(body), 9, 8192, b"k" * 16, 8, 1, 1, 1),
        *(crc32(meta, salt), crc32(body, salt), 5, 0),
    )
    raw = encode_header(header, salt)
    row = raw[ROW_FROM:ROW_TO]
    image = bytes(16) + raw + meta + body
    assert body_in(memoryview(image), 16, row, meta, salt) == body
    assert body_in(memoryview(image[:-1]), 16, row, meta, salt) is None
    assert body_in(memoryview(image), 16, row, meta, salt + 1) is None
    assert body_in(memoryview(image), 16, row, b"mETA", salt) is None
    for at in (*range(16, 16 + HEADER_BYTES), *range(16 + HEADER_BYTES + len(meta), len(image))):
        flipped = bytearray(image)
        flipped[at] ^= 4
        assert body_in(memoryview(flipped), 16, row, meta, salt) is None, at
    for changed in (header._replace(sequence=10), header._replace(offset=4096)):
        other = encode_header(changed, salt)
        assert body_in(memoryview(image), 16, other[ROW_FROM:ROW_TO], meta, salt) is None
