"""Mending damage in place: a record from the peer's copy, a digest from its records (R2, R18, R19; D3).

Nothing is written that does not prove itself: a record must have the sizes and checksums that its header
here names, or, where the header is damaged itself, one must be found whose checksum the next record names.
"""

from __future__ import annotations

import logging
from collections import deque
from struct import Struct
from typing import Final, NamedTuple
from zlib import crc32

from titanic_store.errors import DamagedStoreError
from titanic_store.pure.chunks import TRAILER_BYTES, ChunkHeader, decode_chunk_header, encode_digest
from titanic_store.pure.records import HEADER_BYTES, LOST, MAGIC, ROW, U32, Header, decode_header, pack_head
from titanic_store.pure.recovery import Chain, Reader
from titanic_store.pure.seams import Foreign, Storage
from titanic_store.shell.committer import Committer
from titanic_store.shell.head import Head
from titanic_store.shell.reading import RecordReader

log = logging.getLogger("titanic_store")

WOUNDS_MAX_COUNT: Final = 10_000
GUESSES_MAX_COUNT: Final = 1_000_000
"""Values of the two fields of a lost header that only this node's file knew; each costs a microsecond."""

_OFFSET_AT: Final = 20
_U64: Final = Struct("<Q")
_CHUNK_READ_BYTES: Final = 128


class Wound(NamedTuple):
    """A damaged record: where it is, and which one. ``header`` is None if that is damaged too."""

    at: int
    sequence: int
    key: bytes
    header: Header | None


class Neighbours(NamedTuple):
    """What the records around a lost header know of it.

    ``first``: checksum, durable_seq and incarnation of the one before; the last two 0 if there is none in
    the chunk. ``last``: of the one behind, with the checksum that it names for the lost one.
    """

    first: tuple[int, int, int]
    last: tuple[int, int, int]


def fits(header: Header, record: Foreign, salt: int) -> bool:
    """Whether this is the record that the header names, to the last bit."""
    crc = salt
    for part in record.body:
        crc = crc32(part, crc)
    sizes = (len(record.meta), sum(map(len, record.body)))
    return (
        (header.kind, header.flags, header.sequence, header.epoch, header.key)
        == (record.kind, record.flags, record.sequence, record.epoch, record.key)
        and (header.meta_bytes, header.body_bytes) == sizes
        and (header.meta_crc, header.body_crc) == (crc32(record.meta, salt), crc)
    )


def written(header: Header, record: Foreign) -> bytes:
    """The record as it is in the file."""
    raw = pack_head(MAGIC, header.kind, header.flags, 0, *header[2:14])
    return raw + header.crc.to_bytes(4, "little") + record.meta + b"".join(record.body)


