"""Salvage of a damaged store: find every whole record, name what is lost, make a new file of the rest.

Only with ``--accept-loss``. The damaged file is renamed, never changed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple
from uuid import UUID
from zlib import crc32

from titanic_store.errors import DamagedStoreError
from titanic_store.pure.chunks import TRAILER_BYTES, decode_chunk_header, decode_seal
from titanic_store.pure.kinds import EFFECT_OF, Effect, Kind
from titanic_store.pure.records import HEADER_BYTES, LOST, NO_KEY, ROW, U32, Header
from titanic_store.pure.recovery import Reader, unreadable
from titanic_store.pure.seams import Foreign, Judge, Storage
from titanic_store.pure.superblock import BASE_BYTES, Superblock, newest_superblock

log = logging.getLogger("titanic_store")


class Found(NamedTuple):
    """A record whose header and meta are whole."""

    header: Header
    meta: bytes
    body_is_whole: bool


@dataclass(slots=True)
class Survey:
    """What is left of a store. ``lost`` are sequences nothing is left of, with kind and key where known."""

    block: Superblock | None = None
    records: list[Found] = field(default_factory=list)
    lost: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    gaps: list[tuple[int, int]] = field(default_factory=list)

    @property
    def touched(self) -> list[bytes]:
        """Keys with a record that is lost, or whose body is, in the order of the log, each once."""
        keys = [(seq, key) for seq, (_, key) in self.lost.items()]
        keys += [
            (found.header.sequence, found.header.key) for found in self.records if not found.body_is_whole
        ]
        return list(dict.fromkeys(key for _, key in sorted(keys) if key != NO_KEY))


def survey(storage: Storage, judge: Judge) -> Survey:
    """Look at every slot by itself; nothing is believed that fails a checksum, a turn or a place (R4).

    A record whose meta ``judge`` cannot read is lost, however right its checksums.
    Raises NotAStoreError, UnknownVersionError; DamagedStoreError if both superblocks are gone: the salt is
    gone with them, and nothing can be told from anything.
    """
    found = Survey()
    try:
        found.block = block = newest_superblock(storage.read_at(0, BASE_BYTES), "the store")
    except DamagedStoreError:
        return found
    reader = Reader(crc32(block.salt), block.align_bytes, block.incarnation, block.durable_seq)
    by_seq: dict[int, Found] = {}
    known: dict[int, tuple[int, bytes]] = {}
    for slot in range(block.chunk_count):
        base = BASE_BYTES + slot * block.chunk_bytes
        image = storage.read_at(base, block.chunk_bytes)
        turn = _turn(image, base, block, reader)
        if turn is not None:
            for record in _records(image, base, turn, block, reader):
                header = record.header
                if unreadable(header.kind, record.meta, judge):
                    known[header.sequence] = (header.kind, header.key)
                else:
                    by_seq[header.sequence] = record
            known.update(_rows(image, base, turn, reader))
    found.records = [by_seq[seq] for seq in sorted(by_seq)]
    found.lost = {seq: row for seq, row in known.items() if seq not in by_seq}
    found.gaps = _gaps(sorted(by_seq), block.durable_seq)
    return found


def _turn(image: bytes, base: int, block: Superblock, reader: Reader) -> int | None:
    """The low bits of the turn in a slot: its header says so, or else most of its records; None if free."""
    header = decode_chunk_header(image[:128], base, block.store_uuid, reader.salt)
    if header is not None:
        return header.turn if header.turn >= block.tail_turn else None
    turns = [record.turn for record in reader.later(image, base, 0, -1)]
    turn = max(set(turns), key=turns.count, default=0)
    return turn if turn >= block.tail_turn & U32 and turns else None


def _records(image: bytes, base: int, turn: int, block: Superblock, reader: Reader) -> Iterator[Found]:
    for header in reader.later(image, base, 0, -1):
        if header.turn != turn & U32 or reader.is_cut(header.incarnation, header.sequence):
            continue
        at = header.offset - base + HEADER_BYTES
        meta = image[at : at + header.meta_bytes]
        body = memoryview(image)[at + header.meta_bytes : at + header.meta_bytes + header.body_bytes]
        if len(body) != header.body_bytes or crc32(meta, reader.salt) != header.meta_crc:
            continue
        whole = crc32(body, reader.salt) == header.body_crc and not header.flags & LOST
        yield Found(header, meta, whole)


def _rows(image: bytes, base: int, turn: int, reader: Reader) -> dict[int, tuple[int, bytes]]:
    """Sequence -> (kind, key) of what the digest of a sealed chunk names."""
    trailer = len(image) - TRAILER_BYTES
    seal = decode_seal(image[trailer:], base + trailer, turn, base, reader.salt)
    if seal is None or reader.is_cut(seal.incarnation, seal.last_seq):
        return {}
    at = seal.digest_offset - base
    digest = image[at : at + seal.rows_bytes + seal.metas_bytes]
    if not reader.digest_intact(digest, seal):
        return {}
    return {row[5]: (row[0], row[7]) for row in ROW.iter_unpack(digest[: seal.rows_bytes])}


def _gaps(sequences: list[int], durable_seq: int) -> list[tuple[int, int]]:
    """First and last sequence of every hole."""
    gaps = [(low + 1, high - 1) for low, high in pairwise(sequences) if high > low + 1]
    last = sequences[-1] if sequences else 0
    return [*gaps, (last + 1, durable_seq)] if durable_seq > last else gaps


class Salvage:
    """Puts what a survey found into a new file, and says what it could not."""

    def __init__(self, path: Path, storage: Storage, damage: DamagedStoreError, judge: Judge) -> None:
        self._path = path
        self._storage = storage
        self._damage = damage
        self._survey = survey(storage, judge)
        self.kept_count = 0
        self.open_count = 0

    def run(self, fill: Callable[[Superblock, int, Iterator[Foreign]], None], stamp: str) -> Path:
        """``fill`` makes a new store at ``path`` of these records, the first with this sequence; the report.

        The damaged file stays, under another name. DamagedStoreError if not even a superblock is left.
        """
        block = self._survey.block
        if block is None:
            raise self._damage
        aside = self._path.with_name(f"{self._path.name}.damaged-{stamp}")
        last_seq = max([block.durable_seq, *(found.header.sequence for found in self._survey.records)])
        aside.hardlink_to(self._path)  # at every moment there is a store at path: nobody makes an empty one
        fill(block, last_seq + 1, self._kept(last_seq + 1))
        report = self._path.with_name(f"{self._path.name}.loss-{stamp}.txt")
        report.write_text("\n".join(self._lines(aside)) + "\n", encoding="utf-8")
        log.error("%s was damaged: what was lost is in %s", self._path, report)
        return report

    def _kept(self, sequence: int) -> Iterator[Foreign]:
        """Every whole record of everything that is still open, in order, numbered anew from ``sequence``."""
        live = set[bytes]()
        for found in self._survey.records:
            effect = EFFECT_OF[found.header.kind]
            if effect in (Effect.OPEN, Effect.STATE):
                live.add(found.header.key)
            elif effect is Effect.DROP:
                live.discard(found.header.key)
        self.open_count = len(live)
        for found in self._survey.records:
            header = found.header
            if header.key not in live:
                continue
            flags, body = header.flags, b""
            if found.body_is_whole:
                body = self._storage.read_at(
                    header.offset + HEADER_BYTES + header.meta_bytes, header.body_bytes
                )
            else:
                flags |= LOST
            parts = (body,) if body else ()
            yield Foreign(header.kind, flags, sequence, header.epoch, header.key, found.meta, parts)
            sequence += 1
            self.kept_count += 1

    def _lines(self, aside: Path) -> list[str]:
        """The report, for a person."""
        found = self._survey
        lost = [
            f"record {seq} {_kind(kind)} {_job(key)}: gone" for seq, (kind, key) in sorted(found.lost.items())
        ]
        bodies = [
            f"record {header.sequence} {_kind(header.kind)} {_job(header.key)}: body damaged"
            for header, _, body_is_whole in found.records
            if not body_is_whole
        ]
        lost_count = sum(high - low + 1 for low, high in found.gaps)
        gaps = [f"records {low} to {high}: gone" for low, high in found.gaps]
        return [
            f"store           {self._path}",
            f"damage          offset {self._damage.offset}: {self._damage.reason}",
            f"damaged file    {aside}",
            f"open and kept   {self.open_count} entries, {self.kept_count} records",
            f"lost            {lost_count} records, {len(bodies)} bodies",
            "A lost CLOSE opens its job again; a lost REQUEST loses it; a lost REPLY lets it run again.",
            *gaps,
            *lost,
            *bodies,
        ]


def _kind(kind: int) -> str:
    return Kind(kind).name if EFFECT_OF[kind] is not Effect.UNKNOWN else f"kind {kind}"


def _job(key: bytes) -> str:
    return str(UUID(bytes=key))
