"""What is kept in memory between writing and reading, and that nobody can tell but by the time it takes."""

from __future__ import annotations

from core.pure import tsp
from core.pure.fresh import BODY_MAX_BYTES, Fresh
from core.pure.titanic import SOON_MAX_COUNT
from tests.support.titanic_rig import Rig


def test_each_is_given_once() -> None:
    """And what was put again under its key is the newer."""
    fresh = Fresh()
    fresh.put(b"a", b"meta", [b"one"])
    fresh.put(b"a", b"meta", [b"other", b"two"])
    assert (len(fresh), fresh.size_bytes) == (1, 8)
    assert fresh.take(b"a") == (b"meta", [b"other", b"two"])
    assert fresh.take(b"a") is None
    assert (len(fresh), fresh.size_bytes) == (0, 0)


def test_it_is_bounded_by_count_and_by_bytes() -> None:
    """The oldest make room; a large body is not kept at all."""
    fresh = Fresh(max_count=3, max_bytes=100)
    for number in range(5):
        fresh.put(b"%d" % number, b"", [b"x"])
    assert [fresh.take(b"%d" % number) is not None for number in range(5)] == [False, False, True, True, True]
    for number in range(4):
        fresh.put(b"%d" % number, b"", [bytes(40)])
    assert (len(fresh), fresh.size_bytes) == (2, 80)
    fresh.clear()
    Fresh().put(b"large", b"", [bytes(BODY_MAX_BYTES + 1)])
    fresh.put(b"large", b"", [bytes(BODY_MAX_BYTES), b"x"])
    assert (len(fresh), fresh.size_bytes) == (0, 0)


def test_a_worker_gets_the_same_from_memory_and_from_the_journal() -> None:
    """One frame or many, alone or in a pack, and the second attempt as the first."""
    rig = Rig()
    reads: list[bytes] = []
    read = rig.journal.read_request
    rig.journal.read_request = lambda job: (reads.append(job.key), read(job))[1]  # type: ignore[method-assign, func-returns-value]
    keys = [rig.submit(b"echo", b"a"), rig.submit(b"echo", b"b", b"", b"c"), rig.submit(b"echo", b"d")]
    works = [rig.must_take() for _ in keys]
    assert reads == []
    for work in works:
        rig.titanic.lost(work.address, "", rig.now)
    again = [rig.must_take() for _ in keys]
    assert sorted(reads) == sorted(keys)
    assert sorted(map(list, (work.frames for work in again))) == sorted(
        map(list, (work.frames for work in works))
    )
    assert sorted(map(list, (work.frames for work in works))) == [[b"a"], [b"b", b"", b"c"], [b"d"]]


def test_a_reply_that_somebody_waits_for_is_not_read_back() -> None:
    """Others, and whoever asks later, get it from the journal."""
    rig = Rig()
    reads: list[bytes] = []
    read = rig.journal.read_reply
    rig.journal.read_reply = lambda job: (reads.append(job.key), read(job))[1]  # type: ignore[method-assign, func-returns-value]
    for waits in (True, False):
        key = rig.submit()
        if waits:
            assert rig.fetch(key, wait_ms=1_000) is None
        rig.titanic.done(rig.must_take().address, [b"reply", b"two"], rig.now)
        rig.sync()
        first = rig.answers[-1][2] if waits else rig.fetch(key)
        assert first is not None
        assert reads == ([] if waits else [key])
        second = rig.fetch(key)
        assert second == first
        assert list(second)[2:] == [b"reply", b"two"]
        assert reads == [key] if waits else [key, key]
        reads.clear()


def test_behind_a_long_queue_nothing_is_kept() -> None:
    """It would be pushed out before its turn comes."""
    rig = Rig()
    for _ in range(SOON_MAX_COUNT + 10):
        key = rig.key()
        rig.ask(tsp.SUBMIT, tsp.encode_head(tsp.SubmitHead(key, rig.meta())), b"x")
        rig.sync()
    assert len(rig.shell.bodies._requests) == SOON_MAX_COUNT
