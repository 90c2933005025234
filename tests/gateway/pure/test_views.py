"""JSON of jobs, frames documents, and the computed Retry-After."""

import base64
import json

import pytest

from core.pure.tsp import JobStatus, Stats
from gateway.pure import frames, pace
from gateway.pure.views import AcceptedView, encode_job, rfc3339

KEY = bytes(range(16))


def test_rfc3339() -> None:
    """Milliseconds are kept, UTC is said."""
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"
    assert rfc3339(1_763_905_980_123) == "2025-11-23T13:53:00.123Z"


def test_accepted_is_json() -> None:
    """The formatted bytes are the JSON that an encoder would write, whatever the second."""
    view = AcceptedView()
    for created_ms in (1_763_905_980_123, 1_763_905_980_999, 1_763_905_981_000):
        document = json.loads(view.encode(KEY.hex().encode(), rb'"a \"b\""', "queued", created_ms))
        assert document["created_at"] == rfc3339(created_ms)
        assert document["service"] == 'a "b"'
        assert document["links"]["reply"] == f"/v1/jobs/{KEY.hex()}/reply"


def test_job_says_null_for_what_is_not_yet() -> None:
    """A job without reply, error or due time has null there, and all its members."""
    document = json.loads(encode_job(JobStatus(KEY, "echo", "queued", 0, 1, "", 4, 0, attempts_max=0)))
    assert document["attempts_max"] == 0
    empty = ["content_type", "reply_bytes", "due_at", "replied_at", "last_error", "queued_before"]
    empty += ["expires_at", "ended_at", "kept_until", "progress", "owner", "callback"]
    assert [name for name in document if document[name] is None] == empty


def test_job_says_what_there_is() -> None:
    """An empty reply is a reply."""
    status = JobStatus(KEY, "echo", "succeeded", 2, 1, "text/plain", 4, 0, 5, 25, "late", 7, 3)
    document = json.loads(encode_job(status))
    assert (document["reply_bytes"], document["replied_at"]) == (0, rfc3339(7))
    assert (document["last_error"], document["queued_before"], document["due_at"]) == ("late", 3, rfc3339(5))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"frames":[]}',
        b'{"frames":"YQ=="}',
        b'{"frames":["?"]}',
        b'{"frames":[1]}',
        b'{"frames":["YQ=="],"more":1}',
        b"[" * 100_000,
        b'{"frames":[' + b'"",' * 64 + b'""]}',
    ],
)
def test_bad_frames(body: bytes) -> None:
    """What is no frames document is a ValueError with a sentence, never another error."""
    with pytest.raises(ValueError, match=r"\w"):
        frames.decode(body)


def test_frames_round_trip() -> None:
    """Frames come back as they went, empty ones too; the document is plain base64."""
    parts = [b"", b"one", bytes(range(256))]
    assert frames.decode(frames.encode(parts)) == parts
    assert json.loads(frames.encode(parts))["frames"][1] == base64.b64encode(b"one").decode()


def reading(**row: int) -> Stats:
    return Stats({}, {}, {"echo": row})


def test_retry_after_follows_pace_and_queue() -> None:
    """Ten jobs a second and 49 ahead: ask again in five seconds; the bounds hold."""
    paces = pace.Paces()
    assert paces.retry_after_s("echo") == pace.RETRY_MIN_S, "a service never seen"
    paces.update(reading(queued=49, workers=1, ended=0), 0)
    assert paces.retry_after_s("echo") == pace.RETRY_MIN_S, "no pace from one reading"
    paces.update(reading(queued=49, workers=1, ended=20), 2_000)
    assert paces.retry_after_s("echo") == 5
    assert paces.retry_after_s("echo", 9) == 1
    assert paces.retry_after_s("echo", 10**9) == pace.RETRY_MAX_S


def test_no_workers_no_estimate() -> None:
    """Without workers nobody knows; without the number of workers they are not assumed to be none."""
    paces = pace.Paces()
    paces.update(reading(queued=5, workers=0, ended=0), 0)
    assert paces.retry_after_s("echo") == pace.NO_WORKER_S
    paces.update(reading(queued=5, ended=0), 2_000)
    assert paces.retry_after_s("echo") == pace.RETRY_MIN_S


def test_a_restarted_node_starts_the_measure_again() -> None:
    """Counters that go back, readings that come too fast and idle times do not spoil the pace."""
    paces = pace.Paces()
    paces.update(reading(queued=10, workers=1, ended=100), 0)
    paces.update(reading(queued=10, workers=1, ended=101), 1_000)
    assert paces.retry_after_s("echo") == 11
    paces.update(reading(queued=20, workers=1, ended=101), 1_100)
    assert paces.retry_after_s("echo") == 21, "too soon for a new pace, not for a new queue"
    paces.update(reading(queued=0, workers=1, ended=101), 3_000)
    paces.update(reading(queued=0, workers=1, ended=101), 5_000)
    assert paces.retry_after_s("echo", 9) == pytest.approx(10, rel=1), "idle is not slow"
    paces.update(reading(queued=10, workers=1, ended=3), 7_000)
    assert paces.retry_after_s("echo") == pace.RETRY_MIN_S
