"""Submits of one turn travel together, and each gets what it would have got alone."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import pytest

from core.errors import ServerUnreachableError
from core.pure import tsp
from core.pure.jobs import RequestMeta
from gateway.errors import ProblemError
from gateway.http.coalescer import FRAME_MAX_BYTES, GROUP_MAX
from gateway.http.node import Node
from tests.gateway.fake_node import FakeNode

T = TypeVar("T")
META = RequestMeta(b"echo", 0, "text/plain")
Outcome = tsp.SubmitAck | BaseException


class Rig:
    """A gateway's node over a fake one."""

    def __init__(self) -> None:
        self.fake = FakeNode()
        self.node = Node(timeout_s=0.2, patience_s=1.0)
        self.node.link = self.fake

    def run(self, work: Callable[["Rig"], Awaitable[T]]) -> T:
        async def main() -> T:
            await self.node.introduced()
            self.fake.calls.clear()
            return await work(self)

        return asyncio.run(main())

    async def all(self, jobs: Sequence[tuple[RequestMeta, bytes]]) -> list[Outcome]:
        """Every submit in the same turn of the loop."""
        submits = [self.node.submit(meta, (frame,)) for meta, frame in jobs]
        return list(await asyncio.gather(*submits, return_exceptions=True))

    def frames(self, outcomes: Sequence[Outcome]) -> list[bytes]:
        """What is stored under the ids of these acknowledgements."""
        return [self.fake.jobs[ack.key].frames[0] for ack in outcomes if isinstance(ack, tsp.SubmitAck)]


def test_one_alone() -> None:
    """A submit without company is a submit."""
    rig = Rig()
    (ack,) = rig.run(lambda rig: rig.all([(META, b"x")]))
    assert isinstance(ack, tsp.SubmitAck)
    assert rig.fake.calls == [tsp.SUBMIT]


def test_company() -> None:
    """Those of one turn that ask for the same are one message; each id has its own body."""
    rig = Rig()
    bodies = [b"%d" % number for number in range(50)]
    outcomes = rig.run(lambda rig: rig.all([(META, body) for body in bodies]))
    assert rig.fake.calls == [tsp.PACK]
    assert rig.frames(outcomes) == bodies
    assert all(isinstance(ack, tsp.SubmitAck) and not ack.replayed for ack in outcomes)
    assert (rig.node.coalescer.groups_count, rig.node.coalescer.grouped_count) == (1, 50)


def test_who_asks_for_something_else() -> None:
    """Another service, owner, type or option is another message; the order of acceptance stays."""
    rig = Rig()
    others = [RequestMeta(b"b", 0), RequestMeta(b"echo", 0, "text/plain", owner="k"), META]
    jobs = [(META, b"1"), (META, b"2"), (others[0], b"3"), (others[1], b"4"), (others[2], b"5")]
    outcomes = rig.run(lambda rig: rig.all(jobs))
    assert rig.fake.calls == [tsp.PACK, tsp.SUBMIT, tsp.SUBMIT, tsp.SUBMIT]
    assert rig.frames(outcomes) == [b"1", b"2", b"3", b"4", b"5"]
    stored = [rig.fake.jobs[ack.key].meta.owner for ack in outcomes if isinstance(ack, tsp.SubmitAck)]
    assert stored == ["", "", "", "k", ""]


def test_limits() -> None:
    """A group has a bounded size, and what is large goes alone."""
    rig = Rig()
    jobs = [(META, b"x")] * (GROUP_MAX + 1) + [(META, b"y" * (FRAME_MAX_BYTES + 1))]
    outcomes = rig.run(lambda rig: rig.all(jobs))
    assert len(rig.frames(outcomes)) == GROUP_MAX + 2
    assert sorted(rig.fake.calls) == sorted([tsp.PACK, tsp.SUBMIT, tsp.SUBMIT])


def test_a_lost_answer_makes_no_second_jobs() -> None:
    """A group without answer is repeated under its ids (X2)."""
    rig = Rig()
    rig.fake.lost_answers = 2
    outcomes = rig.run(lambda rig: rig.all([(META, b"x"), (META, b"y")]))
    assert rig.frames(outcomes) == [b"x", b"y"]
    assert len(rig.fake.jobs) == 2
    assert not any(isinstance(ack, tsp.SubmitAck) and ack.replayed for ack in outcomes)


def test_another_node() -> None:
    """When the node's secret is another, the whole group is submitted again."""
    rig = Rig()

    async def work(rig: Rig) -> list[Outcome]:
        rig.fake.secret = b"t" * 32
        return await rig.all([(META, b"x"), (META, b"y")])

    assert len(rig.frames(rig.run(work))) == 2


