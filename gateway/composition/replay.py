"""Opening the store in a thread, while who asks is told how far it is (B3)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Final, TypeVar

from core.pure import tsp
from core.shell.warming import WaitingRoom
from titanic_store import Policy, StoreError
from titanic_store.shell.opening import peek

log = logging.getLogger("titanic.node")

GRACE_S: Final = 0.2
"""A store that opens within this time needs no waiting room."""

LOG_EVERY_S: Final = 2.0

T = TypeVar("T")


class Replay:
    """How far the rebuilding of the index is. :meth:`progress` is called in another thread."""

    def __init__(self, path: Path, fsync: str, max_body_bytes: int, *, role: str = "single") -> None:
        self.waits_for = ""  # instead of how far it is, if it cannot go on by itself
        self._role = role
        self._path = path
        self._durability = Policy.parse(fsync).durability
        self._max_body_bytes = max_body_bytes
        self._started_ms = time.time_ns() // 1_000_000
        self._logged_at = time.monotonic()
        self._read_bytes = 0
        try:
            block = peek(path)
            self._total_bytes, self._epoch, self._secret = block.file_bytes, block.epoch, block.id_secret
        except StoreError:
            self._total_bytes, self._epoch, self._secret = 0, 0, bytes(32)

    def progress(self, done_count: int, count: int) -> None:
        """So many chunks of so many are read."""
        self._read_bytes = self._total_bytes * done_count // max(1, count)
        if time.monotonic() - self._logged_at > LOG_EVERY_S:
            self._logged_at = time.monotonic()
            log.info("%s: %s", self._path, self.reason)

    @property
    def reason(self) -> str:
        """Why the node is not ready, for a person."""
        if not self._total_bytes:
            return self.waits_for or "makes its store"
        return self.waits_for or f"replaying {self._read_bytes} of {self._total_bytes} bytes"

    def hello(self) -> tsp.Hello:
        """What ``titanic.hello`` is answered with meanwhile."""
        return tsp.Hello(
            version=version("titanic-jobs"),
            role=self._role,
            epoch=self._epoch,
            ready=False,
            reason=self.reason,
            durability=self._durability,
            id_secret=self._secret,
            max_body_bytes=self._max_body_bytes,
            started_ms=self._started_ms,
            jobs=0,
        )


async def opened(
    work: Callable[[], T], replay: Replay, endpoint: str, curve: Path | None = None
) -> tuple[T, str]:
    """What ``work`` returns, run in a thread, and the endpoint to serve at.

    If it takes longer than a moment a waiting room listens at ``endpoint`` until then.
    """
    task = asyncio.ensure_future(asyncio.to_thread(work))
    await asyncio.wait((task,), timeout=GRACE_S)
    if task.done():
        return task.result(), endpoint
    room = WaitingRoom(replay.hello, curve)
    try:
        bound = room.open(endpoint)
        log.info("listening at %s, not ready: %s", bound, replay.reason)
        return await task, bound
    finally:
        room.close()
