"""A ring without a file: the same calls as titanic_store.Ring, ten times as many histories a second.

A :class:`MemoryDisk` outlives the process. What is not committed when the process dies is kept up to a random
point, in order, as a disk with an honest sync may do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any

from core.pure.fold import Fold
from core.pure.jobs import Job, Kind
from titanic_store import Crowd, CutRefusedError, DamagedStoreError, Flag, Foreign, RecordsGoneError
from titanic_store.pure.records import LOST
from titanic_store.shell.mending import Wound

OPENING = (Kind.REQUEST, Kind.KEY, Kind.SETTING)
Step = tuple[str, Any]


class MemoryDisk:
    """Records and superblock as they are on the medium."""

    def __init__(self, secret: bytes, *, first_seq: int = 1, epoch: int = 1) -> None:
        self.secret = secret
        self.records: list[Foreign] = []
        self.base = first_seq - 1  # sequence before the first record
        self.block: dict[str, Any] = {
            "epoch": epoch,
            "flags": int(Flag.PAIR_NEW),
            "id_secret": secret,
            "peer_seq": 0,
        }
        self.pending: list[Step] = []
        self.known: set[bytes] = set()  # keys ever opened here
        self.alive: set[bytes] = set()
        self.replied: set[bytes] = set()
        self.rotten: set[int] = set()  # sequences of records that fail their checksums

    def open(self, fold: Fold) -> MemoryRing:
        """What a process sees of it."""
        return MemoryRing(self, fold)

    def apply(self, step: Step) -> None:
        """One write reaches the medium."""
        what, value = step
        if what == "record":
            self.records.append(value)
            self._account(value)
        elif what == "block":
            block = self.block
            block["epoch"] = max(block["epoch"], value.get("epoch", 0))
            block["flags"] = (block["flags"] | value.get("set", 0)) & ~value.get("clear", 0)
            for name in ("id_secret", "peer_seq"):
                block[name] = value.get(name, block[name])
        else:
            self.rotten.discard(value)

    def _account(self, record: Foreign) -> None:
        if record.kind in OPENING:
            self.known.add(record.key)
            self.alive.add(record.key)
        elif record.kind == Kind.REPLY:
            self.replied.add(record.key)
        elif record.kind == Kind.CLOSE:
            self.alive.discard(record.key)

    def cut(self, count: int) -> None:
        """Only the first ``count`` records are left."""
        del self.records[count:]
        self.rotten = {seq for seq in self.rotten if seq <= self.base + count}
        self.alive.clear()
        self.replied.clear()
        for record in self.records:
            self._account(record)

    def alter(self, at: int, key: bytes) -> None:
        """A record becomes another job's, and no number tells."""
        record = self.records[at]
        self.records[at] = Foreign(
            record.kind, 0, record.sequence, record.epoch, key, record.meta, record.body
        )

    def rot(self, count: int, sound: MemoryDisk, random: Random) -> None:
        """Records about live jobs go bad that are whole on the other disk."""
        at = {record.sequence: record for record in sound.records}
        found = [
            record.sequence
            for record in self.records
            if record.key in self.alive
            and record.kind in (Kind.REQUEST, Kind.REPLY)
            and record.sequence in at
            and record.sequence not in sound.rotten
        ]
        self.rotten.update(random.sample(found, min(count, len(found))))

    def crash(self, random: Random) -> None:
        """The process is gone; some of what it had not synced is there."""
        for step in self.pending[: random.randint(0, len(self.pending))]:
            self.apply(step)
        self.pending.clear()


class MemoryMender:
    """As titanic_store's Mender: what was met damaged, and what is written over it."""

    def __init__(self, ring: MemoryRing) -> None:
        self._ring = ring
        self._noticed: set[int] = set()
        self.hopeful = False

    def notice(self, at: int) -> None:
        self._noticed.add(at)

    def noticed(self) -> list[Wound]:
        found = [self.locate(at) for at in sorted(self._noticed)]
        self._noticed.clear()
        return [wound for wound in found if wound is not None]

    def locate(self, at: int) -> Wound | None:
        ring = self._ring
        if at not in ring.disk.rotten:
            return None
        return Wound(at, at, ring.record(at).key, None)

    def is_open(self, wound: Wound) -> bool:
        return self.locate(wound.at) is not None

    def mend(self, wound: Wound, record: Foreign, token: object) -> bool:
        ours = self._ring.record(wound.sequence)
        if (ours.kind, ours.epoch, ours.key, ours.meta, b"".join(ours.body)) != (
            *(record.kind, record.epoch, record.key, record.meta),
            b"".join(record.body),
        ):
            return False
        self._ring.rewrite(wound.sequence, token)
        return True


