"""The real ring on the faulty disk, with power failures that tear sectors, for the same histories."""

from __future__ import annotations

from random import Random
from typing import Any

from core.pure.fold import Fold
from core.pure.jobs import Job
from titanic_store import Options, Ring
from titanic_store.shell.faulty import FaultyDisk
from titanic_store.shell.opening import Recovery, format_store

OPTIONS = Options(chunk_bytes=64 << 10, floor_chunks=6, max_bytes=64 << 20)


class SimRing(Ring[Job]):
    """A ring without a thread; the world commits it."""

    committing = False

    @property
    def syncing(self) -> bool:
        """Whether something is on its way to the disk."""
        return self.committing

    @property
    def busy(self) -> bool:
        """Whether a commit has something to do."""
        batch = self._committer.batch
        return bool(batch.steps or batch.tokens)

    def trim(self) -> None:
        """The real ring moves on by itself."""


class RealDisk:
    """Satisfies what the world asks of a MemoryDisk."""

    def __init__(
        self, secret: bytes, *, first_seq: int = 1, epoch: int = 1, flags: int | None = None
    ) -> None:
        self._disk = FaultyDisk(int.from_bytes(secret[:6], "big"))
        storage = self._disk.open()
        format_store(storage, OPTIONS, 1_000, first_seq=first_seq, id_secret=secret, epoch=epoch)
        storage.close()
        self.secret = secret

    def open(self, fold: Fold) -> Any:
        storage = self._disk.open()
        return SimRing(storage, fold, OPTIONS, Recovery(storage, fold, "disk").run(), thread=False)

    def crash(self, random: Random) -> None:
        """Power fails."""
        del random
        self._disk.crash()
