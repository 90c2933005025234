"""The head of the ring: where the next record goes, and how the ring gets its next chunk.

Belongs to the thread that appends; what must reach the disk goes into the committer's open batch.
"""

from __future__ import annotations

import time
from typing import Any, Final
from zlib import crc32

import msgspec

from titanic_store.errors import RecordTooLargeError, RingFullError
from titanic_store.pure.chunks import (
    CHUNK_HEADER_BYTES,
    TRAILER_BYTES,
    ChunkHeader,
    Seal,
    align_up,
    encode_chunk_header,
    encode_seal,
    max_record_bytes,
)
from titanic_store.pure.options import Options, Sync
from titanic_store.pure.records import HEADER_BYTES, ROW, U32
from titanic_store.pure.recovery import Recovered
from titanic_store.pure.seams import E
from titanic_store.pure.superblock import BASE_BYTES, Superblock, encode_superblock
from titanic_store.shell.committer import Batch, Committer

RESERVE_CHUNKS: Final = 1
"""Chunks that requests leave free for the notes, replies and closes of what is accepted already (R8)."""

AHEAD_CHUNKS: Final = 2
"""The file grows in the background as soon as fewer chunks than this are free (R9)."""

_GROWTH_LIMIT_SECONDS: Final = 60.0
assert AHEAD_CHUNKS > RESERVE_CHUNKS, "growth begins before anybody is refused"


