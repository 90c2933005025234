"""Damage is mended in place from a copy of the record, and only by the right one (R18, D3)."""

from __future__ import annotations

import pytest

from tests.titanic_store.rig import Pebble, key, open_on, options, request, settle
from titanic_store import DamagedStoreError, Foreign, Ring
from titanic_store.pure.records import LOST
from titanic_store.shell.checking import check_storage
from titanic_store.shell.faulty import FaultyDisk

MANY = options(max_chunks=30)
COUNT = 60
SEALED = 5
"""A job in a chunk that was sealed long ago; the last one is in the head."""


def made() -> tuple[FaultyDisk, Ring[Pebble], dict[int, Foreign]]:
    """A ring of some sealed chunks, nothing on its way, and a copy of every record."""
    disk = FaultyDisk()
    ring = open_on(disk, MANY)
    for number in range(1, COUNT):
        request(ring, number, bytes([number]) * 3000)
        settle(ring)
    return disk, ring, {record.sequence: record for record in ring.records_after(ring.first_seq - 1)}


def image_of(disk: FaultyDisk) -> bytes:
    """The file as it is."""
    return bytes(disk.cache)


def mend(ring: Ring[Pebble], copies: dict[int, Foreign]) -> list[object]:
    """What was noticed is mended; the tokens that came back."""
    for wound in ring.mender.noticed():
        assert ring.mender.mend(wound, copies[wound.sequence], "mended")
    ring.commit()
    return ring.completed()


@pytest.mark.parametrize("at", [4, 20, 27, 60, 70, 78, 82, 86, 90, 100, 2000])
@pytest.mark.parametrize("number", [SEALED, COUNT - 1], ids=["sealed", "head"])
def test_a_damaged_record_is_mended_to_the_last_bit(number: int, at: int) -> None:
    """A flipped bit anywhere in header, meta or body: a read notices, the copy is written, all is well."""
    disk, ring, copies = made()
    victim = ring.index[key(number)].request_at
    before = ring.read(victim)
    image = image_of(disk)
    disk.flip(victim + at)
    with pytest.raises(DamagedStoreError):
        ring.read(victim)
    assert mend(ring, copies) == ["mended"]
    assert ring.read(victim) == before
    assert image_of(disk)[victim : victim + 3100] == image[victim : victim + 3100]
    assert ring.counters["records_mended"] == 1
    ring.close()
    report = check_storage(disk.open(), "disk")
    assert not report.problems


@pytest.mark.parametrize("at", [20, 90, 2000], ids=["header", "meta", "body"])
@pytest.mark.parametrize("number", [SEALED, COUNT - 1], ids=["sealed", "head"])
def test_what_nobody_can_mend_is_shipped_without_its_body(number: int, at: int) -> None:
    """D3: the follower has the same entries and refuses to read that one; its own copy ships in turn."""
    disk, ring, copies = made()
    sequence = ring.index[key(number)].request_at and number
    assert ring.without_body(sequence) == copies[sequence], "what can be read is not lost"
    disk.flip(ring.index[key(number)].request_at + at)
    follower = open_on(FaultyDisk(), MANY)
    for expected in range(1, COUNT):
        try:
            record = next(ring.records_after(expected - 1))
        except DamagedStoreError:
            record = ring.without_body(expected)
        follower.append_foreign(record)
    settle(follower)
    assert follower.live_digest() == ring.live_digest()
    with pytest.raises(DamagedStoreError, match="damaged before it came here"):
        follower.read(follower.index[key(number)].request_at)
    right = copies[sequence]
    with pytest.raises(DamagedStoreError):
        next(follower.records_after(sequence - 1))
    again = follower.without_body(sequence)
    assert (again.flags, again.body) == (LOST, ())
    assert again[2:6] == right[2:6], "sequence, epoch, key and meta are known"


def test_only_the_right_record_is_written() -> None:
    """Another body, another job, another epoch or sequence: refused, and the damage stays reported."""
    disk, ring, copies = made()
    victim = ring.index[key(SEALED)].request_at
    for at in (2000, 20):  # the body alone; then the header too
        disk.flip(victim + at)
        with pytest.raises(DamagedStoreError):
            ring.read(victim)
        (wound,) = ring.mender.noticed()
        right = copies[wound.sequence]
        for wrong in (
            _changed(right, body=(b"x" * 3000,)),
            _changed(right, key=key(99)),
            _changed(right, epoch=right.epoch + 1),
            _changed(right, meta=b"other"),
            copies[wound.sequence + 1],
        ):
            assert not ring.mender.mend(wound, wrong, "mended")
    with pytest.raises(DamagedStoreError):
        ring.read(victim)
    assert ring.counters["records_mended"] == 0


def _changed(record: Foreign, **changes: object) -> Foreign:
    return Foreign(**{**record._asdict(), **changes})


def test_the_scrub_notices_what_nobody_reads() -> None:
    """A pass over the file finds it, and it is mended like any other."""
    disk, ring, copies = made()
    disk.flip(ring.index[key(SEALED)].request_at + 1500)
    assert ring.scrub is not None
    for _ in ring.scrub.run():
        pass
    assert mend(ring, copies) == ["mended"]
    for _ in ring.scrub.run():
        pass
    assert ring.counters["scrub_damaged"] == 1


@pytest.mark.parametrize("part", ["trailer", "rows"])
def test_a_damaged_digest_is_made_again_from_its_records(part: str) -> None:
    """Trailer or rows of a sealed chunk: no peer is needed; the next pass of the scrub finds nothing."""
    disk, ring, copies = made()
    space = ring._head.space
    base = space.offset_of(space.order[0])
    seal = ring.reader.read_seal(base, space.chunk_bytes, space.tail_turn)
    assert seal is not None
    disk.flip(seal.digest_offset + 30 if part == "rows" else base + space.chunk_bytes - 40)
    assert ring.scrub is not None
    for _ in ring.scrub.run():
        pass
    assert ring.counters["scrub_damaged"] == 1
    assert mend(ring, copies) == []
    for _ in ring.scrub.run():
        pass
    assert ring.counters["scrub_damaged"] == 1
    ring.close()
    assert not check_storage(disk.open(), "disk").problems


def test_what_is_mended_survives_a_crash_only_after_its_token() -> None:
    """The token comes back once the record is durable: a power failure behind it changes nothing."""
    disk, ring, copies = made()
    victim = ring.index[key(SEALED)].request_at
    before = ring.read(victim)
    disk.flip(victim + 2000)
    with pytest.raises(DamagedStoreError):
        ring.read(victim)
    assert mend(ring, copies) == ["mended"]
    disk.crash()
    again = open_on(disk, MANY)
    assert again.read(again.index[key(SEALED)].request_at) == before


def test_epochs_are_known_although_a_header_is_damaged() -> None:
    """The first record of a sealed chunk says which epoch begins there; the next one stands in for it."""
    disk, ring, _ = made()
    before = ring.epochs()
    disk.flip(ring.index[key(1)].request_at + 20)
    assert ring.epochs() == before
