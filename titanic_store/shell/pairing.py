"""What a pair needs of a ring: ship records, epochs and roles, cut, compare (P1, P2, P6)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from struct import Struct
from typing import Any, Final

from titanic_store.errors import (
    CutRefusedError,
    DamagedStoreError,
    RecordsGoneError,
)
from titanic_store.pure.census import Census
from titanic_store.pure.chunks import ChunkHeader, decode_chunk_header
from titanic_store.pure.records import HEADER_BYTES, LOST, ROW, padded
from titanic_store.pure.seams import E, Foreign, Owner
from titanic_store.pure.superblock import Flag
from titanic_store.shell.epochs import epoch_at, epoch_runs
from titanic_store.shell.recovering import Recovery
from titanic_store.shell.writer import Writer

log = logging.getLogger("titanic_store")

_HEADER_READ_BYTES: Final = 128
OFFSET_AT: Final = 20
"""Where a row of a digest has the offset of its record."""

U64: Final = Struct("<Q")


class Paired(Writer[E]):
    """The half of a :class:`~titanic_store.Ring` that the peer link uses; the owner's thread calls."""

    _moved_in: list[tuple[int, bytes]]

    # -- shipping

    @property
    def first_seq(self) -> int:
        """The lowest sequence in the ring: ``records_after(first_seq - 1)`` is all there is."""
        return self._chunk_header(self._head.space.order[0]).first_seq

    def records_after(self, seq: int) -> Iterator[Foreign]:
        """Every record with a higher sequence, in order, up to ``last_seq`` as it is at each step.

        Records that are on their way to the disk are included. RecordsGoneError if the ring has moved on,
        also in the middle; DamagedStoreError if one cannot be read.
        """
        while seq < self.last_seq:
            for at in self._offsets_after(seq):
                record = self._foreign(at, seq + 1)
                seq = record.sequence
                yield record

    def without_body(self, sequence: int) -> Foreign:
        """A record that cannot be read, as it is; one that is damaged without its body, and marked as lost.

        Whoever takes it in knows that there is such a record; reading it is an error there as here (D3).
        DamagedStoreError if the digest is damaged too, or if the disk may have the record the next time.
        """
        slot, turn, first_seq = self._chunk_with(sequence)
        rows, metas = self._digest(slot, turn)
        number = sequence - first_seq
        start = sum(earlier[3] for earlier in ROW.iter_unpack(rows[: number * ROW.size]))
        kind, flags, _, meta_bytes, _, _, at, key = ROW.unpack_from(rows, number * ROW.size)
        try:
            return self._foreign(at, sequence)
        except DamagedStoreError as error:
            if isinstance(error.__cause__, OSError):
                raise
            log.error("record %d goes to the peer without its body: %s", sequence, error)
        meta, epoch = metas[start : start + meta_bytes], epoch_at(self.reader, rows, number)
        return Foreign(kind, flags | LOST, sequence, epoch, key, bytes(meta), ())

    def _chunk_with(self, sequence: int) -> tuple[int, int, int]:
        """Slot, turn and first sequence of the chunk that has this record. RecordsGoneError."""
        space = self._head.space
        slots = list(space.order)
        headers = [self._chunk_header(slot) for slot in slots]
        if sequence < headers[0].first_seq:
            raise RecordsGoneError(sequence, headers[0].first_seq)
        number = max(number for number, header in enumerate(headers) if header.first_seq <= sequence)
        return slots[number], space.tail_turn + number, headers[number].first_seq

    def _offsets_after(self, seq: int) -> list[int]:
        """Where the records behind ``seq`` are that lie in the chunk of the first of them."""
        slot, turn, first_seq = self._chunk_with(seq + 1)
        rows = self._rows(slot, turn)
        first = seq + 1 - first_seq
        return [
            U64.unpack_from(rows, at + OFFSET_AT)[0] for at in range(first * ROW.size, len(rows), ROW.size)
        ]

    def _chunk_header(self, slot: int) -> ChunkHeader:
        base = self._head.space.offset_of(slot)
        raw = self.reader.raw(base, _HEADER_READ_BYTES)
        header = decode_chunk_header(raw, base, self.store_uuid, self._salt)
        if header is None:
            raise DamagedStoreError(base, "a chunk header fails its checksum")
        return header

    def _rows(self, slot: int, turn: int) -> bytes:
        """The digest rows of all records in ``slot``."""
        return self._digest(slot, turn)[0]

    def _digest(self, slot: int, turn: int) -> tuple[bytes, bytes]:
        """The same, and their metas. DamagedStoreError."""
        space = self._head.space
        if slot == space.order[-1]:
            return bytes(self._head.rows), bytes(self._head.metas)
        base = space.offset_of(slot)
        seal = self.reader.read_seal(base, space.chunk_bytes, turn)
        digest = self.reader.read_digest(seal) if seal is not None else None
        if digest is None:
            raise DamagedStoreError(base, f"the digest of turn {turn} cannot be read")
        return digest

    def _foreign(self, at: int, sequence: int) -> Foreign:
        """The record at ``at``; RecordsGoneError if the place holds a later one."""
        try:
            header, meta, body = self.reader.read_record(at)
        except DamagedStoreError:
            if sequence < self.first_seq:
                raise RecordsGoneError(sequence, self.first_seq) from None
            raise
        if header.sequence != sequence:
            raise RecordsGoneError(sequence, self.first_seq)
        return Foreign(
            header.kind, header.flags, sequence, header.epoch, header.key, meta, (body,) if body else ()
        )

    def epochs(self) -> list[tuple[int, int]]:
        """(epoch, first sequence with it) of the records in the ring, oldest first.

        An epoch has one active, so two logs that share (epoch, sequence) agree up to there.
        """
        space = self._head.space
        slots = list(space.order)
        headers = [self._chunk_header(slot) for slot in slots]
        found: list[tuple[int, int]] = []
        for number, slot in enumerate(slots):
            rows = self._rows(slot, space.tail_turn + number)
            for epoch, at in epoch_runs(self.reader, rows):
                if not found or found[-1][0] != epoch:
                    found.append((epoch, headers[number].first_seq + at))
        return found

    def append_about(self, kind: int, key: bytes, meta: bytes, token: object | None) -> int:
        """A record about an entry that is not here: it says something to whoever has it. RingFullError."""
        assert key not in self.index, "what is here is appended to"
        head, claim = self._head, padded(HEADER_BYTES + len(meta)) + ROW.size + len(meta)
        if head.end + head.align + claim > head.limit:
            head.make_room(claim)  # as an ending has it, and not out of the last chunk, as what a peer sends
        return self._write(kind, 0, None, meta, (), token, foreign_key=key)

    # -- epoch, role, cut

    def set_epoch(self, epoch: int, token: object | None = None) -> None:
        """The superblock has the higher ``epoch``, durably once ``token`` is back; so has every later record.

        They reach the disk behind it (P1). The ring follows nobody any more.
        """
        if epoch <= self._head.epoch:
            raise ValueError(f"epoch {epoch} is not higher than {self._head.epoch}")
        self._head.epoch = epoch
        if self.following:
            self.following = False
            self._reorder()
        self._put_superblock(token)

    def _reorder(self) -> None:
        """The index in the order of acceptance, as :meth:`Rebuild.finish` has it."""
        first = {key: self.index[key] for _, key in sorted(self._moved_in) if key in self.index}
        rest = {key: entry for key, entry in self.index.items() if key not in first}
        self.index.clear()
        self.index.update(first)
        self.index.update(rest)
        self._moved_in = []

    def set_role_flags(
        self,
        *,
        set: Flag = Flag(0),
        clear: Flag = Flag(0),
        role: int | None = None,
        peer_uuid: bytes | None = None,
        peer_seq: int | None = None,
        id_secret: bytes | None = None,
        token: object | None = None,
    ) -> None:
        """The superblock says so, durably once ``token`` is back; what is None stays as it is."""
        given = {"role": role, "peer_uuid": peer_uuid, "peer_seq": peer_seq, "id_secret": id_secret}
        changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        self._put_superblock(token, flags=self._head.block.flags & ~clear | set, **changes)

    def _put_superblock(self, token: object | None, **changes: Any) -> None:
        committer = self._committer
        if committer.failure is not None:
            raise committer.failure
        with committer.mutex:
            batch = committer.batch
            self._head.put_superblock(batch, **changes)
            batch.waiting = True
            if token is not None:
                batch.tokens.append(token)
        committer.wake()

    @property
    def flags(self) -> Flag:
        """The flags of the newest superblock."""
        return Flag(self._head.block.flags)

    @property
    def role(self) -> int:
        """0 single, 1 primary, 2 backup."""
        return self._head.block.role

    @property
    def peer_uuid(self) -> bytes:
        """The store of the other node; 16 zeros if there is none."""
        return self._head.block.peer_uuid

    @property
    def peer_seq(self) -> int:
        """A sequence known to be durable at the peer."""
        return self._head.block.peer_seq

    @property
    def cut_floor(self) -> int:
        """The lowest sequence :meth:`cut_after` takes: below it, space was used again."""
        head = self._head
        moved = head.block.tail_turn != head.space.tail_turn
        return self.durable_seq if moved else head.block.tail_seq

    def cut_after(self, seq: int, owner: Owner[E] | None = None) -> None:
        """The log ends with ``seq``, durably; ``index`` is another one, folded anew (by ``owner``, if given).

        Waits for what is on its way; take :meth:`records_after` first for what is set aside (P6). Tokens not
        handed back yet still are. CutRefusedError below :attr:`cut_floor`.
        """
        committer, head = self._committer, self._head
        committer.flush()
        if not self.cut_floor <= seq <= head.seq:
            raise CutRefusedError(seq, self.cut_floor)
        committer.done.clear()
        self._releases.clear()
        if owner is not None:
            self._owner = owner
        # what an earlier incarnation wrote behind durable_seq is no part of the log (R3): this is the cut
        head.incarnation += 1
        offset, raw = head.next_superblock(durable_seq=seq)
        self._storage.write_at(offset, (raw,))
        self._storage.sync()
        self._install(Recovery(self._storage, self._owner, "the store").run())
        committer.written_seq = committer.durable_seq = seq
        self._connect(committer)

    # -- comparing

    def live_digest(self) -> bytes:
        """40 bytes, equal if the same keys are open and the same of them have a reply, as of last_seq.

        Number of keys, and the keys and the replied keys, each combined by exclusive or: a difference that
        is an accident does not hide in it. The first call walks the index, later ones cost nothing.
        """
        if self._live is None:
            live = self._live = Census()
            closing = self._committer.closing()
            for key, entry in self.index.items():
                if key not in closing:
                    live.opened(key)
                    if entry.reply_at:
                        live.replied(key)
        return self._live.digest()
