"""What a job's records say about it after a restart."""

import msgspec
import pytest

from core.pure.fold import Fold
from core.pure.jobs import (
    AttemptMeta,
    CallMeta,
    CloseMeta,
    Job,
    KeyMeta,
    Kind,
    Outcome,
    ReplyMeta,
    RequestMeta,
    State,
    StateMeta,
    decode_state,
    encode_meta,
)

KEY = b"k" * 16
REQUEST = (Kind.REQUEST, RequestMeta(b"wordcount", 1_000, priority=2))
LATER = (Kind.REQUEST, RequestMeta(b"wordcount", 1_000, not_before_ms=9_000))
STARTED = (Kind.ATTEMPT, AttemptMeta(Outcome.STARTED, 3, 2_000))
PROGRESS = (Kind.ATTEMPT, AttemptMeta(Outcome.PROGRESS, 3, 2_500))
FAILED = (Kind.ATTEMPT, AttemptMeta(Outcome.FAILED, 3, 3_000, "no", due_ms=5_000))
LOST = (Kind.ATTEMPT, AttemptMeta(Outcome.FAILED, 3, 3_000, "gone"))
DEAD = (Kind.ATTEMPT, AttemptMeta(Outcome.DEAD, 3, 3_000, "too often"))
RETRIED = (Kind.ATTEMPT, AttemptMeta(Outcome.RETRIED, 0, 4_000))
REPLY = (Kind.REPLY, ReplyMeta(6_000, 3))
CANCEL = (Kind.CANCEL, CloseMeta(6_000))


def folded(*records: tuple[Kind, msgspec.Struct], fold: Fold | None = None) -> Job:
    """A job after these records."""
    fold = fold or Fold()
    job = fold.new(records[0][0], KEY)
    for sequence, (kind, meta) in enumerate(records):
        fold.fold(job, kind, encode_meta(meta), sequence)
    return job


@pytest.mark.parametrize("kind", [Kind.REQUEST, Kind.ATTEMPT, Kind.JOB, Kind.KEY])
def test_bytes_that_are_no_meta_raise(kind: Kind) -> None:
    """A meta of another shape is an error, not a job in a strange state; it can be asked for before."""
    for raw in (b"\x93\x01", b"", b"\xc1"):
        assert Fold().unreadable(kind, raw)
        with pytest.raises(msgspec.DecodeError):
            Fold().fold(Job(KEY), kind, raw, 1)


def test_text_that_is_no_text_is_unreadable() -> None:
    """A content type that is not UTF-8: msgspec has an error of its own for that."""
    raw = encode_meta(RequestMeta(b"x", 1, "text")).replace(b"text", b"te\xff\xfe")
    assert "utf-8" in Fold().unreadable(Kind.REQUEST, raw)
    with pytest.raises(ValueError, match="utf-8"):
        Fold().open(Kind.REQUEST, KEY, 8, raw, 1)


@pytest.mark.parametrize("kind", [Kind.CLOSE, Kind.MARK, 200])
def test_what_nobody_reads_is_never_unreadable(kind: int) -> None:
    """A job is closed whatever its CLOSE says besides."""
    assert not Fold().unreadable(kind, b"\xc1")


def test_a_log_that_is_told_anew_leaves_no_notes_of_the_first_time() -> None:
    """A salvage tells it again, without what was lost; the notes stay the same objects."""
    fold = Fold()
    meta = encode_meta(RequestMeta(b"wordcount", 1, expires_ms=5, callback="http://x", idempotency=b"i"))
    fold.open(Kind.REQUEST, KEY, 8, meta, 1)
    notes = vars(fold.notes).copy()
    assert fold.notes.expiries
    assert fold.notes.calls
    assert fold.notes.asked
    fold.begin()
    assert not any(notes.values())
    assert all(vars(fold.notes)[name] is noted for name, noted in notes.items())


