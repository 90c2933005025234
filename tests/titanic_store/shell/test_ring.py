"""The ring over a faulty disk, committed by hand: append, read, close, wrap around, fill up, fail."""

import errno
from random import Random

import pytest

from tests.support.processes import until
from tests.titanic_store.rig import (
    CHUNK,
    Pebble,
    bodies,
    key,
    open_on,
    options,
    request,
    settle,
)
from titanic_store import (
    DamagedStoreError,
    Kind,
    Policy,
    RecordTooLargeError,
    Ring,
    RingFullError,
    StoreFailedError,
)
from titanic_store.shell.faulty import Fault, FaultyDisk


def reopened(disk: FaultyDisk, ring: Ring[Pebble]) -> Ring[Pebble]:
    """The same store, closed in order and opened again."""
    ring.close()
    return open_on(disk)


def fill(ring: Ring[Pebble], size: int) -> list[Pebble]:
    """Requests of ``size`` bytes, each settled, until the ring refuses one with RingFullError."""
    accepted: list[Pebble] = []
    with pytest.raises(RingFullError) as caught:
        accept(ring, size, accepted)
    assert caught.value.need_bytes > size
    return accepted


def accept(ring: Ring[Pebble], size: int, accepted: list[Pebble]) -> None:
    for number in range(1000):
        accepted.append(request(ring, number, bytes(size)))
        settle(ring)


def test_nothing_is_acknowledged_before_the_sync() -> None:
    """The token comes back after the commit and not before; the index knows the entry at once (D1)."""
    disk = FaultyDisk()
    ring = open_on(disk)
    request(ring, 1)
    assert ring.completed() == []
    assert key(1) in ring.index
    assert ring.durable_seq == 0
    assert settle(ring) == [1]
    assert ring.durable_seq == 1
    assert not disk.unsynced


def test_tokens_come_in_the_order_of_append() -> None:
    """Records, barriers and closes of one batch, in order; records without a token are skipped."""
    ring = open_on(FaultyDisk())
    pebble = request(ring, 1)
    ring.append(Kind.ATTEMPT, pebble, b"lazy")
    ring.barrier("b")
    ring.append(Kind.REPLY, pebble, b"", (b"r",), "r")
    ring.append(Kind.CLOSE, pebble, b"", (), "c")
    assert settle(ring) == [1, "b", "r", "c"]
    ring.barrier("alone")
    assert settle(ring) == ["alone"]


def test_a_close_takes_effect_when_durable() -> None:
    """Until then the entry is there and can be read; afterwards it is gone, also for the next opener."""
    disk = FaultyDisk()
    ring = open_on(disk)
    pebble = request(ring, 1)
    settle(ring)
    ring.append(Kind.CLOSE, pebble, b"", (), "closed")
    assert ring.read(pebble.request_at) == (b"meta", b"body")
    assert settle(ring) == ["closed"]
    assert key(1) not in ring.index
    assert not reopened(disk, ring).index


def test_what_is_on_its_way_can_be_read() -> None:
    """A record that is not in the file yet is read from memory, after the commit from the file."""
    ring = open_on(FaultyDisk())
    pebbles = [request(ring, number, bytes([number]) * number) for number in range(50)]
    before = bodies(ring)
    settle(ring)
    assert bodies(ring) == before
    assert before[key(49)] == [b"\x31" * 49]
    assert ring.read_meta(pebbles[7].request_at) == (b"meta", 7)


