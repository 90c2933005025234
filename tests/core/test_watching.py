"""``titanic.watch``: one question about many jobs, and what is told of them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from core.pure import tsp
from core.pure.ports import Path
from core.pure.titanic import TitanicLimits
from core.pure.watch_heads import TOLD, WATCH, ToldRow, Watched, WatchHead, decode_told
from core.shell.telling import REPLY_MAX_BYTES, TOLD_MAX_BYTES
from tests.support.titanic_rig import Rig

GATEWAY: Path = (b"gateway", b"tag-one")
OTHER: Path = (b"gateway", b"tag-two")
decode_watched = msgspec.msgpack.Decoder(Watched).decode


def watch(rig: Rig, *keys: bytes, wait_ms: int = 10_000, owner: str = "", path: Path = GATEWAY) -> None:
    rig.shell.handle(WATCH, path, [tsp.encode_head(WatchHead(b"".join(keys), wait_ms, owner))], rig.now)


def done(rig: Rig, *frames: bytes) -> None:
    rig.titanic.done(rig.must_take().address, frames or (b"reply",), rig.now)


def told(rig: Rig, since: int = 0) -> list[list[tuple[ToldRow, bytes]]]:
    """What was told after the first ``since`` answers, message by message."""
    found = []
    for _, service, frames in rig.answers[since:]:
        if service == TOLD:
            found.append(rows_of(frames))
    return found


def rows_of(frames: Sequence[bytes]) -> list[tuple[ToldRow, bytes]]:
    status, head, bodies = frames
    assert status == tsp.OK
    rows, at = [], 0
    for row in decode_told(head).rows:
        rows.append((row, bodies[at : at + row.size_bytes]))
        at += row.size_bytes
    assert at == len(bodies)
    return rows


def test_replies_are_told_once_they_are_durable_and_in_one_message() -> None:
    """D1: not before the sync; and what became durable together is told together."""
    rig = Rig()
    keys = [rig.submit() for _ in range(3)]
    watch(rig, keys[0], keys[1])
    watch(rig, keys[2], path=OTHER)
    assert rig.titanic.waiters_count == 3
    before = len(rig.answers)
    for number in range(3):
        done(rig, b"reply %d" % number)
    assert len(rig.answers) == before
    rig.sync()
    (rows,) = told(rig, before)
    assert [(row.key, reply) for row, reply in rows] == [
        (key, b"reply %d" % number) for number, key in enumerate(keys)
    ]
    assert all(row.head is not None and row.head.attempt == 1 for row, _ in rows)
    assert rig.answers[before][0][:1] == GATEWAY[:1]
    assert len(rig.answers) == before + 1, "the question itself is answered only when its time is over"
    assert (rig.titanic.waiters_count, rig.titanic.watching._groups) == (0, {})


def test_what_a_fetch_says_is_what_is_told() -> None:
    """Head and bytes are those of titanic.fetch, from memory or from the journal."""
    rig = Rig()
    for forget in (False, True):
        key = rig.submit()
        watch(rig, key)
        done(rig, b"the reply")
        if forget:
            rig.shell.bodies.forget()
        rig.sync()
        ((row, reply),) = told(rig)[-1]
        fetched = rig.fetch(key)
        assert fetched is not None
        assert row.head == tsp.decode_reply_head(fetched[1])
        assert reply == fetched[2]


def test_gateways_are_told_apart() -> None:
    """By all of the path but the tag of the question: also behind a proxy."""
    rig = Rig()
    paths: list[Path] = [(b"a", b"t"), (b"b", b"t"), (b"proxy", b"c", b"t"), (b"proxy", b"d", b"t")]
    keys = [rig.submit() for _ in paths]
    for key, path in zip(keys, paths, strict=True):
        watch(rig, key, path=path)
        done(rig)
    before = len(rig.answers)
    rig.sync()
    assert [path for path, service, _ in rig.answers[before:] if service == TOLD] == paths
    assert [[row.key for row, _ in rows] for rows in told(rig, before)] == [[key] for key in keys]


def test_what_cannot_be_told_is_to_be_asked_for() -> None:
    """Many frames, large ones, damage, other ends, ids that are nobody's or another owner's."""
    rig = Rig()
    ended = rig.submit()
    done(rig, b"at once")
    rig.sync()
    own, mine = rig.submit(owner="me"), rig.submit(owner="me")
    done(rig)
    rig.sync()
    rig.must_take()
    watch(rig, ended, rig.key(), b"k" * 16)
    (rows,) = told(rig)
    assert [(row.head is not None, reply) for row, reply in rows] == [
        (True, b"at once"),
        (False, b""),
        (False, b""),
    ]
    watch(rig, own, mine, owner="you")
    assert [row.head for row, _ in told(rig)[-1]] == [None, None]
    watch(rig, own, owner="me")
    assert told(rig)[-1][0][0].head is not None
    for frames in ((b"two", b"frames"), (bytes(REPLY_MAX_BYTES + 1),)):
        key = rig.submit()
        watch(rig, key)
        done(rig, *frames)
        rig.sync()
        assert told(rig)[-1] == [(ToldRow(key), b"")]
        assert list(rig.fetch(key) or ())[2:] == list(frames)
    damaged = rig.submit()
    watch(rig, damaged)
    done(rig)
    rig.shell.bodies.forget()
    rig.journal.damaged.add(rig.journal.index[damaged].reply_at)
    rig.sync()
    assert told(rig)[-1] == [(ToldRow(damaged), b"")]
    closed = rig.submit()
    watch(rig, closed)
    rig.ask(tsp.CLOSE, closed.hex().encode())
    rig.sync()
    assert told(rig)[-1] == [(ToldRow(closed), b"")]


def test_a_question_is_answered_when_its_time_is_over() -> None:
    """With how many are left; another question about the same job goes on."""
    rig = Rig()
    first, second = rig.submit(), rig.submit()
    watch(rig, first, second, wait_ms=500)
    watch(rig, second, wait_ms=5_000, path=OTHER)
    done(rig)
    rig.sync()
    rig.pass_ms(500)
    path, service, frames = rig.answers[-1]
    assert (path, service, frames[0]) == (GATEWAY, WATCH, tsp.OK)
    assert decode_watched(frames[1]) == Watched(1)
    assert rig.titanic.waiters_count == 1
    done(rig)
    rig.sync()
    assert [row.key for row, _ in told(rig)[-1]] == [second]
    count = len(rig.answers)
    rig.pass_ms(10_000)
    assert len(rig.answers) == count
    assert rig.titanic.next_deadline() is None or rig.titanic.waiters_count == 0


def test_those_who_wait_are_bounded() -> None:
    """Beyond the limit a job is not waited for: who asked is told so at once."""
    rig = Rig(limits=TitanicLimits(waiters_max_count=2))
    keys = [rig.submit() for _ in range(3)]
    watch(rig, *keys)
    assert told(rig) == [[(ToldRow(keys[2]), b"")]]
    assert rig.titanic.waiters_count == 2
    watch(rig, keys[0], wait_ms=0)
    assert told(rig)[-1] == [(ToldRow(keys[0]), b"")]


@pytest.mark.parametrize(
    "body",
    [[], [b""], [b"\xc1"], [tsp.encode_head(WatchHead(b"", 1))], [tsp.encode_head(WatchHead(b"short", 1))],
     [tsp.encode_head(WatchHead(bytes(16 * 1_001), 1))], [tsp.encode_head([b"k" * 16, "soon"])]],
)  # fmt: skip
def test_a_question_that_is_none_is_refused(body: list[bytes]) -> None:
    """400, and nothing is waited for."""
    rig = Rig()
    answer = rig.ask(WATCH, *body)
    assert answer is not None
    assert answer[0] == tsp.UNKNOWN
    assert rig.titanic.waiters_count == 0


def test_a_message_is_bounded_in_bytes() -> None:
    """Many replies of a turn become several messages, none lost."""
    rig = Rig()
    size = REPLY_MAX_BYTES
    keys = [rig.submit() for _ in range(2 * TOLD_MAX_BYTES // size)]
    watch(rig, *keys)
    for _ in keys:
        done(rig, bytes(size))
    before = len(rig.answers)
    rig.sync()
    messages = told(rig, before)
    assert len(messages) > 1
    assert [row.key for rows in messages for row, _ in rows] == keys
    assert all(sum(len(reply) for _, reply in rows) <= TOLD_MAX_BYTES + size for rows in messages)
