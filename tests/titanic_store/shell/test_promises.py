"""What is promised is kept (R8): the room of accepted jobs' endings is nobody else's, full disk or not."""

import errno
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from tests.titanic_store.rig import CHUNK, SILENT, Pebble, Waiting, key, open_on, options, request, settle
from titanic_store import (
    Crowd,
    Foreign,
    Kind,
    Options,
    Ring,
    RingBusyError,
    RingFullError,
    StoreUnwritableError,
)
from titanic_store.shell.faulty import FaultyDisk

KEPT: int = 1024


def fill(ring: Ring[Pebble], random: Random, sizes: tuple[int, ...]) -> list[Pebble]:
    """Requests until even the smallest is refused for good."""
    accepted: list[Pebble] = []
    left = sorted(sizes)
    for number in range(1, 100_000):
        try:
            accepted.append(request(ring, number, bytes(random.choice(left))))
        except RingBusyError:
            pass
        except RingFullError:
            left.pop()
            if not left:
                return accepted
        settle(ring)
    raise AssertionError("it never fills up")


def stored(ring: Ring[Pebble], pebble: Pebble, size: int) -> bool:
    """Whether the reply was taken."""
    try:
        ring.append(Kind.REPLY, pebble, b"r" * 40, (bytes(size),), ("replied", pebble.key))
    except RingFullError:
        return False
    return True


def end_all(ring: Ring[Pebble], accepted: list[Pebble], random: Random) -> int:
    """Every job is dispatched, replied to (one in three with much more than is kept) and closed; refusals.

    A reply that is refused is followed by one that fits. Nothing else may be refused.
    """
    refused = 0
    open_ = list(accepted)
    random.shuffle(open_)
    for pebble in open_:
        ring.append(Kind.ATTEMPT, pebble, b"started" * 4)
        if random.random() < 0.5:
            settle(ring)
        big = random.random() < 0.33
        if not (big and stored(ring, pebble, random.choice((6000, 30_000)))):
            refused += big
            assert stored(ring, pebble, random.randrange(KEPT + 1)), "a reply within what is kept"
        if random.random() < 0.7:
            settle(ring)
    settle(ring)
    for pebble in open_:
        ring.append(Kind.CLOSE, pebble, b"closed by the client", (), "closed")
        if random.random() < 0.7:
            settle(ring)
    settle(ring)
    return refused


@pytest.mark.parametrize("seed", range(12))
def test_all_that_was_accepted_ends(seed: int) -> None:
    """Full: every reply of up to 1 KiB is stored, every close works; only larger replies may be refused."""
    print(f"seed {seed}")
    random = Random(seed)
    wanted = options(max_chunks=random.choice((6, 7, 12, 30)))
    disk = FaultyDisk(seed)
    ring = open_on(disk, wanted)
    sizes = random.choice(((0,), (300,), (0, 300, 9000), (20_000, 40_000), (3000, 100)))
    accepted = fill(ring, random, sizes)
    if seed % 2:
        ring.close()
        ring = open_on(disk, wanted)
        accepted = list(ring.index.values())
    end_all(ring, accepted, random)
    assert not ring.index
    assert ring.gauges["live_bytes"] == ring.gauges["reserved_bytes"] == 0
    assert len(disk.cache) <= wanted.max_bytes
    ring.close()
    assert not open_on(disk, wanted).index


@pytest.mark.parametrize("seed", range(8))
def test_the_disk_may_be_full(seed: int) -> None:
    """No byte more on the disk than the file has: what was accepted ends all the same (B1)."""
    print(f"seed {seed}")
    random = Random(seed)
    disk, wanted = FaultyDisk(seed), options(max_chunks=60)
    ring = open_on(disk, wanted)
    few = [request(ring, 1_000_000 + number, bytes(200)) for number in range(random.randrange(60))]
    settle(ring)
    disk.capacity_bytes = len(disk.cache) + random.choice((0, CHUNK, 3 * CHUNK + 100))
    accepted = fill(ring, random, random.choice(((0,), (300, 3000), (9000, 100))))
    disk.capacity_bytes = len(disk.cache)
    end_all(ring, accepted + few, random)
    assert not ring.index
    assert len(disk.cache) == disk.capacity_bytes


@pytest.mark.parametrize("seed", range(3))
def test_records_about_what_is_not_here_take_nobodys_room(seed: int) -> None:
    """P7: closes of the other node's jobs fill a full store as they like; all that was accepted ends."""
    random = Random(seed)
    ring = open_on(FaultyDisk(seed), options(max_chunks=random.choice((6, 7, 12))))
    accepted = fill(ring, random, (100, 3_000))
    taken = 0
    with suppress(RingFullError):
        for number in range(5_000):
            ring.append_about(Kind.CLOSE, key(1_000_000 + number), b"closed by the client", None)
            taken += 1
            if random.random() < 0.1:
                settle(ring)
    assert taken == 5_000, "they are dead as soon as they are written"
    end_all(ring, accepted, random)
    assert not ring.index


