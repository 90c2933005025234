"""The ring as it lies in the file at one moment: which slot holds which turn, and where the head is."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

import msgspec

from titanic_store.pure.superblock import BASE_BYTES, Superblock


class ChunkState(StrEnum):
    """What a slot is good for."""

    HEAD = "head"  # is being written
    ALIVE = "alive"  # holds a record that an entry points to
    DEAD = "dead"  # holds none, but an older chunk does
    FREE = "free"


class Cell(NamedTuple):
    """One slot: its turn (0: free), what it is good for, and how many records in it are pointed to."""

    turn: int
    state: ChunkState
    alive_count: int


class Layout(msgspec.Struct, frozen=True):
    """``block`` is the superblock that would be written now; ``order`` the slots in use, tail first."""

    block: Superblock
    order: tuple[int, ...]
    alive_counts: tuple[int, ...]  # by slot
    head_offset: int  # where the next batch may begin; behind it the head's chunk is empty

    @property
    def head_slot(self) -> int:
        """The slot that is being written."""
        return self.order[-1]

    def offset_of(self, slot: int) -> int:
        """Where ``slot`` begins in the file."""
        return BASE_BYTES + slot * self.block.chunk_bytes

    def cells(self) -> list[Cell]:
        """One per slot, in the order of the file."""
        cells = [Cell(0, ChunkState.FREE, 0)] * self.block.chunk_count
        for number, slot in enumerate(self.order):
            alive = self.alive_counts[slot]
            state = ChunkState.ALIVE if alive else ChunkState.DEAD
            if slot == self.head_slot:
                state = ChunkState.HEAD
            cells[slot] = Cell(self.block.tail_turn + number, state, alive)
        return cells


def extents(layout: Layout) -> Sequence[tuple[int, int]]:
    """(begin, end) of what is not zero in an image of ``layout``, in the order of the file."""
    found = [(layout.block.offset, layout.block.offset + BASE_BYTES // 2)]
    for slot in sorted(layout.order):
        begin = layout.offset_of(slot)
        end = layout.head_offset if slot == layout.head_slot else begin + layout.block.chunk_bytes
        found.append((begin, end))
    return found
