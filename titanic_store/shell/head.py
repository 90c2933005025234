"""The head of the ring: where the next record goes, and how the ring gets its next chunk.

Belongs to the thread that appends; what must reach the disk goes into the committer's open batch.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final
from zlib import crc32

import msgspec

from titanic_store.errors import RecordTooLargeError, RingBusyError, RingFullError
from titanic_store.pure.chunks import (
    CHUNK_HEADER_BYTES,
    TRAILER_BYTES,
    ChunkHeader,
    align_up,
    encode_chunk_header,
    encode_digest,
)
from titanic_store.pure.layout import Layout
from titanic_store.pure.options import Options, Sync
from titanic_store.pure.records import HEADER_BYTES, ROW, U32
from titanic_store.pure.recovery import Recovered
from titanic_store.pure.seams import E
from titanic_store.pure.space import AHEAD_CHUNKS, LARGE_DIVISOR, SPARE_CHUNKS
from titanic_store.pure.superblock import BASE_BYTES, encode_superblock
from titanic_store.shell.batch import Batch
from titanic_store.shell.room import FULL_RETRY_MS, MOVED_BYTES, Room

_SPACE_RETRY_MS: Final = 250

LOOK_DIVISOR: Final = 256
"""After so much of a chunk somebody looks ahead again; after each commit it would be most of the tending."""


class Head(Room):
    """Position and bookkeeping of the chunk that is being written.

    ``seq`` and ``crc`` are those of the last record appended; ``limit`` is where records must end so that
    the digest, ``rows`` and ``metas``, still fits behind them.
    """

    def __init__(self, options: Options, recovered: Recovered[E]) -> None:
        super().__init__(options, recovered)
        self.salt: Final = crc32(self.block.salt)
        self._look_bytes: Final = self.block.chunk_bytes // LOOK_DIVISOR
        self._looked_end = 0
        self.large_bytes: Final = self.block.chunk_bytes // LARGE_DIVISOR
        self.seq, self.crc = recovered.chain.sequence, recovered.chain.crc
        self.epoch = max(self.block.epoch, recovered.chain.epoch)
        self.incarnation = max(self.block.incarnation, recovered.chain.incarnation) + 1
        self.rows, self.metas = recovered.rows, recovered.metas
        self.end = recovered.head_end
        self.shrunk_count = 0
        self.win_back: Callable[[], bool] = bool
        self._synced: Final = options.policy.sync is not Sync.NEVER
        self._open(recovered.head.slot, recovered.head.header)
        self.settled_turn = self.chunk.turn  # chunks before it are sealed, durably
        self._turned: deque[tuple[int, int]] = deque()  # first sequence and turn of chunks since then

    def _open(self, slot: int, header: ChunkHeader) -> None:
        """Records go into ``slot`` from now on."""
        self.chunk = header
        self.turn = header.turn & U32
        self._chunk_end = self.space.offset_of(slot) + self.space.chunk_bytes
        digest_bytes = TRAILER_BYTES + len(self.rows) + len(self.metas)
        self.limit = self._chunk_end - digest_bytes - 2 * self.align

    @property
    def free_bytes(self) -> int:
        """What fits into the file as it is."""
        return max(0, self.limit - self.end) + len(self.space.free) * self.max_claim

    def layout(self) -> Layout:
        """The ring as it lies in the file once everything appended so far is durable."""
        block = msgspec.structs.replace(
            self.block,
            generation=self.block.generation + 1,
            incarnation=self.incarnation,
            epoch=self.epoch,
            tail_turn=self.space.tail_turn,
            durable_seq=self.seq,
        )
        return Layout(
            block, tuple(self.space.order), tuple(self.space.alive_counts), align_up(self.end, self.align)
        )

    @property
    def spare_chunks(self) -> int:
        """Chunks that requests leave free: for endings, for relocation, and for what it adds."""
        return SPARE_CHUNKS + self.entry_count() * MOVED_BYTES // self.max_claim

    @property
    def crowded(self) -> bool:
        """Fewer free chunks than there should be: space must be won back, or the file grow."""
        return len(self.space.free) < self.spare_chunks + self._ahead_chunks

    @property
    def _ahead_chunks(self) -> int:
        return min(AHEAD_CHUNKS, self.space.chunk_count // 4)

    @property
    def short(self) -> bool:
        """Somebody was refused, or would be at the end of the chunk: win space back at full speed."""
        return len(self.space.free) <= self.spare_chunks or self.space.tail_turn <= self.pressed_turn

    @property
    def dense(self) -> bool:
        """More than half of what is used is alive: relocation would cost more than it brings.

        More than a third, while the room of another slot is allocated anyway.
        """
        times = 3 if self.space.chunk_count < self.allocated_chunks else 2
        return times * self.space.live_bytes > len(self.space.order) * self.max_claim

    @property
    def solid(self) -> bool:
        """Hardly anything is dead: relocation would bring nothing."""
        return 8 * self.space.live_bytes > 7 * len(self.space.order) * self.max_claim

    def next_superblock(self, **changes: Any) -> tuple[int, bytes]:
        """Offset and bytes of the next generation; wall time never runs backwards in the file (R16)."""
        if self.block.tail_turn != self.space.tail_turn:
            changes.setdefault("tail_seq", changes["durable_seq"])
        self.block = msgspec.structs.replace(
            self.block,
            generation=self.block.generation + 1,
            written_ms=max(self.block.written_ms, time.time_ns() // 1_000_000),
            incarnation=self.incarnation,
            epoch=max(self.block.epoch, self.epoch),  # an epoch claimed is never forgotten (P1)
            tail_turn=self.space.tail_turn,
            **changes,
        )
        return self.block.offset, encode_superblock(self.block)

    def make_room(self, claim: int, *, kept_bytes: int = 0, moved: bool = False) -> None:
        """A record that claims so many bytes fits afterwards; RingFullError, RecordTooLargeError.

        A record that opens something must be admitted, with the ``kept_bytes`` of its ending; one that is
        ``moved`` may use the last free chunk. May wait for the disk: for growth that could not keep ahead,
        and for an ending, until a chunk is won back.
        """
        if claim > self.max_claim:
            extra = HEADER_BYTES + ROW.size + 8
            raise RecordTooLargeError(claim - extra, self.max_claim - extra)
        self.settle()
        opens = kept_bytes > 0
        if opens:
            self._admit(claim, kept_bytes)
        elif not moved and self._committer.queued_bytes > 2 * self._queue_max_bytes:
            self._committer.flush()
        self._free_slots(claim, opens=opens, moved=moved)
        if self._is_full(claim):
            self.turn_page()
        if len(self.space.free) < self.spare_chunks:
            self.room_bytes = -1
        self._look_ahead()

    def _free_slots(self, claim: int, *, opens: bool, moved: bool) -> None:
        """So many slots are free that the ring can go on; RingFullError.

        Relocation needs one free slot, and half of another for what it adds; so an ending waits until space
        is won back while there still are two.
        """
        keep_chunks = self.spare_chunks if opens else 0 if moved else SPARE_CHUNKS
        while len(self.space.free) < keep_chunks + self._is_full(claim):
            if self._unpin() or self._grow_now():
                continue
            if opens:
                self._press()
                raise RingBusyError(claim, self.free_bytes, _SPACE_RETRY_MS)
            if moved:
                raise RingFullError(claim, self.free_bytes, FULL_RETRY_MS)
            if not self.win_back():
                break
        if not moved and len(self.space.free) < self._is_full(claim):
            raise RingFullError(claim, self.free_bytes, FULL_RETRY_MS)

    def _look_ahead(self) -> None:
        """Grow ahead of need: relocation would bring little, or has not by the middle of the chunk (R9).

        And have room on the disk before it is promised.
        """
        self._looked_end = self.end
        self._committer.grower.brisk = len(self.space.free) <= self.spare_chunks
        if self.crowded and (self.dense or (len(self.space.free) <= self.spare_chunks and self._half_full())):
            self._request_growth(zeros=True)
        elif self.spare_bytes(opens=True) < self.max_claim:
            self._request_growth(zeros=False)

    def _half_full(self) -> bool:
        return 2 * (self._chunk_end - self.end) < self.space.chunk_bytes

    def _unpin(self) -> bool:
        """Take the room that a backup keeps from us, rather than refuse a job; False if there is none."""
        if not self.space.pinned_turn:
            return False
        self.space.pinned_turn = 0
        return self.space.reclaim() > 0

    def _is_full(self, claim: int) -> bool:
        return align_up(self.end, self.align) + claim > self.limit

    def settle(self) -> None:
        """Take back dead chunks from the tail, and the slot that was added meanwhile."""
        self.space.reclaim()
        if not 0 <= self.end - self._looked_end < self._look_bytes:
            self._look_ahead()
        while self._turned and self._turned[0][0] <= self._committer.durable_seq:
            self.settled_turn = self._turned.popleft()[1]
        if self._growing and self._committer.grower.tried.is_set():
            self._take_growth()
            self._looked_end = 0  # one may not be enough

    @property
    def fitting_chunks(self) -> int:
        """So many chunks are enough for what lives now, and for what may come at once."""
        live_chunks = -(-2 * self.space.live_bytes // self.max_claim)
        return max(self.block.floor_chunks, live_chunks + self.spare_chunks + AHEAD_CHUNKS)

    def mark_durable(self) -> None:
        """The file says how far it is durable: damage to the last batch is told from a torn one (R5)."""
        committer = self._committer
        if self.block.durable_seq < committer.durable_seq:
            with committer.mutex:
                self.put_superblock(committer.batch)
                committer.batch.waiting = True
            committer.wake()

    def shrink(self) -> int:
        """Free chunks at the end of the file are given up, down to the floor; how many (R9).

        So is room behind them that was allocated for promises.
        """
        committer, space = self._committer, self.space
        if self._growing:
            return 0
        count = space.shrink(self.fitting_chunks)
        self.shrunk_count += count
        allocated_chunks = max(space.chunk_count, self.promising_chunks)
        if count or allocated_chunks < self.allocated_chunks:
            self.allocated_chunks = min(self.allocated_chunks, allocated_chunks)
            self.room_bytes = -1
            with committer.mutex:
                self.put_superblock(committer.batch, chunk_count=space.chunk_count)
                committer.batch.truncate = BASE_BYTES + self.allocated_chunks * space.chunk_bytes
                committer.batch.waiting = True
                self._shrinking = committer.batch
            committer.wake()
        return count

    def put_superblock(self, batch: Batch, **changes: Any) -> None:
        """The next superblock is durable before anything behind it in ``batch`` is written.

        With `never` nobody has synced what freed the space before its tail: that comes first (R6).
        """
        if not self._synced and self.block.tail_turn != self.space.tail_turn:
            batch.barrier()
        offset, raw = self.next_superblock(durable_seq=self._committer.durable_seq, **changes)
        batch.write(offset, raw)
        batch.barrier()

    def turn_page(self) -> None:
        """Seal the chunk and begin the next; the order is the specification's, chapter "Writing"."""
        space, committer = self.space, self._committer
        with committer.mutex:
            batch = committer.batch
            self.put_superblock(batch)
            slot = space.take(lowest=space.chunk_count > self.block.floor_chunks)
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
            self._turned.append((self.seq + 1, header.turn))
            self.rows, self.metas = bytearray(), bytearray()
            self.end = offset + CHUNK_HEADER_BYTES
            self._open(slot, header)

    def _put_digest(self, batch: Batch) -> None:
        """Digest and trailer of the chunk that is full."""
        offset, parts = encode_digest(
            self.chunk,
            self.rows,
            self.metas,
            (self.seq, self.crc, self.incarnation, self.epoch),
            self.end - self.chunk.offset,
            (self.space.chunk_bytes, self.align, self.salt),
        )
        batch.write(offset, *parts)
