"""What a journal gives its sender, and what a sender makes of it for followers of either version (P2)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from core.pure.jobs import Job, Kind, RequestMeta, encode_meta
from core.pure.peer import Crowd, Follow, Part, Ship, Want, decode, parts_of
from core.pure.replication import Sender
from gateway.composition.pair import Files
from gateway.composition.replica import PairJournal
from titanic_store import Options

OPTIONS = Options(chunk_bytes=4 << 20, floor_chunks=8, max_bytes=64 << 20)
META = encode_meta(RequestMeta(b"echo", 0))
CROWD_COUNT = 10


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[PairJournal]:
    """A job, a crowd, a job, and another crowd: sequences 1, 2 to 11, 12, 13 to 22."""
    made = Files(tmp_path, OPTIONS, lambda: None).open(accept_loss=False)
    for first in (100, 200):
        made.append(Kind.REQUEST, Job(key(first - 1)), META, (b"one",), ())
        keys = range(first, first + CROWD_COUNT)
        bodies = [b"%d" % number for number in keys]
        assert made.append_all(Kind.REQUEST, [Job(key(number)) for number in keys], META, bodies, ())
    made.ring.flush()
    yield made
    made.close()


def numbered(part: Part) -> tuple[int, int]:
    """Its first sequence, and how many it has; 0 for a single record."""
    return part.sequence, len(part.keys) if isinstance(part, Crowd) else 0


@pytest.mark.parametrize(
    ("seq", "parts"),
    [
        (0, [(1, 0), (2, 10), (12, 0), (13, 10)]),
        (1, [(2, 10), (12, 0), (13, 10)]),
        (6, [(7, 5), (12, 0), (13, 10)]),
        (11, [(12, 0), (13, 10)]),
        (12, [(13, 10)]),
        (21, [(22, 1)]),
        (22, []),
    ],
)
def test_parts_begin_with_the_record_that_is_wanted(
    journal: PairJournal, seq: int, parts: list[tuple[int, int]]
) -> None:
    """Also in the middle of a crowd; one by one they are the same records, and the disk's."""
    found = list(journal.parts_after(seq))
    assert [numbered(part) for part in found] == parts
    records = list(journal.records_after(seq))
    assert [record.sequence for record in records] == list(range(seq + 1, 23))
    assert records == list(journal._read_after(seq))


@pytest.mark.parametrize("crowds", [True, False])
def test_a_follower_gets_crowds_if_it_takes_them(journal: PairJournal, crowds: bool) -> None:
    """An earlier version gets the same records one by one: pairs are upgraded one node after the other."""
    sent: list[list[bytes]] = []
    sender = Sender(journal, 1, 0, sent.append)
    sender.on_follow(Follow(9, 1, (), 0), 0)
    sender.on_want(Want(9, 1, 4, crowds), 0)
    frames = sent[-1]
    ship = decode(frames)
    assert isinstance(ship, Ship)
    assert ship.prev_seq == 4
    parts = parts_of(ship.rows, frames)
    found = [record for part in parts for record in (part.each() if isinstance(part, Crowd) else (part,))]
    assert found == list(journal.records_after(4))
    assert any(isinstance(part, Crowd) for part in parts) is crowds
