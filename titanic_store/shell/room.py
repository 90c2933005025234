"""Room: what may be promised, and the growth of the file that keeps promises possible (R8, R9).

The sum of what lives and what is kept for endings never exceeds the room that the file has on the disk.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Final

from titanic_store.errors import RingBusyError, RingFullError
from titanic_store.pure.chunks import max_record_bytes
from titanic_store.pure.options import Options
from titanic_store.pure.records import HEADER_BYTES, ROW
from titanic_store.pure.recovery import Recovered
from titanic_store.pure.seams import E
from titanic_store.pure.space import capacity_bytes, charge, chunks_for, room_bytes
from titanic_store.pure.superblock import BASE_BYTES, Superblock
from titanic_store.shell.batch import Batch
from titanic_store.shell.committer import Committer

ENDING_BYTES: Final = 512
"""Kept for every open entry: its dispatch, its close, and what a relocation adds to it (R8)."""

REPLY_EXTRA_BYTES: Final = 256
"""Kept for a reply beside its body: header, digest row, twice its meta."""

STATE_BYTES: Final = 224
"""The state a relocation writes fits into the 512 bytes, twice, with 16 of the store's own."""

STATE_WIDE_BYTES: Final = 4096
"""Where nobody lacks the room, it may be longer."""

MOVED_BYTES: Final = 64
"""What a record usually grows by when it is first relocated; twice in the digest included."""

assert 2 * (STATE_BYTES + 16) <= ENDING_BYTES, "relocation never takes more than was kept for it"

FULL_RETRY_MS: Final = 5_000
_QUEUE_RETRY_MS: Final = 50
_GROWTH_LIMIT_SECONDS: Final = 60.0
_CALM_SECONDS: Final = 0.25


