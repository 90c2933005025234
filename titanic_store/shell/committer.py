"""The commit thread: takes what was appended meanwhile, writes it, one fdatasync, hands it back.

The owner of the ring (one thread, usually an event loop) puts records into the open batch; this thread
swaps it for an empty one. Nothing else is shared but a few numbers, each written by one side only.
"""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Final
from weakref import WeakSet

from titanic_store.errors import StoreFailedError
from titanic_store.pure.options import SECTOR_BYTES, Policy, Sync
from titanic_store.pure.seams import Storage
from titanic_store.shell.batch import Batch
from titanic_store.shell.growing import Grower

LAZY_MS: Final = 25
"""How long a record that nobody waits for may stay in memory."""

IDLE_SECONDS: Final = 1.0
"""After so long without a record the owner is called, to mark what is durable and to tidy up (R5)."""

FAILURE_POLL_SECONDS: Final = 0.05
"""How often somebody who waits for a flush looks whether the store has failed."""

WAIT_STEP_MS: Final = 1
"""A wait has whole milliseconds, and may take one more: an interval must not, so it ends one earlier."""

_SECTOR: Final = bytes(SECTOR_BYTES)


class _Bell:
    """Wakes the commit thread: 4 to 6 microseconds sooner than a lock does, for a writer that is alone."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll = select.epoll()
        # at the edge: a wait takes no second call that reads the count back; it never overflows
        self._epoll.register(self._fd, select.EPOLLIN | select.EPOLLET)

    def ring(self) -> None:
        """The wait that is under way ends, or the next one does at once."""
        os.eventfd_write(self._fd, 1)

    def wait(self, timeout_seconds: float) -> bool:
        """Whether it rang within the time; -1: wait for ever."""
        return bool(self._epoll.poll(timeout_seconds))

    def close(self) -> None:
        """Nobody rings or waits any more."""
        self._epoll.close()
        os.close(self._fd)


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
        self.idle = False  # a second has passed since the last record, and nobody has looked yet (R5)
        self.grower = Grower(storage, self.fail, self._say, thread=thread)
        self._stopping = False
        self._signalled = False
        self._bell: _Bell | None = None
        self._lazy_deadline: float | None = None
        self._sync_deadline: float | None = None
        self._idle_deadline: float | None = None
        self._thread: threading.Thread | None = None
        if thread:
            self._bell = _Bell()
            self._thread = threading.Thread(target=self._run, name="titanic-store-commit", daemon=True)
            self._thread.start()
        _alive.add(self)

    @property
    def threaded(self) -> bool:
        """Whether a thread commits, and not the caller."""
        return self._thread is not None

    def wake(self) -> None:
        """There is something in the open batch. Cheap if the thread already knows."""
        if not self._signalled and self._bell is not None:
            self._signalled = True
            self._bell.ring()

    def flush(self) -> None:
        """Everything appended is written and synced; StoreFailedError if that did not work."""
        flushed = threading.Event()
        with self.mutex:
            self.batch.flushed = flushed
        if self._thread is None:
            self._guarded_turn()
        elif self.failure is None:
            self.wake()
            while not flushed.wait(FAILURE_POLL_SECONDS) and self.failure is None:
                pass
        if self.failure is not None:
            raise self.failure

    def stop(self) -> None:
        """Everything appended is written and synced, and the threads are gone; or ``failure`` is set."""
        self.grower.stop()
        self._stopping = True
        if self._thread is None:
            self._guarded_turn()
        else:
            self.wake()
            self._end_thread()

    def abandon(self) -> None:
        """Nothing more is written once the write or sync that is under way has returned."""
        if self.failure is None:
            self.failure = StoreFailedError("the store was abandoned")
        self.wake()
        self._end_thread()
        self.grower.stop()

    def _end_thread(self) -> None:
        """The thread is gone, and its bell with it; it was told to end."""
        if self._thread is not None:
            self._thread.join()
        if self._bell is not None:
            self._bell.close()
            self._bell = None

    @property
    def queued_bytes(self) -> int:
        """What was appended and is not written yet, in memory."""
        with self.mutex:
            writing = self.writing
            return self.batch.queued_bytes + (writing.queued_bytes if writing is not None else 0)

    @property
    def reusable_seq(self) -> int:
        """Space freed by records up to here may be used again (R6); `never` trusts what is written."""
        return self.written_seq if self._policy.sync is Sync.NEVER else self.durable_seq

    def in_flight(self, key: bytes) -> bool:
        """Whether a record about the entry of ``key`` is on its way, or its completion not taken yet."""
        with self.mutex:
            writing = self.writing
            if key in self.batch.touched or (writing is not None and key in writing.touched):
                return True
        return any(key in batch.touched for batch in self.done)

    def closing(self) -> set[bytes]:
        """Keys whose close was appended but not handed back."""
        with self.mutex:
            batches = [self.batch, *self.done]
            if self.writing is not None:
                batches.append(self.writing)
            return {entry.key for batch in batches for entry in batch.drops}

    def _run(self) -> None:
        bell = self._bell
        assert bell is not None, "made with the thread"
        while self.failure is None and self._guarded_turn() and not (self._stopping and not self.batch.steps):
            # the owner was just called and wants the interpreter: between two turns as little as can be
            if self._signalled or bell.wait(self._patience()):
                os.sched_yield()  # whoever woke us may go on appending: what it has is one batch
                self._signalled = False

    def _patience(self) -> float:
        """Seconds until something is due though nobody wakes the thread; -1: for ever."""
        deadlines = [
            at for at in (self._lazy_deadline, self._sync_deadline, self._idle_deadline) if at is not None
        ]
        return max(0.0, min(deadlines) - monotonic()) if deadlines else -1

    def _guarded_turn(self) -> bool:
        """One turn; False, and everybody told, if it was the last because it failed."""
        try:
            self.turn()
        except BaseException as error:
            self.fail(error)
            return False
        return True

    def fail(self, error: BaseException) -> None:
        """Keep the first failure; wake whoever waits (R11)."""
        if self.failure is None:
            failure = StoreFailedError(f"the store stopped: {error}")
            failure.__cause__ = error
            self.failure = failure
        self.grower.tried.set()
        self._notify()

    def turn(self, *, force: bool = False) -> None:
        """Commit what waits, or what nobody waits for once it is old enough; sync when that is due."""
        self.grower.run_pending()
        batch, now = self.batch, monotonic()
        if batch.waiting or batch.flushed is not None or force or self._stopping:
            self._commit()
        elif batch.steps:
            if self._lazy_deadline is None:
                self._lazy_deadline = now + LAZY_MS / 1000
            elif self._lazy_deadline <= now:
                self._commit()
        if self._sync_deadline is not None and (self._sync_deadline <= now or self._stopping):
            self._sync()
        if self._idle_deadline is not None and self._idle_deadline <= now:
            self._idle_deadline = None
            self.idle = True
            self._say()

    def _commit(self) -> None:
        """Write the open batch, sync as the policy says, hand it back."""
        fresh = Batch()
        with self.mutex:
            batch = self.writing = self.batch
            self.batch = fresh
        self._lazy_deadline = None
        for step in batch.steps:
            if step is not None:
                # whole sectors: the kernel need not read the rest of a page before it can change a part
                step.parts.append(_SECTOR[: -step.end % self._align_bytes])
                self._storage.write_at(step.offset, step.parts)
            else:  # with `never` too: a page turns seldom, and superblocks must not tear together
                self._storage.sync()
                self.sync_count += 1
        self.written_seq = max(self.written_seq, batch.last_seq)
        if batch.last_seq:
            self._idle_deadline = monotonic() + IDLE_SECONDS
            if self._policy.sync is Sync.ALWAYS:
                self._sync()
            elif self._policy.sync is Sync.INTERVAL and self._sync_deadline is None:
                self._sync_deadline = monotonic() + (self._policy.interval_ms - WAIT_STEP_MS) / 1000
        if batch.truncate:
            self._storage.truncate(batch.truncate)
            batch.truncate = 0
        if batch.flushed is not None:
            self._sync()
        self.writing = None
        self.batch_count += 1
        self.done.append(batch)
        if batch.flushed is not None:
            batch.flushed.set()
        self._say()

    def _say(self) -> None:
        """The owner is called back, once until it looks."""
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


_alive: WeakSet[Committer] = WeakSet()


def _disown() -> None:
    """A forked child has no commit thread and must never write (R14)."""
    for committer in _alive:
        committer.failure = StoreFailedError("the store belongs to the process that opened it")


os.register_at_fork(after_in_child=_disown)