def test_large_replies_share_what_is_free_and_no_more() -> None:
    """They fill the room of nobody else; the refusal says how much was free; closing makes room again."""
    ring = open_on(FaultyDisk(), options(max_chunks=12))
    accepted = fill(ring, Random(1), (500,))
    taken = 0
    while stored(ring, accepted[taken], 9000):
        taken += 1
        settle(ring)
    assert 0 < taken < len(accepted) // 3
    with pytest.raises(RingFullError) as caught:
        ring.append(Kind.REPLY, accepted[taken], b"", (bytes(9000),))
    assert KEPT <= caught.value.free_bytes < 9000 < caught.value.need_bytes
    for pebble in accepted[-10:]:
        ring.append(Kind.CLOSE, pebble, b"")
    settle(ring)
    assert stored(ring, accepted[taken], 9000)
    settle(ring)
    for pebble in accepted[taken + 1 : -10]:
        assert stored(ring, pebble, KEPT)
        settle(ring)


def test_what_is_kept_can_be_chosen() -> None:
    """With 8 KiB kept for each reply fewer jobs are accepted, and each may have its 8 KiB."""
    least, most = options(max_chunks=12), replace(options(max_chunks=12), reply_reserve_bytes=8192)
    few = fill(open_on(FaultyDisk(), most), Random(2), (500,))
    ring = open_on(FaultyDisk(), most)
    few = fill(ring, Random(2), (500,))
    assert len(few) < len(fill(open_on(FaultyDisk(), least), Random(2), (500,))) // 2
    for pebble in few:
        assert stored(ring, pebble, 8192)
        settle(ring)


def silent(number: int) -> Pebble:
    """An idempotency key, or a setting: nobody ever replies to it."""
    return Pebble(SILENT + key(number)[1:])


def test_what_gets_no_reply_keeps_room_for_none() -> None:
    """Counted when it comes, opens anew, moves, is shipped to a peer, read at a start, closed."""
    disk, wanted = FaultyDisk(), options(max_chunks=40)
    ring, other = open_on(disk, wanted), open_on(FaultyDisk(1), wanted)

    shipped: list[Foreign | Crowd] = []
    ring.tap = shipped.append

    def reserved(now: Ring[Pebble], jobs: int, others: int) -> bool:
        return now.gauges["reserved_bytes"] == jobs * (512 + KEPT + 256) + others * 512

    for number in range(40):
        request(ring, number, bytes(4000))
        ring.append(Kind.KEY, silent(number), b"key")
    ring.append(Kind.SETTING, silent(100), b"setting")
    ring.append(Kind.KEY, silent(0), b"again")
    settle(ring)
    assert reserved(ring, 40, 41)
    while ring.relocator.moved_count < 20:
        assert ring.relocator.move(32, 1 << 20)
        settle(ring)
    other.append_foreign_all(shipped, "shipped")
    settle(other)
    assert reserved(other, 40, 41)
    for number in range(10):
        ring.append(Kind.CLOSE, ring.index[silent(number).key], b"")
        ring.append(Kind.REPLY, ring.index[key(number)], b"", (b"reply",))
    settle(ring)
    assert reserved(ring, 30, 31 + 10)
    ring.close()
    ring = open_on(disk, wanted)
    assert reserved(ring, 30, 31 + 10)
    for entry in list(ring.index.values()):
        ring.append(Kind.CLOSE, entry, b"")
    settle(ring)
    assert reserved(ring, 0, 0)


def test_keys_fill_a_store_later_than_jobs() -> None:
    """Each costs its bytes and its close, a job a reply besides; what was accepted ends all the same."""
    ring, accepted = open_on(FaultyDisk(), options(max_chunks=12)), 0
    jobs = len(fill(open_on(FaultyDisk(), options(max_chunks=12)), Random(1), (0,)))
    with suppress(RingFullError):
        for accepted in range(3 * jobs):
            ring.append(Kind.KEY, silent(accepted), b"meta")
            settle(ring)
    assert 1.5 * jobs < accepted < 3 * jobs - 1
    for entry in list(ring.index.values()):
        ring.append(Kind.CLOSE, entry, b"closed by the client", (), "closed")
        settle(ring)
    assert not ring.index


def test_a_full_store_is_counted_before_a_reply_is_refused() -> None:
    """After a restart the sum of what lives is only an upper bound: it is looked up rather than believed."""
    disk, wanted = FaultyDisk(), options(max_chunks=8)
    ring = open_on(disk, wanted)
    pebbles = [request(ring, number, bytes(200 if number % 4 else 25_000)) for number in range(12)]
    settle(ring)
    for number in (0, 4, 8):
        ring.append(Kind.CLOSE, pebbles[number], b"")
    settle(ring)
    ring.abandon()
    disk.locked = False
    ring = open_on(disk, wanted)
    bound = ring.gauges["live_bytes"]
    assert bound > 60_000
    replied = 0
    for pebble in ring.index.values():
        assert stored(ring, pebble, 14_000)
        settle(ring)
        replied += 1
    assert replied == 9


