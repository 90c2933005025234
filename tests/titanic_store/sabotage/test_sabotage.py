"""Every bug that is switched on must turn something red; with none on, everything is green."""

import contextlib
import errno
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Final
from zlib import crc32

import pytest

from tests.titanic_store.rig import Pebble, Waiting, bodies, key, open_on, options, request, settle
from tests.titanic_store.sabotage.bugs import BUGS
from tests.torture.world import World, run_history
from titanic_store import DamagedStoreError, Kind, StoreError, StoreFailedError, StoreInUseError
from titanic_store.pure.records import HEADER_BYTES, Header, encode_header
from titanic_store.shell import file as store_file
from titanic_store.shell.faulty import Fault, FaultyDisk

HISTORIES: Final = range(60)
BUG_LIMIT_S: Final = 20.0

Watch = Callable[[Path], None]


def histories(folder: Path) -> None:
    """Random trouble; see tests/torture."""
    for seed in HISTORIES:
        run_history(seed)


def a_failed_sync_ends_everything(folder: Path) -> None:
    """One error, once: no token comes back afterwards, whatever is tried (R11)."""
    for call in range(1, 4):
        disk = FaultyDisk()
        ring = open_on(disk)
        disk.fault = Fault(len(disk.calls) + call, errno.EIO, once=True)
        heard: list[object] = []
        stopped = False
        for number in range(6):
            try:
                request(ring, number)
                ring._committer._guarded_turn()
                tokens = ring.completed()
                assert not (stopped and tokens), "acknowledged after an error"
                heard += tokens
                stopped = stopped or len(disk.calls) > disk.fault.number
                assert not stopped, "an error was passed over"
            except StoreFailedError:
                stopped = True
        assert stopped


def what_came_during_a_sync_is_not_covered(folder: Path) -> None:
    """A record appended while the disk is busy waits for the next sync (R10)."""
    disk = FaultyDisk()
    ring = open_on(disk)
    storage = ring._storage
    right = storage.sync

    def busy() -> None:
        right()
        storage.sync = right  # type: ignore[method-assign]
        request(ring, 2)

    storage.sync = busy  # type: ignore[method-assign]
    request(ring, 1)
    ring._committer._guarded_turn()
    assert ring.durable_seq == 1


def a_forged_record_is_not_believed(folder: Path) -> None:
    """A payload holds the perfect imitation of the record behind it, for a store without a secret (R4)."""
    disk = FaultyDisk()
    ring = open_on(disk)
    guessed = crc32(bytes(32))
    request(ring, 1)
    settle(ring)
    place = ring.layout().head_offset
    at = place + 4096
    evil = b"evil"
    forged = Header(
        kind=Kind.REQUEST, flags=0, meta_bytes=0, body_bytes=len(evil), sequence=9, offset=at, key=key(66),
        durable_seq=8, epoch=1, incarnation=ring.incarnation, turn=1, meta_crc=guessed,
        body_crc=crc32(evil, guessed), prev_crc=0, crc=0,
    )  # fmt: skip
    body = bytes(4096 - HEADER_BYTES - 4) + encode_header(forged, guessed) + evil
    doomed = request(ring, 2, body)
    settle(ring)
    ring.abandon()
    disk.flip(doomed.request_at + 90)
    found = open_on(disk)  # refuses, if it believes what the forged record says about durability
    assert list(found.index) == [key(1)]


def a_ghost_stays_dead(folder: Path) -> None:
    """Behind a cut the same record is written again; what followed it before must not revive."""
    disk = FaultyDisk()
    ring = open_on(disk)
    request(ring, 1)
    settle(ring)
    doomed = request(ring, 2, b"same" * 100)
    settle(ring)
    ghost = request(ring, 3, b"ghost")
    settle(ring)
    ring.abandon()
    raw = bytes(disk.cache[doomed.request_at : ghost.request_at])
    disk.flip(doomed.request_at + 100)
    with contextlib.suppress(DamagedStoreError):
        ring = open_on(disk)
        raise AssertionError("a durable record was lost without a word")
    disk.locked = False
    later = bytes(disk.cache[ghost.request_at : ghost.request_at + 4096])
    disk.durable[ghost.request_at : ghost.request_at + 4096] = bytes(4096)
    disk.cache[:] = disk.durable
    ring = open_on(disk)
    assert list(ring.index) == [key(1)]
    request(ring, 2, b"same" * 100)
    settle(ring)
    ring.abandon()
    disk.durable[ghost.request_at : ghost.request_at + 4096] = later
    disk.cache[:] = disk.durable
    assert raw
    assert list(open_on(disk).index) == [key(1), key(2)]


