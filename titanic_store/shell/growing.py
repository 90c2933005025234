"""Growth of the file off the hot path: a thread of its own, in small slices, ahead of need (R9).

Two steps: room on the disk is *allocated* for all that was promised (R8), which shows early that there is
none; it is filled with *zeros* a chunk at a time, shortly before it is written to.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from typing import Final

from titanic_store.errors import StoreFailedError
from titanic_store.pure.options import MIB
from titanic_store.pure.seams import Storage

SLICE_BYTES: Final = MIB
"""Zeros written and synced at a time; a commit waits behind one slice at the most.

Few large slices rather than many small ones: each costs the commits beside it about the same, because what
they wait for is the file system's journal.
"""

PAUSE_SECONDS: Final = 0.04
"""Between slices while there is time."""

BRISK_PAUSE_SECONDS: Final = 0.008
"""Between slices when the chunk will be wanted soon; while somebody waits for it there is none."""

_NO_SPACE: Final = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


class Grower:
    """Allocates, writes zeros, syncs; lack of space is survived, any other error goes to ``fail`` (R11).

    ``allocated_bytes`` is how long the file is, ``done_bytes`` how far it is zeros or older, after the last
    growth that worked; 0 if it did not. Without ``thread`` a growth waits until :meth:`run_pending`.
    """

    def __init__(
        self,
        storage: Storage,
        fail: Callable[[BaseException], None],
        notify: Callable[[], None],
        *,
        thread: bool,
    ) -> None:
        self._storage = storage
        self._fail = fail
        self._notify = notify
        self._threaded = thread
        self._pending: tuple[int, int, int, int] | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._hurry = threading.Event()
        self.tried = threading.Event()
        self.brisk = False  # the chunk will be wanted soon
        self.done_bytes = self.allocated_bytes = 0
        self.refused_count = 0

    def request(self, start: int, size: int, allocate: int, least: int) -> None:
        """The file shall have ``allocate`` bytes, at ``least`` so many, and zeros from ``start`` to ``size``.

        ``tried`` is set afterwards.
        """
        self.tried.clear()
        self._hurry.clear()
        self.done_bytes = self.allocated_bytes = 0
        if not self._threaded:
            self._pending = (start, size, allocate, least)
            return
        self._thread = threading.Thread(
            target=self._guarded,
            args=(start, size, allocate, least),
            name="titanic-store-growth",
            daemon=True,
        )
        self._thread.start()

    def run_pending(self) -> None:
        """Without a thread: do what was asked for."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            self._grow(*pending)

    def wait(self, limit_seconds: float) -> None:
        """The growth asked for was tried, without pauses; StoreFailedError if it hangs."""
        self._hurry.set()
        self.run_pending()
        if not self.tried.wait(limit_seconds):
            raise StoreFailedError(f"the file did not grow within {limit_seconds:.0f} s")

    def stop(self) -> None:
        """No growth is under way any more; one that was is given up after its slice."""
        self._stopping.set()
        self._hurry.set()
        self._pending = None
        if self._thread is not None:
            self._thread.join()

    def _guarded(self, start: int, size: int, allocate: int, least: int) -> None:
        try:
            self._grow(start, size, allocate, least)
        except BaseException as error:
            self._fail(error)
        self._notify()

    def _grow(self, start: int, size: int, allocate: int, least: int) -> None:
        try:
            self.allocated_bytes = self._allocate(allocate, least)
            step = SLICE_BYTES if self._threaded else 4 * MIB
            for offset in range(start, size, step):
                if self._stopping.is_set():
                    return
                self._storage.write_zeros(offset, min(step, size - offset))
                if self._threaded and offset + step < size:
                    self._hurry.wait(BRISK_PAUSE_SECONDS if self.brisk else PAUSE_SECONDS)
            self.done_bytes = size
        except OSError as error:
            if error.errno not in _NO_SPACE:
                raise
            self.refused_count += 1
        finally:
            self.tried.set()

    def _allocate(self, allocate: int, least: int) -> int:
        """How long the file is afterwards: ``allocate``, or ``least`` where there is no room for more."""
        if least < allocate:
            try:
                self._storage.allocate(allocate)
            except OSError as error:
                if error.errno not in _NO_SPACE:
                    raise
                self.refused_count += 1
            else:
                return allocate
        self._storage.allocate(least)
        return max(least, self._storage.size())