def test_bodies_of_all_sizes_survive() -> None:
    """From nothing to the largest that fits, in one part or many, before and after opening again."""
    disk = FaultyDisk()
    ring = open_on(disk, options(chunk=8 * CHUNK))
    largest = ring.max_record_bytes - 2 * 4
    written = {}
    for number, size in enumerate((0, 1, 7, 8, 4000, 4096, 65536, 65537, 100_000, largest)):
        body = Random(number).randbytes(size)
        pebble = Pebble(key(number))
        ring.append(Kind.REQUEST, pebble, b"meta", (body[: size // 3], b"", body[size // 3 :]), number)
        written[key(number)] = [body]
        assert settle(ring) == [number]
    assert bodies(ring) == written
    ring = reopened(disk, ring)
    assert bodies(ring) == written
    assert list(ring.index) == list(written)


def test_a_record_must_fit_into_a_chunk() -> None:
    """More than the limit (and the padding) is refused, and nothing has changed; the limit itself fits."""
    ring = open_on(FaultyDisk())
    with pytest.raises(RecordTooLargeError) as caught:
        request(ring, 1, bytes(ring.max_record_bytes - 8 + 9))
    assert caught.value.max_bytes == ring.max_record_bytes
    assert not ring.index
    assert ring.last_seq == 0
    request(ring, 2, bytes(ring.max_record_bytes - 8))
    assert settle(ring) == [2]


def test_the_ring_goes_round_for_ever() -> None:
    """Many times the size of the file passes through, jobs overlapping, and the file does not grow."""
    disk = FaultyDisk()
    ring = open_on(disk)
    random, live = Random(5), {}
    size = ring.file_bytes
    for number in range(600):
        live[key(number)] = request(ring, number, random.randbytes(random.randrange(4000)))
        while len(live) > 5:
            oldest = next(iter(live))
            ring.append(Kind.REPLY, live[oldest], b"", (b"r" * 500,))
            ring.append(Kind.CLOSE, live.pop(oldest), b"", (), "closed")
        settle(ring)
        if number % 150 == 149:
            expected = bodies(ring)
            ring = reopened(disk, ring)
            assert bodies(ring) == expected
            live = dict(ring.index)
    assert ring.file_bytes == size
    assert ring._head.space.head_turn > 10


def test_a_close_outlives_its_request() -> None:
    """A job closed in a chunk that is reused, its request in an older one that is not: it stays closed."""
    disk = FaultyDisk()
    ring = open_on(disk, options(max_chunks=12))
    keeper, closed = request(ring, 1), request(ring, 2)
    settle(ring)
    for number in range(10, 40):  # some chunks further on
        ring.append(Kind.CLOSE, request(ring, number, bytes(6000)), b"", (), None)
        settle(ring)
    ring.append(Kind.CLOSE, closed, b"", (), None)
    for number in range(40, 70):
        ring.append(Kind.CLOSE, request(ring, number, bytes(6000)), b"", (), None)
        settle(ring)
    ring.close()
    ring = open_on(disk, options(max_chunks=12))
    assert list(ring.index) == [keeper.key]


def test_space_is_free_only_when_the_close_is_durable() -> None:
    """A close that is not synced frees nothing, not even for a moment (R6)."""
    ring = open_on(FaultyDisk())
    pebble = request(ring, 1)
    settle(ring)
    ring.append(Kind.CLOSE, pebble, b"", (), "closed")
    space = ring._head.space
    assert sum(space.alive_counts) == 1
    ring.commit()
    assert sum(space.alive_counts) == 1
    ring.completed()
    assert sum(space.alive_counts) == 0


def test_a_full_ring_refuses_requests_and_takes_endings() -> None:
    """RingFullError says what is needed; replies and closes go on; room comes back (R8)."""
    ring = open_on(FaultyDisk())
    accepted = fill(ring, 2000)
    assert key(len(accepted)) not in ring.index
    for pebble in accepted:
        ring.append(Kind.REPLY, pebble, b"", (b"r",))
    for pebble in accepted:
        ring.append(Kind.CLOSE, pebble, b"", (), pebble)
    assert settle(ring) == accepted
    request(ring, 5000, bytes(2000))
    assert settle(ring) == [5000]


def test_the_file_grows_to_its_limit() -> None:
    """While jobs stay open the file grows chunk by chunk; all of it is still there when opened again (B1)."""
    disk = FaultyDisk()
    wanted = options(max_chunks=9)
    ring = open_on(disk, wanted)
    fill(ring, 3000)
    assert ring.file_bytes == len(disk.cache) == wanted.max_bytes
    expected = bodies(ring)
    ring.close()
    ring = open_on(disk, wanted)
    assert bodies(ring) == expected
    assert len(expected) > 60


def until_accepted(ring: Ring[Pebble], number: int) -> None:
    """The request of job ``number`` is taken, before a deadline."""

    def taken() -> bool:
        try:
            request(ring, number, bytes(3000))
        except RingFullError:
            return False
        return True

    until("growth is tried again", taken)


def test_lack_of_space_while_growing_is_survived() -> None:
    """ENOSPC refuses requests, and only them; with room again the file grows (R11)."""
    disk = FaultyDisk()
    ring = open_on(disk, options(max_chunks=9))
    disk.capacity_bytes = ring.file_bytes
    accepted = fill(ring, 3000)
    ring.append(Kind.CLOSE, accepted[5], b"", (), "closed")
    assert settle(ring) == ["closed"]
    disk.capacity_bytes = 1 << 30
    until_accepted(ring, 2000)
    assert settle(ring) == [2000]


def go_on(ring: Ring[Pebble], acknowledged: list[object]) -> None:
    for number in range(1, 30):
        request(ring, number, bytes(9000))
        ring._committer._guarded_turn()
        acknowledged += ring.completed()


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("call", range(8))
def test_after_the_first_error_nothing_is_acknowledged(code: int, call: int) -> None:
    """Whichever write or sync fails, no token comes back any more, and every call says so (R11, D4)."""
    disk = FaultyDisk()
    ring = open_on(disk)
    request(ring, 0)
    settle(ring)
    disk.fault = Fault(len(disk.calls) + call, code)
    acknowledged: list[object] = []
    with pytest.raises(StoreFailedError):
        go_on(ring, acknowledged)
    assert len(acknowledged) <= call
    for attempt in (lambda: request(ring, 99), lambda: ring.barrier(1), ring.completed):
        with pytest.raises(StoreFailedError):
            attempt()
    ring.abandon()
    disk.crash()
    found = open_on(disk).index
    assert {key(0), *(key(number) for number in acknowledged if isinstance(number, int))} <= set(found)


def test_a_short_write_is_never_acknowledged() -> None:
    """Half of a record on the disk and an error: the store stops, and the half is cut (R13)."""
    disk = FaultyDisk()
    ring = open_on(disk)
    disk.fault = Fault(len(disk.calls), errno.ENOSPC, short=True)
    request(ring, 1, b"x" * 5000)
    ring._committer._guarded_turn()
    with pytest.raises(StoreFailedError, match="short write"):
        ring.completed()
    ring.abandon()
    disk.fault = None
    assert not open_on(disk).index


def test_rot_is_reported_and_never_returned() -> None:
    """Each byte of a record, flipped, makes the read an error with the offset (R18)."""
    disk = FaultyDisk()
    ring = open_on(disk)
    pebble = request(ring, 1, b"some body", b"some meta")
    settle(ring)
    for at in range(pebble.request_at, pebble.request_at + 88 + 18):
        disk.flip(at)
        with pytest.raises(DamagedStoreError) as caught:
            ring.read(pebble.request_at)
        assert caught.value.offset == pebble.request_at
        disk.flip(at)
    assert ring.read(pebble.request_at) == (b"some meta", b"some body")


def test_a_disk_that_cannot_read_is_damage() -> None:
    """EIO of a read is reported like rot: the bytes are not returned, the store goes on."""
    disk = FaultyDisk()
    ring = open_on(disk)
    pebble = request(ring, 1)
    settle(ring)
    disk.fault = Fault(len(disk.calls), once=True)
    with pytest.raises(DamagedStoreError, match="disk says"):
        ring.read(pebble.request_at)
    assert ring.read(pebble.request_at) == (b"meta", b"body")


def test_a_misdirected_write_is_found() -> None:
    """A record that landed elsewhere is missing where it belongs, and is no record where it is."""
    for seed in range(20):
        disk = FaultyDisk(seed)
        ring = open_on(disk)
        first = request(ring, 1)
        settle(ring)
        disk.misdirect_at = len(disk.calls)
        second = request(ring, 2)
        settle(ring)
        with pytest.raises(DamagedStoreError):
            ring.read(second.request_at)
        ring.abandon()
        disk.misdirect_at = None
        try:
            found = open_on(disk)
        except DamagedStoreError:
            continue
        assert key(2) not in found.index, f"seed {seed}"
        if key(1) in found.index:
            assert found.read(first.request_at) == (b"meta", b"body")


def test_an_entry_can_be_opened_again() -> None:
    """A SETTING written twice keeps one record alive; closed and set again it is there."""
    disk = FaultyDisk()
    ring = open_on(disk)
    setting = Pebble(key(7))
    for value in (b"one", b"two"):
        ring.append(Kind.SETTING, setting, value, (), value)
        settle(ring)
    assert sum(ring._head.space.alive_counts) == 1
    ring.append(Kind.CLOSE, setting, b"", ())
    ring.append(Kind.SETTING, Pebble(key(7)), b"three", ())
    settle(ring)
    assert sum(ring._head.space.alive_counts) == 1
    ring = reopened(disk, ring)
    assert [meta for _, meta, _ in ring.index[key(7)].told] == [b"three"]


def test_idle_commits_do_nothing() -> None:
    """Without anything to write there is no call to the disk."""
    disk = FaultyDisk()
    ring = open_on(disk)
    calls = len(disk.calls)
    ring._committer.turn()
    ring._committer.turn()
    assert len(disk.calls) == calls


def test_policy_never_does_not_sync() -> None:
    """Memory speed: written, acknowledged, not synced, except at the orderly close (R12)."""
    disk = FaultyDisk()
    ring = open_on(disk, options(policy=Policy.parse("never")))
    calls = len(disk.calls)
    request(ring, 1)
    assert settle(ring) == [1]
    assert "sync" not in disk.calls[calls:]
    assert ring.durable_seq == 0
    assert key(1) in reopened(disk, ring).index


def test_closing_twice_and_closing_a_failed_store() -> None:
    """The second close does nothing; a failed store says so once more, and the file is released."""
    disk = FaultyDisk()
    ring = open_on(disk)
    ring.close()
    ring.close()
    ring = open_on(disk)
    request(ring, 1)
    disk.fault = Fault(len(disk.calls))
    with pytest.raises(StoreFailedError):
        ring.close()
    assert not disk.locked


def crowd(ring: Ring[Pebble], numbers: range, size: int) -> int:
    pebbles = [Pebble(key(number)) for number in numbers]
    return ring.append_all(Kind.REQUEST, pebbles, b"meta", [b"%d" % n * size for n in numbers], "crowd")


def test_a_crowd_writes_what_its_records_one_by_one_would_have_written() -> None:
    """Places, accounts and digest are the same, and the log is read back whole."""
    left = []
    for all_at_once in (True, False):
        disk = FaultyDisk()
        ring = open_on(disk)
        request(ring, 1)
        if all_at_once:
            assert crowd(ring, range(2, 40), 3) == 2
        else:
            for number in range(2, 40):
                request(ring, number, b"%d" % number * 3)
        request(ring, 40)
        settle(ring)
        head = ring._head
        rows, metas = bytes(head.rows), bytes(head.metas)
        left.append((head.end, head.limit, head.room_bytes, head.space.live_bytes, rows, metas))
        again = reopened(disk, ring)
        expected: dict[bytes, list[bytes]] = {key(n): [b"%d" % n * 3] for n in range(2, 40)}
        assert bodies(again) == {key(1): [b"body"], **expected, key(40): [b"body"]}
    assert left[0] == left[1]


def test_a_crowd_that_does_not_fit_changes_nothing() -> None:
    """At the end of a chunk, and when there is no room at all: 0, and the store is as it was."""
    disk = FaultyDisk()
    ring = open_on(disk)
    request(ring, 0)
    assert crowd(ring, range(1, 200), 200) == 0
    assert (list(ring.index), ring.last_seq) == ([key(0)], 1)
    fill(ring, CHUNK // 8)
    last, count = ring.last_seq, len(ring.index)
    assert crowd(ring, range(2000, 2010), 1) == 0
    assert (len(ring.index), ring.last_seq) == (count, last)


def test_a_crowd_is_handed_back_once_it_is_synced_and_not_at_all_after_a_failed_sync() -> None:
    """D1 and R11 hold for crowds."""
    disk = FaultyDisk()
    ring = open_on(disk)
    request(ring, 0)
    settle(ring)
    assert crowd(ring, range(1, 5), 1) == 2
    assert ring.completed() == []
    assert settle(ring) == ["crowd"]
    ring._committer.failure = StoreFailedError("test")
    with pytest.raises(StoreFailedError):
        crowd(ring, range(5, 9), 1)
    assert len(ring.index) == 5