def rot_is_never_returned(folder: Path) -> None:
    """A flipped bit of a body, and a whole record that lies in the place of another (R18)."""
    disk = FaultyDisk()
    ring = open_on(disk)
    one, two = request(ring, 1, b"one" * 50), request(ring, 2, b"two" * 50)
    settle(ring)
    disk.flip(one.request_at + 120)
    with pytest.raises(DamagedStoreError):
        ring.read(one.request_at)
    size = HEADER_BYTES + 4 + 150
    for image in (disk.durable, disk.cache):
        image[one.request_at : one.request_at + size] = image[two.request_at : two.request_at + size]
    with pytest.raises(DamagedStoreError):
        ring.read(one.request_at)


def any_damaged_sector_is_noticed(folder: Path) -> None:
    """Refused, reported at a read, or nothing is missing: never skipped (D3)."""
    disk = FaultyDisk(3)
    ring = open_on(disk, options(chunks=12, max_chunks=12))
    random = Random(3)
    for number in range(1, 25):
        pebble = request(ring, number, random.randbytes(random.randrange(9000)))
        settle(ring)
        if number % 3 == 0:
            ring.append(Kind.CLOSE, pebble, b"", (), None)
    settle(ring)
    expected = bodies(ring)
    ring.close()
    image = bytes(disk.durable)
    for at in range(0, len(image), 1536):
        if not any(image[at : at + 512]):
            continue
        disk.durable[:] = image
        disk.durable[at : at + 512] = random.randbytes(512)
        disk.cache[:] = disk.durable
        disk.locked = False
        try:
            found = open_on(disk, options(chunks=12, max_chunks=12))
        except DamagedStoreError:
            continue
        assert set(found.index) == set(expected), f"skipped silently: sector at {at}"
        for name, entry in found.index.items():
            with contextlib.suppress(DamagedStoreError):
                assert [found.read(entry.request_at)[1]] == expected[name], f"changed: sector at {at}"


def a_misdirected_chunk_header_does_not_count(folder: Path) -> None:
    """The header of the head lands in a free slot as well."""
    disk = FaultyDisk()
    ring = open_on(disk)
    request(ring, 1)
    settle(ring)
    ring.close()
    for image in (disk.durable, disk.cache):
        image[8192 + 65536 : 8192 + 65536 + 80] = image[8192 : 8192 + 80]
    assert list(open_on(disk).index) == [key(1)]


def relocation_keeps_everything(folder: Path) -> None:
    """Jobs stay open with replies while many others pass; order, bytes and replies survive; closes count."""
    for seed in range(4):
        world = World(seed, max_chunks=6)
        for number in range(1, 9):
            world.request(700)
            if number % 2:
                world.reply(number)
        world.commit()
        for _ in range(60):
            world.request(9000)
            number = len(world.jobs)
            world.commit()
            if number in world.jobs:
                world.close(number)
            if number > 30 and number % 9 == 0 and len(world.usable()) > 4:
                world.close(world.usable()[0])
                for _ in range(4):
                    world.listen()  # a relocation must not overtake the close on its way
            world.commit()
        assert world.ring.counters["records_relocated"], "nothing was moved"
        world.close_in_order()
        assert len(world.ring.index) == 4


def endings_always_find_room(folder: Path) -> None:
    """The ring is filled until it refuses; every accepted job is replied to and closed (R8)."""
    ring = open_on(FaultyDisk(), options(max_chunks=6))
    accepted: list[Pebble] = []
    for number in range(400):
        try:
            accepted.append(request(ring, number, bytes(1500)))
            settle(ring)
        except StoreError:
            break
    assert 40 < len(accepted) < 400
    for pebble in accepted:
        ring.append(Kind.ATTEMPT, pebble, b"step")
        ring.append(Kind.REPLY, pebble, b"", (bytes(900),))
        settle(ring)
    for pebble in accepted:
        ring.append(Kind.CLOSE, pebble, b"")
        settle(ring)
    assert not ring.index


