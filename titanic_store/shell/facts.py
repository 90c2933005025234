"""What an open ring says about itself: identity, sequences, counters, gauges, layout."""

from __future__ import annotations

from typing import Generic

from titanic_store.pure.layout import Layout
from titanic_store.pure.options import Options, Policy
from titanic_store.pure.records import HEADER_BYTES, ROW
from titanic_store.pure.seams import E
from titanic_store.pure.superblock import BASE_BYTES, Superblock
from titanic_store.shell.committer import Committer
from titanic_store.shell.head import Head
from titanic_store.shell.reading import RecordReader
from titanic_store.shell.relocating import Relocator


class Facts(Generic[E]):
    """The part of a :class:`~titanic_store.Ring` that changes nothing; every number is of this moment."""

    appended_count: int
    torn_bytes: int
    reader: RecordReader
    relocator: Relocator
    _committer: Committer
    _head: Head
    _options: Options
    _policy: Policy

    @property
    def superblock(self) -> Superblock:
        """The newest superblock."""
        return self._head.block

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
    def syncing(self) -> bool:
        """Whether something is on its way to the disk: being written, or written and not synced."""
        committer = self._committer
        return committer.writing is not None or committer.durable_seq < committer.written_seq

    @property
    def batch_count(self) -> int:
        """How many batches the commit thread has written."""
        return self._committer.batch_count

    @property
    def counters(self) -> dict[str, int]:
        """What happened to the file since it was opened, for statistics."""
        return {
            "records_appended": self.appended_count,
            "records_relocated": self.relocator.moved_count,
            "records_lost": self.relocator.lost_count,
            "reads_damaged": self.reader.damaged_count,
            "commits": self._committer.batch_count,
            "syncs": self._committer.sync_count,
            "chunks_grown": self._head.grown_count,
            "chunks_shrunk": self._head.shrunk_count,
            "growths_refused": self._committer.grower.refused_count,
            "torn_bytes_cut": self.torn_bytes,
        }

    @property
    def gauges(self) -> dict[str, int]:
        """How full the store is, in bytes."""
        head = self._head
        return {
            "file_bytes": self.file_bytes,
            "file_max_bytes": max(self.file_bytes, head.max_bytes),
            "free_bytes": head.free_bytes,
            "capacity_bytes": head.limit_bytes,
            "live_bytes": head.space.live_bytes,
            "reserved_bytes": head.reserved_bytes,
            "reply_reserve_bytes": self._options.reply_reserve_bytes,
            "allocated_bytes": BASE_BYTES + head.allocated_chunks * head.block.chunk_bytes,
            "queued_bytes": self._committer.queued_bytes,
        }

    def layout(self) -> Layout:
        """The ring as it will lie in the file once everything appended so far is durable."""
        return self._head.layout()

    def pin(self, turn: int) -> None:
        """No chunk from ``turn`` on is reused, for a backup that reads them; 0 lets go.

        A pin never costs a job: when room is needed the ring lets go itself, and ``pinned_turn`` is 0.
        """
        self._head.space.pinned_turn = turn

    @property
    def pinned_turn(self) -> int:
        """See :meth:`pin`."""
        return self._head.space.pinned_turn
