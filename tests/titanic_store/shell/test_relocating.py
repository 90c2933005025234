"""Space: one open job pins nothing, a full store ends what it accepted, the file grows and shrinks."""

import errno
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from tests.titanic_store.rig import (
    CHUNK,
    Pebble,
    Waiting,
    bodies,
    key,
    open_on,
    options,
    request,
    settle,
    until,
)
from titanic_store import DamagedStoreError, Kind, Policy, Ring, RingBusyError, RingFullError
from titanic_store.pure.options import MIB
from titanic_store.pure.records import LOST
from titanic_store.shell.faulty import Fault, FaultyDisk


def churn(ring: Ring[Pebble], first: int, count: int, size: int = 3000) -> None:
    """Jobs that are accepted, replied and closed, one commit each."""
    for number in range(first, first + count):
        pebble = request(ring, number, bytes([number % 251]) * size)
        settle(ring)
        ring.append(Kind.ATTEMPT, pebble, b"started")
        ring.append(Kind.REPLY, pebble, b"r", (bytes(100),), "replied")
        settle(ring)
        ring.append(Kind.CLOSE, pebble, b"", (), "closed")
        settle(ring)


def test_one_job_open_for_ever_costs_its_own_bytes() -> None:
    """The ring goes round 20 times; the file stays at its floor, the job keeps all it had (R7, B1)."""
    disk = FaultyDisk()
    ring = open_on(disk, options(max_chunks=30))
    stuck = request(ring, 1, b"for ever", b"important")
    ring.append(Kind.ATTEMPT, stuck, b"once")
    ring.append(Kind.REPLY, stuck, b"done", (b"my reply",))
    churn(ring, 100, 1500)
    assert ring.file_bytes == options().max_bytes
    assert ring._head.space.head_turn > 6 * 20
    assert bodies(ring) == {key(1): [b"for ever", b"my reply"]}
    assert ring.read(stuck.request_at)[0] == b"important"
    ring.close()
    ring = open_on(disk, options(max_chunks=30))
    again = ring.index[key(1)]
    assert bodies(ring) == {key(1): [b"for ever", b"my reply"]}
    kinds = [kind for kind, _, _ in again.told]
    assert kinds[:2] == [Kind.REQUEST, Kind.JOB]
    assert kinds[-1] == Kind.REPLY
    assert again.told[0] == (Kind.REQUEST, b"important", 1), "its place in the order of acceptance"


def test_a_step_is_bounded() -> None:
    """However much lives in the oldest chunk, one call moves no more than its share (R7)."""
    ring = open_on(FaultyDisk(), options(chunks=6, max_chunks=6))
    kept = [request(ring, number, bytes(20)) for number in range(1, 80)]
    settle(ring)
    most, number = 0, 1000
    while ring.relocator.moved_count < len(kept):
        before = ring.relocator.moved_count
        churn(ring, number, 1)
        most = max(most, ring.relocator.moved_count - before)
        number += 1
    assert 0 < most <= 3 * (32 + 4 * 4)
    assert len(ring.index) == len(kept)


@pytest.mark.parametrize("kind", [Kind.CLOSE, Kind.ATTEMPT, Kind.REPLY])
def test_what_has_a_record_on_its_way_is_not_moved(kind: Kind) -> None:
    """A relocation behind a close would open the job again; behind a note it might forget it."""
    ring = open_on(FaultyDisk(), options(max_chunks=30))
    busy = request(ring, 1, b"busy")
    settle(ring)
    churn(ring, 100, 30)
    ring._head.pressed_turn = ring._head.space.head_turn
    ring.append(kind, busy, b"x")
    assert ring.relocator.move(100, MIB) == 0
    settle(ring)
    settle(ring)
    if kind is Kind.CLOSE:
        assert not ring.index
    else:
        assert ring.relocator.moved_count > 0
        assert key(1) in ring.index


