"""What a pair needs of a ring: ship, follow, cut, compare; two rings over two faulty disks."""

from collections.abc import Callable
from random import Random

import pytest

from tests.titanic_store.rig import Keeper, Pebble, bodies, key, open_on, options, request, settle
from titanic_store import (
    Crowd,
    CutRefusedError,
    Flag,
    Foreign,
    ForeignRecordError,
    Kind,
    RecordsGoneError,
    Ring,
    RingFullError,
)
from titanic_store.shell.faulty import FaultyDisk
from titanic_store.shell.opening import Recovery, format_store

MANY = options(chunks=6, max_chunks=40)


def work(ring: Ring[Pebble], random: Random, first: int, count: int) -> None:
    """Requests, notes, replies and closes, some settled, some on their way."""
    for number in range(first, first + count):
        request(ring, number, random.randbytes(random.randrange(6000)))
        live = [entry for entry in ring.index.values() if not ring._committer.in_flight(entry.key)]
        if len(live) > 8:
            ring.append(Kind.ATTEMPT, live[0], b"a")
            ring.append(Kind.REPLY, live[1], b"r", (b"reply",))
            ring.append(Kind.CLOSE, live[2], b"c", (), None)
        if random.random() < 0.7:
            settle(ring)


def catch_up(active: Ring[Pebble], passive: Ring[Pebble]) -> None:
    """Ship everything the passive lacks."""
    for record in active.records_after(passive.last_seq):
        passive.append_foreign(record)
    settle(passive)
    settle(active)


def singly(tapped: list[Foreign | Crowd]) -> list[Foreign]:
    """What was tapped, record by record; an empty body is none."""
    found: list[Foreign] = []
    for part in tapped:
        found += part.each() if isinstance(part, Crowd) else [part]
    return [record._replace(body=tuple(filter(None, record.body))) for record in found]


def told(ring: Ring[Pebble]) -> dict[bytes, list[tuple[int, bytes, int]]]:
    return {pebble.key: pebble.told for pebble in ring.index.values()}


def test_a_passive_ends_up_with_the_same_jobs_in_the_same_order() -> None:
    """Through turned pages, relocations and closes: same index, bytes and digest; also when opened again."""
    random = Random(3)
    active, other = open_on(FaultyDisk(), MANY), FaultyDisk(1)
    passive = open_on(other, MANY)
    stuck = request(active, 0, b"stuck")
    for first in range(1, 400, 5):
        work(active, random, first, 5)
        catch_up(active, passive)
        assert passive.live_digest() == active.live_digest()
    settle(active)
    assert active.relocator.moved_count > 0
    assert stuck.key in passive.index
    assert bodies(passive) == bodies(active)
    passive.close()
    again = open_on(other, MANY)
    assert list(again.index) == list(active.index)
    assert bodies(again) == bodies(active)
    assert again.live_digest() == active.live_digest()


def test_a_full_copy_begins_at_the_tail() -> None:
    """The ring has moved on: RecordsGoneError; a new store from first_seq on has every live job, in order."""
    random = Random(4)
    active = open_on(FaultyDisk(), MANY)
    request(active, 0, b"stuck")
    work(active, random, 1, 500)
    settle(active)
    assert active.first_seq > 100
    with pytest.raises(RecordsGoneError):
        next(iter(active.records_after(5)))
    disk = FaultyDisk()
    storage = disk.open()
    format_store(storage, MANY, 1, first_seq=active.first_seq, id_secret=active.id_secret)
    copy = Ring(storage, Keeper(), MANY, Recovery(storage, Keeper(), "copy").run(), thread=False)
    assert copy.last_seq == active.first_seq - 1
    catch_up(active, copy)
    assert copy.id_secret == active.id_secret
    assert copy.live_digest() == active.live_digest()
    copy.set_epoch(2)
    settle(copy)
    assert list(copy.index) == list(active.index)
    assert bodies(copy) == bodies(active)


def test_the_tap_sees_every_record_once_in_order() -> None:
    """Own records and relocated ones: what a peer is sent side by side with the sync is the whole log."""
    active, passive = open_on(FaultyDisk(), MANY), open_on(FaultyDisk(1), MANY)
    tapped: list[Foreign | Crowd] = []
    active.tap = tapped.append
    request(active, 0, b"stuck")
    work(active, Random(5), 1, 300)
    settle(active)
    sent = singly(tapped)
    assert [record.sequence for record in sent] == list(range(1, active.last_seq + 1))
    assert any(record.flags for record in sent)
    for record in sent:
        passive.append_foreign(record)
    settle(passive)
    assert bodies(passive) == bodies(active)


