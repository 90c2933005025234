"""Requests that wait ask together, are told together, and lose nothing when nobody tells them."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Sequence

import pytest

from core.errors import ServerUnreachableError
from core.pure import tsp
from core.pure.watch_heads import WATCH, ToldHead, ToldRow, WatchHead, decode_watch
from gateway.http.watcher import GROUP_MAX, Watcher
from tests.gateway.conftest import SETTINGS, LiveGateway
from tests.gateway.fake_node import FakeNode
from tests.support.raw_router import until

HEAD = tsp.ReplyHead("text/plain", 1, 7)
KEYS = [bytes((number,)) * 16 for number in range(1, 6)]


class Who:
    """One that waits."""

    def __init__(self) -> None:
        self.answers: list[list[bytes] | None] = []

    def told(self, answer: list[bytes] | None) -> None:
        self.answers.append(answer)


class Rig:
    """A watcher whose questions are answered when the test says so."""

    def __init__(self) -> None:
        self.questions: list[tuple[WatchHead, float]] = []
        self.answers: list[asyncio.Future[list[bytes]]] = []
        self.watcher = Watcher(self._ask)

    async def _ask(self, service: bytes, body: Sequence[bytes], wait_s: float) -> list[bytes]:
        assert service == WATCH
        self.questions.append((decode_watch(body[0]), wait_s))
        self.answers.append(asyncio.get_running_loop().create_future())
        return await self.answers[-1]

    def tell(self, *rows: tuple[bytes, bytes | None]) -> None:
        heads = [ToldRow(key) if reply is None else ToldRow(key, HEAD, len(reply)) for key, reply in rows]
        bodies = b"".join(reply or b"" for _, reply in rows)
        self.watcher.told([tsp.OK, tsp.encode_head(ToldHead(tuple(heads))), bodies])


def run(work: Callable[[Rig], Awaitable[None]]) -> None:
    async def main() -> None:
        await work(Rig())

    asyncio.run(main())


def test_a_turn_is_one_question_for_each_wait_and_owner() -> None:
    """And replies go to whoever waits, twice if two do."""

    async def work(rig: Rig) -> None:
        whos = [Who() for _ in range(5)]
        a, b, c, d = KEYS[:4]
        asked = [(a, 5, ""), (b, 5, ""), (a, 5, ""), (c, 3, ""), (d, 5, "me")]
        for who, (key, wait_s, owner) in zip(whos, asked, strict=True):
            rig.watcher.add(key, wait_s, owner, who)
        await until(lambda: len(rig.questions) == 3)
        assert [(head.keys, head.wait_ms, head.owner, wait_s) for head, wait_s in rig.questions] == [
            (KEYS[0] + KEYS[1] + KEYS[0], 5_000, "", 5),
            (KEYS[2], 3_000, "", 3),
            (KEYS[3], 5_000, "me", 5),
        ]
        rig.tell((KEYS[0], b"first"), (KEYS[4], b"nobody's"), (KEYS[2], None), (KEYS[1], b""))
        assert [who.answers for who in whos] == [
            [[tsp.OK, tsp.encode_head(HEAD), b"first"]],
            [[tsp.OK, tsp.encode_head(HEAD), b""]],
            [[tsp.OK, tsp.encode_head(HEAD), b"first"]],
            [None],
            [],
        ]
        await until(lambda: rig.answers[0].cancelled() and rig.answers[1].cancelled())
        assert not rig.answers[2].done(), "somebody is left"

    run(work)


def test_whoever_is_not_told_has_to_ask() -> None:
    """When the question is answered, is refused, or cannot be asked."""

    async def work(rig: Rig) -> None:
        for end in ([tsp.OK, b""], [b"501", b""], ServerUnreachableError("cut")):
            told, left = Who(), Who()
            rig.watcher.add(KEYS[0], 5, "", told)
            rig.watcher.add(KEYS[1], 5, "", left)
            asked = len(rig.answers)
            await until(lambda asked=asked: len(rig.answers) == asked + 1)  # type: ignore[misc]
            rig.tell((KEYS[0], b"x"))
            if isinstance(end, list):
                rig.answers[-1].set_result(end)
            else:
                rig.answers[-1].set_exception(end)
            await until(lambda left=left: left.answers == [None])  # type: ignore[misc]
            assert len(told.answers) == 1
            rig.tell((KEYS[1], b"late"))
            assert left.answers == [None]

    run(work)


def test_a_defect_forgets_nobody() -> None:
    """The loop's handler is told of it; who waits is sent to ask."""

    async def work(rig: Rig) -> None:
        errors: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
        who = Who()
        rig.watcher.add(KEYS[0], 5, "", who)
        await until(lambda: len(rig.answers) == 1)
        rig.answers[0].set_exception(RuntimeError("a defect"))
        await until(lambda: who.answers == [None])
        rig.answers.clear()
        gc.collect()
        await until(lambda: len(errors) == 1)

    run(work)


