"""A node's journal in a pair: the ring as the core's journal and as the pair's replica at once."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, cast

from core.errors import DamagedRecordError, JournalFailedError, JournalFullError
from core.pure.jobs import Job, Kind
from core.pure.notes import Notes
from core.pure.peer import Crowd, Part, Record, last_seq_of
from core.pure.ports import Effect
from core.pure.replication import RecordsGoneError
from gateway.composition.journal import RingJournal
from titanic_store import Crowd as RingCrowd
from titanic_store import (
    CutRefusedError,
    DamagedStoreError,
    Flag,
    Foreign,
    ForeignRecordError,
    Ring,
    RingFullError,
    StoreFailedError,
)
from titanic_store import RecordsGoneError as RingRecordsGoneError
from titanic_store.pure.records import decode_origin
from titanic_store.shell.mending import Wound

TAIL_MAX_BYTES: Final = 16 << 20
CLOSES_MAX_COUNT: Final = 1_000_000
PART_COUNT: Final = 1_000
SINGLE: Final = 0
PRIMARY: Final = 1
BACKUP: Final = 2
"""Roles as the superblock has them."""


class PairJournal(RingJournal):
    """Satisfies :class:`core.pure.replication.Replica` too. ``stored`` collects tokens of the superblock.

    The newest records are kept in memory as they were appended, so that shipping them reads no disk.
    """

    def __init__(self, ring: Ring[Job], notes: Notes) -> None:
        super().__init__(ring, notes)
        self.stored: list[int] = []
        self.closes: set[bytes] | None = None  # while this node answers without its peer: what it closed
        self._epochs = ring.epochs()
        self._tail: deque[Part] = deque()
        self._tail_bytes = 0
        self._wounds: dict[int, Wound] = {}
        self.mended: list[Callable[[], None]] = []
        ring.tap = self._tapped

    def _tapped(self, found: Foreign | RingCrowd) -> None:
        """A record was appended, or a crowd of them, whoever's it is."""
        part: Part
        if isinstance(found, RingCrowd):
            part = Crowd(*found)
        else:
            part = cast("Record", found)  # both are the same tuple: copying each costs a microsecond
            if self.closes is not None and part.kind == Kind.CLOSE and len(self.closes) < CLOSES_MAX_COUNT:
                self.closes.add(part.key)
        if not self._epochs or self._epochs[-1][0] != part.epoch:
            self._epochs.append((part.epoch, part.sequence))
        tail = self._tail
        tail.append(part)
        self._tail_bytes += _size(part)
        while self._tail_bytes > TAIL_MAX_BYTES and len(tail) > 1:
            self._tail_bytes -= _size(tail.popleft())

    @property
    def first_seq(self) -> int:
        """See Replica.first_seq."""
        return self.ring.first_seq

    @property
    def durable_seq(self) -> int:
        """See Replica.durable_seq."""
        return self.ring.durable_seq

    @property
    def syncing(self) -> bool:
        """See Replica.syncing."""
        return self.ring.syncing

    @property
    def sync_count(self) -> int:
        """See Replica.sync_count."""
        return self.ring.sync_count

    @property
    def flags(self) -> int:
        """The flags of the superblock."""
        return int(self.ring.flags)

    @property
    def peer_seq(self) -> int:
        """Up to here the peer had everything when this node began to answer without it."""
        return self.ring.peer_seq

    def epochs(self) -> list[tuple[int, int]]:
        """See Replica.epochs; those that the ring has left behind are listed too, and harm nobody."""
        return self._epochs

    def records_after(self, seq: int) -> Iterator[Record]:
        """See Replica.records_after."""
        for part in self.parts_after(seq):
            if isinstance(part, Crowd):
                yield from part.each()
            else:
                yield part

    def parts_after(self, seq: int) -> Iterator[Part]:
        """See Replica.parts_after: from memory as soon as the rest is there."""
        while seq < self.ring.last_seq:
            tail = self._tail
            if tail and tail[0].sequence <= seq + 1:
                for part in self._newest(seq):
                    yield part.after(seq) if isinstance(part, Crowd) else part
                    seq = last_seq_of(part)
                continue
            for record in self._read_after(seq):
                seq = record.sequence
                yield record
                if tail and tail[0].sequence <= seq + 1:
                    break

    def _newest(self, seq: int) -> list[Part]:
        """At most ``PART_COUNT`` from the one on that has the record behind ``seq``."""
        tail = self._tail
        if tail[-1].sequence <= seq + 1:
            return [tail[-1]]
        at = bisect_right(tail, seq + 1, key=_sequence) - 1
        return list(islice(tail, at, at + PART_COUNT))

    def _read_after(self, seq: int) -> Iterator[Record]:
        try:
            for found in self.ring.records_after(seq):
                yield Record(*found)
        except RingRecordsGoneError as error:
            raise RecordsGoneError(str(error)) from error
        except DamagedStoreError as error:
            raise DamagedRecordError(str(error), error.offset) from error

    def without_body(self, seq: int) -> Record:
        """See Replica.without_body; RecordsGoneError."""
        try:
            return Record(*self.ring.without_body(seq))
        except RingRecordsGoneError as error:
            raise RecordsGoneError(str(error)) from error
        except DamagedStoreError as error:
            raise DamagedRecordError(str(error), error.offset) from error

    def record_at(self, sequence: int) -> Record | None:
        """A record as it is here; None if it is gone, or damaged here as well."""
        if not self.first_seq <= sequence <= self.durable_seq:
            return None
        try:
            return next(self.records_after(sequence - 1), None)
        except (RecordsGoneError, DamagedRecordError):
            return None

    def wounds(self, *, hopeful: bool) -> list[int]:
        """Sequences of the damaged records that were met, until they are mended or their jobs are gone."""
        mender = self.ring.mender
        mender.hopeful = hopeful
        self._wounds.update((wound.sequence, wound) for wound in mender.noticed())
        return list(self._wounds)

    def is_wounded(self, sequence: int) -> bool:
        """Whether this record is known to be damaged here."""
        return sequence in self._wounds

    def wound_at(self, at: int) -> int:
        """The sequence of the damaged record at this offset; 0 if it cannot be told."""
        try:
            wound = self.ring.mender.locate(at)
        except DamagedStoreError:
            return 0
        if wound is None:
            return 0
        self._wounds[wound.sequence] = wound
        return wound.sequence

    def mend(self, record: Record, done: Callable[[], None]) -> bool:
        """See Mended.mend; only what :meth:`is_wounded`."""
        wound = self._wounds[record.sequence]
        mended = self.ring.mender.mend(wound, Foreign(*record), done)
        if mended or not self.ring.mender.is_open(wound):
            del self._wounds[record.sequence]
        return mended

    def plain(self, record: Record) -> Record:
        """See Replica.plain."""
        if record.kind != Kind.JOB:
            return record
        origin = decode_origin(record.meta)
        if origin is None:
            return record
        return record._replace(kind=origin.kind, sequence=origin.sequence, meta=origin.meta)

    def append_foreign_all(self, parts: Sequence[Part]) -> None:
        """See Replica. JournalFailedError, also if there is no room: then it is no replica."""
        found = [RingCrowd(*part) if isinstance(part, Crowd) else cast("Foreign", part) for part in parts]
        try:
            self.ring.append_foreign_all(found, WAITS)
        except (StoreFailedError, ForeignRecordError, RingFullError) as error:
            raise JournalFailedError(str(error)) from error

    def live_digest(self) -> bytes:
        """See Replica.live_digest."""
        return self.ring.live_digest()

    def store(self, token: int, *, epoch: int, set_flags: int, clear_flags: int, peer_seq: int) -> None:
        """Change the superblock; ``token`` is among ``stored`` once that is synced."""
        try:
            if epoch > self.ring.epoch:
                self.ring.set_epoch(epoch, WAITS)
            self.ring.set_role_flags(
                set=Flag(set_flags), clear=Flag(clear_flags), peer_seq=peer_seq, token=token
            )
        except StoreFailedError as error:
            raise JournalFailedError(str(error)) from error

    def close_elsewhere(self, key: bytes, meta: bytes, after_sync: tuple[Effect, ...]) -> int:
        """A CLOSE of a job that only the other node can have (P7). JournalFullError, JournalFailedError."""
        try:
            return self.ring.append_about(Kind.CLOSE, key, meta, after_sync or None)
        except RingFullError as error:
            raise JournalFullError(error.need_bytes, error.free_bytes, error.retry_ms) from error
        except StoreFailedError as error:
            raise JournalFailedError(str(error)) from error

    def mark(self) -> int:
        """A record of this epoch, so that two logs can be told apart; its sequence. JournalFailedError."""
        try:
            return self.ring.mark(WAITS)
        except StoreFailedError as error:
            raise JournalFailedError(str(error)) from error

    def cut_after(self, seq: int) -> bool:
        """Forget every record behind ``seq`` and read the index again; False: needs a full copy."""
        try:
            self.ring.cut_after(seq)
        except CutRefusedError:
            return False
        self.stored.clear()
        self._wounds.clear()
        self._tail.clear()
        self._tail_bytes = 0
        self._epochs = self.ring.epochs()
        return True

    def adopt(self, id_secret: bytes) -> None:
        """Make ids as the peer does."""
        self.ring.set_role_flags(id_secret=id_secret, token=WAITS)

    def completed(self) -> Iterable[tuple[Effect, ...]]:
        """See Journal.completed; tokens of the superblock go to ``stored``."""
        tokens = list(cast("Iterable[object]", super().completed()))
        self.stored += [token for token in tokens if isinstance(token, int) and token]
        self.mended += [token for token in tokens if callable(token)]
        return [cast("tuple[Effect, ...]", token) for token in tokens if isinstance(token, tuple)]


def _size(part: Part) -> int:
    if isinstance(part, Crowd):
        return 200 + 120 * len(part.keys) + sum(map(len, part.bodies))
    return 200 + len(part.meta) + sum(map(len, part.body))


def _sequence(part: Part) -> int:
    return part.sequence


WAITS: Final = 0
"""The token of whoever waits for the disk but need not be told."""