def test_a_closed_job_does_not_come_back() -> None:
    """Jobs close while the ring relocates, power cut after every commit: none of them is open again."""
    random = Random(17)
    disk = FaultyDisk(17)
    ring, live, number = open_on(disk, options(max_chunks=30)), set[int](), 0
    for _ in range(60):
        for _ in range(12):
            number += 1
            request(ring, number, random.randbytes(random.randrange(2500)))
            live.add(number)
            if len(live) > 10:
                victim = random.choice(sorted(live))
                live.discard(victim)
                ring.append(Kind.CLOSE, ring.index[key(victim)], b"", (), "closed")
            if random.random() < 0.4:
                settle(ring)
        settle(ring)
        ring.abandon()
        disk.crash()
        ring = open_on(disk, options(max_chunks=30))
        assert {int.from_bytes(name) for name in ring.index} == live
    assert ring.incarnation == 61


def test_a_damaged_record_moves_without_its_body() -> None:
    """It does not pin the ring, is counted, and reading it is still an error, also after a restart (R18)."""
    disk = FaultyDisk()
    ring = open_on(disk, options(max_chunks=30))
    stuck = request(ring, 1, b"will rot" * 50)
    settle(ring)
    disk.flip(stuck.request_at + 200)
    churn(ring, 100, 200)
    assert ring.counters["records_lost"] == 1
    assert ring.file_bytes == options().max_bytes
    with pytest.raises(DamagedStoreError, match="before it came here"):
        ring.read(stuck.request_at)
    ring.close()
    ring = open_on(disk, options(max_chunks=30))
    with pytest.raises(DamagedStoreError, match="before it came here"):
        ring.read(ring.index[key(1)].request_at)
    assert ring.reader.read_header(ring.index[key(1)].request_at).flags & LOST


def test_a_damaged_digest_does_not_pin_the_ring() -> None:
    """What lives in its chunk is found by the index instead."""
    disk = FaultyDisk()
    ring = open_on(disk, options(max_chunks=30))
    request(ring, 1, b"stuck")
    settle(ring)
    churn(ring, 100, 10)
    base = ring._head.space.offset_of(ring._head.space.order[0])
    disk.flip(base + CHUNK - 300)
    churn(ring, 200, 200)
    assert ring.file_bytes == options().max_bytes
    assert bodies(ring) == {key(1): [b"stuck"]}


def fill(ring: Ring[Pebble], size: int) -> list[Pebble]:
    """Requests until one is refused for good."""
    accepted: list[Pebble] = []
    for number in range(100_000):
        try:
            accepted.append(request(ring, number, bytes(size)))
        except RingBusyError:
            settle(ring)
        except RingFullError:
            return accepted
        settle(ring)
    raise AssertionError("it never fills up")


@pytest.mark.parametrize("size", [0, 200, 3000, 20_000])
@pytest.mark.parametrize("max_chunks", [6, 20])
def test_a_full_store_ends_all_it_accepted(size: int, max_chunks: int) -> None:
    """Full: each job is dispatched thrice, replied, closed, one commit each; nothing is refused (R8)."""
    disk = FaultyDisk()
    wanted = options(max_chunks=max_chunks)
    ring = open_on(disk, wanted)
    accepted = fill(ring, size)
    assert len(accepted) > (2 if size > 10_000 else 10)
    for pebble in accepted:
        for _ in range(3):
            ring.append(Kind.ATTEMPT, pebble, b"started")
            settle(ring)
    for pebble in accepted:
        ring.append(Kind.REPLY, pebble, b"r", (bytes(1000),), "replied")
        assert "replied" in settle(ring)
    for pebble in accepted:
        ring.append(Kind.CLOSE, pebble, b"", (), "closed")
        assert "closed" in settle(ring)
    assert len(disk.cache) <= wanted.max_bytes
    assert not ring.index
    churn(ring, 5_000_000, 50, size)
    ring.close()
    assert not open_on(disk, wanted).index


def test_a_full_store_with_notes_without_end() -> None:
    """Retries for ever in a full store: their notes are room that is won back again and again."""
    ring = open_on(FaultyDisk(), options(max_chunks=8))
    accepted = fill(ring, 1000)
    for number in range(3000):
        ring.append(Kind.ATTEMPT, accepted[number % len(accepted)], b"failed" * 10)
        settle(ring)
    assert len(ring.index) == len(accepted)
    assert ring.file_bytes <= options(max_chunks=8).max_bytes


