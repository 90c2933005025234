"""Relocation: what still lives in the oldest chunk is written again at the head; the chunk is free (R7)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

from titanic_store.errors import DamagedStoreError, RingFullError
from titanic_store.pure.kinds import BODY, EFFECT_OF, JOB, OPEN, STATE
from titanic_store.pure.records import (
    HEADER_BYTES,
    LOST,
    MOVED,
    ROW,
    Origin,
    body_in,
    decode_origin,
    encode_origin,
)
from titanic_store.pure.seams import E, Entry, Owner
from titanic_store.shell.head import Head
from titanic_store.shell.reading import RecordReader
from titanic_store.shell.room import STATE_WIDE_BYTES

log = logging.getLogger("titanic_store")

ROWS_MAX_COUNT: Final = 8192
"""Rows of a digest looked at in one step; most are of records long dead."""

RECORDS_PER_STEP: Final = 32
"""Records moved in one step at the least, when nobody appends, or space is short."""

SHARE: Final = 4
"""Records and bytes moved for each that was appended meanwhile: enough while a fifth of the store is dead."""

STEP_MIN_BYTES: Final = 256 * 1024
_KEPT: Final = (OPEN, STATE, BODY)


class Pen(Protocol):
    """What writes a record for a relocator, and what it needs to know first."""

    def __call__(
        self, kind: int, flags: int, entry: Any, meta: bytes, body: tuple[bytes, ...], token: object | None
    ) -> int:
        """Append."""
        ...


AHEAD_BYTES: Final = 64 * 1024
"""Read at a time from a chunk of which much is moved: a read for each record would be a third of its cost."""

FAR_BYTES: Final = 16 * STATE_WIDE_BYTES
"""With more to spare nobody need look whether a state may be long."""

DENSE_DIVISOR: Final = 8
"""Much: more than this part of the chunk."""

Candidate = tuple[int, int, int, int, bytes, bytes, bytes]
"""kind, flags, sequence, offset, key, meta, row of the digest (empty if there is none)."""


class Relocator:
    """Moves live records out of the oldest chunk, a bounded number per step.

    A record is moved only if an entry points to it at that moment, and no record about that entry is on its
    way: a close that is, must stay behind everything it closes.
    """

    def __init__(
        self,
        index: dict[bytes, E],
        owner: Owner[E],
        head: Head,
        reader: RecordReader,
        pen: Pen,
        in_flight: Callable[[bytes], bool],
    ) -> None:
        self.index: dict[bytes, Any] = index
        self._owner: Owner[Any] = owner
        self._head = head
        self._space = head.space
        self._reader = reader
        self._pen = pen
        self._in_flight = in_flight
        self._turn = 0
        self._rows: Iterator[Candidate] = iter(())
        self._again = False
        self._ahead = memoryview(b"")
        self._ahead_at = 0
        self._spare_bytes = 0
        self._position = self._look_again = self._now()
        self.moved_count = 0
        self.moved_bytes = 0
        self.lost_count = 0

    def reset(self, index: dict[bytes, E]) -> None:
        """Begin anew, on another index."""
        self.index = index
        self._turn = 0

    def _now(self) -> int:
        """How far the log has come, in bytes."""
        return self._space.head_turn * self._space.chunk_bytes + self._head.end % self._space.chunk_bytes

    def wanted(self) -> bool:
        """Whether space should be won back: too little is free, and the file need not grow instead."""
        head, space = self._head, self._space
        if len(space.order) < 2:
            return False
        if space.tail_turn <= head.pressed_turn:
            return True
        return head.crowded and not (head.dense if space.chunk_count < head.max_chunks else head.solid)

    def step(self, appended_count: int) -> int:
        """Move some records, in proportion to what was appended since the last step; how many.

        While space is not short they ride with the appends in small numbers: so many bytes for each appended
        that the oldest chunk is free before half another is full. An append waits for about as much again.
        """
        grown = max(0, self._now() - self._position)
        if appended_count and not self._head.short:
            alive = self._space.alive_bytes[self._space.order[0]] / self._head.max_claim
            share = min(SHARE, 2 * alive / (1 - alive)) if alive < 1 else SHARE
            moved = self.move(max(1, SHARE * appended_count), int(share * grown))
        else:
            moved = self.move(RECORDS_PER_STEP + SHARE * appended_count, max(STEP_MIN_BYTES, SHARE * grown))
        self._position = self._now()
        return moved

    def move(self, records_max: int, bytes_max: int) -> int:
        """Move up to so many live records of the oldest chunk; how many. One may pass ``bytes_max``."""
        space, index, in_flight = self._space, self.index, self._in_flight
        if len(space.order) < 2:
            return 0
        if self._turn != space.tail_turn:
            self._turn, self._again = space.tail_turn, False
            self._look_again = self._now() + space.chunk_bytes
            self._rows = self._candidates(space.order[0])
            self._ahead = memoryview(b"")
        moved, before_bytes = 0, self.moved_bytes
        self._spare_bytes = self._head.spare_bytes(opens=False) + 2 * before_bytes
        for seen, candidate in enumerate(self._rows):
            _, _, _, at, key, _, _ = candidate
            entry = index.get(key)
            if entry is not None and at in (entry.request_at, entry.reply_at):
                if in_flight(key):
                    self._again = True
                elif self._move(entry, candidate):
                    moved += 1
                else:
                    self._turn = 0
                    break
            if moved >= records_max or self.moved_bytes - before_bytes >= bytes_max or seen >= ROWS_MAX_COUNT:
                break
        else:
            if self._again or self._now() > self._look_again:
                self._turn = 0  # somebody was busy, or could not be read: look through the chunk once more
        return moved

    def _candidates(self, slot: int) -> Iterator[Candidate]:
        """The records of the chunk in ``slot`` that could be alive, in order, from its digest."""
        digest = self._digest(slot)
        if digest is None:
            yield from self._listed(slot)
            return
        rows, metas = digest
        start = end = 0
        for kind, flags, _zero, meta_bytes, _body_bytes, sequence, at, key in ROW.iter_unpack(rows):
            meta_at, start = start, start + meta_bytes
            row_at, end = end, end + ROW.size
            if EFFECT_OF[kind] in _KEPT:
                yield kind, flags, sequence, at, key, metas[meta_at:start], rows[row_at:end]

    def _digest(self, slot: int) -> tuple[bytes, bytes] | None:
        """Rows and metas of the chunk in ``slot``; None if they cannot be read."""
        try:
            seal = self._reader.read_seal(self._space.offset_of(slot), self._space.chunk_bytes, self._turn)
            return self._reader.read_digest(seal) if seal is not None else None
        except DamagedStoreError as error:
            log.error("the digest of turn %d: %s", self._turn, error)
            return None

    def _listed(self, slot: int) -> list[Candidate]:
        """The same without a digest: what the index says is in ``slot``, as far as it can be read."""
        found: list[Candidate] = []
        for entry in list(self.index.values()):
            for at in (entry.request_at, entry.reply_at):
                if at and self._space.slot_of(at) == slot:
                    try:
                        header, meta = self._reader.read_head(at)
                    except DamagedStoreError as error:
                        log.error("cannot move the record of %s: %s", entry.key.hex(), error)
                        continue
                    found.append((header.kind, header.flags, header.sequence, at, entry.key, meta, b""))
        return sorted(found, key=lambda candidate: candidate[2])

    def _move(self, entry: Entry, candidate: Candidate) -> bool:
        """Write one record again; False if there is no room even for that."""
        kind, flags, sequence, at, key, meta, row = candidate
        flags, body = MOVED | flags, b""
        try:
            body = b"" if flags & LOST else self._body(at, row, meta)
        except DamagedStoreError as error:
            if isinstance(error.__cause__, OSError) or self._reader.hopeful:  # it may be there the next time
                log.error("the record of %s cannot be moved now: %s", key.hex(), error)
                return True
            flags |= LOST
            self.lost_count += 1
            log.error("the record of %s is damaged and moves without its body: %s", key.hex(), error)
        if EFFECT_OF[kind] is not BODY:
            if kind == JOB:
                origin = decode_origin(meta)
                if origin is None:
                    log.error("cannot move the record of %s: a relocated job without its origin", key.hex())
                    return True
                sequence, kind, _, meta = origin
            state = self._owner.snapshot(entry, self._state_bytes())
            kind, meta = JOB, encode_origin(Origin(sequence, kind, state, meta))
        try:
            self._pen(kind, flags, entry, meta, (body,) if body else (), None)
        except RingFullError:
            return False
        self.moved_count += 1
        self.moved_bytes += HEADER_BYTES + ROW.size + len(body) + 2 * len(meta)
        return True

    def _body(self, at: int, row: bytes, meta: bytes) -> bytes:
        """The body of the record at ``at``. DamagedStoreError."""
        if row and self._turn < self._head.settled_turn:  # all of the chunk is in the file
            begin = at - self._ahead_at
            body = body_in(self._ahead, begin, row, meta, self._head.salt) if begin >= 0 else None
            if body is None and self._much_lives():
                self._ahead_at, self._ahead = at, memoryview(self._reader.ahead(at, AHEAD_BYTES))
                body = body_in(self._ahead, 0, row, meta, self._head.salt)
            if body is not None:
                return body
        return self._reader.read(at)[1]

    def _much_lives(self) -> bool:
        space = self._space
        return DENSE_DIVISOR * space.alive_bytes[space.order[0]] > space.chunk_bytes

    def _state_bytes(self) -> int:
        """How long a state may be: :attr:`Head.state_bytes`, which looks at the accounts each time."""
        far = self._spare_bytes - 2 * self.moved_bytes > FAR_BYTES
        return STATE_WIDE_BYTES if far else self._head.state_bytes
