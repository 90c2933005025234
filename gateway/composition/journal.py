"""The ring as the core's journal: kinds and keys pass through, the store's errors become the core's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, cast

from core.errors import DamagedRecordError, JournalBusyError, JournalFailedError, JournalFullError
from core.pure.fold import Fold
from core.pure.jobs import Job
from core.pure.notes import Notes
from core.pure.ports import Effect
from titanic_store import (
    DamagedStoreError,
    Options,
    RecordTooLargeError,
    Ring,
    RingBusyError,
    RingFullError,
    StoreFailedError,
    open_ring,
)

DATA_FILE: Final = "titanic.ring"
"""The store's file in the data folder."""


class RingJournal:
    """A :class:`core.pure.ports.Journal` on a ring; made by :func:`open_journal`.

    ``jobs`` and ``notes`` are what the file said when it was opened.
    """

    def __init__(self, ring: Ring[Job], notes: Notes) -> None:
        self.ring: Final = ring
        self.notes: Final = notes

    @property
    def jobs(self) -> Iterable[Job]:
        """The live entries in acceptance order."""
        return self.ring.index.values()

    @property
    def reasons(self) -> Mapping[bytes, str]:
        """Key -> last error, of every failed job."""
        return self.notes.reasons

    @property
    def id_secret(self) -> bytes:
        """32 bytes made with the store, for the tag in job ids."""
        return self.ring.id_secret

    @property
    def index(self) -> Mapping[bytes, Job]:
        """See Journal.index."""
        return self.ring.index

    @property
    def durability(self) -> str:
        """See Journal.durability."""
        return self.ring.durability

    @property
    def epoch(self) -> int:
        """See Journal.epoch."""
        return self.ring.epoch

    @property
    def last_seq(self) -> int:
        """See Journal.last_seq."""
        return self.ring.last_seq

    def append(
        self, kind: int, job: Job, meta: bytes, body: Sequence[bytes], after_sync: tuple[Effect, ...]
    ) -> int:
        """See Journal.append."""
        try:
            return self.ring.append(kind, job, meta, body, after_sync or None)
        except RingBusyError as error:
            raise JournalBusyError(error.need_bytes, error.free_bytes, error.retry_ms) from error
        except RingFullError as error:
            raise JournalFullError(error.need_bytes, error.free_bytes, error.retry_ms) from error
        except RecordTooLargeError as error:
            raise JournalFullError(error.size_bytes, error.max_bytes) from error
        except StoreFailedError as error:
            raise JournalFailedError(str(error)) from error

    def append_all(
        self,
        kind: int,
        jobs: Sequence[Job],
        meta: bytes,
        bodies: Sequence[bytes],
        after_sync: tuple[Effect, ...],
    ) -> int:
        """See Journal.append_all."""
        try:
            return self.ring.append_all(kind, jobs, meta, bodies, after_sync)
        except StoreFailedError as error:
            raise JournalFailedError(str(error)) from error

    def barrier(self, after_sync: tuple[Effect, ...]) -> None:
        """See Journal.barrier."""
        try:
            self.ring.barrier(after_sync)
        except StoreFailedError as error:
            raise JournalFailedError(str(error)) from error

    def completed(self) -> Iterable[tuple[Effect, ...]]:
        """See Journal.completed."""
        try:
            return cast("list[tuple[Effect, ...]]", self.ring.completed())
        except StoreFailedError as error:
            raise JournalFailedError(str(error)) from error

    def read_request(self, job: Job) -> tuple[bytes, bytes]:
        """See Journal.read_request."""
        return self._read(job.request_at)

    def read_reply(self, job: Job) -> tuple[bytes, bytes]:
        """See Journal.read_reply."""
        return self._read(job.reply_at)

    def read_request_meta(self, job: Job) -> tuple[bytes, int]:
        """See Journal.read_request_meta."""
        return self._read_meta(job.request_at)

    def read_reply_meta(self, job: Job) -> tuple[bytes, int]:
        """See Journal.read_reply_meta."""
        return self._read_meta(job.reply_at)

    def counters(self) -> Mapping[str, int]:
        """See Journal.counters."""
        return {f"store_{name}": count for name, count in self.ring.counters.items()}

    def gauges(self) -> Mapping[str, int]:
        """See Journal.gauges."""
        return {f"store_{name}": value for name, value in self.ring.gauges.items()}

    def _read_meta(self, at: int) -> tuple[bytes, int]:
        try:
            return self.ring.read_meta(at)
        except DamagedStoreError as error:
            raise DamagedRecordError(str(error), error.offset) from error

    def _read(self, at: int) -> tuple[bytes, bytes]:
        try:
            return self.ring.read(at)
        except DamagedStoreError as error:
            raise DamagedRecordError(str(error), error.offset) from error

    def abandon(self) -> None:
        """Let go of the file as it is; nothing more is acknowledged."""
        self.ring.abandon()

    def close(self) -> None:
        """Everything appended is durable and the file is released. JournalFailedError if it had failed."""
        try:
            self.ring.close()
        except StoreFailedError as error:
            raise JournalFailedError(str(error)) from error


def open_journal(
    data: Path,
    options: Options | None = None,
    *,
    accept_loss: bool = False,
    notify: Callable[[], None] = lambda: None,
    progress: Callable[[int, int], None] | None = None,
) -> RingJournal:
    """The journal in the folder ``data``, made if it is missing.

    ``notify`` is called from the commit thread whenever :meth:`RingJournal.completed` has something to say;
    ``progress`` with (chunks read, chunks to read). ``accept_loss``: see open_ring.
    Raises the store's errors: each has an ``exit_code``.
    """
    fold = Fold()
    ring = open_ring(
        data / DATA_FILE, fold, options, accept_loss=accept_loss, notify=notify, progress=progress
    )
    return RingJournal(ring, fold.notes)
