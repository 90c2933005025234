"""What every part of the ring shares: the facts, the accounts, and the one way a record is written."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final
from zlib import crc32

from titanic_store.pure.census import Census
from titanic_store.pure.chunks import TRAILER_BYTES, align_up, encode_digest
from titanic_store.pure.kinds import BODY, DROP, EFFECT_OF, NOTE, OPEN, REQUEST, STATE, Kind
from titanic_store.pure.options import Options
from titanic_store.pure.records import HEADER_BYTES, MAGIC, NO_KEY, ROW, ROW_FROM, ROW_TO, pack_head
from titanic_store.pure.recovery import Recovered
from titanic_store.pure.seams import Crowd, E, Foreign, Owner, Storage
from titanic_store.pure.superblock import Flag
from titanic_store.shell.batch import Batch
from titanic_store.shell.committer import Committer
from titanic_store.shell.facts import Facts
from titanic_store.shell.head import Head
from titanic_store.shell.reading import RecordReader
from titanic_store.shell.relocating import Relocator
from titanic_store.shell.room import ENDING_BYTES

JOIN_MAX_BYTES: Final = 64 * 1024
"""Up to here a record becomes one buffer; above, its body's parts go to the disk without a copy."""

_PADDING: Final = tuple(bytes(count) for count in range(8))


