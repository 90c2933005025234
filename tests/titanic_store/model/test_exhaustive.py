"""Short traces, cut at every call, with every fate of every write that was not synced."""

import copy
from collections.abc import Callable
from itertools import product
from typing import Final

import pytest

from tests.titanic_store.rig import CHUNK
from tests.torture.sources import decided_by
from tests.torture.world import BrokenPromiseError, World
from titanic_store.shell.faulty import FaultyDisk, PowerCut

WRITES_MAX_COUNT: Final = 4
WRITES_LAZY_COUNT: Final = 2
"""The same where a policy leaves many writes unsynced; what is before them shares one fate of four."""
SECTOR: Final = 4096

Trace = Callable[[World], None]
Fate = Callable[[bytearray, int, bytes], None]


def kept(image: bytearray, offset: int, data: bytes) -> None:
    image[offset : offset + len(data)] = data


def dropped(image: bytearray, offset: int, data: bytes) -> None:
    pass


def first_sector(image: bytearray, offset: int, data: bytes) -> None:
    kept(image, offset, data[: SECTOR - offset % SECTOR])


def all_but_first_sector(image: bytearray, offset: int, data: bytes) -> None:
    kept(image, offset + SECTOR - offset % SECTOR, data[SECTOR - offset % SECTOR :])


def garbage(image: bytearray, offset: int, data: bytes) -> None:
    first, last = offset // SECTOR * SECTOR, -(-(offset + len(data)) // SECTOR) * SECTOR
    kept(image, first, b"\xa7" * (min(last, len(image)) - first))


def zeroed(image: bytearray, offset: int, data: bytes) -> None:
    first, last = offset // SECTOR * SECTOR, -(-(offset + len(data)) // SECTOR) * SECTOR
    kept(image, first, bytes(min(last, len(image)) - first))


def every_other_sector(image: bytearray, offset: int, data: bytes) -> None:
    for begin in range(offset % SECTOR and SECTOR - offset % SECTOR, len(data), 2 * SECTOR):
        kept(image, offset + begin, data[begin : begin + SECTOR])


def last_sector(image: bytearray, offset: int, data: bytes) -> None:
    size = (offset + len(data)) % SECTOR or min(SECTOR, len(data))
    kept(image, offset + len(data) - size, data[-size:])


FATES: Final[tuple[Fate, ...]] = (
    *(kept, dropped, first_sector, all_but_first_sector, last_sector, every_other_sector, zeroed, garbage),
)


FATES_LAZY: Final[tuple[Fate, ...]] = (kept, dropped, first_sector, garbage)
BEFORE: Final[tuple[tuple[Fate, ...], ...]] = (
    *((kept,), (dropped,), (garbage,)),
    *((kept, dropped), (dropped, kept), (garbage, kept, first_sector)),
)


def life_of_a_job(world: World) -> None:
    """Request, reply, close, each in a batch of its own; two jobs in one batch."""
    world.request(5000)
    world.commit()
    world.request(100)
    world.request(9000)
    world.commit()
    world.reply(1)
    world.commit()
    world.close(1)
    world.request(10)
    world.commit()


def a_page_is_turned(world: World) -> None:
    """The second large record needs the next chunk; the first is closed there."""
    world.request(50_000)
    world.commit()
    world.request(30_000)
    world.commit()
    world.close(1)
    world.commit()


def a_slot_is_used_again(world: World) -> None:
    """Round the ring: tail freed, its slot written over."""
    for number in range(1, 7):
        world.request(40_000)
        world.commit()
        if number > 1:
            world.close(number - 1)
            world.commit()
            world.time_passes(0.006)  # with an interval of 5 ms: a sync


def opened_and_closed(world: World) -> None:
    """Both superblocks change between two jobs."""
    world.request(300)
    world.commit()
    world.close_in_order()
    world.request(400)
    world.commit()
    world.kill()
    world.close(1)
    world.commit()


def cut(trace: Trace, at: int, policy: str) -> tuple[World, bool]:
    """The world in which the power failed in call ``at`` of the trace; False if it came to its end."""
    with decided_by(at) as clock:
        world = World(seed=at, max_chunks=6, policy=policy, clock=clock)
        world.disk.cut_at = len(world.disk.calls) + at
        return world, _is_cut(trace, world)


def _is_cut(trace: Trace, world: World) -> bool:
    try:
        trace(world)
    except PowerCut:
        return True
    except Exception as error:
        if isinstance(error.__cause__, PowerCut):
            return True
        raise
    return False


def variants(world: World) -> list[bytearray]:
    """Every image the power failure may leave; of many writes, the last few vary one by one."""
    disk = world.disk
    count = WRITES_MAX_COUNT if world.strict else WRITES_LAZY_COUNT
    settled, varied = disk.unsynced[:-count], disk.unsynced[-count:]
    images = []
    for before in BEFORE if settled and not world.strict else BEFORE[:1]:
        for fates in product(FATES if world.strict else FATES_LAZY, repeat=len(varied)):
            image = bytearray(disk.durable)
            image.extend(bytes(len(disk.cache) - len(image)))
            for number, (offset, data) in enumerate(settled):
                before[number % len(before)](image, offset, data)
            for fate, (offset, data) in zip(fates, varied, strict=True):
                fate(image, offset, data)
            images.append(image)
    return images


def judge(world: World, image: bytearray) -> None:
    """Open it, compare, go on a little, fail once more, compare."""
    heir = World(seed=world.seed, max_chunks=world.max_chunks, policy=world.policy)
    heir.ring.abandon()
    heir.disk = FaultyDisk(world.seed)
    heir.disk.durable, heir.disk.cache = image, bytearray(image)
    heir.jobs, heir.log = copy.deepcopy(world.jobs), world.log
    heir.reopen()
    heir.request(700)
    heir.commit()
    heir.power_fails()


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["always", "interval:5ms", "never"])
@pytest.mark.parametrize(
    ("trace", "least_count"),
    [(life_of_a_job, 50), (a_page_is_turned, 150), (a_slot_is_used_again, 700), (opened_and_closed, 50)],
)
def test_no_cut_of_a_short_trace_breaks_a_promise(trace: Trace, least_count: int, policy: str) -> None:
    """Each call, each combination: lost, phantom, resurrected, changed: none (D1, R1-R4).

    Under every policy the store opens, and what was synced is there; what was not may be gone (D2).
    """
    at, count, more = 0, 0, True
    while more:
        world, more = cut(trace, at, policy)
        world.ring.abandon()
        for number, image in enumerate(variants(world)):
            try:
                judge(world, image)
            except BrokenPromiseError as error:
                raise AssertionError(f"call {at}, variant {number}: {error}") from error
            count += 1
        at += 1
    print(f"{trace.__name__}, {policy}: {at} cuts, {count} crash histories")
    assert count >= least_count, "the trace is too short to mean anything"
    assert CHUNK == 64 * 1024, "the traces are made for this size"