def test_shipped_together_is_what_one_by_one_would_have_been() -> None:
    """Crowds among all other records: same index, accounts, digest and bytes, and the tap sees each once.

    As the crowds they were, as single records that could have been one, and one by one.
    """
    active = open_on(FaultyDisk(), MANY)
    shipped: list[Foreign | Crowd] = []
    active.tap = shipped.append
    for first in range(1, 200, 25):
        pebbles = [Pebble(key(number)) for number in range(first, first + 20)]
        parts = [b"%d" % first * n for n in range(20)]
        if not active.append_all(Kind.REQUEST, pebbles, b"crowd", parts, "crowd"):
            for pebble, part in zip(pebbles, parts, strict=True):
                active.append(Kind.REQUEST, pebble, b"crowd", (part,))
        settle(active)
        work(active, Random(first), first + 20, 5)
    settle(active)
    assert sum(isinstance(part, Crowd) for part in shipped) >= 6
    left, sent = [], singly(shipped)
    for how in ("crowds", "together", "singly"):
        disk = FaultyDisk()
        passive, tapped = open_on(disk, MANY), list[Foreign | Crowd]()
        passive.tap = tapped.append
        for first in range(0, len(shipped), 20):
            shipment = shipped[first : first + 20]
            if how == "crowds":
                passive.append_foreign_all(shipment, "shipment")
            elif how == "together":
                passive.append_foreign_all(singly(shipment), "shipment")
            else:
                for record in singly(shipment):
                    passive.append_foreign(record)
            settle(passive)
        assert singly(tapped) == sent
        space = passive._head.space
        accounts = (passive.last_seq, passive.durable_seq, space.live_bytes, tuple(space.alive_counts))
        left.append((told(passive), bodies(passive), passive.live_digest(), accounts))
        disk.crash()
        again = open_on(disk, MANY)
        assert bodies(again) == bodies(passive)
        assert again.live_digest() == active.live_digest()
    assert left[0] == left[1] == left[2]


def test_a_shipment_is_one_commit_and_its_token_comes_back_once() -> None:
    """What was shipped together is durable together; of a refused one, what came before is kept (P2)."""
    passive = open_on(FaultyDisk(1))
    fresh = [Foreign(Kind.REQUEST, 0, number, 1, key(number), b"m", (b"b",)) for number in range(1, 41)]
    count = passive.batch_count
    passive.append_foreign_all(fresh[:30], "first")
    assert passive.durable_seq == 0
    assert settle(passive) == ["first"]
    assert (passive.durable_seq, passive.batch_count) == (30, count + 1)
    gap = [fresh[30], fresh[32]]
    with pytest.raises(ForeignRecordError):
        passive.append_foreign_all(gap, "second")
    assert settle(passive) == ["second"]
    assert (passive.last_seq, passive.durable_seq, len(passive.index)) == (31, 31, 31)


def test_a_crowd_that_opens_what_is_open_supersedes_it() -> None:
    """A key that is there already, or comes twice, is never opened twice in one step."""
    left = []
    for how in ("crowd", "together", "singly"):
        passive = open_on(FaultyDisk())
        numbers = [1, 2, 3, 2, 4, 4, 1]
        records = [
            Foreign(Kind.REQUEST, 0, at, 1, key(number), b"m", (b"%d" % at,))
            for at, number in enumerate(numbers, 1)
        ]
        if how == "singly":
            for record in records:
                passive.append_foreign(record)
        elif how == "together":
            passive.append_foreign_all(records, "all")
        else:
            keys, parts = [record.key for record in records], [record.body[0] for record in records]
            passive.append_foreign_all([Crowd(Kind.REQUEST, 1, 1, keys, b"m", parts)], "all")
        settle(passive)
        left.append((bodies(passive), passive.live_digest(), passive._head.space.live_bytes))
    assert left[0] == left[1] == left[2]


@pytest.mark.parametrize(("sequence", "epoch"), [(1, 1), (3, 1), (2, 0)])
def test_a_record_that_does_not_follow_is_refused(sequence: int, epoch: int) -> None:
    """A gap, a repetition, an older epoch: nothing has changed (P1, P2)."""
    passive = open_on(FaultyDisk())
    passive.append_foreign(Foreign(Kind.REQUEST, 0, 1, 1, key(1), b"m", (b"b",)))
    with pytest.raises(ForeignRecordError):
        passive.append_foreign(Foreign(Kind.CLOSE, 0, sequence, epoch, key(1), b"", ()))
    assert (passive.last_seq, passive.epoch) == (1, 1)


