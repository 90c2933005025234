"""Replies already given, in a SQLite file: a job delivered again is not done again by the next process."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from core.pure.worker_job import ReplyMemoryError

MAX_COUNT: Final = 100_000
MAX_BYTES: Final = 1 << 30
BUSY_MS: Final = 5_000

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[bytes]).decode


class SqliteReplyMemory:
    """Satisfies :class:`core.pure.worker_job.Memory`; bounded by count and bytes, the oldest make room.

    :meth:`put` returns when the reply is on the disk, before it is sent: what is killed between doing and
    replying replies from here after its restart. What is killed between doing and remembering does the work
    again; only a worker that writes its result and its key in one transaction of its own closes that gap.
    Several workers on one machine may share the file. Usable from several threads.
    """

    blocking = True

    def __init__(self, path: Path | str, max_count: int = MAX_COUNT, max_bytes: int = MAX_BYTES) -> None:
        self._max_count, self._max_bytes = max_count, max_bytes
        self._lock = threading.Lock()
        try:
            self._db = sqlite3.connect(path, timeout=BUSY_MS / 1_000, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS replies (number INTEGER PRIMARY KEY, key BLOB UNIQUE NOT NULL,"
                " frames BLOB NOT NULL)"
            )
            self._db.commit()
        except sqlite3.Error as error:
            raise ReplyMemoryError(f"the reply memory {path} cannot be opened: {error}") from error

    def __len__(self) -> int:
        with self._lock:
            count: int = self._db.execute("SELECT count(*) FROM replies").fetchone()[0]
            return count

    def get(self, key: bytes) -> Sequence[bytes] | None:
        """The reply kept under ``key``, if it is still there. ReplyMemoryError."""
        try:
            with self._lock:
                row = self._db.execute("SELECT frames FROM replies WHERE key = ?", (key,)).fetchone()
            return _decode(row[0]) if row is not None else None
        except (sqlite3.Error, msgspec.MsgspecError) as error:
            raise ReplyMemoryError(f"the reply memory cannot be read: {error}") from error

    def put(self, key: bytes, frames: Sequence[bytes]) -> None:
        """The reply is kept, durably; the first one stays, one over the limit goes. ReplyMemoryError."""
        raw = _encode(list(frames))
        if not key or len(raw) > self._max_bytes:
            return
        try:
            with self._lock, self._db:
                self._db.execute("INSERT OR IGNORE INTO replies (key, frames) VALUES (?, ?)", (key, raw))
                self._make_room()
        except sqlite3.Error as error:
            raise ReplyMemoryError(f"the reply memory cannot be written: {error}") from error

    def _make_room(self) -> None:
        """Numbers grow, so the newest number and the smallest tell the count without counting."""
        first, last = self._db.execute("SELECT min(number), max(number) FROM replies").fetchone()
        if last - first >= self._max_count:
            self._db.execute("DELETE FROM replies WHERE number <= ?", (last - self._max_count,))
        pages, size = (
            self._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size")
        )
        free = self._db.execute("PRAGMA freelist_count").fetchone()[0]
        if (pages - free) * size > self._max_bytes:
            self._db.execute("DELETE FROM replies WHERE number <= ?", (first + (last - first) // 10,))

    def close(self) -> None:
        """The file is released."""
        with self._lock:
            self._db.close()
