"""Where the ring is in the file: which slots hold which turn, how much in each is alive, which are free."""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from titanic_store.pure.records import HEADER_BYTES, ROW, padded
from titanic_store.pure.superblock import BASE_BYTES

LARGE_DIVISOR: Final = 16
"""A record larger than this part of a chunk is charged twice: it may leave as much empty before itself."""

SPARE_CHUNKS: Final = 2
"""Chunks that requests leave free: one for notes, replies and closes, one for relocation (R7, R8)."""

AHEAD_CHUNKS: Final = 2
"""So many more should be free: otherwise records are relocated, or the file grows (R9)."""

RECENT_MAX_COUNT: Final = 8_192
"""Charges of records written last that are remembered: most jobs are closed soon after they came."""

POOL_DIVISOR: Final = 8
"""This part of the store is for replies larger than what was kept for them."""


class Tally(NamedTuple):
    """The records of one chunk that could be alive: how many, their charges in all, smallest, largest."""

    record_count: int = 0
    charge_bytes: int = 0
    least_bytes: int = 0
    most_bytes: int = 0
    others: bool = False  # some open entries that are no jobs


class Space:
    """The slots of a file in the order of the ring, tail first.

    A slot is free only when :meth:`reclaim` found it so; it does when no entry points into the *oldest*
    chunk. A CLOSE outlives what it closes because slots become free from the tail only.

    ``live_bytes`` is an upper bound of what live records are charged. No index entry remembers its size
    (refused: 32 bytes each), but those of the records written last are known. Where the records of a slot
    differ much, :meth:`varied`, who releases an older one says what it was charged; elsewhere the smallest
    charge is taken off, and with the last one everything.
    """

    def __init__(
        self, chunk_bytes: int, chunk_count: int, *, recent_max_count: int = RECENT_MAX_COUNT
    ) -> None:
        self.chunk_bytes: Final = chunk_bytes
        self.alive_counts = [0] * chunk_count
        self.alive_bytes = [0] * chunk_count
        self._least_bytes = [0] * chunk_count
        self._most_bytes = [0] * chunk_count
        self._recent_max = recent_max_count
        self._recent: dict[int, int] = {}  # charges by offset; an offset that is used again has its new one
        self.rough: set[int] = set()  # slots loaded at open whose sum may be far too high: see recount
        self.live_bytes = 0
        self.order: deque[int] = deque()
        self.free: deque[int] = deque()
        self.leftover_count = 0  # so many of the first free slots hold turns that come again (see take)
        self.tail_turn = 1
        self.pinned_turn = 0  # 0: nothing; else no chunk from here on becomes free: a backup reads them

    @property
    def head_turn(self) -> int:
        """The turn of the chunk that is being written."""
        return self.tail_turn + len(self.order) - 1

    @property
    def chunk_count(self) -> int:
        """All slots, free or not."""
        return len(self.alive_counts)

    def offset_of(self, slot: int) -> int:
        """Where ``slot`` begins."""
        return BASE_BYTES + slot * self.chunk_bytes

    def slot_of(self, at: int) -> int:
        """Which slot a record at ``at`` is in."""
        return (at - BASE_BYTES) // self.chunk_bytes

    def turn_of(self, slot: int) -> int | None:
        """The turn of the chunk in ``slot``; None if the slot is free."""
        return self.tail_turn + self.order.index(slot) if slot in self.order else None

    def load(self, slot: int, alive_count: int, tally: Tally) -> None:
        """At open: so many of the records that :class:`Tally` counted in ``slot`` are alive."""
        dead_count = tally.record_count - alive_count
        self.alive_counts[slot] = alive_count
        self.alive_bytes[slot] = alive_count and tally.charge_bytes - dead_count * tally.least_bytes
        self._least_bytes[slot] = tally.least_bytes
        self._most_bytes[slot] = tally.most_bytes
        self.live_bytes += self.alive_bytes[slot]
        if dead_count and alive_count and self._differs(slot):
            self.rough.add(slot)

    def recount(self, slot: int, alive_bytes: int) -> None:
        """What lives in ``slot`` is charged so much: somebody looked."""
        self.rough.discard(slot)
        if alive_bytes < self.alive_bytes[slot]:
            self.live_bytes += alive_bytes - self.alive_bytes[slot]
            self.alive_bytes[slot] = alive_bytes

    def varied(self, at: int) -> bool:
        """Whether the charge of the record at ``at`` must be looked up before its :meth:`release`."""
        return at not in self._recent and self._differs((at - BASE_BYTES) // self.chunk_bytes)

    def _differs(self, slot: int) -> bool:
        return 4 * self._most_bytes[slot] > 5 * self._least_bytes[slot]

    def retain(self, at: int, charge_bytes: int) -> None:
        """An entry points to the record at ``at``."""
        slot = (at - BASE_BYTES) // self.chunk_bytes
        self.alive_counts[slot] += 1
        self.alive_bytes[slot] += charge_bytes
        self.live_bytes += charge_bytes
        least = self._least_bytes
        if not least[slot] or charge_bytes < least[slot]:
            least[slot] = charge_bytes
        if charge_bytes > self._most_bytes[slot]:
            self._most_bytes[slot] = charge_bytes
        recent = self._recent
        if len(recent) >= self._recent_max:
            recent.clear()
        recent[at] = charge_bytes

    def release(self, at: int, charge_bytes: int = 0) -> None:
        """An entry no longer points to ``at``, and what says so is durable (R6). 0 is no record.

        ``charge_bytes``: what it was charged; 0 if nobody knows, or it is remembered here.
        """
        if at:
            slot = (at - BASE_BYTES) // self.chunk_bytes
            charge_bytes = self._recent.pop(at, charge_bytes)
            counts = self.alive_counts
            assert counts[slot] > 0, "released more often than retained"
            counts[slot] -= 1
            off_bytes = max(charge_bytes, self._least_bytes[slot]) if counts[slot] else self.alive_bytes[slot]
            off_bytes = min(off_bytes, self.alive_bytes[slot])
            self.alive_bytes[slot] -= off_bytes
            self.live_bytes -= off_bytes

    def reclaim(self) -> int:
        """Free dead chunks from the tail on, never the head; how many. ``tail_turn`` moves up."""
        count = 0
        while len(self.order) > 1 and not self.alive_counts[self.order[0]] and not self._pinned():
            self.free.append(self.order.popleft())
            self.rough.discard(self.free[-1])
            self.tail_turn += 1
            count += 1
        return count

    def _pinned(self) -> bool:
        return 0 < self.pinned_turn <= self.tail_turn

    def take(self, *, lowest: bool = False) -> int:
        """A free slot becomes the head: the one that has been free for the longest time, or the ``lowest``.

        What an earlier history left in a slot is overwritten by the same turn: two chunks with one turn
        would be damage.
        """
        if self.leftover_count:
            self.leftover_count -= 1
            slot = self.free.popleft()
        elif lowest:
            slot = min(self.free)
            self.free.remove(slot)
        else:
            slot = self.free.popleft()
        self.order.append(slot)
        self._least_bytes[slot] = self._most_bytes[slot] = 0
        self.rough.discard(slot)
        return slot

    def grow(self) -> None:
        """One more slot exists, and is free."""
        self.free.append(len(self.alive_counts))
        for column in self._columns():
            column.append(0)

    def _columns(self) -> tuple[list[int], ...]:
        return self.alive_counts, self.alive_bytes, self._least_bytes, self._most_bytes

    def shrink(self, floor_chunks: int) -> int:
        """Give up free slots at the end of the file, down to the floor; how many."""
        count, free = 0, set(self.free)
        if self.leftover_count:
            return 0
        while self.chunk_count > floor_chunks and self.chunk_count - 1 in free:
            self.free.remove(self.chunk_count - 1)
            for column in self._columns():
                column.pop()
            count += 1
        return count


def charge(claim_bytes: int, chunk_bytes: int) -> int:
    """What a record that claims so many bytes is charged: twice, if it is large against its chunk."""
    return claim_bytes if claim_bytes * LARGE_DIVISOR <= chunk_bytes else 2 * claim_bytes


def charge_of(meta_bytes: int, body_bytes: int, chunk_bytes: int) -> int:
    """:func:`charge` of a record with so much meta and body."""
    return charge(padded(HEADER_BYTES + meta_bytes + body_bytes) + ROW.size + meta_bytes, chunk_bytes)


def room_bytes(chunk_count: int, usable_bytes: int) -> int:
    """What so many chunks can promise: what lives and what is kept for endings must not come to more (R8).

    Without the spare chunks, and what small records leave empty at the end of each chunk.
    """
    return max(0, chunk_count - SPARE_CHUNKS) * usable_bytes * (LARGE_DIVISOR - 1) // LARGE_DIVISOR


def capacity_bytes(chunk_count: int, usable_bytes: int) -> int:
    """What new jobs may fill of :func:`room_bytes`: the rest is for replies larger than what is kept."""
    return room_bytes(chunk_count, usable_bytes) * (POOL_DIVISOR - 1) // POOL_DIVISOR


def chunks_for(promised_bytes: int, usable_bytes: int) -> int:
    """How many chunks have the capacity for so much."""
    chunk_bytes = usable_bytes * (LARGE_DIVISOR - 1) * (POOL_DIVISOR - 1) // (LARGE_DIVISOR * POOL_DIVISOR)
    return SPARE_CHUNKS - (-promised_bytes // max(1, chunk_bytes))
