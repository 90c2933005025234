"""The tables of recovery: complete, printed, and what the code really does with a file of each kind."""

from collections.abc import Callable
from itertools import product
from pathlib import Path
from zlib import crc32

import msgspec
import pytest

from tests.titanic_store.rig import CHUNK, Pebble, key, open_on, options, request, settle
from titanic_store import DamagedStoreError, NotAStoreError, Policy, Ring, UnknownVersionError
from titanic_store.pure.chunks import (
    TRAILER_BYTES,
    ChunkHeader,
    decode_chunk_header,
    decode_seal,
    encode_chunk_header,
)
from titanic_store.pure.decisions import (
    ENDS,
    STARTS,
    Evidence,
    Half,
    Later,
    Place,
    Sealed,
    Start,
    Verdict,
    render,
)
from titanic_store.pure.superblock import SUPERBLOCK_BYTES, encode_superblock
from titanic_store.shell.faulty import FaultyDisk

PAGE = Path(__file__).parents[3] / "docs/internals/recovery.md"
MANY = options(max_chunks=30)


def test_the_page_is_printed_from_the_tables() -> None:
    """docs/internals/recovery.md says what the code decides."""
    assert render() in PAGE.read_text(encoding="utf-8")


def test_damage_never_passes() -> None:
    """Whatever else: a durable sequence that is not reached, or a seal without its successor, is refused."""
    for (place, sealed, evidence, later), verdict in ENDS.items():
        if evidence is Evidence.BEYOND or sealed is Sealed.HERE:
            assert verdict is Verdict.DAMAGE
        elif sealed is Sealed.BEYOND:
            assert verdict is (Verdict.DAMAGE if place is Place.LAST else Verdict.CUT)
        else:
            assert verdict is (Verdict.CUT if later is Later.YES else Verdict.END)


# -- superblocks


def _half(half: Half, valid: bytes) -> bytes:
    if half is Half.VALID:
        return valid
    if half is Half.BROKEN:
        return valid[:200] + b"\xff" + valid[201:]
    if half is Half.OTHER:
        body = valid[:8] + (2).to_bytes(4, "little") + valid[12:-4]
        return body + crc32(body).to_bytes(4, "little")
    return bytes(SUPERBLOCK_BYTES)


@pytest.mark.parametrize(("first", "second"), list(product(Half, Half)))
def test_every_pair_of_superblocks(first: Half, second: Half) -> None:
    """A file with these two halves opens, or is refused with the error of its kind."""
    disk = FaultyDisk()
    ring = open_on(disk)
    request(ring, 1)
    ring.close()
    block = ring.superblock
    newer = msgspec.structs.replace(block, generation=block.generation + 1)
    by_offset = {old.offset: encode_superblock(old) for old in (block, newer)}
    for half, offset in ((first, 0), (second, SUPERBLOCK_BYTES)):
        raw = _half(half, by_offset[offset])
        disk.durable[offset : offset + SUPERBLOCK_BYTES] = raw
        disk.cache[offset : offset + SUPERBLOCK_BYTES] = raw
    errors: dict[Start, type[Exception]] = {
        Start.DAMAGED: DamagedStoreError,
        Start.OTHER_VERSION: UnknownVersionError,
        Start.NOT_OURS: NotAStoreError,
    }
    start = STARTS[first, second]
    if start is Start.OPEN:
        assert list(open_on(disk).index) == [key(1)]
    else:
        with pytest.raises(errors[start]):
            open_on(disk)


# -- the end of the log