class Writer(Facts[E]):
    """The half of a :class:`~titanic_store.Ring` that appends and reads. Not thread-safe: one thread calls.

    ``index`` holds every live entry, in the order of acceptance. ``tap`` is called with every record, or
    crowd of them, at its append, in order, and must not append itself. ``following``: they come from a peer.
    """

    def __init__(
        self,
        storage: Storage,
        owner: Owner[E],
        options: Options,
        recovered: Recovered[E],
        notify: Callable[[], None] = lambda: None,
        *,
        thread: bool = True,
    ) -> None:
        """Step 7 of opening. ``thread=False``: nothing is written except by :meth:`Ring.commit`."""
        self.torn_bytes = recovered.torn_bytes
        self.appended_count = 0
        self.tap: Callable[[Foreign | Crowd], None] | None = None
        self.following = False
        self._storage = storage
        self._owner = owner
        self._options = options
        self._policy = options.policy
        self._tokens: list[object] = []
        self._releases: deque[tuple[int, list[int]]] = deque()
        self._install(recovered)
        self._committer = committer = Committer(
            storage, options.policy, notify, self._head.seq, align_bytes=self._head.align, thread=thread
        )
        self._connect(committer)

    def _install(self, recovered: Recovered[E]) -> None:
        """Go on where ``recovered`` ends; the incarnation is durable afterwards (R3)."""
        self.index: dict[bytes, E] = recovered.index
        self._live: Census | None = None
        self._head = head = Head(self._options, recovered)
        self._salt = head.salt
        head.entry_count = self._entry_count
        head.reply_count = recovered.reply_count
        if recovered.silent:
            awaits_reply = self._owner.awaits_reply
            head.silent_count = sum(1 for entry in self.index.values() if not awaits_reply(entry))
        if recovered.stale_seal_at:
            # the head was sealed in a history that was cut since: nobody shall believe that seal again
            self._storage.write_at(recovered.stale_seal_at, (bytes(TRAILER_BYTES),))
            self._storage.sync()
        for header, scan in recovered.unsealed:
            shape = (head.space.chunk_bytes, head.align, head.salt)
            self._storage.write_at(*encode_digest(header, scan.rows, scan.metas, scan.chain, scan.end, shape))
        if recovered.unsealed:
            self._storage.sync()
        self._write_superblock(head.block.flags & ~Flag.CLEAN)

    def _connect(self, committer: Committer) -> None:
        """Hand what is written to ``committer``, and read what is not written yet from it."""
        head = self._head
        head.attach(committer)
        self.reader = RecordReader(self._storage, committer, self._salt)
        self.relocator = Relocator(
            self.index, self._owner, head, self.reader, self._write, committer.in_flight
        )

    def _entry_count(self) -> int:
        return len(self.index)

    def _write_superblock(self, flags: int) -> None:
        """The next superblock is durable afterwards."""
        offset, raw = self._head.next_superblock(flags=flags, durable_seq=self._head.seq)
        self._storage.write_at(offset, (raw,))
        self._storage.sync()

    # -- appending

    def append(
        self, kind: int, entry: E, meta: bytes, body: Sequence[bytes] = (), token: object | None = None
    ) -> int:
        """Queue a record and return its sequence; ``token`` comes back from :meth:`completed`.

        Positions and, for a kind that opens, the index are up to date on return. A CLOSE takes effect when
        it is durable; nothing may be appended for its entry any more. Without a token nobody waits: the
        record rides with the next batch, or is written after 25 ms at the latest.
        Raises RingFullError (kinds that open, and a reply larger than what is kept for it), RingBusyError
        (kinds that open), RecordTooLargeError, StoreFailedError; nothing has changed then.
        """
        return self._write(kind, 0, entry, meta, body, token)

    def append_all(
        self, kind: int, entries: Sequence[E], meta: bytes, bodies: Sequence[bytes], token: object
    ) -> int:
        """Queue a record that opens each entry, all with this meta and a body of one part each.

        The sequence of the first, and the others follow; ``token`` comes back once all are durable. 0, and
        nothing has changed, if they do not all fit as they are: append them one by one, which makes room.
        Keys are new and differ. Raises StoreFailedError.
        """
        assert EFFECT_OF[kind] is OPEN, "only what opens comes in crowds"
        if self._committer.failure is not None:
            raise self._committer.failure
        head, count = self._head, len(bodies)
        sizes = self._fitting(len(meta), bodies)
        room_bytes = head.room_bytes - sum(sizes) - count * (ROW.size + len(meta) + head.entry_bytes)
        if not sizes or room_bytes < 0:
            return 0
        head.room_bytes = room_bytes
        first = head.seq + 1
        with self._committer.mutex:
            self._put_all(kind, entries, meta, bodies, sizes)
            batch = self._committer.batch
            batch.last_seq = head.seq
            batch.tokens.append(token)
            batch.waiting = True
        self.appended_count += count
        if self.tap is not None:
            self.tap(Crowd(kind, first, head.epoch, [entry.key for entry in entries], meta, bodies))
        self._committer.wake()
        return first

    def _fitting(self, meta_bytes: int, bodies: Sequence[bytes]) -> list[int]:
        """The size of a record for each body; empty unless all fit into the chunk as it is."""
        head, row_bytes = self._head, ROW.size + meta_bytes
        sizes = [HEADER_BYTES + meta_bytes + len(body) + 7 & ~7 for body in bodies]
        total_bytes = sum(sizes) + len(sizes) * row_bytes
        if max(sizes) + row_bytes > head.large_bytes or head.end + head.align + total_bytes > head.limit:
            return []
        return sizes

    def _put_all(
        self, kind: int, entries: Sequence[E], meta: bytes, bodies: Sequence[bytes], sizes: Sequence[int]
    ) -> None:
        """The records as one buffer at the end of the open run, and the accounts; under the mutex."""
        committer, head, salt, index, live = self._committer, self._head, self._salt, self.index, self._live
        run = committer.batch.run or committer.batch.begin(align_up(head.end, head.align))
        at, sequence, crc, meta_bytes, meta_crc = run.end, head.seq, head.crc, len(meta), crc32(meta, salt)
        durable_seq, epoch, incarnation, turn = committer.durable_seq, head.epoch, head.incarnation, head.turn
        parts: list[bytes] = []
        rows: list[bytes] = []
        retain, row_bytes = head.space.retain, ROW.size + meta_bytes
        for entry, body, size in zip(entries, bodies, sizes, strict=True):
            sequence += 1
            key, body_bytes = entry.key, len(body)
            raw = pack_head(
                MAGIC, kind, 0, 0, meta_bytes, body_bytes, sequence, at, key, durable_seq,
                epoch, incarnation, turn, meta_crc, crc32(body, salt), crc,
            )  # fmt: skip
            crc = crc32(raw, salt)
            rows.append(raw[ROW_FROM:ROW_TO])
            padding = _PADDING[size - HEADER_BYTES - meta_bytes - body_bytes]
            parts += (raw, crc.to_bytes(4, "little"), meta, body, padding)
            entry.request_at = at
            index[key] = entry
            retain(at, size + row_bytes)
            at += size
            if live is not None:
                live.opened(key)
        head.seq, head.crc = sequence, crc
        head.rows += b"".join(rows)
        head.metas += meta * len(rows)
        head.limit -= len(rows) * row_bytes
        run.end = head.end = at
        run.parts.append(b"".join(parts))
        if kind != REQUEST:
            head.silent_count += sum(not self._owner.awaits_reply(entry) for entry in entries)

    def mark(self, token: object | None = None) -> int:
        """Append a MARK, which is about no entry."""
        return self._write(Kind.MARK, 0, None, b"", (), token)

    def _write(
        self, kind: int, flags: int, entry: E | None, meta: bytes, body: Sequence[bytes],
        token: object | None, *, foreign_key: bytes | None = None,
    ) -> int:  # fmt: skip
        """:meth:`append`; what was moved or comes from a peer is not asked whether there is room."""
        committer, head, salt = self._committer, self._head, self._salt
        if committer.failure is not None:
            raise committer.failure
        effect = EFFECT_OF[kind]
        body_bytes, body_crc, meta_bytes = 0, salt, len(meta)
        for part in body:
            body_bytes += len(part)
            body_crc = crc32(part, body_crc)
        exact_bytes = HEADER_BYTES + meta_bytes + body_bytes
        padding = _PADDING[-exact_bytes & 7]
        row_bytes = ROW.size + meta_bytes
        claim = exact_bytes + len(padding) + row_bytes
        charge_bytes = claim if claim <= head.large_bytes else 2 * claim
        kept_bytes, foreign = 0, foreign_key is not None
        opens = effect is OPEN and not foreign
        if opens and entry is not None:
            kept_bytes = head.entry_bytes if kind == REQUEST else self._kept_bytes(entry)
            head.room_bytes -= charge_bytes + kept_bytes
        if effect is BODY and entry is not None and not flags and not foreign:
            head.admit_reply(claim, charge_bytes, kept=not entry.reply_at)
        if head.end + head.align + claim > head.limit or (opens and head.room_bytes < 0):
            head.make_room(claim, kept_bytes=kept_bytes, moved=flags != 0 or foreign)
        key = entry.key if entry is not None else foreign_key or NO_KEY
        with committer.mutex:
            batch = committer.batch
            run, wake = batch.run, token is not None
            if run is None:
                run, wake = batch.begin(align_up(head.end, head.align)), True
            at = run.end
            batch.last_seq = head.seq = sequence = head.seq + 1
            raw = pack_head(
                MAGIC, kind, flags, 0, meta_bytes, body_bytes, sequence, at, key, committer.durable_seq,
                head.epoch, head.incarnation, head.turn, crc32(meta, salt), body_crc, head.crc,
            )  # fmt: skip
            head.crc = crc = crc32(raw, salt)
            head.rows += raw[ROW_FROM:ROW_TO]
            head.metas += meta
            head.limit -= row_bytes
            run.end = head.end = at + exact_bytes + len(padding)
            if body_bytes <= JOIN_MAX_BYTES:
                run.parts.append(b"".join((raw, crc.to_bytes(4, "little"), meta, *body, padding)))
            else:
                run.parts += (raw, crc.to_bytes(4, "little"), meta, *body, padding)
            if entry is not None:
                self._place(kind, entry, at, charge_bytes, batch)
            if token is not None:
                batch.tokens.append(token)
                batch.waiting = True
        if self.tap is not None:
            self.tap(Foreign(kind, flags, sequence, head.epoch, key, meta, body))
        if not flags:
            self.appended_count += 1
        if wake:
            committer.wake()
        return sequence

    def _place(self, kind: int, entry: E, at: int, charge_bytes: int, batch: Batch) -> None:
        """Bring the index and the accounts up to date with the record at ``at``."""
        head, live, effect = self._head, self._live, EFFECT_OF[kind]
        if effect is OPEN:
            known = self.index.get(entry.key)
            if known is not None:
                self._supersede(known, entry, batch)
            entry.request_at = at
            self.index[entry.key] = entry
            head.space.retain(at, charge_bytes)
            if kind != REQUEST and not self._owner.awaits_reply(entry):
                head.silent_count += 1
            if live is not None:
                live.opened(entry.key)
            return
        batch.touched.add(entry.key)
        if effect is NOTE:
            return
        assert self.index.get(entry.key) is entry, "replies and closes are for live entries"
        if effect is DROP:
            batch.drops.append(entry)
            if live is not None:
                live.closed(entry.key, replied=entry.reply_at != 0)
            return
        head.space.retain(at, charge_bytes)
        if effect is BODY:
            if not entry.reply_at:
                head.reply_count += 1
                if live is not None:
                    live.replied(entry.key)
            batch.freed.append(entry.reply_at)
            entry.reply_at = at
        else:
            assert effect is STATE, "marks have no entry"
            batch.freed.append(entry.request_at)
            entry.request_at = at

    def _kept_bytes(self, entry: E) -> int:
        """What is kept for the ending of ``entry``."""
        return self._head.entry_bytes if self._owner.awaits_reply(entry) else ENDING_BYTES

    def _forget(self, entry: E) -> None:
        """``entry`` is none any more: what is kept for others is counted without it."""
        head = self._head
        if entry.reply_at:
            head.reply_count -= 1
        elif head.silent_count and not self._owner.awaits_reply(entry):
            head.silent_count -= 1

    def _supersede(self, known: E, entry: E, batch: Batch) -> None:
        """``entry`` opens anew what is open: the records of ``known`` are dead once that is durable."""
        batch.freed.append(known.request_at)
        if known.reply_at:
            batch.freed.append(known.reply_at)
        self._forget(known)
        if self._live is not None:
            self._live.closed(known.key, replied=known.reply_at != 0)
        if known is entry:
            entry.reply_at = 0

    def barrier(self, token: object) -> None:
        """``token`` comes back from :meth:`completed` once everything appended so far is durable."""
        committer = self._committer
        if committer.failure is not None:
            raise committer.failure
        with committer.mutex:
            committer.batch.tokens.append(token)
            committer.batch.waiting = True
        committer.wake()

    # -- reading

    def read(self, at: int) -> tuple[bytes, bytes]:
        """(meta, body) of the record at ``at``, checked; of a relocated one, as it was first written.

        DamagedStoreError instead of wrong bytes (R18).
        """
        return self.reader.read(at)

    def read_meta(self, at: int) -> tuple[bytes, int]:
        """(meta, length of the body) of the record at ``at``; the body is not read."""
        return self.reader.read_meta(at)

    def read_raw(self, offset: int, size: int) -> bytes:
        """Bytes of the file as they are, for a backup; from any thread. OSError from the disk."""
        return self._storage.read_at(offset, size)
