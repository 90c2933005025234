"""The faulty disk does what it is told to, and from the same seed the same."""

import errno

import pytest

from titanic_store.shell.faulty import Fault, FaultyDisk, PowerCut


def test_what_was_synced_survives_every_crash() -> None:
    """Whole sectors that were synced and not written since are never touched."""
    for seed in range(200):
        disk = FaultyDisk(seed)
        storage = disk.open()
        storage.write_at(0, (b"a" * 8192,))
        storage.sync()
        storage.write_at(8192, (b"b" * 8192,))
        disk.crash()
        assert disk.durable[:8192] == b"a" * 8192, f"seed {seed}"


def test_what_was_not_synced_may_become_anything() -> None:
    """Over some seeds an unsynced write is there, absent, zeroed, garbage, and mixed."""
    seen = set()
    for seed in range(200):
        disk = FaultyDisk(seed)
        storage = disk.open()
        storage.allocate(8192)
        storage.write_at(0, (b"b" * 8192,))
        disk.crash()
        halves = [bytes(disk.durable[at : at + 512]) for at in (0, 4096)]
        seen.add(tuple({b"b" * 512: "kept", bytes(512): "zero"}.get(half, "garbage") for half in halves))
    assert len(seen) == 9, seen


def test_one_seed_is_one_history() -> None:
    """The same calls and the same seed leave the same bytes."""
    images = []
    for _ in range(2):
        disk = FaultyDisk(42)
        storage = disk.open()
        storage.write_at(100, (b"x" * 20000,))
        disk.crash()
        images.append(bytes(disk.durable))
    assert images[0] == images[1]


def test_faults_hit_their_call() -> None:
    """Once or for ever, with the code asked for; a short write leaves half of its bytes."""
    disk = FaultyDisk()
    storage = disk.open()
    disk.fault = Fault(1, errno.EIO, once=True)
    storage.write_at(0, (b"x",))
    with pytest.raises(OSError, match="call 1") as caught:
        storage.sync()
    assert caught.value.errno == errno.EIO
    storage.sync()
    disk.fault = Fault(3, errno.ENOSPC, short=True)
    with pytest.raises(OSError, match="short"):
        storage.write_at(0, (b"y" * 10,))
    assert storage.read_at(0, 10) == b"y" * 5
    with pytest.raises(OSError, match="short"):
        storage.write_at(0, (b"z",))


def test_a_power_cut_ends_the_call() -> None:
    """The write that was cut is left to chance; nothing handles the cut by accident."""
    disk = FaultyDisk()
    storage = disk.open()
    disk.cut_at = 0
    with pytest.raises(PowerCut):
        storage.write_at(0, (b"x" * 10,))
    assert len(disk.unsynced) == 1


def test_the_disk_gets_full() -> None:
    """ENOSPC beyond the capacity, for writes and for allocation; within it nothing changes."""
    disk = FaultyDisk(capacity_bytes=8192)
    storage = disk.open()
    storage.allocate(8192)
    with pytest.raises(OSError, match="full"):
        storage.allocate(8193)
    with pytest.raises(OSError, match="full"):
        storage.write_at(8190, (b"abc",))
    storage.write_at(8000, (b"x",))
    assert storage.size() == 8192


def test_a_misdirected_write_lands_elsewhere() -> None:
    """The place asked for keeps its bytes."""
    disk = FaultyDisk(3)
    storage = disk.open()
    storage.allocate(1 << 16)
    disk.misdirect_at = len(disk.calls)
    storage.write_at(8, (b"lost",))
    assert storage.read_at(8, 4) == bytes(4)
    assert b"lost" in disk.cache