class Room(ABC):
    """The accounts of a ring, and the requests to grow that follow from them.

    ``room_bytes`` is what may be accepted before somebody must look again. ``allocated_chunks`` have their
    room on the disk, whether they are zeros yet or not: promises are made against them.
    """

    def __init__(self, options: Options, recovered: Recovered[E]) -> None:
        self.block: Superblock = recovered.superblock
        self.space: Final = recovered.space
        self.align: Final = self.block.align_bytes
        chunk_bytes: Final = self.block.chunk_bytes
        self.max_claim: Final = max_record_bytes(chunk_bytes, self.align) + HEADER_BYTES + ROW.size + 8
        self.max_bytes: Final = options.max_bytes
        self.max_chunks: Final = (options.max_bytes - BASE_BYTES) // chunk_bytes
        self.reply_bytes: Final = charge(options.reply_reserve_bytes + REPLY_EXTRA_BYTES, chunk_bytes)
        self.entry_bytes: Final = ENDING_BYTES + self.reply_bytes
        allocated = (recovered.file_bytes - BASE_BYTES) // chunk_bytes
        self.allocated_chunks = max(self.block.chunk_count, allocated)
        self._queue_max_bytes: Final = options.queue_max_bytes
        self.room_bytes = -1
        self.grown_count = 0
        self.entry_count: Callable[[], int] = int
        self.reply_count = 0  # entries with a reply: nothing is kept for another
        self.silent_count = 0  # entries that never get one: keys and settings
        self.pressed_turn = 0  # relocate at least up to here: somebody was refused
        self.recount: Callable[[], None] = _nothing
        self._growing = False
        self._shrinking: Batch | None = None
        self._calm_until = 0.0

    def attach(self, committer: Committer) -> None:
        """What must be written goes to ``committer`` from now on."""
        self._committer = committer

    @abstractmethod
    def put_superblock(self, batch: Batch, **changes: Any) -> None:
        """The next superblock is durable before anything behind it in ``batch`` is written."""

    @abstractmethod
    def settle(self) -> None:
        """Take back dead chunks from the tail, and what was grown meanwhile."""

    @property
    def reserved_bytes(self) -> int:
        """What is kept for the dispatch, reply and close of everything accepted (R8)."""
        without_count = self.reply_count + self.silent_count
        return self.entry_count() * self.entry_bytes - without_count * self.reply_bytes

    @property
    def promised_bytes(self) -> int:
        """What lives and what is kept for endings: never more than the file has room for (R8)."""
        return self.space.live_bytes + self.reserved_bytes

    def spare_bytes(self, *, opens: bool) -> int:
        """What may still be promised: to a job that ``opens``, or to a reply larger than what is kept."""
        room = capacity_bytes if opens else room_bytes
        return room(min(self.allocated_chunks, self.max_chunks), self.max_claim) - self.promised_bytes

    @property
    def limit_bytes(self) -> int:
        """What may be promised to jobs in all, once the file has its full length."""
        return capacity_bytes(max(self.max_chunks, self.block.chunk_count), self.max_claim)

    @property
    def state_bytes(self) -> int:
        """How long the state in a relocated record may be."""
        return STATE_WIDE_BYTES if self.spare_bytes(opens=False) > 4 * STATE_WIDE_BYTES else STATE_BYTES

    @property
    def promising_chunks(self) -> int:
        """So many chunks are enough for what is promised, and may be promised at once."""
        return chunks_for(self.promised_bytes + 2 * self.max_claim, self.max_claim)

    # -- admission

    def _admit(self, claim: int, kept_bytes: int) -> None:
        """There is room for one more entry and its ending, on disk and on the way; RingFullError (R8)."""
        queued_bytes = self._committer.queued_bytes
        if queued_bytes and queued_bytes + claim > self._queue_max_bytes:
            raise RingBusyError(claim, self._queue_max_bytes - queued_bytes, _QUEUE_RETRY_MS)
        cost_bytes = charge(claim, self.space.chunk_bytes) + kept_bytes
        allowed_bytes = self._promise(cost_bytes, opens=True)
        if allowed_bytes < cost_bytes and self.entry_count():  # an empty store takes what fits into a chunk
            self._press()
            raise RingFullError(claim, max(0, allowed_bytes - kept_bytes), FULL_RETRY_MS)
        self.room_bytes = min(allowed_bytes, self._queue_max_bytes - queued_bytes) - cost_bytes

    def admit_reply(self, claim: int, charge_bytes: int, *, kept: bool) -> None:
        """A reply larger than what is ``kept`` for it takes nobody else's room; RingFullError (R8)."""
        kept_bytes = self.reply_bytes if kept else 0
        need_bytes = charge_bytes - kept_bytes
        if need_bytes <= 0:
            return
        allowed_bytes = self._promise(need_bytes, opens=False)
        if allowed_bytes < need_bytes:
            self._press()
            raise RingFullError(claim, max(0, allowed_bytes) + kept_bytes, FULL_RETRY_MS)
        self.room_bytes -= need_bytes

    def _promise(self, need_bytes: int, *, opens: bool) -> int:
        """What may be promised, after the file was made longer and what lives was counted, if need be."""
        self.settle()
        allowed_bytes = self.spare_bytes(opens=opens)
        while allowed_bytes < need_bytes and self._allocate_now(need_bytes):
            allowed_bytes = self.spare_bytes(opens=opens)
        if allowed_bytes < need_bytes and self.space.rough:
            self.recount()
            allowed_bytes = self.spare_bytes(opens=opens)
        return allowed_bytes

    def _press(self) -> None:
        """Relocate what is left of the ring once, which also finds out what its records really take."""
        if self.space.tail_turn > self.pressed_turn:
            self.pressed_turn = self.space.head_turn - 1

    # -- growth

    def _request_growth(self, *, zeros: bool, need_bytes: int = 0) -> None:
        """Ask for one more slot, or for room on the disk for what may be promised soon.

        Unless something is on its way, the limit is reached, or the disk had no more a moment ago.
        """
        if self._growing:
            return
        count, limit = self.space.chunk_count, self.max_chunks
        if time.monotonic() < self._calm_until:
            limit = self.allocated_chunks
        slots = count + zeros
        fitting = chunks_for(self.promised_bytes + need_bytes + 2 * self.max_claim, self.max_claim)
        allocate = max(self.allocated_chunks, min(limit, fitting + fitting // 16))
        if slots > limit or (slots == count and allocate <= self.allocated_chunks):
            return
        if self._shrinking is not None and self._shrinking.truncate:
            return  # what would be added now would be cut off again
        self._growing = True
        chunk_bytes, start = self.block.chunk_bytes, self.block.file_bytes
        least = slots if zeros else min(allocate, self.allocated_chunks + 1)
        self._committer.grower.request(
            start,
            start + zeros * chunk_bytes,
            BASE_BYTES + max(slots, allocate) * chunk_bytes,
            BASE_BYTES + least * chunk_bytes,
        )
        self._committer.wake()

    def _grow_now(self) -> bool:
        """Wait for one more slot; False if there is no room for it."""
        count = self.space.chunk_count
        self._growth(zeros=True)
        return self.space.chunk_count > count

    def _allocate_now(self, need_bytes: int) -> bool:
        """Wait for room on the disk; False if there is none."""
        count = self.allocated_chunks
        self._growth(zeros=False, need_bytes=need_bytes)
        return self.allocated_chunks > count

    def _growth(self, *, zeros: bool, need_bytes: int = 0) -> None:
        """Ask for growth, behind what is under way, and wait until it was tried."""
        if self._shrinking is not None and self._shrinking.truncate:
            self._committer.flush()
        self._growth_done()
        self._request_growth(zeros=zeros, need_bytes=need_bytes)
        self._growth_done()

    def _growth_done(self) -> None:
        """What was asked for was tried, if anything was."""
        if not self._growing:
            return
        self._committer.grower.wait(_GROWTH_LIMIT_SECONDS)
        if self._committer.failure is not None:
            raise self._committer.failure
        self._take_growth()

    def _take_growth(self) -> None:
        """What was allocated is there for promises, what was zeroed for records."""
        grower = self._committer.grower
        if not self._growing or not grower.tried.is_set():
            return
        self._growing = False
        if not grower.allocated_bytes:
            self._calm_until = time.monotonic() + _CALM_SECONDS
        allocated = (grower.allocated_bytes - BASE_BYTES) // self.block.chunk_bytes
        self.allocated_chunks = max(self.allocated_chunks, allocated)
        if grower.done_bytes <= self.block.file_bytes:
            return
        with self._committer.mutex:
            self.put_superblock(self._committer.batch, chunk_count=self.block.chunk_count + 1)
        self.space.grow()
        self.grown_count += 1


def _nothing() -> None:
    """Nobody counts before the ring is connected."""
