"""A backup of a live ring is a store of its own, as the live one was at one moment."""

from random import Random

import pytest

from tests.titanic_store.rig import CHUNK, Pebble, bodies, key, open_on, options, request, settle
from titanic_store import Kind, Ring
from titanic_store.pure.layout import ChunkState
from titanic_store.shell.checking import check_storage
from titanic_store.shell.faulty import FaultyDisk
from titanic_store.shell.image import Backups, Image


def copy(image: Image, part_bytes: int = 10_000) -> FaultyDisk:
    """A disk with the image on it."""
    disk = FaultyDisk()
    disk.durable = bytearray(image.total_bytes)
    offset = 0
    while offset < image.total_bytes:
        data, zero_bytes = image.read(offset, part_bytes)
        assert len(data) <= part_bytes
        assert data or zero_bytes, "no progress"
        disk.durable[offset : offset + len(data)] = data
        offset += len(data) + zero_bytes
    assert offset == image.total_bytes
    disk.cache = bytearray(disk.durable)
    return disk


def accepted_by_check(disk: FaultyDisk) -> None:
    storage = disk.open()
    report = check_storage(storage, "image")
    storage.close()
    assert report.clean, report.lines()
    assert report.facts["torn_bytes"] == 0
    assert report.facts["closed_in_order"] is True


def churn(ring: Ring[Pebble], random: Random, first: int, count: int, keep: int = 5) -> None:
    """Jobs come and go; ``keep`` are open at a time."""
    for number in range(first, first + count):
        request(ring, number, random.randbytes(random.randrange(4000)))
        while len(ring.index) > keep:
            oldest = next(iter(ring.index.values()))
            ring.append(Kind.REPLY, oldest, b"", (b"r" * 300,))
            ring.append(Kind.CLOSE, oldest, b"", (), "closed")
            settle(ring)
        settle(ring)


@pytest.mark.parametrize("seed", range(6))
def test_an_image_is_the_store_of_its_moment_whatever_happens_meanwhile(seed: int) -> None:
    """The ring goes round while parts are read; the image is clean, complete, and can be used (R4)."""
    random = Random(seed)
    wanted = options(max_chunks=40)
    ring = open_on(FaultyDisk(seed), wanted)
    churn(ring, random, 1, random.randrange(10, 120))
    waiting = request(ring, 5000, b"appended, not committed")
    image = Backups(ring).begin()
    expected = bodies(ring)
    settle(ring)
    churn(ring, random, 6000, 150)
    assert waiting.key not in ring.index
    assert image.intact
    disk = copy(image)
    assert image.intact
    accepted_by_check(disk)
    restored = open_on(disk, wanted)
    assert bodies(restored) == expected
    assert restored.last_seq == image.last_seq
    assert restored.id_secret == ring.id_secret
    churn(restored, random, 9000, 40)
    restored.close()
    accepted_by_check(disk)


def test_a_pin_never_costs_a_job() -> None:
    """When the ring needs the chunks of an image it takes them; the image says so, for ever."""
    ring = open_on(FaultyDisk(), options(max_chunks=6))
    churn(ring, Random(1), 1, 20)
    backups = Backups(ring)
    image = backups.begin()
    settle(ring)
    churn(ring, Random(2), 100, 400)
    assert not image.intact
    younger = backups.begin()
    settle(ring)
    assert younger.intact
    assert not image.intact
    image.release()
    assert younger.intact
    accepted_by_check(copy(younger))


def test_several_images_and_their_ends() -> None:
    """The oldest pins; released in any order, and twice, the ring is free again."""
    ring = open_on(FaultyDisk(), options(max_chunks=60))
    backups = Backups(ring)
    images = []
    for number in range(3):
        churn(ring, Random(number), number * 1000 + 1, 60)
        images.append(backups.begin())
        settle(ring)
    assert [image.intact for image in images] == [True, True, True]
    images[0].release()
    images[0].release()
    assert [image.intact for image in images[1:]] == [True, True]
    accepted_by_check(copy(images[1]))
    accepted_by_check(copy(images[2]))
    images[2].release()
    images[1].release()
    assert ring.pinned_turn == 0
    churn(ring, Random(9), 9000, 60)
    assert len(ring.layout().order) < 4


def test_a_file_that_ends_too_early_is_an_error() -> None:
    """A copy never goes on for ever, nor pretends."""
    ring = open_on(disk := FaultyDisk())
    request(ring, 1)
    settle(ring)
    image = Backups(ring).begin()
    settle(ring)
    del disk.cache[8192:]
    with pytest.raises(OSError, match="ends"):
        copy(image)


def test_a_layout_says_what_each_slot_is_good_for() -> None:
    """Alive, dead behind the tail, the head, free; turns in the order of writing."""
    ring = open_on(FaultyDisk(), options(chunks=14, max_chunks=14))
    stuck = request(ring, 1)
    settle(ring)
    number = 1
    while len(ring.layout().order) < 4:
        number += 1
        ring.append(Kind.CLOSE, request(ring, number, bytes(9000)), b"", (), "closed")
        settle(ring)
    layout = ring.layout()
    cells = layout.cells()
    assert [cells[slot].turn for slot in layout.order] == [1, 2, 3, 4]
    states = [cells[slot].state for slot in layout.order]
    assert states == [ChunkState.ALIVE, ChunkState.DEAD, ChunkState.DEAD, ChunkState.HEAD]
    assert all(cell.state is ChunkState.FREE for cell in cells if not cell.turn)
    assert cells[layout.order[0]].alive_count == 1
    assert layout.offset_of(layout.order[0]) <= stuck.request_at < layout.offset_of(layout.order[0]) + CHUNK
    assert stuck.key == key(1)
