"""Records, pins and images from a file at rest."""

from pathlib import Path
from random import Random

import pytest

from tests.titanic_store.rig import Waiting, key, open_on, options, request, settle
from titanic_store import DamagedStoreError, Kind, NotAStoreError
from titanic_store.shell.checking import check_storage
from titanic_store.shell.faulty import FaultyDisk
from titanic_store.shell.resting import Gap, Record, RestingStore


def used() -> FaultyDisk:
    """Sixty jobs of 3,000 bytes over four chunks, closed in order."""
    disk = FaultyDisk()
    ring = open_on(disk, options(chunks=12, max_chunks=12))  # plenty of room, so that nothing is moved
    for number in range(1, 61):
        request(ring, number, Random(number).randbytes(3000))
        settle(ring)
    ring.close()
    return disk


def listed(disk: FaultyDisk) -> list[Record | Gap]:
    with RestingStore(Path("disk"), disk.open()) as store:
        return [
            row._replace(body=memoryview(bytes(row.body))) if isinstance(row, Record) else row
            for row in store.records()
        ]


def test_every_record_is_there_in_order() -> None:
    """Sequence, key, meta and body as they were appended."""
    rows = listed(used())
    assert [row.sequence for row in rows if isinstance(row, Record)] == list(range(1, 61))
    for number, row in enumerate(rows, 1):
        assert isinstance(row, Record)
        assert (row.kind, row.key, row.meta, row.moved) == (Kind.REQUEST, key(number), b"meta", False)
        assert row.body == Random(number).randbytes(3000)


@pytest.mark.parametrize("what", ["body", "header"])
def test_damage_is_a_gap_and_later_chunks_are_still_listed(what: str) -> None:
    """An opening refuses; a dump says where, and goes on with the next chunk."""
    disk = used()
    rows = listed(disk)
    third, last_turn = rows[2], rows[-1]
    assert isinstance(third, Record)
    assert isinstance(last_turn, Record)
    disk.flip(third.offset + (200 if what == "body" else 3))
    found = listed(disk)
    gaps = [row for row in found if isinstance(row, Gap)]
    assert len(gaps) == 1
    assert gaps[0].offset <= third.offset
    assert "record 3" in gaps[0].reason
    numbers = [row.sequence for row in found if isinstance(row, Record)]
    assert numbers[:2] == [1, 2]
    assert numbers[-1] == 60
    assert 3 not in numbers


def test_a_missing_chunk_is_a_gap() -> None:
    """The header of a chunk in the middle rots."""
    disk = used()
    second = next(row for row in listed(disk) if isinstance(row, Record) and row.turn == 2)
    disk.flip(second.offset - 4096 + 9)
    gaps = [row for row in listed(disk) if isinstance(row, Gap)]
    assert [gap.reason for gap in gaps] == ["turn 3 does not follow the record before it"]


def test_a_torn_tail_is_no_gap() -> None:
    """What was never acknowledged is not missed."""
    disk = FaultyDisk()
    ring = open_on(disk)
    request(ring, 1)
    settle(ring)
    torn = request(ring, 2, bytes(9000))
    settle(ring)
    ring.abandon()
    disk.flip(torn.request_at + 5000)
    assert [type(row) for row in listed(disk)] == [Record]


def test_an_image_of_a_torn_store_is_clean() -> None:
    """What an opening would cut is not in it; the rest is."""
    disk = FaultyDisk()
    ring = open_on(disk)
    request(ring, 1)
    settle(ring)
    torn = request(ring, 2, bytes(9000))
    settle(ring)
    ring.abandon()
    disk.flip(torn.request_at + 5000)
    with RestingStore(Path("disk"), disk.open()) as store:
        image = store.image()
        copy = FaultyDisk()
        copy.cache = bytearray(image.total_bytes)
        offset = 0
        while offset < image.total_bytes:
            data, zero_bytes = image.read(offset, 1 << 20)
            copy.cache[offset : offset + len(data)] = data
            offset += len(data) + zero_bytes
    copy.durable = bytearray(copy.cache)
    report = check_storage(storage := copy.open(), "copy")
    storage.close()
    assert report.clean, report.lines()
    assert report.facts["torn_bytes"] == 0
    assert list(open_on(copy).index) == [key(1)]


def test_pins_are_the_entries_of_the_oldest_chunk() -> None:
    """Request and reply alike, the oldest first, no more than asked for."""
    disk = used()
    with RestingStore(Path("disk"), disk.open()) as store:
        pins = store.pins(5)
        assert [(pin.key, pin.part) for pin in pins] == [(key(number), "request") for number in range(1, 6)]
        assert store.pins(0) == []


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    """Neither an empty file nor a text nor zeros."""
    for content in (b"", b"hello\n" * 5000, bytes(100_000)):
        path = tmp_path / "file"
        path.write_bytes(content)
        with RestingStore(path) as store, pytest.raises(NotAStoreError):
            list(store.records())


def test_without_a_whole_chunk_there_is_nothing_to_list() -> None:
    """The superblock alone is damage."""
    disk = used()
    for row in listed(disk):
        if isinstance(row, Record):
            at = 8192 + (row.offset - 8192) // (64 * 1024) * 64 * 1024
            disk.cache[at : at + 80] = bytes(80)
    with pytest.raises(DamagedStoreError):
        listed(disk)


def test_a_live_store_is_not_read(tmp_path: Path) -> None:
    """The lock of the one that writes is respected (R14)."""
    from titanic_store import StoreInUseError

    waiting = Waiting(tmp_path / "ring", options())
    with pytest.raises(StoreInUseError):
        RestingStore(tmp_path / "ring")
    waiting.ring.close()
    RestingStore(tmp_path / "ring").close()