class Scene:
    """A ring that stopped without an orderly close, and hands to spoil its file with."""

    def __init__(self, *, inner: bool, policy: str = "always") -> None:
        self.disk = FaultyDisk()
        self.ring: Ring[Pebble] = open_on(self.disk, options(max_chunks=30, policy=Policy.parse(policy)))
        number = 0
        while self.ring._head.space.head_turn < (3 if inner else 2) or number % 5:
            number += 1
            request(self.ring, number, bytes([number]) * 4000)
            settle(self.ring)
        self.pebbles = list(self.ring.index.values())
        self.ring.abandon()
        self.salt = crc32(self.ring.superblock.salt)

    def base(self, turn: int) -> int:
        space = self.ring._head.space
        return space.offset_of(space.order[turn - space.tail_turn])

    def flip(self, offset: int) -> None:
        self.disk.flip(offset)

    def in_turn(self, turn: int) -> list[Pebble]:
        base = self.base(turn)
        return [pebble for pebble in self.pebbles if base < pebble.request_at < base + CHUNK]

    def unseal(self, turn: int) -> None:
        self.flip(self.base(turn) + CHUNK - TRAILER_BYTES + 20)

    def undigest(self, turn: int) -> None:
        at = self.base(turn) + CHUNK - TRAILER_BYTES
        raw = bytes(self.disk.cache[at : at + TRAILER_BYTES])
        seal = decode_seal(raw, at, turn, self.base(turn), self.salt)
        assert seal is not None
        self.flip(seal.digest_offset)

    def forget(self) -> None:
        """No superblock, chunk header or record says how much was durable: as if nothing had been synced."""
        for offset in (0, SUPERBLOCK_BYTES):
            block = msgspec.structs.replace(self.ring.superblock, durable_seq=0, generation=offset // 4096)
            if offset == self.ring.superblock.offset:
                block = msgspec.structs.replace(self.ring.superblock, durable_seq=0)
            if block.offset == offset:
                self._write(offset, encode_superblock(block))

    def header(self, turn: int, *, first_seq: int, durable_seq: int) -> None:
        """The chunk header of ``turn``, changed and valid again."""
        base = self.base(turn)
        found = decode_chunk_header(
            bytes(self.disk.cache[base : base + 128]), base, self.ring.store_uuid, self.salt
        )
        assert isinstance(found, ChunkHeader)
        self._write(
            base, encode_chunk_header(found._replace(first_seq=first_seq, durable_seq=durable_seq), self.salt)
        )

    def _write(self, offset: int, raw: bytes) -> None:
        self.disk.cache[offset : offset + len(raw)] = raw
        self.disk.durable[offset : offset + len(raw)] = raw

    def verdict(self) -> Verdict:
        """What opening makes of it."""
        try:
            ring = open_on(self.disk, MANY)
        except DamagedStoreError:
            return Verdict.DAMAGE
        return Verdict.CUT if ring.torn_bytes else Verdict.END


def last_no_reached_no(scene: Scene) -> None:
    """An ordinary crash: everything synced is there."""


def last_no_beyond_no(scene: Scene) -> None:
    """The last record is gone, and the superblock knew it."""
    at = scene.in_turn(2)[-1].request_at
    scene._write(at, bytes(CHUNK // 8))
    block = msgspec.structs.replace(scene.ring.superblock, durable_seq=scene.ring.last_seq)
    scene._write(block.offset, encode_superblock(block))


def last_no_beyond_yes(scene: Scene) -> None:
    """A record in the middle is gone, a later one says that it was durable."""
    scene.flip(scene.in_turn(2)[1].request_at)


def last_here(scene: Scene) -> None:
    """The header of the newest chunk is gone."""
    scene.flip(scene.base(2))


def last_beyond(scene: Scene) -> None:
    """The newest chunk is gone, and in the sealed one before it digest and a record are."""
    scene.flip(scene.base(2))
    scene.undigest(1)
    scene.flip(scene.in_turn(1)[3].request_at)


def inner_no_beyond(scene: Scene) -> None:
    """The seal of an inner chunk and one of its records are gone."""
    scene.unseal(2)
    scene.flip(scene.in_turn(2)[2].request_at)


def inner_here(scene: Scene) -> None:
    """The chunk behind a sealed one belongs to another history."""
    scene.header(3, first_seq=999, durable_seq=0)


def inner_beyond_beyond(scene: Scene) -> None:
    """The digest of an inner chunk and one of its records are gone."""
    scene.undigest(2)
    scene.flip(scene.in_turn(2)[2].request_at)


SCENES: list[tuple[Callable[[Scene], None], bool, Verdict]] = [
    (last_no_reached_no, False, Verdict.END),
    (last_no_beyond_no, False, Verdict.DAMAGE),
    (last_no_beyond_yes, False, Verdict.DAMAGE),
    (last_here, False, Verdict.DAMAGE),
    (last_beyond, False, Verdict.DAMAGE),
    (inner_no_beyond, True, Verdict.DAMAGE),
    (inner_here, True, Verdict.DAMAGE),
    (inner_beyond_beyond, True, Verdict.DAMAGE),
]


@pytest.mark.parametrize(
    ("spoil", "inner", "verdict"), SCENES, ids=lambda value: getattr(value, "__name__", None)
)
def test_a_file_in_this_state(spoil: Callable[[Scene], None], inner: bool, verdict: Verdict) -> None:
    """With syncs: what was acknowledged and is gone is always damage."""
    scene = Scene(inner=inner)
    spoil(scene)
    assert scene.verdict() is verdict


@pytest.mark.parametrize("inner", [False, True])
def test_without_evidence_a_hole_is_a_torn_tail(inner: bool) -> None:
    """Under `never` nothing says that anything was durable: cut, wherever the log ends."""
    scene = Scene(inner=inner, policy="never")
    turn = 2
    if inner:
        scene.undigest(turn)
    scene.flip(scene.in_turn(turn)[1].request_at)
    assert scene.verdict() is Verdict.CUT


def test_a_torn_batch_is_cut() -> None:
    """The first record of an unsynced batch is torn, the second is whole: both are gone, counted in bytes."""
    disk = FaultyDisk()
    ring = open_on(disk)
    request(ring, 1)
    settle(ring)
    torn = request(ring, 2, bytes(3000))
    request(ring, 3)
    settle(ring)
    ring.abandon()
    disk.flip(torn.request_at + 100)
    ring = open_on(disk)
    assert list(ring.index) == [key(1)]
    assert ring.torn_bytes > 3000
