"""The ring: what became durable is handed back, space is won back, the file is tended and closed."""

from __future__ import annotations

from typing import Final

from titanic_store.errors import DamagedStoreError
from titanic_store.pure.records import ROW
from titanic_store.pure.seams import E
from titanic_store.pure.space import charge_of
from titanic_store.pure.superblock import BASE_BYTES, Flag
from titanic_store.shell.batch import Batch
from titanic_store.shell.committer import Committer
from titanic_store.shell.following import Following
from titanic_store.shell.mending import Mender
from titanic_store.shell.scrub import Extent, Scrub

WIN_BACK_RECORDS: Final = 4096
WIN_BACK_BYTES: Final = 1 << 24
"""Moved between two looks at the chunk, when an ending must wait for room."""


class Ring(Following[E]):
    """An open store. Made by :func:`titanic_store.open_ring`.

    ``index`` holds every live entry, in the order of acceptance. Not thread-safe: one thread calls; the
    commit thread is its own affair.
    """

    scrub: Scrub | None = None

    def _connect(self, committer: Committer) -> None:
        super()._connect(committer)
        self._stop_scrub()  # if the log was cut: other chunks count now
        self.mender = Mender(self._storage, self._head, self.reader, committer, self.store_uuid)
        self.reader.noticed = self.mender.notice
        self.scrub = Scrub(
            self._storage,
            self._extent,
            self.store_uuid,
            self._salt,
            self._options.scrub_bytes_per_second,
            self.mender.notice,
        )
        if committer.threaded:
            self.scrub.start()
        self._head.win_back = self._win_back
        self._head.recount = self._recount
        self._looked_count = self.appended_count
        self._tidy_turn = 0
        self._closed = False

    def _extent(self) -> Extent:
        head = self._head
        return Extent(
            BASE_BYTES,
            head.block.chunk_bytes,
            head.block.chunk_count,
            head.space.tail_turn,
            head.settled_turn,
        )

    @property
    def counters(self) -> dict[str, int]:
        """See :attr:`Writer.counters`; with what the scrub counts."""
        scrub = self.scrub
        assert scrub is not None, "made with the ring"
        return {
            **super().counters,
            "scrub_bytes": scrub.checked_bytes,
            "scrub_passes": scrub.pass_count,
            "scrub_damaged": scrub.damaged_count,
            "records_mended": self.mender.mended_count,
        }

    def completed(self) -> list[object]:
        """The tokens of all that became durable since the last call, in the order of append.

        Entries closed by these records are gone from ``index``. Space is won back and the file tended, a
        little at a time. StoreFailedError if the store stopped.
        """
        committer = self._committer
        if committer.failure is not None:
            raise committer.failure
        self._absorb()
        tokens, self._tokens = self._tokens, []
        if not self._closed:
            self._tend()
        return tokens

    def _absorb(self) -> None:
        """Take the batches that came back; what closed records occupied is free once that is durable."""
        committer = self._committer
        committer.notified = False
        done = committer.done
        while done:
            batch = done.popleft()
            self._tokens += batch.tokens
            if batch.drops or batch.freed:
                self._drop(batch)
        releases, reusable_seq = self._releases, committer.reusable_seq
        space, reader = self._head.space, self.reader
        while releases and releases[0][0] <= reusable_seq:
            for at in releases.popleft()[1]:
                space.release(at, reader.charge_at(at, space.chunk_bytes) if at and space.varied(at) else 0)

    def _drop(self, batch: Batch) -> None:
        """Closed entries leave the index; their room follows once that is durable (R6)."""
        freed = batch.freed
        entry: E
        for entry in batch.drops:
            if self.index.get(entry.key) is entry:
                del self.index[entry.key]
                freed += (entry.request_at, entry.reply_at)
                self._forget(entry)
        self._releases.append((batch.last_seq, freed))

    def _tend(self) -> None:
        """Settle growth, relocate a bounded number of records (R7); when idle, mark and shrink (R5, R9)."""
        committer, head = self._committer, self._head
        head.settle()
        appended_count = self.appended_count - self._looked_count
        self._looked_count = self.appended_count
        if appended_count:
            committer.idle = False
            self._tidy_turn = 0
        elif committer.idle:
            head.mark_durable()
        if self.following:
            return
        if self.relocator.wanted():
            self.relocator.step(appended_count)
        elif committer.idle:
            self._tidy()

    def _tidy(self) -> None:
        """Nobody works: move what lives towards the begin of the file, and give the rest of it back (R9)."""
        head, space = self._head, self._head.space
        head.shrink()
        if space.chunk_count <= head.fitting_chunks:
            self._committer.idle = False
            return
        if not self._tidy_turn:
            self._tidy_turn = space.head_turn + 1
        if space.tail_turn >= self._tidy_turn:
            self._committer.idle = False  # a whole round; what is left cannot be moved now
        elif len(space.order) > 1:
            self.relocator.step(0)
        elif space.free:
            head.turn_page()  # the head itself lies too far back

    def _recount(self) -> None:
        """What lives in chunks loaded at open is charged what it takes, from their digests."""
        space = self._head.space
        for slot in list(space.rough):
            turn = space.turn_of(slot)
            try:
                rows = self._rows(slot, turn) if turn is not None else b""
            except DamagedStoreError:
                space.rough.discard(slot)  # the upper bound stays
                continue
            alive_bytes = 0
            for _, _, _, meta_bytes, body_bytes, _, at, key in ROW.iter_unpack(rows):
                entry = self.index.get(key)
                if entry is not None and at in (entry.request_at, entry.reply_at):
                    alive_bytes += charge_of(meta_bytes, body_bytes, space.chunk_bytes)
            space.recount(slot, alive_bytes)

    def _win_back(self) -> bool:
        """One more chunk is free afterwards, whatever it takes; False if a whole round brings none (R8)."""
        space, committer = self._head.space, self._committer
        free_count = len(space.free)
        for _ in range(0 if self.following else len(space.order)):
            turn = space.tail_turn
            committer.flush()  # nothing is on its way now, so everything may be moved
            self._absorb()
            space.reclaim()
            while len(space.free) <= free_count and space.tail_turn == turn:
                if not self.relocator.move(WIN_BACK_RECORDS, WIN_BACK_BYTES):
                    break
            committer.flush()
            self._absorb()
            space.reclaim()
            if len(space.free) > free_count:
                return True
        return False

    def _stop_scrub(self) -> None:
        if self.scrub is not None:
            self.scrub.stop()

    def flush(self) -> None:
        """Everything appended is synced, whatever the policy; blocks. StoreFailedError."""
        self._committer.flush()

    def commit(self) -> None:
        """Without a thread: write and sync what was appended, as the commit thread would."""
        self._committer.turn(force=True)

    def abandon(self) -> None:
        """Release the file as it is; what was not handed back may or may not be in it."""
        if not self._closed:
            self._closed = True
            self._stop_scrub()
            self._committer.abandon()
            self._storage.close()

    def close(self) -> None:
        """Everything appended is durable, the file says that it was closed in order, the lock is gone.

        Call :meth:`completed` once more for the last tokens. StoreFailedError if the store had stopped.
        """
        if self._closed:
            return
        self._closed = True
        self._stop_scrub()
        try:
            self._committer.stop()
            if self._committer.failure is not None:
                raise self._committer.failure
            self._storage.sync()
            self._write_superblock(self._head.block.flags | Flag.CLEAN)
        finally:
            self._storage.close()