class MemoryRing:
    """Satisfies what the pair and the journal use of a Ring."""

    def __init__(self, disk: MemoryDisk, owner: Fold) -> None:
        self.disk = disk
        self._owner = owner
        self._done: list[tuple[list[Any], list[Job]]] = []
        self._tokens: list[Any] = []
        self._drops: list[Job] = []
        self.durability = "fsync"
        self.free_bytes = 1 << 30
        self.tap: Callable[[Foreign | Crowd], None] | None = None
        self.committing = False
        self.sync_count = 0
        self.mender = MemoryMender(self)
        self._open()

    def _open(self) -> None:
        disk, owner = self.disk, self._owner
        self.index: dict[bytes, Job] = {}
        self._log = list(disk.records)
        self._base = disk.base
        self.epoch = max([disk.block["epoch"], *(record.epoch for record in self._log)])
        self._alive: set[bytes] = set()
        self._replied: set[bytes] = set()
        self._keys_xor = self._replied_xor = 0
        self._epochs: list[tuple[int, int]] = []
        self._done.clear()
        self._tokens.clear()
        self._drops.clear()
        for record in self._log:
            self._fold(record)
            self._count(record)
        for job in self._drops:
            self.index.pop(job.key, None)
        self._drops.clear()
        self.durable_seq = self.last_seq
        del owner

    def _fold(self, record: Foreign) -> None:
        key, kind = record.key, record.kind
        job = self.index.get(key)
        if kind in OPENING:
            job = self.index[key] = self._owner.new(kind, key)
            job.request_at = record.sequence
        elif job is None:
            return
        elif kind == Kind.CLOSE:
            self._owner.fold(job, kind, record.meta, record.sequence)
            self.index.pop(key)
            return
        elif kind == Kind.REPLY:
            job.reply_at = record.sequence
        self._owner.fold(job, kind, record.meta, record.sequence)

    def _count(self, record: Foreign) -> None:
        kind, key, number = record.kind, record.key, int.from_bytes(record.key, "big")
        if not self._epochs or self._epochs[-1][0] != record.epoch:
            self._epochs.append((record.epoch, record.sequence))
        if kind in OPENING and key not in self._alive:
            self._alive.add(key)
            self._keys_xor ^= number
        elif kind == Kind.REPLY and key in self._alive and key not in self._replied:
            self._replied.add(key)
            self._replied_xor ^= number
        elif kind == Kind.CLOSE and key in self._alive:
            self._alive.discard(key)
            self._keys_xor ^= number
            if key in self._replied:
                self._replied.discard(key)
                self._replied_xor ^= number

    # -- facts

    @property
    def first_seq(self) -> int:
        return self._base + 1

    @property
    def last_seq(self) -> int:
        return self._base + len(self._log)

    @property
    def id_secret(self) -> bytes:
        secret: bytes = self.disk.block["id_secret"]
        for what, value in self.disk.pending:
            if what == "block":
                secret = value.get("id_secret", secret)
        return secret

    @property
    def flags(self) -> int:
        flags: int = self.disk.block["flags"]
        return flags

    @property
    def peer_seq(self) -> int:
        found: int = self.disk.block["peer_seq"]
        return found

    def epochs(self) -> list[tuple[int, int]]:
        found = [(epoch, max(first, self._base + 1)) for epoch, first in self._epochs]
        while len(found) > 1 and found[1][1] <= self._base + 1:
            found.pop(0)
        return found

    def live_digest(self) -> bytes:
        return b"%d %x %x" % (len(self._alive), self._keys_xor, self._replied_xor)

    # -- writing

    def _put(self, record: Foreign, token: object | None) -> int:
        self._log.append(record)
        self._count(record)
        if self.tap is not None:
            self.tap(record)
        self.disk.pending.append(("record", record))
        if token is not None:
            self._tokens.append(token)
        return record.sequence

    def append(
        self, kind: int, job: Job, meta: bytes, body: Sequence[bytes] = (), token: object | None = None
    ) -> int:
        sequence = self.last_seq + 1
        if kind in OPENING:
            job.request_at = sequence
            self.index[job.key] = job
        elif kind == Kind.REPLY:
            job.reply_at = sequence
        elif kind == Kind.CLOSE:
            self._drops.append(job)
        return self._put(Foreign(int(kind), 0, sequence, self.epoch, job.key, meta, tuple(body)), token)

    def append_all(
        self, kind: int, jobs: Sequence[Job], meta: bytes, bodies: Sequence[bytes], token: object
    ) -> int:
        tap, self.tap = self.tap, None
        first = self.last_seq + 1
        for job, body in zip(jobs, bodies, strict=True):
            self.append(kind, job, meta, (body,), token if job is jobs[-1] else None)
        self.tap = tap
        if tap is not None:
            tap(Crowd(int(kind), first, self.epoch, [job.key for job in jobs], meta, bodies))
        return first

    def append_about(self, kind: int, key: bytes, meta: bytes, token: object | None) -> int:
        assert key not in self.index, "what is here is appended to"
        return self._put(Foreign(int(kind), 0, self.last_seq + 1, self.epoch, key, meta, ()), token)

    def append_foreign(self, record: Foreign, token: object | None = None) -> int:
        assert record.sequence == self.last_seq + 1, "foreign records come in order"
        assert not self._log or record.epoch >= self._log[-1].epoch, "and in the order of epochs"
        self.epoch = max(self.epoch, record.epoch)
        self._fold(record)
        return self._put(record, token)

    def append_foreign_all(self, records: Sequence[Foreign | Crowd], token: object) -> None:
        for record in records:
            for one in record.each() if isinstance(record, Crowd) else (record,):
                self.append_foreign(one)
        self._tokens.append(token)

    def mark(self, token: object) -> int:
        empty = Foreign(int(Kind.MARK), 0, self.last_seq + 1, self.epoch, bytes(16), b"", ())
        return self._put(empty, token)

    def barrier(self, token: object) -> None:
        self._tokens.append(token)

    def set_epoch(self, epoch: int, token: object) -> None:
        assert epoch > self.epoch
        self.epoch = epoch
        self.disk.pending.append(("block", {"epoch": epoch}))
        self._tokens.append(token)

    def set_role_flags(
        self,
        *,
        set: int = 0,
        clear: int = 0,
        id_secret: bytes | None = None,
        peer_seq: int | None = None,
        token: object,
    ) -> None:
        change: dict[str, Any] = {"set": int(set), "clear": int(clear)}
        if id_secret is not None:
            change["id_secret"] = id_secret
        if peer_seq is not None:
            change["peer_seq"] = peer_seq
        self.disk.pending.append(("block", change))
        self._tokens.append(token)

    @property
    def syncing(self) -> bool:
        """Whether something is on its way to the disk."""
        return self.committing

    @property
    def busy(self) -> bool:
        """Whether a commit has something to do."""
        return bool(self.disk.pending or self._tokens)

    def commit(self) -> None:
        """All that was asked for so far is on the medium."""
        disk = self.disk
        for step in disk.pending:
            disk.apply(step)
        disk.pending.clear()
        self.durable_seq = self.last_seq
        self.sync_count += 1
        self._done.append((self._tokens, self._drops))
        self._tokens, self._drops = [], []

    def completed(self) -> list[object]:
        found: list[object] = []
        for tokens, drops in self._done:
            for job in drops:
                if self.index.get(job.key) is job:
                    del self.index[job.key]
            found += tokens
        self._done.clear()
        return found

    # -- reading

    def scrub(self) -> None:
        """Read everything."""
        for at in self.disk.rotten:
            self.mender.notice(at)

    def record(self, at: int) -> Foreign:
        """The record as it should be."""
        return self._log[at - self._base - 1]

    def rewrite(self, at: int, token: object) -> None:
        """It is whole again, once that is committed."""
        self.disk.pending.append(("whole", at))
        self._tokens.append(token)

    def _checked(self, at: int) -> Foreign:
        record = self.record(at)
        if at in self.disk.rotten:
            self.mender.notice(at)
            raise DamagedStoreError(at, "the body fails its checksum")
        if record.flags & LOST:
            raise DamagedStoreError(at, "the body was damaged before it came here")
        return record

    def without_body(self, sequence: int) -> Foreign:
        record = self.record(sequence)
        return record._replace(flags=record.flags | LOST, body=())

    def read(self, at: int) -> tuple[bytes, bytes]:
        record = self._checked(at)
        return record.meta, b"".join(record.body)

    def read_meta(self, at: int) -> tuple[bytes, int]:
        meta, body = self.read(at)
        return meta, len(body)

    def records_after(self, seq: int) -> Iterator[Foreign]:
        while True:
            if seq < self._base:
                raise RecordsGoneError(seq + 1, self.first_seq)
            if seq >= self.last_seq:
                return
            seq += 1
            yield self._checked(seq)

    def cut_after(self, seq: int) -> None:
        if seq < self._base:
            raise CutRefusedError(seq, self._base)
        disk = self.disk
        for step in disk.pending:
            disk.apply(step)
        disk.pending.clear()
        disk.cut(seq - disk.base)
        self._open()

    def trim(self) -> None:
        """The ring moves on: what no live entry needs any more is gone."""
        disk = self.disk
        if disk.pending:
            return
        needed = [at for job in self.index.values() for at in (job.request_at, job.reply_at) if at]
        count = min([*needed, self.last_seq]) - 1 - self._base
        if count > 0:
            del self._log[:count]
            del disk.records[:count]
            disk.rotten = {seq for seq in disk.rotten if seq > disk.base + count}
            self._base = disk.base = self._base + count
