"""The ring as the core's journal."""

import threading
from pathlib import Path

import pytest

from core.errors import DamagedRecordError, JournalBusyError, JournalFailedError, JournalFullError
from core.pure.jobs import (
    AttemptMeta,
    CloseMeta,
    Job,
    Kind,
    Outcome,
    ReplyMeta,
    RequestMeta,
    State,
    encode_meta,
)
from core.pure.ports import Advance, Effect, Journal
from gateway.composition.journal import DATA_FILE, RingJournal, open_journal
from titanic_store import Options, Policy

SMALL = Options(chunk_bytes=1 << 16, max_bytes=8192 + (4 << 16))
DEADLINE_SECONDS = 10.0


class Waiting:
    """An open journal and the effects it hands back."""

    def __init__(self, folder: Path, options: Options = SMALL) -> None:
        self.rung = threading.Event()
        self.journal = open_journal(folder, options, notify=self.rung.set)

    def wait(self, count: int) -> list[tuple[Effect, ...]]:
        found = list(self.journal.completed())
        while len(found) < count:
            assert self.rung.wait(DEADLINE_SECONDS)
            self.rung.clear()
            found += self.journal.completed()
        return found


def submit(journal: RingJournal, number: int, body: bytes = b"body") -> Job:
    """Append a request."""
    job = Job(number.to_bytes(16, "big"))
    meta = encode_meta(RequestMeta(b"echo", 1_000 + number))
    journal.append(Kind.REQUEST, job, meta, (body,), (Advance(job, State.QUEUED),))
    return job


def test_it_is_a_journal(tmp_path: Path) -> None:
    """The adapter has the shape the core asks for."""
    waiting = Waiting(tmp_path)
    journal: Journal = waiting.journal
    assert journal.durability == "fsync"
    assert journal.epoch == 1
    assert len(waiting.journal.id_secret) == 32
    waiting.journal.close()


def test_effects_come_back_in_order_and_jobs_after_a_restart(tmp_path: Path) -> None:
    """A queued, a succeeded, a failed and a closed job: each is what its records say."""
    waiting = Waiting(tmp_path / "data")
    journal = waiting.journal
    queued, done, failed, closed = (submit(journal, number) for number in range(1, 5))
    journal.append(Kind.REPLY, done, encode_meta(ReplyMeta(2_000, 1)), (b"re", b"ply"), ())
    dead = encode_meta(AttemptMeta(Outcome.DEAD, 3, 2_000, "too often"))
    journal.append(Kind.ATTEMPT, failed, dead, (), ())
    journal.append(Kind.CLOSE, closed, encode_meta(CloseMeta(3_000)), (), (Advance(closed, State.CLOSING),))
    journal.barrier((Advance(queued, State.QUEUED),))
    found = waiting.wait(6)
    assert [effect.job for (effect,) in found if isinstance(effect, Advance)] == [
        *(queued, done, failed, closed),
        *(closed, queued),
    ]
    journal.close()

    journal = open_journal(tmp_path / "data", SMALL)
    jobs = list(journal.jobs)
    assert [job.state for job in jobs] == [State.QUEUED, State.SUCCEEDED, State.FAILED]
    assert [job.key for job in jobs] == [queued.key, done.key, failed.key]
    assert journal.reasons == {failed.key: "too often"}
    assert journal.read_request(jobs[0])[1] == b"body"
    assert journal.read_reply(jobs[1])[1] == b"reply"
    assert closed.key not in journal.index
    journal.close()
    assert (tmp_path / "data" / DATA_FILE).is_file()


def test_the_stores_errors_become_the_cores(tmp_path: Path) -> None:
    """Full, too large, damaged and failed are the core's own errors."""
    waiting = Waiting(tmp_path)
    journal = waiting.journal
    with pytest.raises(JournalFullError):
        submit(journal, 1, bytes(journal.ring.max_record_bytes + 100))
    with pytest.raises(JournalFullError):
        _ = [submit(journal, number, bytes(5000)) for number in range(2, 1000)]
    waiting.wait(1)
    job = next(iter(journal.jobs))
    with (tmp_path / DATA_FILE).open("r+b") as file:
        file.seek(job.request_at + 200)
        file.write(b"\xff")
    with pytest.raises(DamagedRecordError):
        journal.read_request(job)
    journal.abandon()
    for attempt in (journal.completed, lambda: journal.barrier(()), lambda: submit(journal, 5000)):
        with pytest.raises(JournalFailedError):
            attempt()


def test_the_label_follows_the_policy(tmp_path: Path) -> None:
    """Every acknowledgement can say what it is worth (R12)."""
    journal = open_journal(tmp_path, Options(policy=Policy.parse("never"), chunk_bytes=1 << 16))
    assert journal.durability == "memory"
    journal.close()


def test_a_disk_that_is_behind_is_busy_and_not_full(tmp_path: Path) -> None:
    """More than may wait in memory: JournalBusyError with a time to come back; afterwards it is taken."""
    wanted = Options(chunk_bytes=8 << 20, queue_max_bytes=1 << 20, policy=Policy.parse("interval:50ms"))
    waiting = Waiting(tmp_path, wanted)
    journal = waiting.journal
    with pytest.raises(JournalBusyError) as caught:
        submit_all(journal)
    assert 0 < caught.value.retry_ms < 1000
    journal.ring.flush()
    submit(journal, 10_000, bytes(1000))
    journal.close()


def submit_all(journal: RingJournal) -> None:
    for number in range(1, 60):
        job = Job(number.to_bytes(16, "big"))
        meta = encode_meta(RequestMeta(b"echo", 1_000))
        # without anybody who waits nothing is written for 25 ms
        journal.append(Kind.REQUEST, job, meta, (bytes(600_000),), ())


def test_a_status_needs_no_body(tmp_path: Path) -> None:
    """Meta and length of request and reply, also of a body that has rotted; it is counted."""
    waiting = Waiting(tmp_path)
    journal = waiting.journal
    job = submit(journal, 1, b"x" * 5000)
    journal.append(Kind.REPLY, job, encode_meta(ReplyMeta(2_000, 1)), (b"reply",), ())
    journal.ring.flush()
    with (tmp_path / DATA_FILE).open("r+b") as file:
        file.seek(job.request_at + 4000)
        file.write(b"\xff" * 8)
    assert journal.read_request_meta(job)[1] == 5000
    assert journal.read_reply_meta(job)[1] == 5
    with pytest.raises(DamagedRecordError):
        journal.read_request(job)
    assert journal.counters()["store_reads_damaged"] == 1
    journal.close()