def test_who_leaves_is_not_told_and_the_last_takes_the_question_along() -> None:
    """Before it is asked and after."""

    async def work(rig: Rig) -> None:
        early, first, second = Who(), Who(), Who()
        rig.watcher.add(KEYS[2], 7, "", early)
        rig.watcher.leave(KEYS[2], early)
        rig.watcher.add(KEYS[0], 5, "", first)
        rig.watcher.add(KEYS[0], 5, "", second)
        await until(lambda: len(rig.answers) == 1)
        rig.watcher.leave(KEYS[0], first)
        rig.watcher.leave(KEYS[0], first)
        await asyncio.sleep(0)
        assert not rig.answers[0].done()
        rig.watcher.leave(KEYS[0], second)
        await until(rig.answers[0].cancelled)
        rig.tell((KEYS[0], b"late"), (KEYS[2], b"late"))
        assert early.answers + first.answers + second.answers == []
        assert not rig.watcher._waiting

    run(work)


def test_a_stop_sends_everybody_away() -> None:
    """Each asks, and meets a server that does not wait any more."""

    async def work(rig: Rig) -> None:
        whos = [Who() for _ in KEYS]
        for key, who in zip(KEYS, whos, strict=True):
            rig.watcher.add(key, 5, "", who)
        await until(lambda: len(rig.answers) == 1)
        rig.watcher.drain()
        assert [who.answers for who in whos] == [[None]] * len(KEYS)
        await until(rig.answers[0].cancelled)

    run(work)


def test_a_crowd_is_several_questions() -> None:
    """None with more ids than the node takes."""

    async def work(rig: Rig) -> None:
        for number in range(GROUP_MAX + 1):
            rig.watcher.add(number.to_bytes(16, "big"), 5, "", Who())
        await until(lambda: len(rig.questions) == 2)
        assert [len(head.keys) // 16 for head, _ in rig.questions] == [GROUP_MAX, 1]

    run(work)


@pytest.mark.parametrize(
    "body", [[], [tsp.OK], [tsp.OK, b"\xc1", b""], [tsp.OK, tsp.encode_head([[[b"key", 5]]]), b""]]
)
def test_what_cannot_be_read_tells_nobody(body: list[bytes]) -> None:
    """It is logged, and everybody goes on waiting."""

    async def work(rig: Rig) -> None:
        who = Who()
        rig.watcher.add(KEYS[0], 5, "", who)
        rig.watcher.told(body)
        assert who.answers == []

    run(work)


def test_a_reply_that_is_shorter_than_it_says_is_asked_for() -> None:
    """Bytes that are not there are nobody's reply."""

    async def work(rig: Rig) -> None:
        who = Who()
        rig.watcher.add(KEYS[0], 5, "", who)
        rig.watcher.told([tsp.OK, tsp.encode_head(ToldHead((ToldRow(KEYS[0], HEAD, 10),))), b"short"])
        assert who.answers == [None]

    run(work)


@pytest.mark.parametrize("tells", [True, False])
def test_a_node_that_does_not_know_the_question(tells: bool) -> None:
    """An older node answers 501: whoever waits asks for its own job, as before, and gets the same."""
    live = LiveGateway(SETTINGS, FakeNode())
    try:
        live.node.tells = tells
        key = live.submit()
        for _ in range(3):  # the first teaches the fast path its head
            live.node.jobs[key].state = "succeeded"
            live.node.finish(key, b"reply", content_type="text/plain")
            answer = live.client.get(f"/v1/jobs/{key.hex()}/reply", headers={"Prefer": "wait=2"})
            assert (answer.status_code, answer.content) == (200, b"reply")
            assert answer.headers["preference-applied"] == "wait=2"
        assert (live.node.calls.count(WATCH) > 0, live.node.calls.count(tsp.FETCH) > 1) == (True, not tells)
    finally:
        live.stop()
