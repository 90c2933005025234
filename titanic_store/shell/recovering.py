"""Reading a store from its file: which bytes are read, in which order, and what is made of them.

Steps are numbered in ``docs/internals/data-file.md``, "Opening"; the decisions are a table in
``titanic_store/pure/decisions.py``.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Callable
from operator import attrgetter
from typing import Final, Generic
from zlib import crc32

from titanic_store.errors import DamagedStoreError
from titanic_store.pure.chunks import (
    CHUNK_HEADER_BYTES,
    TRAILER_BYTES,
    ChunkHeader,
    Seal,
    decode_chunk_header,
    decode_seal,
)
from titanic_store.pure.decisions import ENDS, Evidence, Later, Place, Sealed, Signs, Verdict
from titanic_store.pure.recovery import Chain, Chunk, Reader, Rebuild, Recovered, Scan
from titanic_store.pure.seams import E, Entry, Owner, Storage
from titanic_store.pure.space import Space, Tally
from titanic_store.pure.superblock import BASE_BYTES, newest_superblock

_REQUEST_AT: Final[Callable[[Entry], int]] = attrgetter("request_at")
_REPLY_AT: Final[Callable[[Entry], int]] = attrgetter("reply_at")

log = logging.getLogger("titanic_store")

Progress = Callable[[int, int], None]
"""Called with (chunks read, chunks to read) while the index is rebuilt."""


class Recovery(Generic[E]):
    """Reads one store from its file; :meth:`run` once."""

    def __init__(
        self, storage: Storage, owner: Owner[E], path: str, progress: Progress | None = None
    ) -> None:
        self._storage = storage
        self._path = path
        self._progress = progress
        self._owner = owner
        self._rebuild = Rebuild(owner)
        self._warnings: list[str] = []
        self.signs: Signs | None = None  # the row of the table that decided

    def run(self) -> Recovered[E]:
        """Steps 1 to 6. Raises NotAStoreError, UnknownVersionError, DamagedStoreError."""
        self._owner.begin()
        self._storage.sync()
        self._block = block = newest_superblock(self._storage.read_at(0, BASE_BYTES), self._path)
        if self._storage.size() < block.file_bytes:
            raise DamagedStoreError(
                self._storage.size(), f"the file is shorter than its {block.chunk_count} chunks"
            )
        self._reader = Reader(crc32(block.salt), block.align_bytes, block.incarnation, block.durable_seq)
        space = Space(block.chunk_bytes, block.chunk_count)
        chunks = self._chunks(space)
        chain = Chain(chunks[0].header.first_seq - 1, chunks[0].header.prev_crc)
        tallies: dict[int, Tally] = {}
        unsealed: list[tuple[Chunk, Scan]] = []
        for number, chunk in enumerate(chunks):
            found = self._read(space.offset_of(chunk.slot), chunk, chain)
            tallies[chunk.slot] = self._rebuild.fold(found.rows, bytes(found.metas), block.chunk_bytes)
            chain = found.chain
            if not self._digested:
                unsealed.append((chunk, found))
            if chunk is chunks[-1] or not self._follows(chunks[number + 1].header, chain):
                break
            if self._progress is not None:
                self._progress(number + 1, len(chunks))
        leftover = chunks[number + 1 :]
        torn_bytes = self._judge_end(space, chunk, found, leftover)
        index = self._rebuild.finish()
        reply_count = self._lay_out(space, chunks[: number + 1], leftover, index, tallies)
        return Recovered(
            superblock=block,
            space=space,
            index=index,
            chain=chain,
            chunks=chunks[: number + 1],
            head=chunk,
            head_end=space.offset_of(chunk.slot) + found.end,
            rows=found.rows,
            metas=found.metas,
            record_count=self._rebuild.record_count,
            torn_bytes=torn_bytes,
            warnings=self._warnings,
            silent=self._rebuild.silent,
            reply_count=reply_count,
            file_bytes=self._storage.size(),
            unsealed=[(chunk.header, scan) for chunk, scan in unsealed if chunk is not chunks[number]],
            stale_seal_at=self._stale_seal_at(space.offset_of(chunk.slot), chunk.header.turn),
        )

    def _chunks(self, space: Space) -> list[Chunk]:
        """Step 3: the chunks that count, tail first."""
        block, by_turn = self._block, dict[int, Chunk]()
        for slot in range(block.chunk_count):
            offset = space.offset_of(slot)
            header = decode_chunk_header(
                self._storage.read_at(offset, 128), offset, block.store_uuid, self._reader.salt
            )
            if header is None or header.turn < block.tail_turn:
                continue
            if header.turn in by_turn:
                raise DamagedStoreError(offset, f"turn {header.turn} is there twice")
            by_turn[header.turn] = Chunk(slot, header)
        top = max(by_turn, default=block.tail_turn)
        for turn in range(block.tail_turn, top + 1):
            if turn not in by_turn:
                raise DamagedStoreError(0, f"the chunk of turn {turn} is missing (turns to {top} exist)")
        return [by_turn[turn] for turn in sorted(by_turn)]

    def _seal(self, offset: int, turn: int) -> Seal | None:
        trailer = offset + self._block.chunk_bytes - TRAILER_BYTES
        raw = self._storage.read_at(trailer, TRAILER_BYTES)
        return decode_seal(raw, trailer, turn, offset, self._reader.salt)

    def _stale_seal_at(self, offset: int, turn: int) -> int:
        """Where the head has a trailer, of a history that was cut or torn; 0 if it has none."""
        return offset + self._block.chunk_bytes - TRAILER_BYTES if self._seal(offset, turn) else 0

    def _read(self, offset: int, chunk: Chunk, chain: Chain) -> Scan:
        """Step 4: from the digest if there is a good one, else record by record."""
        turn = chunk.header.turn
        seal = self._seal(offset, turn)
        believed = seal is not None and self._reader.seal_continues(seal, chain)
        found = self._from_digest(seal) if seal is not None and believed else None
        self._digested = found is not None
        if found is None:
            image = self._storage.read_at(offset, self._block.chunk_bytes)
            found = self._reader.scan(image, offset, turn, chain)
            if seal is not None and believed:
                self._warnings.append(f"the digest of turn {turn} at {seal.digest_offset} is damaged")
        self._sealed, self._records_end = Sealed.NO, found.end
        if seal is not None and believed:
            self._records_end = max(found.end, seal.records_end)
            self._sealed = Sealed.HERE if found.chain.sequence == seal.last_seq else Sealed.BEYOND
        return found

    def _from_digest(self, seal: Seal) -> Scan | None:
        digest = self._storage.read_at(seal.digest_offset, seal.rows_bytes + seal.metas_bytes)
        if not self._reader.digest_intact(digest, seal):
            return None
        return Scan(
            chain=Chain(seal.last_seq, seal.last_crc, seal.incarnation, seal.epoch),
            end=seal.records_end,
            rows=bytearray(digest[: seal.rows_bytes]),
            metas=bytearray(digest[seal.rows_bytes :]),
        )

    def _follows(self, header: ChunkHeader, chain: Chain) -> bool:
        """Whether the log goes on into the chunk with ``header``."""
        return (header.first_seq, header.prev_crc) == (chain.sequence + 1, chain.crc)

    def _judge_end(self, space: Space, chunk: Chunk, found: Scan, leftover: list[Chunk]) -> int:
        """Steps 5 and 6: torn bytes behind the end of the log; DamagedStoreError if it is a hole (R2).

        What an earlier incarnation left behind the end was judged when the superblock was written.
        """
        since = self._block.incarnation
        end, last_seq = space.offset_of(chunk.slot) + found.end, found.chain.sequence
        known = {self._block.durable_seq: "the superblock"}
        for behind in leftover:
            if behind.header.incarnation >= since:
                known[behind.header.durable_seq] = f"the chunk of turn {behind.header.turn}"
        torn_bytes, later_count = self._records_end - found.end, 0
        for place, start in [(chunk, found.end), *((behind, CHUNK_HEADER_BYTES) for behind in leftover)]:
            offset = space.offset_of(place.slot)
            image = self._storage.read_at(offset, self._block.chunk_bytes)
            torn_to = offset + start
            for header in self._reader.later(image, offset, start, last_seq):
                if header.incarnation >= since:
                    later_count += 1
                    known[header.durable_seq] = f"the record at {header.offset}"
                    torn_to = max(torn_to, header.offset + header.size)
            behind_bytes = torn_to - offset - start
            torn_bytes = max(torn_bytes, behind_bytes) if place is chunk else torn_bytes + behind_bytes
        durable_seq = max(known)
        self.signs = (
            Place.INNER if leftover else Place.LAST,
            self._sealed,
            Evidence.BEYOND if durable_seq > last_seq else Evidence.REACHED,
            Later.YES if later_count else Later.NO,
        )
        verdict = ENDS[self.signs]
        if verdict is Verdict.DAMAGE:
            if durable_seq > last_seq:
                reason = f"{known[durable_seq]} says that everything up to {durable_seq} was durable"
            else:
                reason = f"turn {chunk.header.turn} is sealed, but the chunk behind it is missing"
            text = f"record {last_seq + 1} is missing ({found.why}), but {reason}"
            raise DamagedStoreError(end, text, last_seq=last_seq)
        if verdict is Verdict.CUT:
            log.warning("cut a torn tail of %d bytes at offset %d", torn_bytes, end)
        return torn_bytes

    def _lay_out(
        self,
        space: Space,
        chunks: list[Chunk],
        leftover: list[Chunk],
        index: dict[bytes, E],
        tallies: dict[int, Tally],
    ) -> int:
        """The ring of ``space``: its order, what is alive, what is free; leftovers are used next.

        How many entries have a reply.
        """
        space.tail_turn = self._block.tail_turn
        space.order.extend(chunk.slot for chunk in chunks)
        used = set(space.order)
        first = [chunk.slot for chunk in leftover]
        space.free.extend(first)
        space.free.extend(slot for slot in range(space.chunk_count) if slot not in used.union(first))
        space.leftover_count = len(first)
        # sorted, which they nearly are, and cut at the slots: a tenth of looking up each one's slot
        requests = sorted(map(_REQUEST_AT, index.values()))
        replies = sorted(filter(None, map(_REPLY_AT, index.values())))
        for slot, tally in tallies.items():
            begin = space.offset_of(slot)
            end = begin + space.chunk_bytes
            space.load(slot, _between(requests, begin, end) + _between(replies, begin, end), tally)
        space.reclaim()
        return len(replies)


def _between(places: list[int], begin: int, end: int) -> int:
    """How many of the sorted ``places`` are from ``begin`` on and before ``end``."""
    return bisect_left(places, end) - bisect_left(places, begin)
