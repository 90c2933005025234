"""Power cuts at every call of short histories, and damage to every sector of a store at rest."""

from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest

from tests.titanic_store.rig import Pebble, bodies, key, open_on, options, request
from titanic_store import DamagedStoreError, Kind, Policy, Ring
from titanic_store.shell.faulty import FaultyDisk, PowerCut

STEPS = 26


@dataclass
class History:
    """What a client knows: tried, acknowledged; by job number."""

    tried: dict[int, bytes] = field(default_factory=dict)
    accepted: set[int] = field(default_factory=set)
    replying: dict[int, bytes] = field(default_factory=dict)
    replied: set[int] = field(default_factory=set)
    closing: set[int] = field(default_factory=set)
    closed: set[int] = field(default_factory=set)

    def hear(self, tokens: list[Any]) -> None:
        for kind, number in tokens:
            {"request": self.accepted, "reply": self.replied, "close": self.closed}[kind].add(number)


def step(ring: Ring[Pebble], random: Random, history: History) -> None:
    """One batch of one to four records."""
    for _ in range(random.randint(1, 4)):
        live = [int.from_bytes(name, "big") for name in ring.index]
        live = [number for number in live if number not in history.closing]
        act = random.random()
        if act < 0.5 or not live:
            number = len(history.tried) + 1
            history.tried[number] = random.randbytes(random.randrange(9000))
            pebble = Pebble(key(number))
            ring.append(Kind.REQUEST, pebble, b"m", (history.tried[number],), ("request", number))
        elif act < 0.65 and live[-1] not in history.replying:
            number = live[-1]
            history.replying[number] = random.randbytes(random.randrange(3000))
            pebble = ring.index[key(number)]
            ring.append(Kind.REPLY, pebble, b"r", (history.replying[number],), ("reply", number))
        else:
            number = live[0]
            history.closing.add(number)
            ring.append(Kind.CLOSE, ring.index[key(number)], b"", (), ("close", number))
    ring.commit()
    history.hear(ring.completed())


def check_against(ring: Ring[Pebble], history: History) -> None:
    """Nothing acknowledged is lost, nothing closed is back, nothing was never tried, all bytes are right."""
    found = {int.from_bytes(name, "big"): parts for name, parts in bodies(ring).items()}
    assert not history.accepted - history.closing - set(found), "lost"
    assert not set(found) & history.closed, "resurrected"
    assert not set(found) - set(history.tried), "phantom"
    for number, parts in found.items():
        assert parts[0] == history.tried[number], "request changed"
        assert parts[1:] in ([], [history.replying.get(number)]), "reply changed"
        assert len(parts) == 2 or number not in history.replied, "reply lost"
    assert list(found) == sorted(found), "order"


def run_history(seed: int, cut_at: int, align: int) -> tuple[FaultyDisk, History, bool]:
    """A store used until the power fails in call ``cut_at``; whether it did."""
    disk, history, random = FaultyDisk(seed * 100_003 + cut_at), History(), Random(seed)
    wanted = options(align=align, max_chunks=24)
    ring = open_on(disk, wanted)
    disk.cut_at = len(disk.calls) + cut_at
    try:
        for _ in range(STEPS):
            step(ring, random, history)
    except PowerCut:
        return disk, history, True
    return disk, history, False


@pytest.mark.parametrize("align", [512, 4096])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_power_cut_at_any_call_loses_nothing_acknowledged(seed: int, align: int) -> None:
    """At every call: cut, tear what was not synced, open, compare, go on, open again (D1, R1-R4)."""
    cut_at, cut = 0, True
    while cut:
        disk, history, cut = run_history(seed, cut_at, align)
        disk.crash((512,) if align == 512 else (512, 4096))
        where = f"seed {seed}, call {cut_at}, disk seed {disk.seed}"
        ring = open_on(disk, options(align=align, max_chunks=24))
        try:
            check_against(ring, history)
            random = Random(cut_at)
            found = {int.from_bytes(name, "big") for name in ring.index}
            history.closing = set(history.tried) - found
            history.accepted |= found
            for _ in range(3):
                step(ring, random, history)
            ring.abandon()
            disk.crash((512,) if align == 512 else (512, 4096))
            check_against(open_on(disk, options(align=align, max_chunks=24)), history)
        except (AssertionError, DamagedStoreError) as error:
            raise AssertionError(f"{where}: {error}") from error
        cut_at += 1
    assert cut_at > 60, "the history is too short to mean anything"