class Head:
    """Position and bookkeeping of the chunk that is being written.

    ``seq`` and ``crc`` are those of the last record appended; ``limit`` is where records must end so that
    the digest, ``rows`` and ``metas``, still fits behind them.
    """

    def __init__(self, options: Options, recovered: Recovered[E]) -> None:
        self.block: Superblock = recovered.superblock
        self.space: Final = recovered.space
        self.salt: Final = crc32(self.block.salt)
        self.align: Final = self.block.align_bytes
        self.max_claim: Final = (
            max_record_bytes(self.block.chunk_bytes, self.align) + HEADER_BYTES + ROW.size + 8
        )
        self.max_chunks: Final = (options.max_bytes - BASE_BYTES) // self.block.chunk_bytes
        self.seq, self.crc = recovered.chain.sequence, recovered.chain.crc
        self.epoch = max(self.block.epoch, recovered.chain.epoch)
        self.incarnation: Final = max(self.block.incarnation, recovered.chain.incarnation) + 1
        self.rows, self.metas = recovered.rows, recovered.metas
        self.end = recovered.head_end
        self._synced: Final = options.policy.sync is not Sync.NEVER
        self._growing = False
        self._open(recovered.head.slot, recovered.head.header)

    def _open(self, slot: int, header: ChunkHeader) -> None:
        """Records go into ``slot`` from now on."""
        self.chunk = header
        self.turn = header.turn & U32
        self._chunk_end = self.space.offset_of(slot) + self.space.chunk_bytes
        digest_bytes = TRAILER_BYTES + len(self.rows) + len(self.metas)
        self.limit = self._chunk_end - digest_bytes - 2 * self.align

    def attach(self, committer: Committer) -> None:
        """What must be written goes to ``committer`` from now on."""
        self._committer = committer

    @property
    def free_bytes(self) -> int:
        """What fits before the file must grow or jobs be closed."""
        return max(0, self.limit - self.end) + len(self.space.free) * self.max_claim

    def next_superblock(self, **changes: Any) -> tuple[int, bytes]:
        """Offset and bytes of the next generation; wall time never runs backwards in the file (R16)."""
        self.block = msgspec.structs.replace(
            self.block,
            generation=self.block.generation + 1,
            written_ms=max(self.block.written_ms, time.time_ns() // 1_000_000),
            incarnation=self.incarnation,
            epoch=self.epoch,
            **changes,
        )
        return self.block.offset, encode_superblock(self.block)

    def make_room(self, claim: int, *, opens: bool) -> None:
        """A record that claims so many bytes fits afterwards; RingFullError, RecordTooLargeError.

        Kinds that open leave ``RESERVE_CHUNKS`` free. May wait for the file to grow, if it could not grow
        ahead of need.
        """
        if claim > self.max_claim:
            extra = HEADER_BYTES + ROW.size + 8
            raise RecordTooLargeError(claim - extra, self.max_claim - extra)
        self.settle()
        turn_page = align_up(self.end, self.align) + claim > self.limit
        wanted = RESERVE_CHUNKS * opens + turn_page
        while len(self.space.free) < wanted:
            if not self._grow_now():
                raise RingFullError(claim, self.free_bytes)
        if turn_page:
            self._turn_page()
        if len(self.space.free) < AHEAD_CHUNKS:
            self._request_growth()

    def settle(self) -> None:
        """Take back dead chunks from the tail, and the slot that was added meanwhile."""
        self.space.reclaim()
        if not self._growing or not self._committer.growth_tried.is_set():
            return
        self._growing = False
        if self._committer.grown_bytes > self.block.file_bytes:
            with self._committer.mutex:
                self._put_superblock(self._committer.batch, chunk_count=self.block.chunk_count + 1)
            self.space.grow()

    def _put_superblock(self, batch: Batch, **changes: Any) -> None:
        offset, raw = self.next_superblock(durable_seq=self._committer.durable_seq, **changes)
        batch.write(offset, raw)
        batch.barrier()

    def _turn_page(self) -> None:
        """Seal the chunk and begin the next; the order is the specification's, chapter "Writing"."""
        space, committer = self.space, self._committer
        with committer.mutex:
            batch = committer.batch
            self._put_superblock(batch, tail_turn=space.tail_turn)
            slot = space.take()
            offset = space.offset_of(slot)
            header = ChunkHeader(
                turn=self.chunk.turn + 1,
                offset=offset,
                first_seq=self.seq + 1,
                durable_seq=self.seq if self._synced else committer.durable_seq,
                epoch=self.epoch,
                incarnation=self.incarnation,
                prev_crc=self.crc,
                store_uuid=self.block.store_uuid,
            )
            batch.write(offset, encode_chunk_header(header, self.salt))
            batch.barrier()
            self._put_digest(batch)
            self.rows, self.metas = bytearray(), bytearray()
            self.end = offset + CHUNK_HEADER_BYTES
            self._open(slot, header)

    def _put_digest(self, batch: Batch) -> None:
        """Digest and trailer of the chunk that is full."""
        trailer = self._chunk_end - TRAILER_BYTES
        at = trailer - len(self.rows) - len(self.metas) & -self.align
        assert align_up(self.end, self.align) <= at, "the room for the digest was kept free"
        seal = Seal(
            turn=self.chunk.turn,
            offset=trailer,
            first_seq=self.chunk.first_seq,
            last_seq=self.seq,
            epoch=self.epoch,
            digest_offset=at,
            incarnation=self.incarnation,
            record_count=len(self.rows) // ROW.size,
            rows_bytes=len(self.rows),
            metas_bytes=len(self.metas),
            digest_crc=crc32(self.metas, crc32(self.rows, self.salt)),
            first_prev_crc=self.chunk.prev_crc,
            last_crc=self.crc,
            records_end=self.end - (self._chunk_end - self.space.chunk_bytes),
        )
        gap = bytes(trailer - at - len(self.rows) - len(self.metas))
        batch.write(at, self.rows, self.metas, gap, encode_seal(seal, self.salt))

    def _request_growth(self) -> None:
        """Ask the commit thread for one more slot, unless it is busy with one or the limit is reached."""
        committer = self._committer
        if self._growing or self.space.chunk_count >= self.max_chunks:
            return
        self._growing = True
        committer.growth_tried.clear()
        with committer.mutex:
            committer.batch.grow = (self.block.file_bytes, self.block.file_bytes + self.block.chunk_bytes)
        committer.wake()

    def _grow_now(self) -> bool:
        """Wait for one more slot; False if there is no room for it."""
        self._request_growth()
        if not self._growing:
            return False
        count = self.space.chunk_count
        self._committer.wait_growth(_GROWTH_LIMIT_SECONDS)
        self.settle()
        return self.space.chunk_count > count
