"""The ring: append, read, close; the index in memory and the accounts of what is alive.

One thread owns a ring (usually an event loop); the commit thread is its own affair.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Generic
from zlib import crc32

from titanic_store.errors import DamagedStoreError
from titanic_store.pure.chunks import align_up
from titanic_store.pure.kinds import EFFECT_OF, Effect, Kind
from titanic_store.pure.options import Options
from titanic_store.pure.records import (
    HEADER_BYTES,
    MAGIC,
    ROW,
    ROW_FROM,
    ROW_TO,
    Header,
    decode_header,
    decode_origin,
    pack_head,
)
from titanic_store.pure.recovery import Recovered
from titanic_store.pure.seams import E, Owner, Storage
from titanic_store.pure.superblock import Flag
from titanic_store.shell.committer import Batch, Committer, Run
from titanic_store.shell.head import Head

JOIN_MAX_BYTES: Final = 64 * 1024
"""Up to here a record becomes one buffer; above, its body's parts go to the disk without a copy."""

READ_FIRST_BYTES: Final = 4096
"""The first read of a record; most records need no second."""

_PADDING: Final = tuple(bytes(count) for count in range(8))


class Ring(Generic[E]):
    """An open store. Made by :func:`titanic_store.open_ring`.

    ``index`` holds every live entry, in the order of acceptance. Not thread-safe: one thread calls.
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
        """Step 7 of opening. ``thread=False``: nothing is written except by :meth:`commit`."""
        self.index: dict[bytes, E] = recovered.index
        self.torn_bytes: Final = recovered.torn_bytes
        self.appended_count = 0
        self._storage = storage
        self._owner = owner
        self._policy = options.policy
        self._head = head = Head(options, recovered)
        self._salt: Final = head.salt
        self._releases: deque[tuple[int, list[int]]] = deque()
        self._closed = False
        self._write_superblock(head.block.flags & ~Flag.CLEAN)
        self._committer = Committer(
            storage, options.policy, notify, head.seq, align_bytes=head.align, thread=thread
        )
        head.attach(self._committer)

    def _write_superblock(self, flags: int) -> None:
        """The next superblock is durable afterwards, and with it the incarnation (R3)."""
        head = self._head
        offset, raw = head.next_superblock(flags=flags, durable_seq=head.seq, tail_turn=head.space.tail_turn)
        self._storage.write_at(offset, (raw,))
        self._storage.sync()

    @property
    def durability(self) -> str:
        """What an acknowledgement is worth: ``fsync``, ``interval; ms=N`` or ``memory`` (R12)."""
        return self._policy.durability

    @property
    def epoch(self) -> int:
        """The epoch every record written now carries (P1)."""
        return self._head.epoch

    @property
    def incarnation(self) -> int:
        """How often this file was opened."""
        return self._head.incarnation

    @property
    def id_secret(self) -> bytes:
        """32 bytes made with the store, for the tag in job ids."""
        return self._head.block.id_secret

    @property
    def store_uuid(self) -> bytes:
        """16 bytes that tell this store from every other."""
        return self._head.block.store_uuid

    @property
    def last_seq(self) -> int:
        """The sequence of the last record appended."""
        return self._head.seq

    @property
    def durable_seq(self) -> int:
        """Every record up to this sequence is known to be durable."""
        return self._committer.durable_seq

    @property
    def max_record_bytes(self) -> int:
        """A record fits if its body plus twice its meta has at most so many bytes."""
        return self._head.max_claim - HEADER_BYTES - ROW.size - 8

    @property
    def file_bytes(self) -> int:
        """How long the file is."""
        return self._head.block.file_bytes

    @property
    def free_bytes(self) -> int:
        """What can be appended before the file must grow or jobs be closed."""
        return self._head.free_bytes

    @property
    def sync_count(self) -> int:
        """How many syncs the commit thread has done."""
        return self._committer.sync_count

    @property
    def batch_count(self) -> int:
        """How many batches the commit thread has written."""
        return self._committer.batch_count

    def append(
        self, kind: int, entry: E, meta: bytes, body: Sequence[bytes] = (), token: object | None = None
    ) -> int:
        """Queue a record and return its sequence; ``token`` comes back from :meth:`completed`.

        Positions and, for a kind that opens, the index are up to date on return. A CLOSE takes effect when
        it is durable; nothing may be appended for its entry any more. Without a token nobody waits: the
        record rides with the next batch, or is written after 25 ms at the latest.
        Raises RingFullError, RecordTooLargeError, StoreFailedError; nothing has changed then.
        """
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
        opens = effect is Effect.OPEN
        if head.end + head.align + claim > head.limit or (opens and not head.space.free):
            head.make_room(claim, opens=opens)
        with committer.mutex:
            batch = committer.batch
            run, wake = batch.run, token is not None
            if run is None:
                run, wake = batch.begin(align_up(head.end, head.align)), True
            at = run.end
            batch.last_seq = head.seq = sequence = head.seq + 1
            raw = pack_head(
                MAGIC, kind, 0, 0, meta_bytes, body_bytes, sequence, at, entry.key, committer.durable_seq,
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
            if effect is not Effect.NOTE:
                self._place(effect, entry, at, batch)
            if token is not None:
                batch.tokens.append(token)
                batch.waiting = True
        self.appended_count += 1
        if wake:
            committer.wake()
        return sequence

    def _place(self, effect: Effect, entry: E, at: int, batch: Batch) -> None:
        """Bring the index and the accounts up to date with the record at ``at``."""
        known = self.index.get(entry.key)
        if effect is Effect.OPEN:
            if known is not None:
                batch.freed += (known.request_at, 0 if known is entry else known.reply_at)
            entry.request_at = at
            self.index[entry.key] = entry
            self._head.space.retain(at)
            return
        assert known is entry, "replies and closes are for live entries"
        if effect is Effect.DROP:
            batch.drops.append(entry)
        else:
            assert effect is Effect.BODY, "JOB and MARK records are the ring's own"
            batch.freed.append(entry.reply_at)
            entry.reply_at = at
            self._head.space.retain(at)

    def barrier(self, token: object) -> None:
        """``token`` comes back from :meth:`completed` once everything appended so far is durable."""
        committer = self._committer
        if committer.failure is not None:
            raise committer.failure
        with committer.mutex:
            committer.batch.tokens.append(token)
            committer.batch.waiting = True
        committer.wake()

    def completed(self) -> list[object]:
        """The tokens of all that became durable since the last call, in the order of append.

        Entries closed by these records are gone from ``index``. StoreFailedError if the store stopped.
        """
        committer = self._committer
        if committer.failure is not None:
            raise committer.failure
        committer.notified = False
        tokens: list[object] = []
        done = committer.done
        while done:
            batch = done.popleft()
            tokens += batch.tokens
            if batch.drops or batch.freed:
                self._drop(batch)
        releases, reusable_seq = self._releases, committer.reusable_seq
        while releases and releases[0][0] <= reusable_seq:
            for at in releases.popleft()[1]:
                self._head.space.release(at)
        return tokens

    def _drop(self, batch: Batch) -> None:
        """Closed entries leave the index; their room follows once that is durable (R6)."""
        freed = batch.freed
        entry: E
        for entry in batch.drops:
            if self.index.get(entry.key) is entry:
                del self.index[entry.key]
                freed += (entry.request_at, entry.reply_at)
        self._releases.append((batch.last_seq, freed))

    def read(self, at: int) -> tuple[bytes, bytes]:
        """(meta, body) of the record at ``at``, checked; of a relocated one, as it was first written.

        DamagedStoreError instead of wrong bytes (R18).
        """
        header, raw = self._read_header(at)
        total = HEADER_BYTES + header.meta_bytes + header.body_bytes
        if len(raw) < total:
            raw += self._read_file(at + len(raw), total - len(raw))
        meta = self._checked_meta(header, raw)
        body = raw[HEADER_BYTES + header.meta_bytes : total]
        if len(body) != header.body_bytes or crc32(body, self._salt) != header.body_crc:
            raise DamagedStoreError(at, "the body fails its checksum")
        return meta, body

    def read_meta(self, at: int) -> tuple[bytes, int]:
        """(meta, length of the body) of the record at ``at``; the body is not read."""
        header, raw = self._read_header(at)
        if len(raw) < HEADER_BYTES + header.meta_bytes:
            raw += self._read_file(at + len(raw), HEADER_BYTES + header.meta_bytes - len(raw))
        return self._checked_meta(header, raw), header.body_bytes

    def _read_header(self, at: int) -> tuple[Header, bytes]:
        """The record's header and the first bytes of the record, from memory if still on their way."""
        raw = self._pending(at) or self._read_file(at, READ_FIRST_BYTES)
        header = decode_header(raw, 0, at, self._salt)
        if header is None:
            raise DamagedStoreError(at, "no valid record header")
        return header, raw

    def _checked_meta(self, header: Header, raw: bytes) -> bytes:
        meta = raw[HEADER_BYTES : HEADER_BYTES + header.meta_bytes]
        if len(meta) != header.meta_bytes or crc32(meta, self._salt) != header.meta_crc:
            raise DamagedStoreError(header.offset, "the meta fails its checksum")
        if header.kind != Kind.JOB:
            return meta
        origin = decode_origin(meta)
        if origin is None:
            raise DamagedStoreError(header.offset, "a relocated job without its origin")
        return origin.meta

    def _read_file(self, offset: int, size: int) -> bytes:
        try:
            return self._storage.read_at(offset, size)
        except OSError as error:
            raise DamagedStoreError(offset, f"the disk says: {error.strerror or error}") from error

    def _pending(self, at: int) -> bytes:
        """The bytes from ``at`` on of a run that may not be in the file yet; empty if there is none."""
        committer = self._committer
        with committer.mutex:
            batches = (committer.writing, committer.batch)
            for batch in batches:
                for step in batch.steps if batch is not None else ():
                    if isinstance(step, Run) and step.offset <= at < step.end:
                        return b"".join(step.parts)[at - step.offset :]
        return b""

    def commit(self) -> None:
        """Without a thread: write and sync what was appended, as the commit thread would."""
        self._committer.turn(force=True)

    def abandon(self) -> None:
        """Release the file as it is; what was not handed back may or may not be in it."""
        if not self._closed:
            self._closed = True
            self._committer.abandon()
            self._storage.close()

    def close(self) -> None:
        """Everything appended is durable, the file says that it was closed in order, the lock is gone.

        Call :meth:`completed` once more for the last tokens. StoreFailedError if the store had stopped.
        """
        if self._closed:
            return
        self._closed = True
        try:
            self._committer.stop()
            if self._committer.failure is not None:
                raise self._committer.failure
            self._storage.sync()
            self._write_superblock(self._head.block.flags | Flag.CLEAN)
        finally:
            self._storage.close()
