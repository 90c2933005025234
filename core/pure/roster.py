"""Ids in order, for walks in either direction that can stop and go on: eight bytes per id.

An id begins with the time it was made, so a new one nearly always goes to the end. Blocks keep an insertion
or a removal anywhere else at a few hundred bytes moved, however many ids there are.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from itertools import islice
from typing import Final

BLOCK_COUNT: Final = 512


class Roster:
    """A sorted set of ids. Adding at the end is O(1), everything else O(log n) and a block.

    A walk is resumed with the last id it gave: an id that was there all the time comes once.
    """

    __slots__ = ("_blocks", "_high", "_lows", "_tail")

    def __init__(self) -> None:
        self._blocks: list[list[bytes]] = []
        self._high = b""  # no id is above it
        self._tail: list[bytes] = []  # the last block, or one that is full or gone
        self._lows: list[bytes] = []  # no id of block n is below low n, none of the block before is above

    def __len__(self) -> int:
        return sum(map(len, self._blocks))

    def add(self, key: bytes) -> None:
        """``key`` is in; adding it twice is a mistake of the caller."""
        if key > self._high:
            self._high = key
            tail = self._tail
            if tail and len(tail) < BLOCK_COUNT:
                tail.append(key)
            else:
                self._tail = [key]
                self._blocks.append(self._tail)
                self._lows.append(key)
        elif self._blocks:
            self._insert(key)
        else:
            self._tail = [key]
            self._blocks.append(self._tail)
            self._lows.append(key)

    def add_all(self, keys: Sequence[bytes]) -> None:
        """All of these are in; they ascend, and none was in before."""
        if not keys or keys[0] <= self._high:
            for key in keys:
                self.add(key)
            return
        self._high = keys[-1]
        room = max(0, BLOCK_COUNT - len(self._tail)) if self._tail else 0
        self._tail += keys[:room]
        for at in range(room, len(keys), BLOCK_COUNT):
            self._tail = list(keys[at : at + BLOCK_COUNT])
            self._blocks.append(self._tail)
            self._lows.append(keys[at])

    def _insert(self, key: bytes) -> None:
        at = max(0, bisect_right(self._lows, key) - 1)
        block = self._blocks[at]
        insort(block, key)
        self._lows[at] = min(self._lows[at], key)
        if len(block) > 2 * BLOCK_COUNT:
            self._blocks.insert(at + 1, block[BLOCK_COUNT:])
            self._lows.insert(at + 1, block[BLOCK_COUNT])
            del block[BLOCK_COUNT:]
            self._tail = self._blocks[-1]

    def discard(self, key: bytes) -> None:
        """``key`` is out, if it was in."""
        at = bisect_right(self._lows, key) - 1
        if at < 0:
            return
        block = self._blocks[at]
        place = bisect_left(block, key)
        if place == len(block) or block[place] != key:
            return
        del block[place]
        if not block:
            del self._blocks[at], self._lows[at]
            self._tail = self._blocks[-1] if self._blocks else []

    def before(self, key: bytes, limit: int) -> list[bytes]:
        """At most ``limit`` ids below ``key``, newest first; an empty key is above all."""
        found: list[bytes] = []
        at = bisect_left(self._lows, key) - 1 if key else len(self._blocks) - 1
        while at >= 0 and len(found) < limit:
            block = self._blocks[at]
            end = bisect_left(block, key) if key else len(block)
            start = max(0, end - (limit - len(found)))
            found += block[start:end][::-1]
            at -= 1
        return found

    def after(self, key: bytes, limit: int) -> list[bytes]:
        """At most ``limit`` ids above ``key``, oldest first; an empty key is below all."""
        found: list[bytes] = []
        at = max(0, bisect_right(self._lows, key) - 1)
        for block in islice(self._blocks, at, None):
            start = bisect_right(block, key)
            found += block[start : start + limit - len(found)]
            if len(found) >= limit:
                break
        return found
