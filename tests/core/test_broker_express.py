"""The broker's short way for common messages decides what the long way decides."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from core.pure.broker import Broker
from core.pure.jobs import Now
from tests.support.broker_rig import BrokerRig

PEERS = [b"P1", b"P2", b"P3"]
ADDRESS = [b"P1", b"P2", b"P3", b"J1", b""]
services = st.sampled_from([b"echo", b"other", b"mmi.service", b"titanic.request", b""])
bodies = st.lists(st.binary(max_size=4), max_size=2)


def of(*parts: st.SearchStrategy[list[bytes]]) -> st.SearchStrategy[list[bytes]]:
    """The frames of all parts, one behind the other."""
    return st.tuples(*parts).map(lambda found: [frame for part in found for frame in part])


def one(*choices: bytes) -> st.SearchStrategy[list[bytes]]:
    return st.sampled_from([[choice] for choice in choices])


peer = one(*PEERS)
messages = st.one_of(
    of(peer, one(b""), one(b"MDPC01"), services.map(lambda name: [name]), bodies),
    of(
        peer, one(b"tag", b"MDPC02", b"MDPW02"), one(b""), one(b"MDPC01"), services.map(lambda n: [n]), bodies
    ),
    of(peer, one(b""), one(b"MDPW01"), one(b"\x01"), one(b"echo", b"other")),
    of(peer, one(b""), one(b"MDPW01"), one(b"\x03"), one(*ADDRESS), one(b"", b"x"), bodies),
    of(peer, one(b""), one(b"MDPW01"), one(b"\x04", b"\x05"), bodies),
    of(peer, one(b"MDPW02"), one(b"\x01", b"\x04", b"\x05"), bodies),
    of(peer, bodies),
)


class Long(BrokerRig):
    """A broker that takes the long way always."""

    def __init__(self, *, durable: bool, internal: bool) -> None:
        super().__init__(durable=durable, internal=internal)
        self.broker._express = lambda frames, now: False  # type: ignore[method-assign]


@settings(max_examples=300, deadline=None)
@given(st.lists(messages, max_size=40), st.booleans(), st.booleans())
def test_both_ways_send_and_count_the_same(story: list[list[bytes]], durable: bool, internal: bool) -> None:
    """Message by message: what is sent, what is counted, what the backlog and the inner service hear."""
    short, long = BrokerRig(durable=durable, internal=internal), Long(durable=durable, internal=internal)
    for rig in (short, long):
        rig.backlog.put(b"echo", b"J1", b"body")
    for frames in story:
        assert short.receive(*frames) == long.receive(*frames)
        assert short.broker.counters == long.broker.counters
        assert short.backlog.results == long.backlog.results
        assert short.internal.asked == long.internal.asked


def test_the_short_way_is_taken() -> None:
    """REQUEST, REPLY, HEARTBEAT of 0.1, and a pipelined call of the inner service: the others are not."""
    rig = BrokerRig(internal=True)
    taken: list[bool] = []

    def express(frames: Sequence[bytes], now: Now) -> bool:
        taken.append(Broker._express(rig.broker, frames, now))
        return taken[-1]

    rig.broker._express = express  # type: ignore[method-assign]
    rig.receive(b"W", b"", b"MDPW01", b"\x01", b"echo")
    rig.receive(b"C", b"", b"MDPC01", b"echo", b"body")
    rig.receive(b"W", b"", b"MDPW01", b"\x03", b"C", b"", b"body")
    rig.receive(b"W", b"", b"MDPW01", b"\x04")
    rig.receive(b"C", b"tag", b"", b"MDPC01", b"titanic.request", b"echo", b"x")
    assert taken == [False, True, True, True, True]
