"""The broker's short way for common messages decides what the long way decides."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.pure.broker import Broker
from core.pure.jobs import Now
from core.pure.zmtp import Wire, encoded
from tests.support.broker_rig import BrokerRig

PEERS = [b"P1", b"P2", b"P3"]
ADDRESS = [b"P1", b"P2", b"P3", b"J1", b""]
services = st.sampled_from([b"echo", b"other", b"mmi.service", b"titanic.request", b""])
bodies = st.lists(st.one_of(st.binary(max_size=4), st.just(bytes(300))), max_size=2)


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


class Wired(BrokerRig):
    """A broker that is offered the bytes first, as the shell does, and is given the rest as messages."""

    def __init__(self, *, durable: bool, internal: bool) -> None:
        super().__init__(durable=durable, internal=internal)
        self.used_bytes = 0

    def read(self, peer: bytes, messages: Sequence[list[bytes]], cut: int = 0) -> list[list[bytes]]:
        """These messages in one piece, but for the last ``cut`` bytes, which come later; what was sent."""
        data = b"".join(encoded(frames[1:]) for frames in messages)
        self.take_sent()
        used = self.broker.read(peer, data[: len(data) - cut], self.now)
        self.used_bytes += used
        for frames in open_wire(peer).receive(data[used:]):
            self.broker.receive(frames, self.now)
        return self.take_sent()


def open_wire(peer: bytes) -> Wire:
    """A connection after its handshake."""
    wire = Wire(peer, message_max_bytes=1 << 20, frames_max=64)
    hello = b"\xff" + bytes(8) + b"\x7f\x03\0NULL" + bytes(16) + bytes(32)
    wire.receive(hello + b"\x04\x1c\x05READY\x0bSocket-Type\0\0\0\x06DEALER")
    assert wire.at_rest
    return wire


@pytest.mark.interpreted
@settings(max_examples=300, deadline=None)
@given(
    st.lists(messages.filter(lambda frames: len(frames) > 1), max_size=60),
    st.booleans(),
    st.booleans(),
    st.integers(0, 300),
)
def test_bytes_and_frames_are_sent_and_counted_the_same(
    story: list[list[bytes]], durable: bool, internal: bool, cut: int
) -> None:
    """What a peer says at once, whole or cut anywhere, read as bytes where it can be, beside the long way."""
    wired, long = Wired(durable=durable, internal=internal), Long(durable=durable, internal=internal)
    for rig in (wired, long):
        rig.ready(b"P3")
        rig.backlog.put(b"echo", b"J1", b"body")
    for name, group in groupby(story, lambda frames: frames[0]):
        said = list(group)
        size_bytes = sum(len(encoded(frames[1:])) for frames in said)
        assert wired.read(name, said, min(cut, size_bytes)) == [
            out for frames in said for out in long.receive(*frames)
        ]
        assert wired.pass_ms(1_000) == long.pass_ms(1_000)
        assert wired.broker.counters == long.broker.counters
        assert wired.backlog.results == long.backlog.results
        assert wired.internal.asked == long.internal.asked
        assert wired.broker.services() == long.broker.services()


def test_the_way_of_bytes_is_taken() -> None:
    """Many REQUESTs at once, the REPLY to each, HEARTBEAT; and it ends before what is cut or is another."""
    rig = Wired(durable=False, internal=False)
    rig.ready(b"W")
    ask = [b"C", b"", b"MDPC01", b"echo", b"body", bytes(300)]
    assert rig.read(b"C", [ask, ask, ask]) == [
        [b"W", b"", b"MDPW01", b"\x02", b"C", b"", b"body", bytes(300)]
    ]
    one = len(encoded(ask[1:]))
    assert rig.used_bytes == 3 * one
    assert rig.broker.read(b"C", (encoded(ask[1:]) * 2)[:-1], rig.now) == one
    assert rig.broker.read(b"C", encoded([b"", b"MDPC01", b"other", b"body"]), rig.now) == 0
    answer = [b"", b"MDPW01", b"\x03", b"C", b"", bytes(300)]
    sent = rig.read(b"W", [[b"W", *answer]])
    assert sent[0] == [b"C", b"", b"MDPC01", b"echo", bytes(300)]
    assert sent[1][:3] == [b"W", b"", b"MDPW01"]
    assert rig.used_bytes == 3 * one + len(encoded(answer))
    assert rig.broker.read(b"W", encoded([b"", b"MDPW01", b"\x04"]), rig.now) == len(b"\1\0\1\6MDPW01\0\1\4")


def test_a_request_that_came_as_bytes_is_tried_again_at_another_worker() -> None:
    """Also where that one speaks MDP/0.2 and the first died; the client gets its answer."""
    rig = Wired(durable=False, internal=False)
    rig.ready(b"W")
    rig.read(b"C", [[b"C", b"", b"MDPC01", b"echo", b"body", b""]])
    rig.receive(b"V", b"MDPW02", b"\x01", b"echo")
    assert rig.unreachable(b"W") == [[b"V", b"MDPW02", b"\x02", b"C", b"", b"body", b""]]
    done = rig.receive(b"V", b"MDPW02", b"\x04", b"C", b"", b"done")
    assert done == [[b"C", b"", b"MDPC01", b"echo", b"done"]]


@pytest.mark.interpreted
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


@pytest.mark.interpreted
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
