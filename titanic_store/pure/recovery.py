"""Where the log ends, and what its records leave behind; the decisions of opening a store.

``docs/internals/data-file.md``, "Opening", numbers the steps.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from struct import Struct
from typing import Final, Generic, NamedTuple
from zlib import crc32

from titanic_store.errors import DamagedStoreError, UnknownVersionError
from titanic_store.pure.chunks import CHUNK_HEADER_BYTES, ChunkHeader, Seal, align_up
from titanic_store.pure.kinds import EFFECT_OF, Effect, Kind
from titanic_store.pure.records import (
    HEADER_BYTES,
    MAGIC,
    ROW,
    ROW_FROM,
    ROW_TO,
    U32,
    WHOLE_HEAD,
    Header,
    decode_header,
    decode_origin,
    padded,
)
from titanic_store.pure.seams import E, Judge, Owner
from titanic_store.pure.space import Space, Tally, charge_of
from titanic_store.pure.superblock import Superblock

_FOLDED: Final = Struct("<B3xI4xQQ16s")
_SIZED: Final = Struct("<B3xII32x")
"""Parts of a row: kind, meta_bytes, sequence, offset, key; and kind, meta_bytes, body_bytes."""
_CHARGED: Final = frozenset((Effect.OPEN, Effect.BODY, Effect.STATE))
_OF_JOBS: Final = frozenset((Kind.REQUEST, Kind.REPLY, Kind.JOB))
assert _FOLDED.size == _SIZED.size == ROW.size
assert HEADER_BYTES % 8 == 0, "the padding of a record is that of its meta and body"


class Chain(NamedTuple):
    """The last record of the log so far: what the next one must continue (R1)."""

    sequence: int
    crc: int
    incarnation: int = 0
    epoch: int = 0


@dataclass(slots=True)
class Scan:
    """What a chunk read record by record holds. ``end`` is relative to the chunk."""

    chain: Chain
    end: int
    why: str = "the chunk ends"
    rows: bytearray = field(default_factory=bytearray)
    metas: bytearray = field(default_factory=bytearray)
    durable_seq: int = 0


class Chunk(NamedTuple):
    """A chunk that counts, found in ``slot``."""

    slot: int
    header: ChunkHeader


@dataclass(slots=True)
class Recovered(Generic[E]):
    """Everything a ring needs to go on where the file ends."""

    superblock: Superblock
    space: Space
    index: dict[bytes, E]
    chain: Chain
    chunks: list[Chunk]  # tail first, the head last
    head: Chunk
    head_end: int  # offset in the file
    rows: bytearray
    metas: bytearray
    record_count: int
    torn_bytes: int
    warnings: list[str]
    reply_count: int = 0  # entries that have one
    silent: bool = False  # there may be entries that never get a reply
    file_bytes: int = 0  # may be more than the superblock says: allocated ahead (R9)
    stale_seal_at: int = 0  # a trailer of the head that must not be believed any more
    unsealed: list[tuple[ChunkHeader, Scan]] = field(
        default_factory=list
    )  # not the head, yet without a digest


class Reader:
    """Reads chunks of one store. ``salt`` is the start of its salted crcs.

    What an incarnation before ``since`` wrote behind ``until_seq`` is no part of the log: it was cut (R3).
    """

    def __init__(self, salt: int, align_bytes: int, since: int = 0, until_seq: int = 0) -> None:
        self.salt: Final = salt
        self.align_bytes: Final = align_bytes
        self.since: Final = since
        self.until_seq: Final = until_seq

    def is_cut(self, incarnation: int, sequence: int) -> bool:
        """Whether a record of this incarnation and sequence lies behind a cut."""
        return incarnation < self.since and sequence > self.until_seq

    def scan(self, image: bytes, base: int, turn: int, chain: Chain) -> Scan:
        """All records of the chunk ``image`` at ``base`` that continue ``chain`` (R1)."""
        scan = Scan(chain, CHUNK_HEADER_BYTES)
        while True:
            self._rush(image, base, turn, scan)
            header = self._next(image, base, turn, scan)
            if header is None:
                return scan
            at = header.offset - base
            meta = image[at + HEADER_BYTES : at + HEADER_BYTES + header.meta_bytes]
            scan.rows += image[at + ROW_FROM : at + ROW_TO]
            scan.metas += meta
            scan.chain = Chain(header.sequence, header.crc, header.incarnation, header.epoch)
            scan.durable_seq = max(scan.durable_seq, header.durable_seq)
            scan.end = at + header.size

    def _rush(self, image: bytes, base: int, turn: int, scan: Scan) -> None:
        """Take the records that are beyond doubt, four times as fast; :meth:`_next` judges the next."""
        salt, view, align_bytes = self.salt, memoryview(image), self.align_bytes
        sequence, crc, incarnation, epoch = scan.chain
        at = end = scan.end
        durable_seq, rows, metas = scan.durable_seq, list[bytes](), list[bytes]()
        while at + HEADER_BYTES <= len(image):
            (
                magic, _, _, _, meta_bytes, body_bytes, number, offset, _, durable, reign, opened, lap,
                meta_crc, body_crc, prev_crc, head_crc,
            ) = WHOLE_HEAD.unpack_from(image, at)  # fmt: skip
            boundary = align_up(at, align_bytes)
            if magic != MAGIC and at != boundary:
                at = boundary
                continue
            if opened < self.since and at != boundary and image[boundary : boundary + 4] == MAGIC:
                break
            body = at + HEADER_BYTES + meta_bytes
            if (
                (magic, number, offset, lap, prev_crc) != (MAGIC, sequence + 1, base + at, turn & U32, crc)
                or (opened < incarnation or reign < epoch or self.is_cut(opened, number))
                or crc32(view[at : at + HEADER_BYTES - 4], salt) != head_crc
                or body + body_bytes > len(image)
                or crc32(view[at + HEADER_BYTES : body], salt) != meta_crc
                or crc32(view[body : body + body_bytes], salt) != body_crc
            ):
                break
            rows.append(image[at + ROW_FROM : at + ROW_TO])
            metas.append(image[at + HEADER_BYTES : body])
            sequence, crc, incarnation, epoch = number, head_crc, opened, reign
            durable_seq = max(durable_seq, durable)
            at = end = at + padded(body + body_bytes - at)
        scan.rows += b"".join(rows)
        scan.metas += b"".join(metas)
        scan.chain, scan.end, scan.durable_seq = Chain(sequence, crc, incarnation, epoch), end, durable_seq

    def _next(self, image: bytes, base: int, turn: int, scan: Scan) -> Header | None:
        """The record that continues the log: where the last one ended, or where a new batch may begin."""
        boundary = align_up(scan.end, self.align_bytes)
        stale: Header | None = None
        for at in (scan.end, boundary) if boundary != scan.end else (boundary,):
            header = decode_header(image, at, base + at, self.salt)
            why = self._refusal(image, at, turn, scan.chain, header)
            if why:
                scan.why = why if stale is None else ""
            elif header is not None and header.incarnation < self.since and at != boundary:
                # It may have been cut, in the middle of its batch: then the next batch replaced it (R3).
                scan.why, stale = "", header
            elif header is not None and (stale is None or header.incarnation > stale.incarnation):
                scan.why = ""
                return header
        return stale

    def _refusal(self, image: bytes, at: int, turn: int, chain: Chain, header: Header | None) -> str:
        """Why the record at ``at`` does not continue the log; empty if it does."""
        if header is None:
            return "no valid header"
        if header.turn != turn & U32 or header.sequence != chain.sequence + 1:
            return f"sequence {header.sequence} of turn {header.turn} instead of {chain.sequence + 1}"
        if header.prev_crc != chain.crc:
            return "the record does not follow the one before it"
        if header.incarnation < chain.incarnation or header.epoch < chain.epoch:
            return "the record is older than the one before it"
        if self.is_cut(header.incarnation, header.sequence):
            return "the record lies behind a cut"
        if at + header.size > len(image):
            return "the record crosses the end of its chunk"
        body = at + HEADER_BYTES + header.meta_bytes
        if crc32(image[at + HEADER_BYTES : body], self.salt) != header.meta_crc:
            return "the meta fails its checksum"
        if crc32(memoryview(image)[body : body + header.body_bytes], self.salt) != header.body_crc:
            return "the body fails its checksum"
        return ""

    def later(self, image: bytes, base: int, start: int, last_seq: int) -> list[Header]:
        """Valid headers behind ``start`` with a higher sequence than the log's last, wherever they are.

        A forged header inside a body fails the salted crc, an old one has a lower sequence (R4).
        """
        found = []
        at = image.find(MAGIC, start)
        while at >= 0:
            header = decode_header(image, at, base + at, self.salt) if at % 8 == 0 else None
            if header is not None and header.sequence > last_seq:
                found.append(header)
            at = image.find(MAGIC, at + 1)
        return found

    def seal_continues(self, seal: Seal, chain: Chain) -> bool:
        """Whether the chunk was sealed as part of this log, not by an earlier use of turn and slot."""
        return (
            (seal.first_seq, seal.first_prev_crc) == (chain.sequence + 1, chain.crc)
            and not self.is_cut(seal.incarnation, seal.last_seq)
            and seal.incarnation >= chain.incarnation
            and seal.epoch >= chain.epoch
        )

    def digest_intact(self, digest: bytes, seal: Seal) -> bool:
        """Whether a sealed chunk's digest is whole."""
        return (
            len(digest) == seal.rows_bytes + seal.metas_bytes and crc32(digest, self.salt) == seal.digest_crc
        )


