"""Answers kept for named peers that are away: bounded every way, oldest dropped first, in order."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.pure.jobs import Now
from core.pure.keeping import Keeping, KeepLimits, is_durable

LUCY, CHARLIE, TRANSIENT = b"lucy", b"charlie", b"\x00\x8a\x01\x02\x03"
NOW = Now(1_000, 0)


def answer(identity: bytes, body: bytes) -> list[bytes]:
    return [identity, b"", b"MDPC01", b"echo", body]


def at(ms: int) -> Now:
    return Now(ms, 0)


def test_nothing_is_kept_for_a_transient_peer() -> None:
    """The identities libzmq makes begin with a zero byte: who has one never comes back."""
    keeping = Keeping()
    assert not keeping.failed(answer(TRANSIENT, b"1"), NOW)
    assert len(keeping) == 0
    assert not is_durable(b"")


@pytest.mark.parametrize(
    "frames",
    [
        [LUCY, b"", b"MDPW01", b"\x02", b"client", b"", b"work"],
        [LUCY, b"", b"MDPW01", b"\x04"],
        [LUCY, b"MDPW02", b"\x02", b"client", b"", b"work"],
        [LUCY, b"MDPW02", b"\x06"],
    ],
)
def test_commands_for_workers_are_not_kept(frames: list[bytes]) -> None:
    """Work goes to another worker; a heartbeat of yesterday is worth nothing."""
    keeping = Keeping()
    assert not keeping.failed(frames, NOW)
    keeping.failed(answer(LUCY, b"1"), NOW)
    assert not keeping.behind(frames, NOW)


@pytest.mark.parametrize(
    "frames",
    [
        answer(LUCY, b"x"),
        [LUCY, b"tag", b"", b"MDPC01", b"echo", b"x"],
        [LUCY, b"MDPC02", b"\x02", b"echo", b"x"],
        [LUCY, b"MDPC02", b"\x03", b"echo", b"x"],
    ],
)
def test_answers_of_both_versions_are_kept(frames: list[bytes]) -> None:
    """With an envelope or without, PARTIAL or FINAL."""
    keeping = Keeping()
    assert keeping.failed(frames, NOW)
    assert keeping.take(LUCY) == [frames]


def test_what_follows_goes_behind_what_is_kept() -> None:
    """An answer sent while others wait does not overtake them; after they were taken it need not wait."""
    keeping = Keeping()
    keeping.failed(answer(LUCY, b"1"), NOW)
    assert keeping.behind(answer(LUCY, b"2"), NOW)
    assert not keeping.behind(answer(CHARLIE, b"3"), NOW)
    assert [frames[-1] for frames in keeping.take(LUCY)] == [b"1", b"2"]
    assert not keeping.behind(answer(LUCY, b"4"), NOW)
    assert keeping.take(LUCY) == []
    assert keeping.counters["kept_delivered"] == 2


def test_the_oldest_of_all_goes_when_there_are_too_many() -> None:
    """By count over all peers; each is counted."""
    keeping = Keeping(KeepLimits(messages_max_count=3))
    for body, who in ((b"1", LUCY), (b"2", CHARLIE), (b"3", LUCY), (b"4", CHARLIE)):
        keeping.failed(answer(who, body), NOW)
    assert [frames[-1] for frames in keeping.take(LUCY)] == [b"3"]
    assert [frames[-1] for frames in keeping.take(CHARLIE)] == [b"2", b"4"]
    assert keeping.counters["kept_dropped"] == 1


def test_the_oldest_of_a_peer_goes_when_it_has_too_many() -> None:
    """One peer that stays away does not push out what others wait for."""
    keeping = Keeping(KeepLimits(per_peer_max_count=2))
    keeping.failed(answer(CHARLIE, b"0"), NOW)
    for body in (b"1", b"2", b"3"):
        keeping.failed(answer(LUCY, body), NOW)
    assert [frames[-1] for frames in keeping.take(LUCY)] == [b"2", b"3"]
    assert [frames[-1] for frames in keeping.take(CHARLIE)] == [b"0"]


def test_bytes_are_bounded_and_a_giant_is_not_kept() -> None:
    """Room is made by dropping the oldest; what is larger than all the room drops only itself."""
    size = sum(map(len, answer(LUCY, b"x" * 100)))
    keeping = Keeping(KeepLimits(kept_max_bytes=2 * size))
    keeping.failed(answer(LUCY, b"x" * 2 * size), NOW)
    assert (len(keeping), keeping.counters["kept_dropped"]) == (0, 1)
    for byte in (b"a", b"b", b"c"):
        keeping.failed(answer(LUCY, byte * 100), NOW)
        assert keeping.kept_bytes <= 2 * size
    assert [frames[-1][:1] for frames in keeping.take(LUCY)] == [b"b", b"c"]
    assert keeping.kept_bytes == 0


def test_age_is_bounded() -> None:
    """What waited its time is dropped and counted; the deadline is that of the oldest."""
    keeping = Keeping(KeepLimits(age_ms=100))
    assert keeping.next_deadline() is None
    keeping.failed(answer(LUCY, b"1"), at(0))
    keeping.failed(answer(LUCY, b"2"), at(50))
    assert keeping.next_deadline() == 100
    keeping.expire(at(99))
    assert len(keeping) == 2
    keeping.expire(at(100))
    assert keeping.counters["kept_expired"] == 1
    assert keeping.next_deadline() == 150
    assert [frames[-1] for frames in keeping.take(LUCY)] == [b"2"]


def test_limits_of_nothing_are_refused() -> None:
    """Each number is at least one."""
    for name in KeepLimits.__struct_fields__:
        with pytest.raises(ValueError, match=name):
            KeepLimits(**{name: 0})


steps = st.lists(
    st.tuples(st.sampled_from(["fail", "behind", "take", "pass"]), st.sampled_from([LUCY, CHARLIE])),
    max_size=80,
)


@given(steps)
def test_any_order_of_events_keeps_order_and_bounds(script: list[tuple[str, bytes]]) -> None:
    """What is taken is the youngest of what was kept, in order; counters account for every message."""
    limits = KeepLimits(messages_max_count=5, per_peer_max_count=3, kept_max_bytes=150, age_ms=40)
    keeping, now_ms, number = Keeping(limits), 0, 0
    model: dict[bytes, deque[int]] = {LUCY: deque(), CHARLIE: deque()}
    for step, who in script:
        if step == "pass":
            now_ms += 7
            keeping.expire(at(now_ms))
        elif step == "take":
            got = [int(frames[-1]) for frames in keeping.take(who)]
            assert got == sorted(got)
            assert got == list(model[who])[len(model[who]) - len(got) :]
            model[who].clear()
        else:
            number += 1
            keep = keeping.failed if step == "fail" else keeping.behind
            if keep(answer(who, b"%d" % number), at(now_ms)):
                model[who].append(number)
        assert len(keeping) <= 5
        assert keeping.kept_bytes <= 150
        counts = keeping.counters
        gone = counts["kept_delivered"] + counts["kept_expired"] + counts["kept_dropped"]
        assert counts["kept"] == len(keeping) + gone