def a_close_frees_nothing_before_it_is_durable(folder: Path) -> None:
    """The accounts and the positions change when the close came back, not before (R6)."""
    ring = open_on(FaultyDisk())
    pebble = request(ring, 1)
    settle(ring)
    before = ring.layout().alive_counts
    ring.append(Kind.CLOSE, pebble, b"", (), "closed")
    assert ring.layout().alive_counts == before
    assert ring.read(pebble.request_at)[1] == b"body"
    assert settle(ring) == ["closed"]


def a_close_outlives_what_it_closed(folder: Path) -> None:
    """Its request lies in an older chunk that stays because of another job: closed is closed."""
    disk = FaultyDisk()
    wanted = options(chunks=14, max_chunks=14)
    ring = open_on(disk, wanted)
    keeper, closed = request(ring, 1), request(ring, 2)
    settle(ring)
    for number in range(10, 130):
        ring.append(Kind.CLOSE, request(ring, number, bytes(6000)), b"")
        settle(ring)
        if number == 40:
            ring.append(Kind.CLOSE, closed, b"")
    ring.close()
    assert list(open_on(disk, wanted).index) == [keeper.key]


def damage_to_the_last_record_of_a_closed_store_is_damage(folder: Path) -> None:
    """The orderly close said how far it is durable (R5)."""
    disk = FaultyDisk()
    ring = open_on(disk)
    pebble = request(ring, 1)
    settle(ring)
    ring.close()
    disk.flip(pebble.request_at + 5)
    with pytest.raises(DamagedStoreError):
        open_on(disk)


def a_short_write_is_completed(folder: Path) -> None:
    """The kernel may take less than it was given (R13)."""
    storage = store_file.open_file(folder / "short", create=True)
    right = os.pwrite
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pwrite", lambda fd, data, offset: right(fd, memoryview(data)[:1000], offset))
        storage.write_at(0, (b"x" * 5000,))
    assert storage.read_at(0, 5000) == b"x" * 5000
    storage.close()


def there_is_one_opener(folder: Path) -> None:
    """The second one is told so (R14)."""
    first = Waiting(folder / "ring", options())
    try:
        with pytest.raises(StoreInUseError):
            store_file.open_file(folder / "ring").close()
    finally:
        first.ring.close()


WATCHES: Final[tuple[Watch, ...]] = (
    what_came_during_a_sync_is_not_covered,
    a_failed_sync_ends_everything,
    a_forged_record_is_not_believed,
    a_ghost_stays_dead,
    rot_is_never_returned,
    a_misdirected_chunk_header_does_not_count,
    a_close_frees_nothing_before_it_is_durable,
    a_close_outlives_what_it_closed,
    damage_to_the_last_record_of_a_closed_store_is_damage,
    a_short_write_is_completed,
    there_is_one_opener,
    endings_always_find_room,
    relocation_keeps_everything,
    any_damaged_sector_is_noticed,
    histories,
)


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Hundreds of torn tails are not news."""
    caplog.set_level(logging.CRITICAL, logger="titanic_store")


def assert_green(watch: Watch, folder: Path) -> None:
    """The watch sees nothing."""
    watch(folder)


@pytest.mark.parametrize("watch", WATCHES, ids=lambda watch: watch.__name__)
def test_without_a_bug_everything_is_green(watch: Watch, tmp_path: Path) -> None:
    """A watch that is always red proves nothing."""
    assert_green(watch, tmp_path)


@pytest.mark.slow
@pytest.mark.interpreted
@pytest.mark.parametrize("name", BUGS)
def test_every_bug_turns_something_red(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Switched on alone, the bug is noticed by a watch, within the time."""
    started = time.monotonic()
    BUGS[name](monkeypatch)
    for number, watch in enumerate(WATCHES):
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            watch(folder)
        except (Exception, pytest.fail.Exception) as error:
            print(f"{name}: seen by {watch.__name__}: {type(error).__name__}")
            break
        assert time.monotonic() - started < BUG_LIMIT_S, "too slow"
    else:
        raise AssertionError(f"{name} ({BUGS[name].__doc__}) was noticed by nothing")


def test_there_are_enough_bugs() -> None:
    """The list does not shrink unnoticed."""
    assert len(BUGS) >= 25