@pytest.mark.parametrize("status", [tsp.FULL, tsp.UNAVAILABLE, tsp.ERROR])
def test_a_refusal(status: bytes) -> None:
    """A refused group is refused to each, with an error of its own."""
    rig = Rig()
    rig.fake.refusal = (status, "no")
    one, two = rig.run(lambda rig: rig.all([(META, b"x"), (META, b"y")]))
    assert isinstance(one, ProblemError)
    assert isinstance(two, ProblemError)
    assert one is not two
    assert one.kind is two.kind


def test_a_line_refused_and_a_collision() -> None:
    """A refused line is its own caller's; an id that was taken is replaced, and nobody gets another's job."""
    rig = Rig()

    class Picky(FakeNode):
        async def call(self, service: bytes, body: Sequence[bytes], timeout_s: float) -> list[bytes]:
            if service == tsp.PACK:
                packed = tsp.decode_pack(body[0]).keys
                keys = [packed[at : at + 16] for at in range(0, len(packed), 16)]
                lines = (
                    tsp.BatchLine(507, keys[0], detail="full"),
                    tsp.BatchLine(200, keys[1], "queued", replayed=True),
                    tsp.BatchLine(200, keys[2], "queued"),
                )
                return [tsp.OK, tsp.encode_head(tsp.PackAck("", 1, "fsync", 1, lines))]
            return await super().call(service, body, timeout_s)

    rig.node.link = rig.fake = Picky()
    full, taken, stored = rig.run(lambda rig: rig.all([(META, b"1"), (META, b"2"), (META, b"3")]))
    assert isinstance(full, ProblemError)
    assert full.kind.status == 507
    assert isinstance(taken, tsp.SubmitAck)
    assert rig.fake.jobs[taken.key].frames == [b"2"]
    assert isinstance(stored, tsp.SubmitAck)


def test_while_one_is_on_its_way_the_others_gather() -> None:
    """A message that is unanswered holds the next one back until its answer, and no longer than a moment."""
    rig = Rig()
    answered: list[asyncio.Event] = []

    class Slow(FakeNode):
        async def call(self, service: bytes, body: Sequence[bytes], timeout_s: float) -> list[bytes]:
            if service in (tsp.SUBMIT, tsp.PACK):
                answered.append(asyncio.Event())
                await answered[-1].wait()
            return await super().call(service, body, timeout_s)

    async def work(rig: Rig) -> list[Outcome]:
        submits = [asyncio.create_task(rig.node.submit(META, (b"0",)))]
        while not answered:
            await asyncio.sleep(0)
        for number in range(1, 6):
            submits.append(asyncio.create_task(rig.node.submit(META, (b"%d" % number,))))
            await asyncio.sleep(0)
        assert len(answered) == 1
        answered[0].set()
        await submits[0]
        while len(answered) < 2:
            await asyncio.sleep(0)
        submits.append(asyncio.create_task(rig.node.submit(META, (b"6",))))
        while len(answered) < 3:  # nobody answers the second: the third leaves all the same
            await asyncio.sleep(0)
        answered[1].set()
        answered[2].set()
        return list(await asyncio.gather(*submits))

    rig.node.link = rig.fake = Slow()
    outcomes = rig.run(work)
    assert sorted(rig.frames(outcomes)) == [b"%d" % number for number in range(7)]
    assert rig.fake.calls == [tsp.SUBMIT, tsp.PACK, tsp.SUBMIT]


def test_no_node() -> None:
    """Without a node each caller learns it, within the gateway's patience."""
    rig = Rig()

    async def work(rig: Rig) -> list[Outcome]:
        rig.fake.down = True
        return await rig.all([(META, b"x"), (META, b"y")])

    assert all(isinstance(error, ServerUnreachableError) for error in rig.run(work))


def test_closes_gather_while_one_is_on_its_way() -> None:
    """The first goes alone, those of one owner that come meanwhile go together; each job is gone."""
    rig = Rig()
    made: list[bytes] = []

    async def work(rig: Rig) -> list[Outcome]:
        acks = await rig.all([(META, b"%d" % number) for number in range(6)])
        made.extend(ack.key for ack in acks if isinstance(ack, tsp.SubmitAck))
        rig.fake.calls.clear()
        await rig.node.close(made[0])
        await asyncio.gather(*(rig.node.close(key) for key in made[1:4]), rig.node.close(made[4], "stranger"))
        return acks

    rig.run(work)
    assert rig.fake.calls == [tsp.CLOSE, tsp.DELETE, tsp.DELETE]
    assert list(rig.fake.jobs) == made[4:]


def test_a_refused_group_of_closes() -> None:
    """Each learns it, with an error of its own."""
    rig = Rig()

    async def work(rig: Rig) -> list[BaseException | None]:
        rig.fake.refusal = (tsp.ERROR, "no")
        return list(
            await asyncio.gather(*(rig.node.close(b"k" * 16) for _ in range(3)), return_exceptions=True)
        )

    errors = rig.run(work)
    assert all(isinstance(error, ProblemError) for error in errors)
    assert len({id(error) for error in errors}) == 3