def test_damage_to_any_sector_is_seen() -> None:
    """A sector at rest turns to garbage: refused at open, or at read, or nothing is missing (D3)."""
    disk, history, random = FaultyDisk(11), History(), Random(11)
    ring = open_on(disk, options(max_chunks=24))
    for _ in range(STEPS):
        step(ring, random, history)
    ring.close()
    assert len(ring._head.space.order) > 2, "more than one sealed chunk"
    image = bytes(disk.durable)
    fates = {"refused": 0, "reported": 0, "harmless": 0}
    for at in range(0, len(image), 512):
        if not any(image[at : at + 512]):
            continue
        disk.durable[:] = image
        disk.durable[at : at + 512] = Random(at).randbytes(512)
        disk.cache[:] = disk.durable
        disk.locked = False
        fates[fate(disk, history)] += 1
    assert min(fates.values()) > 0, fates


def fate(disk: FaultyDisk, history: History) -> str:
    """How a damaged store is met."""
    try:
        ring = open_on(disk)
    except DamagedStoreError:
        return "refused"
    expected = {key(number) for number in history.accepted - history.closed}
    assert set(ring.index) == expected, "a record was skipped silently"
    reported = False
    for pebble in ring.index.values():
        number = int.from_bytes(pebble.key, "big")
        for at, right in ((pebble.request_at, history.tried), (pebble.reply_at, history.replying)):
            try:
                assert not at or ring.read(at)[1] == right[number]
            except DamagedStoreError:
                reported = True
    assert all(pebble.reply_at for pebble in ring.index.values() if number_of(pebble) in history.replied)
    return "reported" if reported else "harmless"


def number_of(pebble: Pebble) -> int:
    return int.from_bytes(pebble.key, "big")


def test_a_ghost_tail_stays_dead() -> None:
    """Records behind a cut, whole and valid, are not believed by any later opening (R3)."""
    disk = FaultyDisk()
    ring = open_on(disk)
    request(ring, 1)
    ring.commit()
    image = bytes(disk.cache)
    doomed = request(ring, 2, b"x" * 5000)
    ghost = request(ring, 3, b"g" * 100)
    ring.commit()
    ring.abandon()
    disk.flip(doomed.request_at + 200)  # torn, so that 3 is a ghost behind it
    assert disk.cache != image
    ring = open_on(disk)
    assert list(ring.index) == [key(1)]
    assert ring.torn_bytes > 5000
    request(ring, 4)
    ring.commit()
    ring.abandon()
    assert disk.cache[ghost.request_at : ghost.request_at + 4] == b"TiR1"
    assert list(open_on(disk).index) == [key(1), key(4)]


def sealed_and_going_on(policy: str) -> tuple[FaultyDisk, Ring[Pebble]]:
    """Four chunks, three of them sealed, not closed in order."""
    disk = FaultyDisk()
    ring = open_on(disk, options(max_chunks=24, policy=Policy.parse(policy)))
    number = 0
    while ring._head.space.head_turn < 4:
        number += 1
        request(ring, number, bytes([number]) * 9000)
        ring.commit()
        ring.completed()
    ring.abandon()
    return disk, ring


def test_a_missing_chunk_behind_a_sealed_one_is_damage() -> None:
    """The header of the newest chunk rots: its records are not silently forgotten (R2)."""
    disk, ring = sealed_and_going_on("always")
    space = ring._head.space
    disk.flip(space.offset_of(space.order[-1]) + 20)
    with pytest.raises(DamagedStoreError, match="turn 3 is sealed, but the chunk behind it is missing"):
        open_on(disk, options(max_chunks=24))


def test_without_syncs_a_hole_ends_the_log_and_its_chunks_are_used_again() -> None:
    """Nothing was promised durable, so a hole cuts; turns stay unique when the ring goes on (R12)."""
    disk, ring = sealed_and_going_on("never")
    space = ring._head.space
    first = space.offset_of(space.order[0])
    lost = list(ring.index.values())[1]
    disk.flip(lost.request_at + 500)
    disk.flip(first + space.chunk_bytes - 50)  # its seal
    wanted = options(max_chunks=24)
    ring = open_on(disk, wanted)
    assert list(ring.index) == [key(1)]
    for number in range(100, 118):
        request(ring, number, b"y" * 9000)
        ring.commit()
        ring.completed()
        if number % 4 == 0:
            expected = bodies(ring)
            ring.abandon()
            ring = open_on(disk, wanted)
            assert bodies(ring) == expected
            assert ring.torn_bytes == 0, "what was cut once is not cut again"
