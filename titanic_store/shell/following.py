"""The half of a ring that takes in what a peer ships (P2): records with the peer's sequences and epochs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from titanic_store.errors import ForeignRecordError, UnknownVersionError
from titanic_store.pure.kinds import EFFECT_OF, Effect, Kind
from titanic_store.pure.records import ROW, decode_origin
from titanic_store.pure.recovery import unreadable
from titanic_store.pure.seams import Crowd, E, Foreign
from titanic_store.shell.pairing import OFFSET_AT, U64, Paired


class Following(Paired[E]):
    """What the follower of an active node calls; the owner's thread."""

    _strays: dict[bytes, tuple[int, bytes, int]]

    def append_foreign(self, record: Foreign, token: object | None = None) -> int:
        """Append a record of the active with its own sequence and epoch; the index is folded as at open.

        Afterwards the ring is :attr:`following`: it relocates nothing by itself, until :meth:`set_epoch`.
        ForeignRecordError unless the record continues this log; RingFullError, StoreFailedError.
        """
        self._continue_with(record.kind, record.sequence, record.epoch, record.meta)
        self._head.epoch = record.epoch
        return self._follow(EFFECT_OF[record.kind], record, token)

    def append_foreign_all(self, records: Sequence[Foreign | Crowd], token: object) -> None:
        """:meth:`append_foreign` with each; ``token`` comes back once all that were appended are durable.

        A crowd is one step if it fits as it is, and so are records that could have come as one. If one is
        refused, as by :meth:`append_foreign`, those before it are appended.
        """
        at = 0
        try:
            while at < len(records):
                record = records[at]
                if isinstance(record, Crowd):
                    at += 1
                    if self._opens_new(record.keys) and self._follow_all(record):
                        continue
                    for one in record.each():
                        self.append_foreign(one)
                    continue
                crowd = self._crowd(records, at, record)
                if len(crowd.keys) > 1 and self._follow_all(crowd):
                    at += len(crowd.keys)
                else:
                    self.append_foreign(record)
                    at += 1
        finally:
            self.barrier(token)

    def _opens_new(self, keys: Sequence[bytes]) -> bool:
        """Whether nothing is open under any of them, and none comes twice."""
        given = set(keys)
        return len(given) == len(keys) and self.index.keys().isdisjoint(given)

    def _crowd(self, records: Sequence[Foreign | Crowd], at: int, first: Foreign) -> Crowd:
        """What opens new entries from ``at`` on and differs in key, body and sequence only."""
        kind, meta, epoch, sequence = first.kind, first.meta, first.epoch, first.sequence
        keys: dict[bytes, bytes] = {}
        if EFFECT_OF[kind] is Effect.OPEN:
            for record in islice(records, at, None):
                if (
                    isinstance(record, Crowd)
                    or record.kind != kind
                    or record.meta != meta
                    or record.epoch != epoch
                    or record.sequence != sequence
                    or record.flags
                    or len(record.body) > 1
                    or record.key in self.index
                    or record.key in keys
                ):
                    break
                keys[record.key] = record.body[0] if record.body else b""
                sequence += 1
        return Crowd(kind, first.sequence, epoch, list(keys), meta, list(keys.values()))

    def _follow_all(self, crowd: Crowd) -> bool:
        """Append a crowd in one step; False, and nothing has changed, if it does not fit as it is."""
        committer = self._committer
        if committer.failure is not None:
            raise committer.failure
        kind, sequence, epoch, keys, meta, bodies = crowd
        self._continue_with(kind, sequence, epoch, meta)
        sizes = self._fitting(len(meta), bodies)
        if not sizes or EFFECT_OF[kind] is not Effect.OPEN:
            return False
        self._head.epoch = epoch
        entries = self._owner.open_all(kind, keys, meta, sequence)
        with committer.mutex:
            self._put_all(kind, entries, meta, bodies, sizes)
            committer.batch.last_seq = self._head.seq
        self.appended_count += len(keys)
        if self.tap is not None:
            self.tap(crowd)
        return True

    def _continue_with(self, kind: int, sequence: int, epoch: int, meta: bytes) -> None:
        """The ring is :attr:`following`. ForeignRecordError unless such a record continues this log."""
        head = self._head
        if sequence != head.seq + 1 or (epoch < head.epoch and self._last_epoch() > epoch):
            raise ForeignRecordError(
                f"record {sequence} of epoch {epoch} does not follow record {head.seq} of epoch {head.epoch}"
            )
        if EFFECT_OF[kind] is Effect.UNKNOWN:
            raise UnknownVersionError(f"the peer sent a record of kind {kind}, of a later version")
        why = unreadable(kind, meta, self._owner.unreadable)
        if why:
            raise ForeignRecordError(f"the meta of record {sequence} of the peer cannot be read: {why}")
        if not self.following:
            self.following = True
            self._moved_in, self._strays = [], {}

    def _last_epoch(self) -> int:
        """Of the last record: lower than the ring's when an epoch was claimed and never used."""
        epochs = self.epochs()
        return epochs[-1][0] if epochs else 0

    def _follow(self, effect: Effect, record: Foreign, token: object | None) -> int:
        """What :class:`~titanic_store.pure.recovery.Rebuild` does with a file, with one record."""
        owner, key = self._owner, record.key
        entry = self.index.get(key)
        if effect is Effect.STATE:
            return self._follow_state(entry, record, token)
        if effect is Effect.OPEN:
            entry = owner.new(record.kind, key)
        sequence = self._write_foreign(record, entry, token)
        if entry is not None and effect is not Effect.NONE:
            owner.fold(entry, record.kind, record.meta, sequence)
        elif effect is Effect.BODY:
            # its request was relocated to a place further on: the JOB will claim it, or a CLOSE drop it
            self._strays[key] = (self._last_at(), record.meta, sequence)
            self._head.space.retain(self._last_at(), self._head.max_claim)
        elif effect is Effect.DROP and key in self._strays:
            self._free(self._strays.pop(key)[0])
        return sequence

    def _follow_state(self, entry: E | None, record: Foreign, token: object | None) -> int:
        owner, key = self._owner, record.key
        origin = decode_origin(record.meta)
        if origin is None:
            raise ForeignRecordError(f"record {record.sequence} is a relocated job without its origin")
        if entry is None:
            entry = self.index[key] = owner.new(origin.kind, key)
            self._moved_in.append((origin.sequence, key))
            if not owner.awaits_reply(entry):
                self._head.silent_count += 1
            if self._live is not None:
                self._live.opened(key)
        sequence = self._write_foreign(record, entry, token)
        owner.fold(entry, origin.kind, origin.meta, origin.sequence)
        owner.fold(entry, Kind.JOB, origin.state, origin.sequence)
        stray = self._strays.pop(key, None)
        if stray is not None:
            entry.reply_at, meta, reply_seq = stray
            self._head.reply_count += 1
            if self._live is not None:
                self._live.replied(key)
            owner.fold(entry, Kind.REPLY, meta, reply_seq)
        return sequence

    def _write_foreign(self, record: Foreign, entry: E | None, token: object | None) -> int:
        return self._write(
            record.kind, record.flags, entry, record.meta, record.body, token, foreign_key=record.key
        )

    def _last_at(self) -> int:
        """Where the last record was put."""
        at: int = U64.unpack_from(self._head.rows, len(self._head.rows) - ROW.size + OFFSET_AT)[0]
        return at

    def _free(self, at: int) -> None:
        """The record at ``at`` is dead once the last record is durable."""
        with self._committer.mutex:
            self._committer.batch.freed.append(at)