def test_records_on_their_way_are_shipped_too() -> None:
    """Before any commit, and after; the iterator goes on with what was appended meanwhile."""
    ring = open_on(FaultyDisk())
    request(ring, 1, b"one")
    records = ring.records_after(0)
    assert next(records).body == (b"one",)
    request(ring, 2, b"two")
    settle(ring)
    request(ring, 3, b"three")
    assert [record.body[0] for record in records] == [b"two", b"three"]
    assert list(ring.records_after(ring.last_seq)) == []


def test_a_record_about_nothing_that_is_here_changes_nothing_here() -> None:
    """It is durable, ships, and leaves index and digest alone, on both and when opened again (P7)."""
    disk, other = FaultyDisk(), FaultyDisk(1)
    active, passive = open_on(disk), open_on(other)
    request(active, 1, b"one")
    before = active.live_digest()
    assert active.append_about(Kind.CLOSE, key(9), b"c", "told") == 2
    request(active, 2, b"two")
    settle(active)
    catch_up(active, passive)
    assert [record.key for record in passive.records_after(1)] == [key(9), key(2)]
    assert set(active.index) == set(passive.index) == {key(1), key(2)}
    assert active.live_digest() == passive.live_digest() != before
    for ring, storage in ((active, disk), (passive, other)):
        digest = ring.live_digest()
        ring.close()
        again = open_on(storage)
        assert again.live_digest() == digest
        assert list(again.index) == [key(1), key(2)]


def test_an_epoch_is_durable_before_any_record_that_has_it() -> None:
    """Cut the power at every call: no record of epoch 2 is found without a superblock of it (P1)."""
    call, found_without = 0, False
    while not found_without:
        disk = FaultyDisk(call)
        ring = open_on(disk)
        request(ring, 1)
        settle(ring)
        before = len(disk.calls)
        disk.cut_at = before + call
        try:
            ring.set_epoch(2, "promoted")
            request(ring, 2)
            settle(ring)
            disk.cut_at, found_without = None, True
        except BaseException:
            disk.crash()
            again = open_on(disk)
            epochs = {record.epoch for record in again.records_after(0)}
            assert max(epochs) <= again.epoch
        call += 1
    assert call > 3
    assert ring.epochs() == [(1, 1), (2, 2)]


def test_role_flags_and_peer_survive() -> None:
    """What the superblock says about the pair is there after a restart; the rest is untouched."""
    disk = FaultyDisk()
    ring = open_on(disk)
    ring.set_role_flags(
        set=Flag.LAST_ACTIVE, clear=Flag.PAIR_NEW, role=1, peer_uuid=b"p" * 16, peer_seq=7, token="told"
    )
    assert settle(ring) == ["told"]
    ring.set_role_flags(id_secret=b"i" * 32)
    settle(ring)
    ring.abandon()
    disk.crash()
    ring = open_on(disk)
    assert (ring.role, ring.peer_uuid, ring.peer_seq, ring.id_secret) == (1, b"p" * 16, 7, b"i" * 32)
    assert ring.flags & Flag.LAST_ACTIVE
    assert not ring.flags & (Flag.PAIR_NEW | Flag.CLEAN)


def test_epochs_are_found_by_their_first_record() -> None:
    """Over chunks and within them, in the file and on the way to it."""
    ring = open_on(FaultyDisk(), MANY)
    expected, number = [(1, 1)], 0
    for epoch in range(2, 8):
        for _ in range(Random(epoch).randrange(1, 30)):
            number += 1
            request(ring, number, bytes(3000))
        ring.set_epoch(epoch)
        expected.append((epoch, ring.last_seq + 1))
        if epoch % 2:
            settle(ring)
    number += 1
    request(ring, number)
    assert ring.epochs() == expected


def history(disk: FaultyDisk, count: int) -> Ring[Pebble]:
    """A ring with many requests of several chunks, settled one by one."""
    ring = open_on(disk, MANY)
    for number in range(1, count + 1):
        request(ring, number, bytes([number % 251]) * 3000)
        settle(ring)
    return ring


@pytest.mark.parametrize("cut_to", [70, 69, 50, 33, 17, 16, 1])
def test_a_cut_is_final(cut_to: int) -> None:
    """Whatever lay behind, sealed chunks included, no later opening believes it; turns stay unique."""
    disk = FaultyDisk()
    ring = history(disk, 70)
    ring.cut_after(cut_to)
    expected = {key(number) for number in range(1, cut_to + 1)}
    assert (ring.last_seq, set(ring.index)) == (cut_to, expected)
    for round_number in range(3):
        ring.abandon()
        disk.crash()
        ring = open_on(disk, MANY)
        assert set(ring.index) == expected
        if round_number:
            for number in range(1000 * round_number, 1000 * round_number + 40):
                request(ring, number, b"new" * 1000)
                settle(ring)
                expected.add(key(number))
    assert all(len(parts[0]) == 3000 for parts in bodies(ring).values())
    assert ring.torn_bytes == 0


