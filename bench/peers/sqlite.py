"""SQLite as a journal: WAL, ``synchronous=FULL``, one table of id and body."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from pathlib import Path
from typing import Final

BODY: Final = b"b" * 256
BUSY_MS: Final = 30_000


def version() -> str:
    """For the heading."""
    return f"SQLite {sqlite3.sqlite_version}"


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=BUSY_MS / 1000, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS job (id BLOB PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID"
    )
    return connection


def _remove(path: Path) -> None:
    for name in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        name.unlink(missing_ok=True)


def _key(number: int) -> bytes:
    """Keys that grow, as ids do."""
    return time.time_ns().to_bytes(8, "big") + number.to_bytes(4, "big") + os.urandom(4)


def single(folder: Path, seconds: float) -> float:
    """One connection, a transaction per row."""
    path, count = folder / "sqlite", 0
    connection = _connect(path)
    started = time.perf_counter()
    deadline = started + seconds
    while time.perf_counter() < deadline:
        connection.execute("INSERT INTO job VALUES (?, ?)", (_key(count), BODY))
        count += 1
    took = time.perf_counter() - started
    connection.close()
    _remove(path)
    return count / took


def batches(folder: Path, rows: int, seconds: float) -> float:
    """One connection, ``rows`` rows a transaction: what a group commit in front of SQLite could reach."""
    path, count = folder / "sqlite", 0
    connection = _connect(path)
    started = time.perf_counter()
    deadline = started + seconds
    while time.perf_counter() < deadline:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            "INSERT INTO job VALUES (?, ?)", [(_key(count + number), BODY) for number in range(rows)]
        )
        connection.execute("COMMIT")
        count += rows
    took = time.perf_counter() - started
    connection.close()
    _remove(path)
    return count / took


def threads(folder: Path, writers: int, seconds: float) -> float:
    """As many connections, each in a thread, a transaction per row."""
    path = folder / "sqlite"
    connections = [_connect(path) for _ in range(writers)]
    counts = [0] * writers
    started = time.perf_counter()
    deadline = started + seconds

    def write(number: int) -> None:
        connection = connections[number]
        while time.perf_counter() < deadline:
            connection.execute("INSERT INTO job VALUES (?, ?)", (_key(number), BODY))
            counts[number] += 1

    workers = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    took = time.perf_counter() - started
    for connection in connections:
        connection.close()
    _remove(path)
    return sum(counts) / took
