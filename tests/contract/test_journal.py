"""What the core relies on in a journal, held by the journal in memory and by the ring on disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import pytest

from core.pure.jobs import Job, Kind, State
from core.pure.ports import Effect, Journal, Wake
from gateway.composition.journal import open_journal
from tests.support.memory_journal import MemoryJournal
from tests.support.processes import until


class Subject(Protocol):
    """A journal, and how the test waits for what it must hand back."""

    @property
    def journal(self) -> Journal: ...

    def synced(self, count: int) -> list[tuple[Effect, ...]]: ...


class InMemory:
    def __init__(self) -> None:
        self.memory = MemoryJournal()
        self.journal: Journal = self.memory

    def synced(self, count: int) -> list[tuple[Effect, ...]]:
        self.memory.sync()
        done = list(self.memory.completed())
        assert len(done) == count
        return done


class OnDisk:
    def __init__(self, folder: Path) -> None:
        self.ring = open_journal(folder)
        self.journal: Journal = self.ring

    def synced(self, count: int) -> list[tuple[Effect, ...]]:
        done: list[tuple[Effect, ...]] = []

        def all_there() -> bool:
            done.extend(self.journal.completed())
            return len(done) >= count

        until("the commit thread hands back what it synced", all_there, pause_s=0.002)
        assert len(done) == count
        return done


@pytest.fixture(params=["memory", "disk"])
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Subject]:
    """Every test in this file holds for both."""
    if request.param == "memory":
        yield InMemory()
    else:
        disk = OnDisk(tmp_path)
        yield disk
        disk.ring.close()


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


def add(
    subject: Subject, number: int, after: Sequence[Effect] = (), body: Sequence[bytes] = (b"body",)
) -> Job:
    job = Job(key(number))
    subject.journal.append(Kind.REQUEST, job, b"meta", body, tuple(after))
    return job


def test_after_sync_comes_back_once_in_append_order(subject: Subject) -> None:
    """Tokens return in the order of their appends, barriers in between, lazy records without a word."""
    add(subject, 1, [Wake(b"1")])
    job = add(subject, 2)
    subject.journal.append(Kind.ATTEMPT, job, b"lazy", (), ())
    subject.journal.barrier((Wake(b"b"),))
    add(subject, 3, [Wake(b"3"), Wake(b"3'")])
    assert subject.synced(3) == [(Wake(b"1"),), (Wake(b"b"),), (Wake(b"3"), Wake(b"3'"))]
    assert list(subject.journal.completed()) == []


def test_an_appended_request_is_in_the_index_at_once_and_is_the_very_object(subject: Subject) -> None:
    """The journal keeps the caller's job and no copy of it."""
    job = add(subject, 1, [Wake(b"x")])
    assert subject.journal.index[key(1)] is job
    subject.synced(1)
    assert subject.journal.index[key(1)] is job


def test_a_closed_job_leaves_the_index_when_its_close_is_durable(subject: Subject) -> None:
    """Not before the sync, and before the after_sync is handed back."""
    job = add(subject, 1, [Wake(b"x")])
    subject.synced(1)
    subject.journal.append(Kind.CLOSE, job, b"", (), (Wake(b"closed"),))
    assert key(1) in subject.journal.index
    subject.synced(1)
    assert key(1) not in subject.journal.index


@pytest.mark.parametrize("body", [(), (b"",), (b"one",), (b"a", b"", b"c" * 70_000)])
def test_request_and_reply_are_read_back_whole(subject: Subject, body: tuple[bytes, ...]) -> None:
    """Before the sync and after it, frames joined, metadata apart; positions tell request from reply."""
    job = add(subject, 1, [Wake(b"x")], body)
    assert job.reply_at == 0
    assert subject.journal.read_request(job) == (b"meta", b"".join(body))
    subject.journal.append(Kind.REPLY, job, b"reply", body[::-1], (Wake(b"r"),))
    assert subject.journal.read_reply(job) == (b"reply", b"".join(body[::-1]))
    subject.synced(2)
    assert subject.journal.read_request(job) == (b"meta", b"".join(body))
    assert subject.journal.read_reply(job) == (b"reply", b"".join(body[::-1]))


def test_a_journal_says_what_an_acknowledgement_is_worth(subject: Subject) -> None:
    """The label is one of the published ones and the epoch counts from one."""
    assert subject.journal.durability in ("memory", "fsync")
    assert subject.journal.epoch >= 1


def test_an_entry_opened_again_under_its_key_stays_when_the_old_one_is_closed(subject: Subject) -> None:
    """A setting, or a key, may be closed and set anew before that close is durable; the last one counts."""
    key = b"s" * 16
    first, second, third = (Job(key, state=State.BINDING) for _ in range(3))
    subject.journal.append(Kind.SETTING, first, b"\x90", (), ())
    subject.journal.append(Kind.CLOSE, first, b"\x90", (), (Wake(b"closed"),))
    subject.journal.append(Kind.SETTING, second, b"\x91\x01", (), ())
    assert subject.journal.append(Kind.SETTING, third, b"\x91\x02", (), (Wake(b"set"),)) == (
        subject.journal.last_seq
    )
    assert subject.synced(2) == [(Wake(b"closed"),), (Wake(b"set"),)]
    assert subject.journal.index[key] is third
    assert subject.journal.read_request(third)[0] == b"\x91\x02"


def test_a_crowd_is_its_records_one_by_one(subject: Subject) -> None:
    """Sequences follow each other, all are in the index at once, one token comes back, bodies are read."""
    before = add(subject, 1)
    jobs = [Job(key(number)) for number in range(2, 52)]
    bodies = [b"%d" % number * number for number in range(50)]
    last = subject.journal.last_seq
    first = subject.journal.append_all(Kind.REQUEST, jobs, b"meta", bodies, (Wake(b"crowd"),))
    assert first == last + 1
    assert subject.journal.last_seq == last + 50
    assert list(subject.journal.index.values()) == [before, *jobs]
    assert [subject.journal.read_request(job) for job in jobs] == [(b"meta", body) for body in bodies]
    after = add(subject, 99, [Wake(b"after")])
    assert subject.synced(2) == [(Wake(b"crowd"),), (Wake(b"after"),)]
    subject.journal.append(Kind.CLOSE, jobs[7], b"", (), (Wake(b"closed"),))
    subject.synced(1)
    assert list(subject.journal.index.values()) == [before, *jobs[:7], *jobs[8:], after]
    assert [subject.journal.read_request(job)[1] for job in jobs] == bodies