def test_releases_take_off_what_was_charged() -> None:
    """Small and large records in one slot: after the large are closed the small ones alone are counted."""
    ring = open_on(FaultyDisk(), options(max_chunks=30))
    large = [request(ring, number, bytes(9000)) for number in range(4)]
    for number in range(10, 14):
        request(ring, number, bytes(100))
    settle(ring)
    for pebble in large:
        ring.append(Kind.CLOSE, pebble, b"")
    settle(ring)
    assert ring.gauges["live_bytes"] < 4 * 300


class Wordy:
    """An owner whose state is as long as it may be."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def snapshot(self, entry: Pebble, max_bytes: int) -> bytes:
        self.asked.append(max_bytes)
        return bytes(min(max_bytes, 1500))


def test_long_states_give_way_to_promises() -> None:
    """While there is room a relocated state may be long; in a full store it is cut, and every job ends."""
    ring = open_on(FaultyDisk(), options(max_chunks=8))
    wordy = Wordy()
    ring._owner.snapshot = ring.relocator._owner.snapshot = wordy.snapshot  # type: ignore[method-assign]
    random = Random(3)
    accepted = fill(ring, random, (300,))
    for number in range(1500):
        ring.append(Kind.ATTEMPT, accepted[number % len(accepted)], b"failed" * 10)
        settle(ring)
    assert ring.relocator.moved_count > len(accepted)
    assert min(wordy.asked) == 224
    end_all(ring, accepted, random)
    assert not ring.index


def test_room_on_the_disk_is_there_before_it_is_promised() -> None:
    """The file is as long as its promises need, within the limit; the rest is given back when idle (R9)."""
    disk, wanted = FaultyDisk(), options(max_chunks=40)
    ring = open_on(disk, wanted)
    accepted = [request(ring, number, b"") for number in range(400)]
    settle(ring)
    assert ring.gauges["reserved_bytes"] == 400 * (512 + 1280)
    assert len(disk.cache) == ring.gauges["allocated_bytes"]
    assert ring.file_bytes < ring.gauges["allocated_bytes"] <= wanted.max_bytes
    room = len(disk.cache) - 2 * CHUNK
    assert room * 0.8 > ring.gauges["reserved_bytes"] + ring.gauges["live_bytes"]
    for pebble in accepted:
        ring.append(Kind.CLOSE, pebble, b"")
    settle(ring)
    ring._committer.idle = True
    for _ in range(50):
        settle(ring)
    assert len(disk.cache) == ring.file_bytes == 8192 + 6 * CHUNK


def test_a_longer_file_is_remembered_at_open() -> None:
    """What was allocated before a crash backs the promises of the file that is opened again."""
    disk, wanted = FaultyDisk(), options(max_chunks=40)
    ring = open_on(disk, wanted)
    for number in range(400):
        request(ring, number, b"")
    settle(ring)
    ring.abandon()
    size = len(disk.cache)
    disk.crash()
    disk.capacity_bytes = size
    ring = open_on(disk, wanted)
    assert ring.gauges["allocated_bytes"] == size
    end_all(ring, [ring.index[key(number)] for number in range(400)], Random(4))


def sparse(path: Path) -> None:
    """A closed store with a hole for every page of zeros, as `restore` writes it."""
    waiting = Waiting(path, options(chunks=8, max_chunks=40))
    request(waiting.ring, 1)
    waiting.wait(1)
    waiting.ring.close()
    raw = path.read_bytes()
    path.unlink()
    with path.open("wb") as file:
        for at in range(0, len(raw), 4096):
            page = raw[at : at + 4096]
            file.seek(len(page), os.SEEK_CUR) if not any(page) else file.write(page)
        file.truncate(len(raw))


def holes_bytes(path: Path) -> int:
    found = path.stat()
    return max(0, found.st_size - found.st_blocks * 512)


def test_a_file_with_holes_gets_its_room_at_open(tmp_path: Path) -> None:
    """What is promised is there: a restored store has its bytes on the disk before it accepts a job (R9)."""
    path = tmp_path / "titanic.ring"
    sparse(path)
    if not holes_bytes(path):
        pytest.skip("this file system keeps no holes")
    waiting = Waiting(path, options(max_chunks=40))
    assert not holes_bytes(path)
    assert set(waiting.ring.index) == {key(1)}
    waiting.ring.close()


def test_a_file_with_holes_on_a_full_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the start and by name, not in the middle of a commit."""
    path = tmp_path / "titanic.ring"
    sparse(path)
    if not holes_bytes(path):
        pytest.skip("this file system keeps no holes")

    def full(fd: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(StoreUnwritableError, match="make room on the disk"):
        Waiting(path, options(max_chunks=40))
    monkeypatch.undo()
    Waiting(path, options(max_chunks=40)).ring.close()


def test_options_say_what_is_kept() -> None:
    """The gauge tells what a reply may always have."""
    assert Options().reply_reserve_bytes == KEPT
    assert open_on(FaultyDisk()).gauges["reply_reserve_bytes"] == KEPT