@pytest.mark.parametrize("again", [1, 4], ids=["one record follows", "as many as were cut"])
def test_a_cut_in_the_middle_of_a_batch_stays_a_cut(again: int) -> None:
    """What was cut lies right behind the end; what was written instead begins further on, and is believed.

    Once the superblock says that the new records are durable, only their incarnation tells them from the old.
    """
    disk = FaultyDisk()
    ring = open_on(disk, MANY)
    for number in range(1, 7):
        request(ring, number, b"old")
    settle(ring)  # one batch: no record of it begins where another batch could
    ring.cut_after(2)
    for number in range(11, 11 + again):
        request(ring, number, b"new")
    settle(ring)
    ring.set_role_flags(set=Flag.OUTDATED)  # any superblock: it says how far everything is durable
    settle(ring)
    ring.abandon()
    disk.crash()
    found = open_on(disk, MANY)
    assert set(found.index) == {key(1), key(2), *(key(number) for number in range(11, 11 + again))}
    assert found.last_seq == 2 + again


def test_a_cut_survives_a_power_cut_at_every_call() -> None:
    """Before it counts everything is there, afterwards nothing beyond it is (R3)."""
    call, done, seen = 0, False, set[int]()
    while not done:
        disk = FaultyDisk(call)
        ring = history(disk, 40)
        disk.cut_at = len(disk.calls) + call
        try:
            ring.cut_after(20)
            request(ring, 500, b"after")
            settle(ring)
            disk.cut_at, done = None, True
        except BaseException:
            disk.crash()
            found = open_on(disk, MANY)
            seen.add(len(found.index))
            numbers = [int.from_bytes(name, "big") for name in found.index]
            assert numbers in ([*range(1, 41)], [*range(1, 21)], [*range(1, 21), 500])
        call += 1
    assert {20, 40} <= seen


def test_a_cut_brings_back_what_was_closed_behind_it() -> None:
    """The close is gone, so the job is open, with its bytes."""
    ring = open_on(FaultyDisk())
    pebble = request(ring, 1, b"body")
    settle(ring)
    at = ring.last_seq
    ring.append(Kind.CLOSE, pebble, b"", (), None)
    settle(ring)
    ring.cut_after(at)
    assert bodies(ring) == {key(1): [b"body"]}
    assert ring.live_digest() == _digest_of(ring)


def _digest_of(ring: Ring[Pebble]) -> bytes:
    keys = 0
    for name in ring.index:
        keys ^= int.from_bytes(name)
    return len(ring.index).to_bytes(8, "little") + keys.to_bytes(16) + bytes(16)


def test_no_cut_where_space_was_used_again() -> None:
    """A cut that would need a chunk which was given up is refused, and nothing has changed."""
    ring = open_on(FaultyDisk())
    for number in range(300):
        ring.append(Kind.CLOSE, request(ring, number, bytes(3000)), b"", (), None)
        settle(ring)
    floor, last = ring.cut_floor, ring.last_seq
    assert floor > 300
    with pytest.raises(CutRefusedError):
        ring.cut_after(floor - 1)
    assert ring.last_seq == last
    ring.cut_after(floor)
    assert ring.last_seq == floor


def test_a_follower_writes_nothing_of_its_own() -> None:
    """No relocation and no record, however crowded; after the promotion it tends itself again."""
    passive = open_on(FaultyDisk())
    sequence = 0
    with pytest.raises(RingFullError):
        sequence = _flood(passive)
    assert passive.relocator.moved_count == 0
    assert passive.last_seq == len(passive.index)
    assert sequence == 0


def _flood(passive: Ring[Pebble]) -> int:
    for number in range(1, 1000):
        passive.append_foreign(Foreign(Kind.REQUEST, 0, number, 1, key(number), b"m", (bytes(3000),)))
        settle(passive)
    return 1000


@pytest.mark.parametrize("change", ["open", "reply", "close"])
def test_the_digest_follows_every_change(change: str) -> None:
    """Kept up to date record by record it is what a walk over the index finds."""
    acts: dict[str, Callable[[Ring[Pebble]], object]] = {
        "open": lambda ring: request(ring, 9),
        "reply": lambda ring: ring.append(Kind.REPLY, ring.index[key(2)], b"", (b"r",)),
        "close": lambda ring: ring.append(Kind.CLOSE, ring.index[key(1)], b""),
    }
    disk = FaultyDisk()
    ring = open_on(disk)
    request(ring, 1)
    request(ring, 2)
    settle(ring)
    before = ring.live_digest()
    acts[change](ring)
    after = ring.live_digest()
    assert after != before
    settle(ring)
    ring.close()
    assert open_on(disk).live_digest() == after