def test_the_reserve_is_exact() -> None:
    """Kept: 512 bytes per entry, and for the reply of each that has none 1 KiB and its 256 around it (R8)."""
    ring = open_on(FaultyDisk())
    assert ring.gauges["reserved_bytes"] == 0
    first, second = request(ring, 1), request(ring, 2)
    assert ring.gauges["reserved_bytes"] == 2 * (512 + 1280)
    ring.append(Kind.REPLY, first, b"", (b"r",))
    assert ring.gauges["reserved_bytes"] == 2 * 512 + 1280
    ring.append(Kind.CLOSE, first, b"")
    ring.append(Kind.CLOSE, second, b"")
    settle(ring)
    assert ring.gauges["reserved_bytes"] == 0
    assert ring.gauges["live_bytes"] == 0


def test_a_queue_that_grows_faster_than_the_disk_is_bounded() -> None:
    """Beyond the limit requests are refused for a moment; what was queued is taken; memory is bounded."""
    ring = open_on(FaultyDisk(), replace(options(chunks=40, max_chunks=600), queue_max_bytes=MIB))
    refused = 0
    for number in range(400):
        try:
            request(ring, number, bytes(6000))
        except RingBusyError:
            refused += 1
        assert ring.gauges["queued_bytes"] <= MIB + 2 * 8192
    assert refused > 100
    settle(ring)
    request(ring, 1000)
    assert settle(ring) == [1000]


def endless(ring: Ring[Pebble], pebble: Pebble) -> None:
    for _ in range(700):
        ring.append(Kind.ATTEMPT, pebble, bytes(6000))


def test_endings_wait_rather_than_fill_the_memory() -> None:
    """A caller that only appends endings is held up until the disk has caught up."""
    ring = open_on(FaultyDisk(), replace(options(chunks=200, max_chunks=300), queue_max_bytes=MIB))
    endless(ring, request(ring, 1))
    assert ring.gauges["queued_bytes"] < 3 * MIB
    assert ring.batch_count > 0


# -- growing and shrinking


def grown(disk: FaultyDisk) -> tuple[Ring[Pebble], list[Pebble]]:
    """A file of many chunks, full of open jobs."""
    ring = open_on(disk, options(max_chunks=30))
    accepted = fill(ring, 2500)
    assert ring.file_bytes > 20 * CHUNK
    return ring, accepted


def idle(ring: Ring[Pebble]) -> None:
    """A second without a record has passed."""
    ring._committer.idle = True
    for _ in range(400):
        ring.commit()
        ring.completed()


