"""Where the ring is in the file: which slots hold which turn, how much in each is alive, which are free."""

from __future__ import annotations

from collections import deque
from typing import Final

from titanic_store.pure.superblock import BASE_BYTES


class Space:
    """The slots of a file in the order of the ring, tail first.

    A slot is free only when :meth:`reclaim` found it so; it does when no entry points into the *oldest*
    chunk. A CLOSE outlives what it closes because slots become free from the tail only.
    """

    def __init__(self, chunk_bytes: int, chunk_count: int) -> None:
        self.chunk_bytes: Final = chunk_bytes
        self.alive_counts = [0] * chunk_count
        self.order: deque[int] = deque()
        self.free: deque[int] = deque()
        self.tail_turn = 1

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

    def retain(self, at: int) -> None:
        """An entry points to the record at ``at``."""
        self.alive_counts[(at - BASE_BYTES) // self.chunk_bytes] += 1

    def release(self, at: int) -> None:
        """An entry no longer points to ``at``, and what says so is durable (R6). 0 is no record."""
        if at:
            slot = (at - BASE_BYTES) // self.chunk_bytes
            assert self.alive_counts[slot] > 0, "released more often than retained"
            self.alive_counts[slot] -= 1

    def reclaim(self) -> int:
        """Free dead chunks from the tail on, never the head; how many. ``tail_turn`` moves up."""
        count = 0
        while len(self.order) > 1 and not self.alive_counts[self.order[0]]:
            self.free.append(self.order.popleft())
            self.tail_turn += 1
            count += 1
        return count

    def take(self) -> int:
        """The slot that has been free for the longest time becomes the head."""
        slot = self.free.popleft()
        self.order.append(slot)
        return slot

    def grow(self) -> None:
        """One more slot exists, and is free."""
        self.free.append(len(self.alive_counts))
        self.alive_counts.append(0)