def guessed(record: Foreign, at: int, turn: int, around: Neighbours, salt: int) -> Header | None:
    """A lost header: all but two numbers is known, and the next record names its checksum."""
    (prev_crc, low, since), (crc, high, until) = around
    body_crc = salt
    for part in record.body:
        body_crc = crc32(part, body_crc)
    sizes = (len(record.meta), sum(map(len, record.body)))
    tail = (turn & U32, crc32(record.meta, salt), body_crc, prev_crc)
    guesses = 0
    for incarnation in range(since or until, until + 1):
        for durable_seq in range(low or max(0, high - GUESSES_MAX_COUNT // 2), high + 1):
            fields = (
                *(record.kind, record.flags, *sizes, record.sequence, at, record.key),
                *(durable_seq, record.epoch, incarnation, *tail),
            )
            if crc32(pack_head(MAGIC, *fields[:2], 0, *fields[2:]), salt) == crc:
                return Header(*fields, crc)
            guesses += 1
            if guesses >= GUESSES_MAX_COUNT:
                return None
    return None


class Mender:
    """Knows of damage as soon as a read or the scrub meets it; writes what is right over it, durably.

    :meth:`notice` is called in any thread, the rest in the thread that appends. ``hopeful``: somebody has a
    second copy, so that a damaged record is not to be given up yet.
    """

    def __init__(
        self, storage: Storage, head: Head, reader: RecordReader, committer: Committer, store_uuid: bytes
    ) -> None:
        self._storage = storage
        self._head = head
        self._reader = reader
        self._committer = committer
        self._store_uuid = store_uuid
        self._noticed: deque[int] = deque(maxlen=WOUNDS_MAX_COUNT)
        self.mended_count = 0

    @property
    def hopeful(self) -> bool:
        """See the class."""
        return self._reader.hopeful

    @hopeful.setter
    def hopeful(self, value: bool) -> None:
        self._reader.hopeful = value

    def notice(self, at: int) -> None:
        """Something could not be read at this offset."""
        if at not in self._noticed:
            self._noticed.append(at)

    def noticed(self) -> list[Wound]:
        """Damaged records that were met since the last call. Damaged digests are mended here and now."""
        wounds: dict[int, Wound] = {}
        for _ in range(len(self._noticed)):
            at = self._noticed.popleft()
            try:
                wound = self.locate(at) if self._is_record(at) else self._mend_digest(at)
            except DamagedStoreError as error:
                log.error("what is damaged at offset %d cannot be told: %s", at, error)
                continue
            if wound is not None:
                wounds[wound.at] = wound
        return list(wounds.values())

    # -- which record

    def locate(self, at: int) -> Wound | None:
        """The record at this offset; None if it is none of the log, or its body was lost for good.

        DamagedStoreError if neither the digest nor the record says which it is.
        """
        slot = self._head.space.slot_of(at)
        if slot not in self._head.space.order:
            return None
        header = decode_header(self._storage.read_at(at, HEADER_BYTES), 0, at, self._head.salt)
        if header is not None:
            return None if header.flags & LOST else Wound(at, header.sequence, header.key, header)
        for row in ROW.iter_unpack(self._rows(slot)):
            if row[6] == at:
                return Wound(at, row[5], row[7], None)
        return None

    def is_open(self, wound: Wound) -> bool:
        """Whether this record is still at its place: its room may have been used again."""
        try:
            found = self.locate(wound.at)
        except DamagedStoreError:
            return True
        return found is not None and found.sequence == wound.sequence

    def _is_record(self, at: int) -> bool:
        space = self._head.space
        return at - space.offset_of(space.slot_of(at)) < space.chunk_bytes - TRAILER_BYTES

    def _rows(self, slot: int) -> bytes:
        """The digest rows of the chunk in ``slot``."""
        space = self._head.space
        if slot == space.order[-1]:
            return bytes(self._head.rows)
        base, turn = space.offset_of(slot), space.turn_of(slot)
        assert turn is not None, "a chunk that counts"
        seal = self._reader.read_seal(base, space.chunk_bytes, turn)
        digest = self._reader.read_digest(seal) if seal is not None else None
        if digest is None:
            raise DamagedStoreError(base, f"the digest of turn {turn} cannot be read either")
        return digest[0]

    # -- a record

    def mend(self, wound: Wound, record: Foreign, token: object) -> bool:
        """Whether ``record`` is the damaged one; if so it is there again, durably once ``token`` is back."""
        if not self.is_open(wound):
            return False
        header = wound.header or self._reconstruct(wound, record)
        if header is None or not fits(header, record, self._head.salt):
            return False
        self._write(wound.at, written(header, record), token)
        self.mended_count += 1
        log.warning("record %d at offset %d is mended", wound.sequence, wound.at)
        return True

    def _reconstruct(self, wound: Wound, record: Foreign) -> Header | None:
        """The lost header: all is known but two numbers, and the next record names the checksum."""
        head = self._head
        slot = head.space.slot_of(wound.at)
        turn = head.space.turn_of(slot)
        neighbours = self._neighbours(slot, wound)
        if neighbours is None or turn is None:
            return None
        return guessed(record, wound.at, turn, neighbours, head.salt)

    def _neighbours(self, slot: int, wound: Wound) -> Neighbours | None:
        """See Neighbours; None while one of them is damaged too."""
        head = self._head
        rows = self._rows(slot)
        offsets = [_U64.unpack_from(rows, at + _OFFSET_AT)[0] for at in range(0, len(rows), ROW.size)]
        number = offsets.index(wound.at)
        try:
            if number:
                before = self._reader.read_header(offsets[number - 1])
                first = (before.crc, before.durable_seq, before.incarnation)
            else:
                chunk = self._chunk_header(slot)
                first = (chunk.prev_crc, 0, 0)
            if number + 1 < len(offsets):
                behind = self._reader.read_header(offsets[number + 1])
                last = (behind.prev_crc, behind.durable_seq, behind.incarnation)
            elif slot == head.space.order[-1]:
                last = (head.crc, wound.sequence - 1, head.incarnation)
            else:
                chunk = self._chunk_header(head.space.order[head.space.order.index(slot) + 1])
                last = (chunk.prev_crc, wound.sequence - 1, chunk.incarnation)
        except DamagedStoreError:
            return None  # the neighbour first: the next look mends this one
        return Neighbours(first, last)

    def _chunk_header(self, slot: int) -> ChunkHeader:
        base = self._head.space.offset_of(slot)
        raw = self._reader.raw(base, _CHUNK_READ_BYTES)
        header = decode_chunk_header(raw, base, self._store_uuid, self._head.salt)
        if header is None:
            raise DamagedStoreError(base, "a chunk header fails its checksum")
        return header

    def _write(self, at: int, raw: bytes, token: object | None = None) -> None:
        """Whole sectors, with what stood around it; synced before anything behind it is written."""
        align, committer = self._head.align, self._committer
        begin, end = at & -align, at + len(raw) + align - 1 & -align
        around = bytearray(self._storage.read_at(begin, end - begin))
        around[at - begin : at - begin + len(raw)] = raw
        if committer.failure is not None:
            raise committer.failure
        with committer.mutex:
            batch = committer.batch
            batch.write(begin, around)
            batch.barrier()
            if token is not None:
                batch.tokens.append(token)
            batch.waiting = True
        committer.wake()

    # -- a digest

    def _mend_digest(self, at: int) -> Wound | None:
        """Seal the chunk again, from its records; the first of them that is damaged, if one is."""
        head, space = self._head, self._head.space
        slot = space.slot_of(at)
        turn = space.turn_of(slot)
        if turn is None or slot == space.order[-1]:
            return None
        base, chunk = space.offset_of(slot), self._chunk_header(slot)
        behind = self._chunk_header(space.order[space.order.index(slot) + 1])
        image = self._storage.read_at(base, space.chunk_bytes)
        scan = Reader(head.salt, head.align).scan(
            image, base, turn, Chain(chunk.first_seq - 1, chunk.prev_crc)
        )
        if (scan.chain.sequence + 1, scan.chain.crc) != (behind.first_seq, behind.prev_crc):
            self.notice(base + scan.end)  # the next pass of the scrub comes back to the digest
            raise DamagedStoreError(base + scan.end, f"record {scan.chain.sequence + 1} is damaged as well")
        shape = (space.chunk_bytes, head.align, head.salt)
        last = (scan.chain.sequence, scan.chain.crc, scan.chain.incarnation, scan.chain.epoch)
        offset, parts = encode_digest(chunk, scan.rows, scan.metas, last, scan.end, shape)
        self._write(offset, b"".join(parts))
        self.mended_count += 1
        log.warning("the digest of turn %d at offset %d is mended from its records", turn, offset)
        return None
