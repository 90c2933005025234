"""Where the log ends, and what is left of the records of a log."""

from collections.abc import Sequence
from typing import Any
from zlib import crc32

import pytest

from tests.titanic_store.rig import Keeper, key
from titanic_store import DamagedStoreError, Kind, UnknownVersionError
from titanic_store.pure.chunks import CHUNK_HEADER_BYTES, Seal
from titanic_store.pure.records import ROW, Header, Origin, encode_header, encode_origin
from titanic_store.pure.recovery import Chain, Reader, Rebuild

SALT, BASE, TURN, SIZE = 77, 8192, 4, 65536
START = CHUNK_HEADER_BYTES


def record(at: int, sequence: int, chain: Chain, body: bytes = b"body", **changes: Any) -> bytes:
    """A record at ``at`` of the chunk."""
    header = Header(
        Kind.REQUEST, 0, 4, len(body), sequence, BASE + at, key(sequence), sequence - 1, chain.epoch,
        chain.incarnation, TURN, crc32(b"meta", SALT), crc32(body, SALT), chain.crc, 0,
    )._replace(**changes)  # fmt: skip
    raw = encode_header(header, SALT) + b"meta" + body
    return raw + bytes(-len(raw) % 8)


def chunk(*records: tuple[int, bytes]) -> bytes:
    """A chunk with these bytes at these places."""
    image = bytearray(SIZE)
    for at, raw in records:
        image[at : at + len(raw)] = raw
    return bytes(image)


def crc_of(raw: bytes) -> int:
    return int.from_bytes(raw[84:88], "little")


READER = Reader(SALT, 4096)
BEFORE = Chain(10, 555, 3, 2)
FIRST = record(START, 11, BEFORE)
AFTER_FIRST = Chain(11, crc_of(FIRST), 3, 2)
NEXT_AT = START + len(FIRST)


@pytest.mark.parametrize(
    ("second", "why"),
    [
        (record(NEXT_AT, 13, AFTER_FIRST), "sequence 13"),
        (record(NEXT_AT, 11, AFTER_FIRST), "sequence 11"),
        (record(NEXT_AT, 12, AFTER_FIRST, turn=TURN - 1), "of turn 3"),
        (record(NEXT_AT, 12, AFTER_FIRST, prev_crc=1), "does not follow"),
        (record(NEXT_AT, 12, AFTER_FIRST, incarnation=2), "older"),
        (record(NEXT_AT, 12, AFTER_FIRST, epoch=1), "older"),
        (record(NEXT_AT, 12, AFTER_FIRST, body_bytes=SIZE), "crosses the end"),
        (record(NEXT_AT, 12, AFTER_FIRST, meta_crc=1), "meta"),
        (record(NEXT_AT, 12, AFTER_FIRST, body_crc=1), "body"),
        (record(NEXT_AT, 12, AFTER_FIRST, offset=BASE + NEXT_AT + 8), "no valid header"),
        (b"TiR1" + bytes(100), "no valid header"),
        (b"", "no valid header"),
    ],
    ids=[
        *("gap", "repeat", "old lap", "other past", "old incarnation", "old epoch", "too long"),
        *("meta rot", "body rot", "misplaced", "magic only", "nothing"),
    ],
)
def test_the_log_ends_where_it_is_not_continued(second: bytes, why: str) -> None:
    """One record is there; the second fails in one respect, and the scan says which (R1, R4)."""
    scan = READER.scan(chunk((START, FIRST), (NEXT_AT, second)), BASE, TURN, BEFORE)
    assert scan.chain == AFTER_FIRST
    assert scan.end == NEXT_AT
    at_place = READER._refusal(
        chunk((START, FIRST), (NEXT_AT, second)), NEXT_AT, TURN, AFTER_FIRST, _header(second)
    )
    assert why in at_place


def _header(raw: bytes) -> Header | None:
    from titanic_store.pure.records import decode_header

    return decode_header(raw, 0, BASE + NEXT_AT, SALT)


def test_a_batch_may_begin_at_a_boundary() -> None:
    """The next record stands behind the last one or at the next multiple of the alignment; nowhere else."""
    boundary = START + 4096
    good = chunk((START, FIRST), (boundary, record(boundary, 12, AFTER_FIRST)))
    assert READER.scan(good, BASE, TURN, BEFORE).chain.sequence == 12
    elsewhere = NEXT_AT + 8
    bad = chunk((START, FIRST), (elsewhere, record(elsewhere, 12, AFTER_FIRST)))
    assert READER.scan(bad, BASE, TURN, BEFORE).chain.sequence == 11


def test_a_new_incarnation_goes_on_behind_a_cut() -> None:
    """Behind a torn record, at a boundary, the same sequence of the next incarnation: one log (R3)."""
    torn = bytearray(record(NEXT_AT, 12, AFTER_FIRST))
    torn[-8] ^= 1
    boundary = START + 4096
    image = chunk(
        (START, FIRST), (NEXT_AT, bytes(torn)), (boundary, record(boundary, 12, AFTER_FIRST, incarnation=4))
    )
    scan = READER.scan(image, BASE, TURN, BEFORE)
    assert (scan.chain.sequence, scan.chain.incarnation) == (12, 4)


