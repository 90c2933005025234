"""The end of the log: a file for each of the 24 rows of the table, and what opening makes of it."""

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Final
from zlib import crc32

import msgspec
import pytest

from core.pure.jobs import RequestMeta, encode_meta
from tests.support.processes import run
from tests.titanic_store.rig import CHUNK, Keeper, Pebble, key, open_on, options, request, settle
from titanic_store import DamagedStoreError, Kind, Policy, Ring, open_ring
from titanic_store.pure.chunks import (
    TRAILER_BYTES,
    decode_chunk_header,
    decode_seal,
    encode_chunk_header,
)
from titanic_store.pure.decisions import ENDS, Evidence, Later, Place, Sealed, Signs, Verdict
from titanic_store.pure.records import HEADER_BYTES, ROW, Header, encode_header, padded
from titanic_store.pure.superblock import SUPERBLOCK_BYTES, encode_superblock
from titanic_store.shell.faulty import FaultyDisk
from titanic_store.shell.opening import Recovery

MANY: Final = options(max_chunks=30)
FAR: Final = 1_000_000
BODY_BYTES: Final = 3900
META: Final = encode_meta(RequestMeta(b"echo", 1))


class Scene:
    """A ring of two or three chunks that stopped without an orderly close, and hands to spoil its file with.

    The log is to end in turn 1 or, with another chunk behind it, in turn 2. Without ``synced`` nothing in the
    file says that anything was durable: the policy was `never`.
    """

    def __init__(self, *, synced: bool, turns: int) -> None:
        self.disk = FaultyDisk()
        policy = Policy.parse("always" if synced else "never")
        self.ring: Ring[Pebble] = open_on(self.disk, options(max_chunks=30, policy=policy))
        number = 0
        while self.ring._head.space.head_turn < turns or len(self.ring._head.rows) < 5 * ROW.size:
            number += 1
            request(self.ring, number, bytes([number]) * BODY_BYTES, META)
            settle(self.ring)
        self.pebbles = list(self.ring.index.values())
        self.ring.abandon()
        self.salt = crc32(self.ring.superblock.salt)

    def base(self, turn: int) -> int:
        space = self.ring._head.space
        return space.offset_of(space.order[turn - space.tail_turn])

    def in_turn(self, turn: int) -> list[Pebble]:
        base = self.base(turn)
        return [pebble for pebble in self.pebbles if base < pebble.request_at < base + CHUNK]

    def write(self, offset: int, raw: bytes) -> None:
        self.disk.cache[offset : offset + len(raw)] = raw
        self.disk.durable[offset : offset + len(raw)] = raw

    # -- hands

    def lose_record(self, turn: int, number: int) -> None:
        """One record is broken; those behind it are whole."""
        self.disk.flip(self.in_turn(turn)[number].request_at)

    def lose_from(self, turn: int, number: int) -> None:
        """From this record on to the digest there is nothing."""
        at = self.in_turn(turn)[number].request_at
        self.write(at, bytes(self.records_end(turn) - at))

    def lose_all(self, turn: int) -> None:
        """No record of the chunk is there; its header is."""
        self.lose_from(turn, 0)

    def records_end(self, turn: int) -> int:
        return self.in_turn(turn)[-1].request_at + padded(HEADER_BYTES + len(META) + BODY_BYTES)

    def lose_chunk(self, turn: int) -> None:
        """The header of the chunk is gone."""
        self.disk.flip(self.base(turn))

    def lose_seal(self, turn: int) -> None:
        self.disk.flip(self.base(turn) + CHUNK - TRAILER_BYTES + 20)

    def lose_digest(self, turn: int) -> None:
        at = self.base(turn) + CHUNK - TRAILER_BYTES
        raw = bytes(self.disk.cache[at : at + TRAILER_BYTES])
        seal = decode_seal(raw, at, turn, self.base(turn), self.salt)
        assert seal is not None
        self.disk.flip(seal.digest_offset)

    def claim(self, durable_seq: int) -> None:
        """The newest superblock says so."""
        block = msgspec.structs.replace(self.ring.superblock, durable_seq=durable_seq)
        self.write(block.offset, encode_superblock(block))
        self.write(SUPERBLOCK_BYTES - block.offset, bytes(SUPERBLOCK_BYTES))

    def other_history(self, turn: int, durable_seq: int = 0) -> None:
        """The chunk's header does not continue the chunk before it, and says so much was durable."""
        base = self.base(turn)
        raw = bytes(self.disk.cache[base : base + 128])
        found = decode_chunk_header(raw, base, self.ring.store_uuid, self.salt)
        assert found is not None
        changed = found._replace(first_seq=999, durable_seq=durable_seq)
        self.write(base, encode_chunk_header(changed, self.salt))

    def stray_record(self, turn: int, durable_seq: int) -> None:
        """Behind the last record of a sealed chunk there is another, valid by itself, of a later time."""
        at = -(-self.records_end(turn) // 4096) * 4096
        header = Header(
            kind=Kind.MARK, flags=0, meta_bytes=0, body_bytes=0, sequence=FAR, offset=at, key=bytes(16),
            durable_seq=durable_seq, epoch=1, incarnation=self.ring.incarnation, turn=turn,
            meta_crc=self.salt, body_crc=self.salt, prev_crc=0, crc=0,
        )  # fmt: skip
        self.write(at, encode_header(header, self.salt))


Spoil = Callable[[Scene], None]
NO, BEYOND, HERE = Sealed.NO, Sealed.BEYOND, Sealed.HERE
LAST, INNER = Place.LAST, Place.INNER
OK, MISSING = Evidence.REACHED, Evidence.BEYOND
NONE, SOME = Later.NO, Later.YES
ROWS: Final[dict[Signs, tuple[bool, int, Spoil]]] = {}


def row(
    place: Place, sealed: Sealed, evidence: Evidence, later: Later, *, synced: bool
) -> Callable[[Spoil], Spoil]:
    """How a file comes to be in this row; the log ends in turn 1, or in 2 if another chunk is behind it."""

    def put(spoil: Spoil) -> Spoil:
        turns = 3 if place is INNER else 1 if sealed is NO else 2
        ROWS[place, sealed, evidence, later] = (synced, turns, spoil)
        return spoil

    return put


@row(LAST, NO, OK, NONE, synced=True)
def an_ordinary_crash(scene: Scene) -> None:
    """Everything that was synced is there."""


@row(LAST, NO, OK, SOME, synced=False)
def a_torn_batch(scene: Scene) -> None:
    """A record is torn and later ones are whole; nothing says that they were durable."""
    scene.lose_record(1, 2)


@row(LAST, NO, MISSING, NONE, synced=True)
def the_last_records_are_gone(scene: Scene) -> None:
    """The superblock knew them."""
    scene.lose_from(1, 3)
    scene.claim(5)


@row(LAST, NO, MISSING, SOME, synced=True)
def a_record_in_the_middle_is_gone(scene: Scene) -> None:
    """A later one says that it was durable."""
    scene.lose_record(1, 1)


@row(LAST, BEYOND, OK, NONE, synced=False)
def a_sealed_chunk_lost_its_end_and_its_successor(scene: Scene) -> None:
    """Nobody claims anything, but a trailer is written only when the chunk behind it is durable."""
    scene.lose_chunk(2)
    scene.lose_digest(1)
    scene.lose_from(1, 3)
    scene.claim(0)


@row(LAST, BEYOND, OK, SOME, synced=False)
def a_sealed_chunk_lost_a_record_and_its_successor(scene: Scene) -> None:
    """The same with records behind the hole."""
    scene.lose_chunk(2)
    scene.lose_digest(1)
    scene.lose_record(1, 3)
    scene.claim(0)


@row(LAST, BEYOND, MISSING, NONE, synced=True)
def the_superblock_knows_the_lost_end(scene: Scene) -> None:
    """Successor, digest and last records are gone; the superblock says they were durable."""
    scene.lose_chunk(2)
    scene.lose_digest(1)
    scene.lose_from(1, 3)
    scene.claim(7)


@row(LAST, BEYOND, MISSING, SOME, synced=True)
def later_records_know_the_hole(scene: Scene) -> None:
    """Successor, digest and a record are gone; the records behind it say that it was durable."""
    scene.lose_chunk(2)
    scene.lose_digest(1)
    scene.lose_record(1, 3)


@row(LAST, HERE, OK, NONE, synced=True)
def the_newest_chunk_is_gone(scene: Scene) -> None:
    """The chunk before it is sealed and complete, so there was one."""
    scene.lose_chunk(2)


@row(LAST, HERE, OK, SOME, synced=True)
def a_stray_record_in_a_sealed_chunk(scene: Scene) -> None:
    """The same, with a record of a later time in the unused end of the chunk."""
    scene.lose_chunk(2)
    scene.stray_record(1, durable_seq=3)


@row(LAST, HERE, MISSING, NONE, synced=True)
def the_superblock_knows_the_newest_chunk(scene: Scene) -> None:
    """The newest chunk is gone, and the superblock says that its records were durable."""
    scene.lose_chunk(2)
    scene.claim(scene.ring.last_seq)


@row(LAST, HERE, MISSING, SOME, synced=True)
def a_stray_record_knows_the_newest_chunk(scene: Scene) -> None:
    """The newest chunk is gone, and a record in the end of the one before says so."""
    scene.lose_chunk(2)
    scene.stray_record(1, durable_seq=FAR - 1)


@row(INNER, NO, OK, NONE, synced=False)
def the_page_was_being_turned(scene: Scene) -> None:
    """The header of the next chunk reached the disk, the last records and the digest before it did not."""
    scene.lose_seal(2)
    scene.lose_from(2, 4)
    scene.lose_all(3)


@row(INNER, NO, OK, SOME, synced=False)
def the_page_was_turned_and_written(scene: Scene) -> None:
    """So did the first records of the next chunk."""
    scene.lose_seal(2)
    scene.lose_from(2, 4)


@row(INNER, NO, MISSING, NONE, synced=True)
def the_next_header_knows_the_lost_end(scene: Scene) -> None:
    """Header and no record of the next chunk are there; it says that everything before it was durable."""
    scene.lose_seal(2)
    scene.lose_from(2, 4)
    scene.lose_all(3)


@row(INNER, NO, MISSING, SOME, synced=True)
def seal_and_record_of_an_inner_chunk_are_gone(scene: Scene) -> None:
    """Everything behind them is there and knows better."""
    scene.lose_seal(2)
    scene.lose_record(2, 2)


@row(INNER, BEYOND, OK, NONE, synced=False)
def only_trailer_and_next_header_reached_the_disk(scene: Scene) -> None:
    """Without syncs a trailer may be there before the records it seals."""
    scene.lose_digest(2)
    scene.lose_from(2, 4)
    scene.lose_all(3)


@row(INNER, BEYOND, OK, SOME, synced=False)
def the_same_with_records_behind(scene: Scene) -> None:
    """So may records of the next chunk."""
    scene.lose_digest(2)
    scene.lose_record(2, 4)


@row(INNER, BEYOND, MISSING, NONE, synced=True)
def the_next_header_knows_what_was_sealed(scene: Scene) -> None:
    """Digest and last records of an inner chunk are gone, and all records behind it."""
    scene.lose_digest(2)
    scene.lose_from(2, 4)
    scene.lose_all(3)


@row(INNER, BEYOND, MISSING, SOME, synced=True)
def digest_and_record_of_an_inner_chunk_are_gone(scene: Scene) -> None:
    """Everything behind them is there and knows better."""
    scene.lose_digest(2)
    scene.lose_record(2, 2)


@row(INNER, HERE, OK, NONE, synced=True)
def the_next_chunk_is_of_another_history(scene: Scene) -> None:
    """The successor of a sealed chunk does not continue it, and is empty."""
    scene.lose_all(3)
    scene.other_history(3)


@row(INNER, HERE, OK, SOME, synced=False)
def the_next_chunk_has_records_of_another_history(scene: Scene) -> None:
    """The same with records; nobody claims anything."""
    scene.other_history(3)
    scene.claim(0)


@row(INNER, HERE, MISSING, NONE, synced=True)
def another_history_claims_more(scene: Scene) -> None:
    """The header that does not follow says that later records were durable."""
    scene.lose_all(3)
    scene.other_history(3, durable_seq=FAR)


@row(INNER, HERE, MISSING, SOME, synced=True)
def records_of_another_history_claim_more(scene: Scene) -> None:
    """Its records say so too."""
    scene.other_history(3)


def test_every_row_has_a_file() -> None:
    """All combinations, each made by other hands."""
    assert set(ROWS) == set(ENDS) == set(product(Place, Sealed, Evidence, Later))
    assert len({spoil for _, _, spoil in ROWS.values()}) == len(ENDS)


def spoiled(signs: Signs) -> Scene:
    synced, turns, spoil = ROWS[signs]
    scene = Scene(synced=synced, turns=turns)
    spoil(scene)
    return scene


@pytest.mark.parametrize("signs", ENDS, ids=lambda signs: ROWS[signs][2].__name__)
def test_a_file_in_this_row(signs: Signs, tmp_path: Path) -> None:
    """It is read as this row and no other; then it opens and goes on, or is refused with all there is."""
    scene, path = spoiled(signs), tmp_path / "titanic.ring"
    path.write_bytes(scene.disk.cache)
    recovery = Recovery(scene.disk.open(), Keeper(), "disk")
    refused = ENDS[signs] is Verdict.DAMAGE
    if refused:
        with pytest.raises(DamagedStoreError):
            recovery.run()
    else:
        recovery.run()
    assert recovery.signs == signs
    if refused:
        _refused(path)
    else:
        _goes_on(path, scene, torn=ENDS[signs] is Verdict.CUT)


def _refused(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(DamagedStoreError) as caught:
        open_ring(path, Keeper(), MANY)
    assert caught.value.exit_code == 3
    message = str(caught.value)
    for words in (f"damage at offset {caught.value.offset}", "is missing", "jobs touched", "--accept-loss"):
        assert words in message
    assert path.read_bytes() == before, "a refusal changes nothing"


def _goes_on(path: Path, scene: Scene, *, torn: bool) -> None:
    """What is there is a prefix of the log; a record behind the cut is believed after the next start."""
    ring = open_ring(path, Keeper(), MANY)
    found = list(ring.index)
    assert found == [pebble.key for pebble in scene.pebbles][: len(found)]
    assert bool(ring.torn_bytes) is torn
    assert ring.counters["torn_bytes_cut"] == ring.torn_bytes
    request(ring, 5000)
    ring.flush()
    ring.abandon()
    ring = open_ring(path, Keeper(), MANY)
    assert list(ring.index) == [*found, key(5000)]
    assert not ring.torn_bytes
    ring.close()


@pytest.mark.parametrize(
    "signs", [(LAST, HERE, OK, NONE), (INNER, BEYOND, MISSING, SOME)], ids=["last", "inner"]
)
def test_a_node_refuses_with_3(signs: Signs, tmp_path: Path) -> None:
    """So it says in the real process: exit code, offset, what to do; `store check` agrees."""
    scene, path = spoiled(signs), tmp_path / "titanic.ring"
    path.write_bytes(scene.disk.cache)
    done = run("node", "--data", str(tmp_path), "--broker", "tcp://127.0.0.1:0")
    assert done.returncode == 3
    assert b"damage at offset" in done.stderr
    assert b"--accept-loss" in done.stderr
    assert run("store", "check", str(path)).returncode == 3