def test_an_idle_file_goes_back_to_its_floor() -> None:
    """All jobs closed but three, spread over the file: it shrinks, and they are still there (R9)."""
    disk = FaultyDisk()
    ring, accepted = grown(disk)
    kept = {accepted[0].key, accepted[len(accepted) // 2].key, accepted[-1].key}
    for pebble in accepted:
        if pebble.key not in kept:
            ring.append(Kind.CLOSE, pebble, b"")
            settle(ring)
    idle(ring)
    assert ring.file_bytes == len(disk.cache) == options().max_bytes
    assert ring.counters["chunks_shrunk"] > 10
    assert set(bodies(ring)) == kept
    ring.abandon()
    disk.crash()
    ring = open_on(disk, options(max_chunks=30))
    assert set(bodies(ring)) == kept
    assert len(fill(ring, 2500)) > 100, "and it grows again"


def test_a_power_cut_while_shrinking_loses_nothing() -> None:
    """Superblock first, truncate after: at every call the store opens and has its jobs (R9)."""
    call, cut = 0, True
    while cut:
        disk = FaultyDisk(call)
        ring = open_on(disk, options(max_chunks=12))
        accepted = fill(ring, 2500)
        for pebble in accepted[3:]:
            ring.append(Kind.CLOSE, pebble, b"")
        settle(ring)
        disk.cut_at = len(disk.calls) + call
        cut = _cut_while_idle(ring)
        ring.abandon()
        disk.crash()
        again = open_on(disk, options(max_chunks=12))
        assert set(bodies(again)) == {pebble.key for pebble in accepted[:3]}
        call += 1
    assert call > 10


def _cut_while_idle(ring: Ring[Pebble]) -> bool:
    try:
        idle(ring)
    except BaseException:
        return True
    return False


def test_a_busy_ring_is_not_tidied() -> None:
    """While records come nothing is moved for the sake of a shorter file."""
    ring, accepted = grown(FaultyDisk())
    for pebble in accepted[5:]:
        ring.append(Kind.CLOSE, pebble, b"")
    settle(ring)
    size = ring.file_bytes
    for number in range(20):
        request(ring, 900_000 + number)
        settle(ring)
    assert ring.file_bytes == size


def test_the_idle_mark_narrows_the_blind_spot(tmp_path: Path) -> None:
    """A second after the last record the superblock says what is durable: losing it is damage now (R5)."""
    waiting = Waiting(tmp_path / "titanic.ring")
    pebble = request(waiting.ring, 1, b"precious")
    waiting.wait(1)
    block = waiting.ring.superblock
    assert block.durable_seq == 0

    def marked() -> bool:
        waiting.ring.completed()
        return waiting.ring.superblock.durable_seq == 1

    until(marked, waiting.rung, "the mark of an idle second")
    waiting.ring.flush()
    waiting.ring.abandon()
    with (tmp_path / "titanic.ring").open("r+b") as file:
        file.seek(pebble.request_at)
        file.write(bytes(8))
    with pytest.raises(DamagedStoreError, match="superblock says that everything up to 1"):
        Waiting(tmp_path / "titanic.ring")


def test_an_error_while_growing_ends_the_store(tmp_path: Path) -> None:
    """EIO of the growing thread is like any other: nothing is acknowledged any more (R11)."""
    disk = FaultyDisk()
    ring = open_on(disk, options(max_chunks=20))
    grower = ring._committer.grower
    disk.fault = Fault(len(disk.calls), errno.EIO)
    longer = ring.file_bytes + CHUNK
    grower.request(ring.file_bytes, longer, longer, longer)
    assert not ring._committer._guarded_turn()
    assert ring._committer.failure is not None


@pytest.mark.parametrize("policy", ["always", "interval:20ms", "never"])
def test_a_ring_with_threads_fills_ends_and_shrinks(tmp_path: Path, policy: str) -> None:
    """The same with a commit thread and a growing thread on a real file, under every policy."""
    wanted = options(max_chunks=16, policy=Policy.parse(policy))
    waiting = Waiting(tmp_path / "titanic.ring", wanted)
    ring = waiting.ring
    accepted: list[Pebble] = []
    full = False
    for number in range(2000):
        try:
            accepted.append(request(ring, number, bytes(2500)))
        except RingBusyError:
            ring.flush()
            ring.completed()
        except RingFullError:
            full = True
            break
    assert full
    for pebble in accepted:
        ring.append(Kind.REPLY, pebble, b"", (bytes(500),))
    for pebble in accepted:
        ring.append(Kind.CLOSE, pebble, b"", (), "closed")
    _drain(waiting, lambda: not ring.index)
    _drain(waiting, lambda: ring.file_bytes == 8192 + 6 * CHUNK)
    assert (tmp_path / "titanic.ring").stat().st_size <= wanted.max_bytes
    ring.close()
    assert (tmp_path / "titanic.ring").stat().st_size == 8192 + 6 * CHUNK


def _drain(waiting: Waiting, done: Callable[[], bool]) -> None:
    def look() -> bool:
        waiting.ring.completed()
        return done()

    until(look, waiting.rung, "the ring comes to rest")


def test_what_is_read_ahead_is_proved_record_by_record() -> None:
    """One flipped bit in a chunk that is moved as a whole costs its own job, and no other (R18)."""
    disk = FaultyDisk()
    ring = open_on(disk, options(chunks=20, max_chunks=30))
    kept = {number: bytes([number]) * 700 for number in range(1, 60)}
    for number, body in kept.items():
        request(ring, number, body)
    settle(ring)
    churn(ring, 100, 25)
    assert ring._head.settled_turn > 1, "the first chunk is read ahead"
    assert not ring.relocator.moved_count
    disk.flip(ring.index[key(30)].request_at + 300)
    ring._head.pressed_turn = 1
    for _ in range(20):
        ring.relocator.move(20, MIB)
        settle(ring)
    assert ring._head.space.tail_turn > 1
    assert ring.counters["records_lost"] == 1
    assert ring.relocator.moved_count >= len(kept)
    with pytest.raises(DamagedStoreError, match="before it came here"):
        ring.read(ring.index[key(30)].request_at)
    for number, body in kept.items():
        if number != 30:
            assert ring.read(ring.index[key(number)].request_at) == (b"meta", body)