def test_later_records_are_found_and_forgeries_are_not() -> None:
    """What is newer than a hole is evidence; old laps and forged bytes in a body are not (R2, R4)."""
    newer = record(9000 // 8 * 8, 14, Chain(13, 0, 3, 2))
    old = record(12000, 5, Chain(4, 0, 1, 1))
    forged = encode_header(Header(1, 0, 0, 0, 99, BASE + 20088, key(1), 98, 2, 3, TURN, 0, 0, 0, 0), SALT ^ 1)
    body = record(20000, 15, Chain(14, 0, 3, 2), body=b"1234" * 1 + forged)
    found = READER.later(chunk((9000, newer), (12000, old), (20000, body)), BASE, START, 11)
    assert [header.sequence for header in found] == [14, 15]


def test_a_seal_of_an_earlier_use_is_none_of_this_log() -> None:
    """Same slot, same turn, valid checksum, but it follows other records (R4)."""
    seal = Seal(TURN, 0, 11, 12, 2, 0, 3, 2, 88, 8, 0, 555, 1, 0)
    assert READER.seal_continues(seal, BEFORE)
    for other in (
        seal._replace(first_seq=10),
        seal._replace(first_prev_crc=556),
        seal._replace(incarnation=2),
        seal._replace(epoch=1),
    ):
        assert not READER.seal_continues(other, BEFORE)


def rows(*records: tuple[int, int, bytes, int, bytes]) -> tuple[bytes, bytes]:
    """(kind, sequence, key, offset, meta) of each record, as a digest has them."""
    packed = [ROW.pack(kind, 0, 0, len(meta), 0, seq, at, name) for kind, seq, name, at, meta in records]
    return b"".join(packed), b"".join(meta for *_, meta in records)


def rebuilt(*records: tuple[int, int, bytes, int, bytes]) -> Rebuild:  # type: ignore[type-arg]
    rebuild = Rebuild(Keeper())
    rebuild.fold(*rows(*records))
    rebuild.finish()
    return rebuild


A, B, C = key(1), key(2), key(3)


def test_closed_jobs_are_gone() -> None:
    """A request, its notes, its reply and its close leave nothing; a note for nobody leaves nothing."""
    index = rebuilt(
        (Kind.REQUEST, 1, A, 100, b"a"),
        (Kind.ATTEMPT, 2, A, 200, b"n"),
        (Kind.REPLY, 3, A, 300, b"r"),
        (Kind.ATTEMPT, 4, B, 400, b"n"),
        (Kind.REPLY, 5, B, 500, b"r"),
        (Kind.MARK, 6, bytes(16), 600, b""),
        (Kind.CLOSE, 7, A, 700, b"c"),
        (Kind.CLOSE, 8, B, 800, b"c"),
    ).index
    assert index == {}


def test_what_is_alive_is_told_everything_in_order() -> None:
    """The owner hears each record of an entry, once, oldest first, with its sequence."""
    index = rebuilt(
        (Kind.REQUEST, 1, A, 100, b"a"),
        (Kind.KEY, 2, B, 200, b"k"),
        (Kind.ATTEMPT, 3, A, 300, b"n"),
        (Kind.REPLY, 4, A, 400, b"r"),
        (Kind.SETTING, 5, C, 500, b"s"),
    ).index
    assert list(index) == [A, B, C]
    assert (index[A].request_at, index[A].reply_at) == (100, 400)
    assert index[A].told == [(Kind.REQUEST, b"a", 1), (Kind.ATTEMPT, b"n", 3), (Kind.REPLY, b"r", 4)]
    assert (index[B].request_at, index[C].request_at) == (200, 500)


def moved(sequence: int, kind: int, state: bytes, meta: bytes) -> bytes:
    return encode_origin(Origin(sequence, kind, state, meta))


def test_relocated_jobs_keep_their_place() -> None:
    """Entries are in the order of acceptance, wherever their records are now."""
    index = rebuilt(
        (Kind.REQUEST, 50, C, 100, b"c"),
        (Kind.JOB, 51, B, 200, moved(9, Kind.REQUEST, b"sb", b"b")),
        (Kind.JOB, 52, A, 300, moved(4, Kind.REQUEST, b"sa", b"a")),
        (Kind.JOB, 53, C, 400, moved(50, Kind.REQUEST, b"sc", b"c")),
    ).index
    assert list(index) == [A, B, C]
    assert index[A].told == [(Kind.REQUEST, b"a", 4), (Kind.JOB, b"sa", 4)]
    assert index[C].request_at == 400


def test_a_reply_before_its_relocated_request_counts() -> None:
    """The request was written again further on; its reply still stands where it was."""
    index = rebuilt(
        (Kind.REPLY, 20, A, 100, b"r"),
        (Kind.JOB, 30, A, 200, moved(4, Kind.REQUEST, b"s", b"a")),
    ).index
    assert (index[A].request_at, index[A].reply_at) == (200, 100)
    assert index[A].told[-1] == (Kind.REPLY, b"r", 20)


@pytest.mark.parametrize("meta", [b"", b"short", moved(1, 1, b"state", b"")[:-1]])
def test_a_job_without_origin_is_damage(meta: bytes) -> None:
    """A relocated job must say where it comes from."""
    with pytest.raises(DamagedStoreError, match="offset 100"):
        rebuilt((Kind.JOB, 1, A, 100, meta))


def test_kinds_of_a_later_version_are_not_skipped() -> None:
    """A record of an unknown kind may mean anything: refuse, with the message for versions (R15)."""
    records: Sequence[tuple[int, int, bytes, int, bytes]] = [(200, 1, A, 100, b"")]
    with pytest.raises(UnknownVersionError, match="kind 200"):
        rebuilt(*records)
