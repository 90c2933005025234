"""The memory of replies, in memory and in SQLite: one contract."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from core.pure.worker_job import Memory, ReplyMemory, ReplyMemoryError
from core.shell.sqlite_memory import SqliteReplyMemory

Maker = Callable[..., Memory]


@pytest.fixture(params=["memory", "sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Maker:
    """What holds for both; arguments are the limits."""
    if request.param == "memory":
        return ReplyMemory
    return lambda *limits: SqliteReplyMemory(tmp_path / "replies.db", *limits)


def test_an_empty_key_and_a_huge_reply_are_not_kept(make: Maker) -> None:
    """Neither is an error: the worker goes on without."""
    memory = make(10, 100_000)
    memory.put(b"", [b"r"])
    memory.put(b"k", [b"r" * 100_001])
    assert memory.get(b"") is None
    assert memory.get(b"k") is None


def test_a_reply_is_given_again_frame_by_frame(make: Maker) -> None:
    """The first reply stays, whatever comes later under the same key."""
    memory = make()
    memory.put(b"k", [b"one", b"", b"\xff"])
    memory.put(b"k", [b"other"])
    assert memory.get(b"k") == [b"one", b"", b"\xff"]
    assert memory.get(b"unknown") is None


def test_the_oldest_make_room(make: Maker) -> None:
    """By count."""
    memory = make(3)
    for number in range(5):
        memory.put(b"%d" % number, [b"r"])
    assert [memory.get(b"%d" % number) is not None for number in range(5)] == [False, False, True, True, True]


def test_sqlite_is_bounded_in_bytes(tmp_path: Path) -> None:
    """A hundred replies of 100 kB leave at most the limit and a little in the file."""
    memory = SqliteReplyMemory(tmp_path / "m.db", 1_000, 2_000_000)
    for number in range(100):
        memory.put(b"%d" % number, [bytes(100_000)])
    memory.close()
    assert (tmp_path / "m.db").stat().st_size < 4_000_000
    assert SqliteReplyMemory(tmp_path / "m.db").get(b"99") is not None


def test_sqlite_survives_its_process(tmp_path: Path) -> None:
    """Two at a time, and one after the other."""
    first, second = (SqliteReplyMemory(tmp_path / "m.db") for _ in range(2))
    first.put(b"k", [b"r"])
    assert second.get(b"k") == [b"r"]
    first.close()
    second.close()
    third = SqliteReplyMemory(tmp_path / "m.db")
    assert third.get(b"k") == [b"r"]
    assert len(third) == 1
    third.close()


def test_a_file_that_is_none_is_an_error_that_says_so(tmp_path: Path) -> None:
    """At the open, and when it breaks later: ReplyMemoryError, which the worker survives."""
    (tmp_path / "bad.db").write_bytes(b"this is no database, " * 100)
    with pytest.raises(ReplyMemoryError, match=r"bad\.db"):
        SqliteReplyMemory(tmp_path / "bad.db")
    memory = SqliteReplyMemory(tmp_path / "good.db")
    with sqlite3.connect(tmp_path / "good.db") as other:
        other.execute("DROP TABLE replies")
    other.close()
    with pytest.raises(ReplyMemoryError):
        memory.get(b"k")
    with pytest.raises(ReplyMemoryError):
        memory.put(b"k", [b"r"])
    memory.close()