@pytest.mark.parametrize(
    ("records", "state", "attempt", "due_ms"),
    [
        ((REQUEST,), State.QUEUED, 0, 0),
        ((LATER,), State.SCHEDULED, 0, 9_000),
        ((REQUEST, STARTED), State.RUNNING, 3, 0),
        ((REQUEST, STARTED, PROGRESS), State.RUNNING, 3, 0),
        ((REQUEST, STARTED, FAILED), State.SCHEDULED, 3, 5_000),
        ((REQUEST, STARTED, LOST), State.QUEUED, 3, 0),
        ((REQUEST, STARTED, FAILED, STARTED), State.RUNNING, 3, 0),
        ((REQUEST, STARTED, DEAD), State.FAILED, 3, 3_000),
        ((REQUEST, STARTED, DEAD, RETRIED), State.QUEUED, 0, 0),
        ((REQUEST, STARTED, REPLY), State.SUCCEEDED, 3, 6_000),
        ((REQUEST, STARTED, REPLY, FAILED), State.SUCCEEDED, 3, 6_000),
        ((REQUEST, RETRIED), State.QUEUED, 0, 0),
        ((REQUEST, CANCEL, STARTED), State.CANCELLED, 0, 6_000),
    ],
)
def test_records_say_where_a_job_stands(
    records: tuple[tuple[Kind, msgspec.Struct], ...], state: State, attempt: int, due_ms: int
) -> None:
    """Each history has one state, attempt and due time; of an ended job, the time of its end."""
    job = folded(*records)
    assert (job.state, job.attempt, job.due_ms) == (state, attempt, due_ms)


def test_the_last_error_of_a_dead_letter_is_kept() -> None:
    """It is there until somebody puts the job back."""
    fold = Fold()
    folded(REQUEST, STARTED, DEAD, fold=fold)
    assert fold.notes.reasons == {KEY: "too often"}
    folded(REQUEST, STARTED, DEAD, RETRIED, fold=fold)
    assert fold.notes.reasons == {}


def test_equal_service_names_are_one_object() -> None:
    """A million jobs of one service keep one name in memory."""
    fold = Fold()
    first, second = folded(REQUEST, fold=fold), folded(REQUEST, fold=fold)
    assert first.service == b"wordcount"
    assert first.service is second.service


def test_keys_and_settings_are_no_jobs() -> None:
    """Their entries are BINDING, and a key knows when it expires."""
    key = folded((Kind.KEY, KeyMeta(b"j" * 16, b"f", 7_000)))
    assert (key.state, key.due_ms) == (State.BINDING, 7_000)
    assert Fold().new(Kind.SETTING, KEY).state == State.BINDING


@pytest.mark.parametrize(
    "records", [(REQUEST,), (LATER,), (REQUEST, STARTED), (REQUEST, STARTED, DEAD), (REQUEST, CANCEL)]
)
def test_a_relocated_job_stands_where_it_stood(records: tuple[tuple[Kind, msgspec.Struct], ...]) -> None:
    """The request's meta and the snapshot restore what all the records before did."""
    fold, again = Fold(), Fold()
    job = folded(*records, fold=fold)
    moved = again.new(Kind.REQUEST, KEY)
    again.fold(moved, Kind.REQUEST, encode_meta(records[0][1]), 1)
    again.fold(moved, Kind.JOB, fold.snapshot(job), 1)
    assert moved.state == job.state
    assert (moved.attempt, moved.due_ms, moved.priority) == (job.attempt, job.due_ms, job.priority)
    assert again.notes.reasons == fold.notes.reasons


@pytest.mark.parametrize("max_bytes", [224, 300, 1000])
def test_a_snapshot_fits_what_is_kept_for_it(max_bytes: int) -> None:
    """A long reason, progress or failure of a callback loses its end, and nothing else (R8)."""
    job, fold = Job(KEY, state=State.FAILED, attempt=1 << 30, due_ms=1 << 62), Fold()
    fold.notes.reasons[KEY] = "no luck \N{BROKEN HEART} " * 90
    fold.notes.progress[KEY] = bytes(1024)
    call = CallMeta(1 << 30, 1 << 62, 1, 1 << 30, 1 << 62, "refused \N{NO ENTRY} " * 90)
    fold.notes.calls[KEY] = call
    raw = fold.snapshot(job, max_bytes)
    assert len(raw) <= max_bytes
    meta = decode_state(raw)
    assert (meta.state, meta.attempt, meta.due_ms) == (State.FAILED, 1 << 30, 1 << 62)
    assert fold.notes.reasons[KEY].startswith(meta.reason)
    assert meta.reason
    assert meta.call is not None
    assert meta.call.tries == 1 << 30
    assert call.reason.startswith(meta.call.reason)


def test_a_reply_is_newer_than_a_relocated_state() -> None:
    """A job relocated over a reply that is already known has succeeded."""
    job = folded(REQUEST, STARTED)
    job.reply_at = 5_000
    Fold().fold(job, Kind.JOB, encode_meta(StateMeta(State.RUNNING, 3, 0)), 1)
    assert job.state == State.SUCCEEDED
