"""A journal in memory whose syncs happen when the test says so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from core.errors import DamagedRecordError, JournalFailedError, JournalFullError
from core.pure.fold import Fold
from core.pure.jobs import Job, Kind
from core.pure.ports import Effect

OPENING = (Kind.REQUEST, Kind.KEY, Kind.SETTING)


class MemoryJournal:
    """Satisfies core.pure.ports.Journal; ``log`` holds every record ever appended, durable or not."""

    def __init__(self, capacity: int = 1 << 30) -> None:
        self._index: dict[bytes, Job] = {}
        self._bodies: dict[int, tuple[bytes, bytes]] = {}
        self._pending: list[tuple[int, Job, tuple[Effect, ...]]] = []
        self._durable: list[tuple[Effect, ...]] = []
        self._capacity = capacity
        self.reply_room = 1 << 30
        self.durability = "memory"
        self.epoch = 1
        self.failed = False
        self._synced_count = 0
        self.damaged: set[int] = set()
        self.log: list[tuple[Kind, bytes, bytes]] = []

    @property
    def index(self) -> Mapping[bytes, Job]:
        return self._index

    def append(
        self, kind: int, job: Job, meta: bytes, body: Sequence[bytes], after_sync: tuple[Effect, ...]
    ) -> int:
        if self.failed:
            raise JournalFailedError("the disk is gone")
        size = sum(map(len, body)) + len(meta)
        if kind in OPENING and size > self._capacity:
            raise JournalFullError(size, self._capacity)
        if kind == Kind.REPLY and size > self.reply_room:
            raise JournalFullError(size, self.reply_room)
        self._capacity -= size
        at = len(self.log) + 1
        self.log.append((Kind(kind), job.key, meta))
        self._bodies[at] = (meta, b"".join(body))
        if kind in OPENING:
            job.request_at = at
            self._index[job.key] = job
        elif kind == Kind.REPLY:
            job.reply_at = at
        else:
            assert kind in OPENING or self._index.get(job.key) is job, "a record for an entry that is gone"
        self._pending.append((kind, job, after_sync))
        return at

    def append_all(
        self,
        kind: int,
        jobs: Sequence[Job],
        meta: bytes,
        bodies: Sequence[bytes],
        after_sync: tuple[Effect, ...],
    ) -> int:
        if self.failed:
            raise JournalFailedError("the disk is gone")
        if sum(map(len, bodies)) + len(jobs) * len(meta) > self._capacity:
            return 0
        numbers = [
            self.append(kind, job, meta, (body,), after_sync if job is jobs[-1] else ())
            for job, body in zip(jobs, bodies, strict=True)
        ]
        return numbers[0]

    @property
    def last_seq(self) -> int:
        return len(self.log)

    def barrier(self, after_sync: tuple[Effect, ...]) -> None:
        self._pending.append((Kind.MARK, Job(b""), after_sync))

    def sync(self) -> None:
        """All that was appended is durable now."""
        self._synced_count = len(self.log)
        for kind, job, after_sync in self._pending:
            if kind == Kind.CLOSE and self._index.get(job.key) is job:
                del self._index[job.key]
            if after_sync:
                self._durable.append(after_sync)
        self._pending.clear()

    def completed(self) -> Iterable[tuple[Effect, ...]]:
        if self.failed:
            raise JournalFailedError("the disk is gone")
        done, self._durable = self._durable, []
        return done

    def read_request(self, job: Job) -> tuple[bytes, bytes]:
        return self._read(job.request_at)

    def read_reply(self, job: Job) -> tuple[bytes, bytes]:
        return self._read(job.reply_at)

    def reopened(self) -> tuple[MemoryJournal, Fold]:
        """What a start after a crash would find: only what was synced, folded from its records."""
        again, fold = MemoryJournal(self._capacity), Fold()
        for at, (kind, key, meta) in enumerate(self.log[: self._synced_count], start=1):
            again.log.append((kind, key, meta))
            again._bodies[at] = self._bodies[at]
            if kind in OPENING:
                job = again._index[key] = fold.new(kind, key)
                job.request_at = at
            known = again._index.get(key)
            if kind == Kind.CLOSE:
                again._index.pop(key, None)
            elif known is not None:
                if kind == Kind.REPLY:
                    known.reply_at = at
                fold.fold(known, kind, meta, at)
        again._synced_count = len(again.log)
        return again, fold

    def read_request_meta(self, job: Job) -> tuple[bytes, int]:
        meta, body = self._read(job.request_at)
        return meta, len(body)

    def read_reply_meta(self, job: Job) -> tuple[bytes, int]:
        meta, body = self._read(job.reply_at)
        return meta, len(body)

    def counters(self) -> Mapping[str, int]:
        return {"store_records_appended": len(self.log)}

    def gauges(self) -> Mapping[str, int]:
        return {}

    def _read(self, at: int) -> tuple[bytes, bytes]:
        if at in self.damaged:
            raise DamagedRecordError(f"offset {at}")
        return self._bodies[at]