def tally(rows: bytes | bytearray, chunk_bytes: int) -> Tally:
    """What the records of one chunk are charged; of many records of one size it is computed once."""
    found: Counter[int] = Counter()
    others = False
    for (kind, meta_bytes, body_bytes), count in Counter(_SIZED.iter_unpack(rows)).items():
        if EFFECT_OF[kind] in _CHARGED:
            found[charge_of(meta_bytes, body_bytes, chunk_bytes)] += count
            others |= kind not in _OF_JOBS
    if not found:
        return Tally()
    charge_bytes = sum(charge * count for charge, count in found.items())
    return Tally(sum(found.values()), charge_bytes, min(found), max(found), others)


def unreadable(kind: int, meta: bytes, judge: Judge) -> str:
    """Why a record's meta, as it stands in the file, cannot be folded; empty if it can."""
    if kind != Kind.JOB:
        return judge(kind, meta)
    origin = decode_origin(meta)
    if origin is None:
        return "a relocated job without its origin"
    return judge(origin.kind, origin.meta) or judge(kind, origin.state)


class Rebuild(Generic[E]):
    """Folds the records of a log, oldest first, into an index."""

    def __init__(self, owner: Owner[E]) -> None:
        self._owner = owner
        self._replies: dict[bytes, tuple[int, bytes, int]] = {}
        self._moved: list[tuple[int, bytes]] = []
        self.index: dict[bytes, E] = {}
        self.record_count = 0
        self.silent = False  # something else than a request opened an entry

    def fold(self, rows: bytes | bytearray, metas: bytes, chunk_bytes: int = 1 << 30) -> Tally:
        """Fold the records of one chunk, given as the digest has them; what they are charged."""
        try:
            self._fold(rows, metas)
        except ValueError as error:
            damage = self._unreadable(rows, metas)
            if damage is None:
                raise  # our own mistake
            raise damage from error
        self.record_count += len(rows) // ROW.size
        found = tally(rows, chunk_bytes)
        self.silent |= found.others
        return found

    def _fold(self, rows: bytes | bytearray, metas: bytes) -> None:
        index, opened, fold = self.index, self._owner.open, self._owner.fold
        effects, start, opens = EFFECT_OF, 0, Effect.OPEN
        for kind, meta_bytes, sequence, at, key in _FOLDED.iter_unpack(rows):
            meta = metas[start : start + meta_bytes]
            start += meta_bytes
            effect = effects[kind]
            if effect is opens:
                index[key] = opened(kind, key, at, meta, sequence)
            elif effect is Effect.DROP:
                gone = index.pop(key, None)
                if gone is not None:
                    fold(gone, kind, meta, sequence)
                self._replies.pop(key, None)
            elif effect is Effect.STATE:
                self._restore(key, at, meta)
            elif effect is Effect.UNKNOWN:
                raise UnknownVersionError(f"the file has a record of kind {kind}, written by a later version")
            elif effect is not Effect.NONE:
                known = index.get(key)
                if known is not None:
                    if effect is Effect.BODY:
                        known.reply_at = at
                    fold(known, kind, meta, sequence)
                elif effect is Effect.BODY:
                    # its request was relocated to a place further on, or the job is closed there
                    self._replies[key] = (at, meta, sequence)

    def _unreadable(self, rows: bytes | bytearray, metas: bytes) -> DamagedStoreError | None:
        """Which record the owner could not fold: its checksums are right, its meta says nothing."""
        start = 0
        told = [(Kind.REPLY, len(meta), sequence, at, b"") for at, meta, sequence in self._replies.values()]
        metas = b"".join(meta for _, meta, _ in self._replies.values()) + metas
        for kind, meta_bytes, sequence, at, _key in (*told, *_FOLDED.iter_unpack(rows)):
            meta, start = metas[start : start + meta_bytes], start + meta_bytes
            why = unreadable(kind, meta, self._owner.unreadable)
            if why:
                text = f"the meta of record {sequence}, a {Kind(kind).name}, cannot be read: {why}"
                return DamagedStoreError(at, text, last_seq=sequence - 1)
        return None

    def _restore(self, key: bytes, at: int, meta: bytes) -> None:
        """A JOB: everything before it about this key is in it, except a reply that was not relocated."""
        origin = decode_origin(meta)
        if origin is None:
            raise DamagedStoreError(at, "a relocated job without its origin")
        entry = self.index.get(key)
        if entry is None:
            entry = self.index[key] = self._owner.new(origin.kind, key)
            self._moved.append((origin.sequence, key))
            self.silent |= origin.kind != Kind.REQUEST
        entry.request_at = at
        self._owner.fold(entry, origin.kind, origin.meta, origin.sequence)
        self._owner.fold(entry, Kind.JOB, origin.state, origin.sequence)
        reply = self._replies.get(key)
        if reply is not None:
            entry.reply_at, reply_meta, sequence = reply
            self._owner.fold(entry, Kind.REPLY, reply_meta, sequence)
            del self._replies[key]

    def finish(self) -> dict[bytes, E]:
        """The index in the order of acceptance.

        A relocated entry whose first record is gone was accepted before every first record still there.
        """
        self._replies.clear()
        if not self._moved:
            return self.index
        ordered: dict[bytes, E] = {}
        for _sequence, key in sorted(self._moved):
            entry = self.index.pop(key, None)
            if entry is not None:
                ordered[key] = entry
        ordered.update(self.index)
        self.index = ordered
        return ordered
