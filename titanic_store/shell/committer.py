"""The commit thread: takes what was appended meanwhile, writes it, one fdatasync, hands it back.

The owner of the ring (one thread, usually an event loop) puts records into the open batch; this thread
swaps it for an empty one. Nothing else is shared but a few numbers, each written by one side only.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, Final
from weakref import WeakSet

from titanic_store.errors import StoreFailedError
from titanic_store.pure.options import MIB, SECTOR_BYTES, Policy, Sync
from titanic_store.pure.seams import Storage

LAZY_MS: Final = 25
"""How long a record that nobody waits for may stay in memory."""

_ZEROS: Final = bytes(MIB)
_SECTOR: Final = bytes(SECTOR_BYTES)
_NO_SPACE: Final = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


class Run:
    """Bytes that lie one behind the other in the file."""

    __slots__ = ("end", "offset", "parts")

    def __init__(self, offset: int) -> None:
        self.offset = self.end = offset
        self.parts: list[bytes | bytearray] = []


class Batch:
    """Runs and barriers in the order in which they reach the disk, and who waits for them."""

    __slots__ = ("drops", "freed", "grow", "last_seq", "run", "steps", "tokens", "waiting")

    def __init__(self) -> None:
        self.steps: list[Run | None] = []
        self.run: Run | None = None  # the last step, if records may be added to it
        self.tokens: list[object] = []
        self.drops: list[Any] = []  # entries closed by this batch
        self.freed: list[int] = []  # positions replaced by this batch
        self.last_seq = 0
        self.waiting = False
        self.grow: tuple[int, int] | None = None  # first: fill the file with zeros from, to

    def begin(self, offset: int) -> Run:
        """A run that records may be added to."""
        self.run = run = Run(offset)
        self.steps.append(run)
        return run

    def write(self, offset: int, *parts: bytes | bytearray) -> None:
        """A run of its own."""
        run = Run(offset)
        run.parts.extend(parts)
        run.end += sum(map(len, parts))
        self.steps.append(run)
        self.run = None

    def barrier(self) -> None:
        """Everything before is synced before anything behind is written."""
        self.steps.append(None)
        self.run = None


class Committer:
    """Writes batches, in a thread of its own or, without one, whenever :meth:`turn` is called.

    ``batch`` and ``writing`` change under ``mutex`` only. After the first failed write or sync, ``failure``
    is set, for ever, and nothing is handed back any more (R11).
    """

    def __init__(
        self,
        storage: Storage,
        policy: Policy,
        notify: Callable[[], None],
        durable_seq: int,
        *,
        align_bytes: int,
        thread: bool,
    ) -> None:
        self._storage = storage
        self._align_bytes = align_bytes
        self._policy = policy
        self._notify = notify
        self.mutex = threading.Lock()
        self.batch = Batch()
        self.writing: Batch | None = None
        self.done: deque[Batch] = deque()
        self.notified = False
        self.failure: StoreFailedError | None = None
        self.written_seq = durable_seq
        self.durable_seq = durable_seq
        self.batch_count = 0
        self.sync_count = 0
        self.grown_bytes = 0  # length of the file after the last growth that worked
        self.growth_tried = threading.Event()
        self._stopping = False
        self._signalled = False
        self._wake = threading.Lock()
        self._wake.acquire()
        self._lazy_deadline: float | None = None
        self._sync_deadline: float | None = None
        self._thread: threading.Thread | None = None
        if thread:
            self._thread = threading.Thread(target=self._run, name="titanic-store-commit", daemon=True)
            self._thread.start()
        _alive.add(self)

    def wake(self) -> None:
        """There is something in the open batch. Cheap if the thread already knows."""
        if not self._signalled:
            self._signalled = True
            self._wake.release()

    def stop(self) -> None:
        """Everything appended is written and synced, and the thread is gone; or ``failure`` is set."""
        self._stopping = True
        if self._thread is None:
            self._guarded_turn()
        else:
            self.wake()
            self._thread.join()

    def abandon(self) -> None:
        """Nothing more is written once the write or sync that is under way has returned."""
        if self.failure is None:
            self.failure = StoreFailedError("the store was abandoned")
        self.wake()
        if self._thread is not None:
            self._thread.join()

    def wait_growth(self, limit_seconds: float) -> None:
        """Growth was tried; StoreFailedError if the store stopped, or if nothing moves any more."""
        if self._thread is None:
            self.turn(force=True)
        elif not self.growth_tried.wait(limit_seconds):
            raise StoreFailedError(f"the file did not grow within {limit_seconds:.0f} s")
        if self.failure is not None:
            raise self.failure

    @property
    def reusable_seq(self) -> int:
        """Space freed by records up to here may be used again (R6); `never` trusts what is written."""
        return self.written_seq if self._policy.sync is Sync.NEVER else self.durable_seq

    def _run(self) -> None:
        while self.failure is None and self._guarded_turn() and not (self._stopping and not self.batch.steps):
            deadlines = [at for at in (self._lazy_deadline, self._sync_deadline) if at is not None]
            if not deadlines:
                self._wake.acquire()
                self._signalled = False
            elif self._wake.acquire(timeout=max(0.0, min(deadlines) - monotonic())):
                self._signalled = False

    def _guarded_turn(self) -> bool:
        """One turn; False, and everybody told, if it was the last because it failed."""
        try:
            self.turn()
        except BaseException as error:
            self._fail(error)
            return False
        return True

    def _fail(self, error: BaseException) -> None:
        """Keep the first failure; wake whoever waits (R11)."""
        if self.failure is None:
            self.failure = StoreFailedError(f"the store stopped: {error}")
            self.failure.__cause__ = error
        self.growth_tried.set()
        self._notify()

    def turn(self, *, force: bool = False) -> None:
        """Commit what waits, or what nobody waits for once it is old enough; sync when that is due."""
        batch, now = self.batch, monotonic()
        if batch.waiting or batch.grow or force or self._stopping:
            self._commit()
        elif batch.steps:
            if self._lazy_deadline is None:
                self._lazy_deadline = now + LAZY_MS / 1000
            elif self._lazy_deadline <= now:
                self._commit()
        if self._sync_deadline is not None and (self._sync_deadline <= now or self._stopping):
            self._sync()

    def _commit(self) -> None:
        """Write the open batch, sync as the policy says, hand it back."""
        with self.mutex:
            batch = self.writing = self.batch
            self.batch = Batch()
        self._lazy_deadline = None
        if batch.grow:
            self._grow(*batch.grow)
        for step in batch.steps:
            if step is not None:
                # whole sectors: the kernel need not read the rest of a page before it can change a part
                step.parts.append(_SECTOR[: -step.end % self._align_bytes])
                self._storage.write_at(step.offset, step.parts)
            elif self._policy.sync is not Sync.NEVER:
                self._storage.sync()
                self.sync_count += 1
        self.written_seq = max(self.written_seq, batch.last_seq)
        if batch.steps:
            if self._policy.sync is Sync.ALWAYS:
                self._sync()
            elif self._policy.sync is Sync.INTERVAL and self._sync_deadline is None:
                self._sync_deadline = monotonic() + self._policy.interval_ms / 1000
        self.writing = None
        self.batch_count += 1
        self.done.append(batch)
        if not self.notified:
            self.notified = True
            self._notify()

    def _sync(self) -> None:
        """Sync; what was written before the call is durable now, and no more (R10)."""
        covered = self.written_seq
        self._sync_deadline = None
        self._storage.sync()
        self.sync_count += 1
        self.durable_seq = covered

    def _grow(self, start: int, size: int) -> None:
        """Allocate, write zeros, sync (R9). Lack of space is survived."""
        try:
            self._storage.allocate(size)
            for offset in range(start, size, MIB):
                self._storage.write_at(offset, (memoryview(_ZEROS)[: size - offset],))
            self._storage.sync()
            self.grown_bytes = size
        except OSError as error:
            if error.errno not in _NO_SPACE:
                raise
        self.growth_tried.set()


_alive: WeakSet[Committer] = WeakSet()


def _disown() -> None:
    """A forked child has no commit thread and must never write (R14)."""
    for committer in _alive:
        committer.failure = StoreFailedError("the store belongs to the process that opened it")


os.register_at_fork(after_in_child=_disown)
