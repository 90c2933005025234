"""The scrub finds rot in sealed chunks, and nothing else."""

from pathlib import Path

import pytest

from tests.support.processes import until as wait_until
from tests.titanic_store.rig import CHUNK, Keeper, Pebble, key, open_on, options, request, settle
from titanic_store import Kind, Ring, open_ring
from titanic_store.shell.faulty import Fault, FaultyDisk
from titanic_store.shell.scrub import SLICE_BYTES, Scrub

MANY = options(max_chunks=30)


def made(disk: FaultyDisk) -> tuple[Ring[Pebble], Scrub]:
    """A ring of some sealed chunks, nothing on its way."""
    ring = open_on(disk, MANY)
    for number in range(1, 60):
        request(ring, number, bytes([number]) * 3000)
        settle(ring)
    assert ring.scrub is not None
    return ring, ring.scrub


def run(scrub: Scrub) -> int:
    """One pass; how many slices it took."""
    return sum(1 for _ in scrub.run())


def test_a_healthy_store_has_no_damage() -> None:
    """A pass reads all sealed records, in small slices, and writes nothing."""
    disk = FaultyDisk()
    ring, scrub = made(disk)
    calls = len(disk.calls)
    slices = run(scrub)
    assert (scrub.pass_count, scrub.damaged_count) == (1, 0)
    assert scrub.checked_bytes > 2 * CHUNK
    assert slices >= scrub.checked_bytes // (2 * SLICE_BYTES)
    assert set(disk.calls[calls:]) == {"read_at"}
    assert ring.counters["scrub_passes"] == 1


@pytest.mark.parametrize("at", [4, 20, 60, 90, 2000])
def test_rot_is_counted_and_logged(at: int, caplog: pytest.LogCaptureFixture) -> None:
    """A flipped bit in header, meta or body of a record nobody reads is found, with its offset."""
    disk = FaultyDisk()
    ring, scrub = made(disk)
    victim = ring.index[key(5)].request_at
    disk.flip(victim + at)
    run(scrub)
    assert ring.counters["scrub_damaged"] == 1
    assert f"offset {victim}" in caplog.text


def test_an_unreadable_digest_or_disk_is_damage() -> None:
    """The digest, or a sector that the disk cannot read."""
    disk = FaultyDisk()
    _, scrub = made(disk)
    space = made(FaultyDisk())[0]._head.space
    disk.flip(space.offset_of(space.order[0]) + CHUNK - 50)
    run(scrub)
    assert scrub.damaged_count == 1
    disk = FaultyDisk()
    _, scrub = made(disk)
    disk.fault = Fault(len(disk.calls) + 8, once=True)
    run(scrub)
    assert scrub.damaged_count == 1


def test_a_chunk_that_is_used_again_meanwhile_is_no_damage() -> None:
    """Between two slices the ring goes round and overwrites what was being read."""
    disk = FaultyDisk()
    ring = open_on(disk)
    for number in range(300):
        ring.append(Kind.CLOSE, request(ring, number, bytes([number % 251]) * 3000), b"")
        settle(ring)
    assert ring.scrub is not None
    number = 1000
    for _ in ring.scrub.run():
        for _ in range(30):
            number += 1
            ring.append(Kind.CLOSE, request(ring, number, bytes([number % 251]) * 3000), b"")
            settle(ring)
    assert ring.scrub.damaged_count == 0


def test_a_seal_on_its_way_is_no_damage() -> None:
    """Chunks that turned in memory only are not looked at yet."""
    ring, scrub = made(FaultyDisk())
    for number in range(100, 140):
        request(ring, number, bytes(3000))
    run(scrub)
    assert scrub.damaged_count == 0


def test_the_thread_scrubs_by_itself(tmp_path: Path) -> None:
    """On a real file, in the background; closing the ring ends it."""
    wanted = options(max_chunks=30)
    ring = open_ring(tmp_path / "titanic.ring", Keeper(), wanted)
    for number in range(1, 60):
        request(ring, number, bytes([number]) * 3000)
    ring.close()
    ring = open_ring(tmp_path / "titanic.ring", Keeper(), wanted)  # its first pass finds all of it
    scrub = ring.scrub
    assert scrub is not None

    wait_until("a pass of the scrub", lambda: scrub.pass_count > 0)
    assert scrub.damaged_count == 0
    assert scrub.checked_bytes > 2 * CHUNK
    ring.close()
