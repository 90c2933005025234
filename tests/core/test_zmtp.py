"""The wire below MDP against bytes from RFCs 13, 15, 23, 37: whole, byte by byte, with bytes to spare."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import PeerError
from core.pure.zmtp import PING, Wire, decoded, encode, encode_1, encoded, message_end

GIVEN = b"\0abcd"
SIGNATURE = b"\xff\0\0\0\0\0\0\0\x01\x7f"
GREETING_31 = SIGNATURE + b"\x03\x01NULL" + bytes(16) + b"\0" + bytes(31)
GREETING_30 = SIGNATURE + b"\x03\x00NULL" + bytes(16) + b"\0" + bytes(31)
READY = b"\x04\x1c\x05READY\x0bSocket-Type\0\0\0\x06DEALER"
NAMED = b"\x04\x29\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\x00"
OURS = SIGNATURE + GREETING_31[10:] + b"\x04\x29\x05READY\x0bSocket-Type\0\0\0\x06ROUTER\x08Identity\0\0\0\0"
HELLO = b"\x01\x00\x00\x05hello"  # an empty frame with more to come, then five bytes


def wire(*, message_max_bytes: int = 1 << 20, frames_max: int = 64) -> Wire:
    return Wire(GIVEN, message_max_bytes=message_max_bytes, frames_max=frames_max)


def feed(one: Wire, data: bytes, step: int) -> tuple[list[list[bytes]], bytes]:
    """All messages and all that was said, with the bytes given ``step`` at a time."""
    found: list[list[bytes]] = []
    said = b"".join(one.out)
    one.out.clear()
    for at in range(0, len(data), step):
        was_opened = one.opened
        found += one.receive(data[at : at + step])
        if one.opened and not was_opened:
            found += one.receive(b"")
        said += b"".join(one.out)
        one.out.clear()
    return found, said


@pytest.mark.parametrize("step", [1, 7, 10_000])
@pytest.mark.parametrize("greeting", [GREETING_30, GREETING_31])
def test_rfc23_a_peer_of_version_3_is_answered_and_heard(step: int, greeting: bytes) -> None:
    """Greeting and READY each way, then messages; the given identity is in front."""
    one = wire()
    found, said = feed(one, greeting + READY + HELLO + HELLO, step)
    assert said == OURS
    assert found == [[GIVEN, b"", b"hello"]] * 2
    assert one.pings == (greeting == GREETING_31)
    assert one.broken is None


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_rfc15_a_peer_of_version_2_is_answered_and_heard(step: int) -> None:
    """Revision 1 and the socket type behind the signature, then the identity as a frame."""
    one = wire()
    found, said = feed(one, SIGNATURE + b"\x01\x05" + b"\x00\x04lucy" + HELLO, step)
    assert said == SIGNATURE + b"\x03\x06\x00\x00"
    assert found == [[b"lucy", b"", b"hello"]]
    out: list[bytes] = []
    one.encode([b"lucy", b"", b"hello"], out)
    assert b"".join(out) == HELLO


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_rfc13_a_peer_of_version_1_is_answered_and_heard(step: int) -> None:
    """No signature: length, flags, body, the identity first. It reads our signature as an empty identity."""
    one = wire()
    found, said = feed(one, b"\x05\x00lucy" + b"\x01\x01\x06\x00hello", step)
    assert said == SIGNATURE
    assert found == [[b"lucy", b"", b"hello"]]
    out: list[bytes] = []
    one.encode([b"lucy", b"", b"hello", b"x" * 300], out)
    assert b"".join(out) == b"\x01\x01\x06\x01hello\xff\0\0\0\0\0\0\x01\x2d\x00" + b"x" * 300


def test_rfc23_a_peer_that_gives_its_name_is_known_by_it() -> None:
    """The Identity of READY, whatever the case of the property's name."""
    one = wire()
    ready = b"\x04\x2d\x05READY\x0bsocket-type\0\0\0\x06DEALER\x08IDENTITY\0\0\0\x04lucy"
    found, _ = feed(one, GREETING_31 + ready + HELLO, 10_000)
    assert found == [[b"lucy", b"", b"hello"]]


def opened(*, message_max_bytes: int = 1 << 20, frames_max: int = 64) -> Wire:
    one = wire(message_max_bytes=message_max_bytes, frames_max=frames_max)
    feed(one, GREETING_31 + NAMED, 10_000)
    assert one.opened
    return one


@pytest.mark.parametrize("size", [0, 1, 255, 256, 32_767, 32_768, 70_000])
@pytest.mark.parametrize("step", [999, 100_000])
def test_rfc23_frames_of_any_size(size: int, step: int) -> None:
    """One byte of length up to 255, eight above; what comes in goes out the same."""
    body = bytes(size)
    head = bytes((size,)) if size < 256 else size.to_bytes(8, "big")
    flags = 0 if size < 256 else 2
    data = bytes((flags | 1,)) + head + body + bytes((flags,)) + head + body + HELLO
    found, _ = feed(opened(), data, step)
    assert found == [[GIVEN, body, body], [GIVEN, b"", b"hello"]]
    out: list[bytes] = []
    encode([GIVEN, body, body], out)
    assert b"".join(out) + HELLO == data


def test_a_long_frame_says_how_much_is_missing() -> None:
    """So that the reader takes no byte more, and the frame is copied once."""
    one = opened()
    feed(one, b"\x02" + (100_000).to_bytes(8, "big") + b"x" * 30_000, 50_000)
    assert one.wanted_bytes == 70_000
    found, _ = feed(one, b"y" * 70_000, 50_000)
    assert found == [[GIVEN, b"x" * 30_000 + b"y" * 70_000]]
    assert one.wanted_bytes == 0


def test_rfc37_a_ping_is_answered_also_between_frames() -> None:
    """PONG brings the context back; the time to live is remembered; PONG and unknown commands pass."""
    one = opened()
    ping = b"\x04\x0a\x04PING\x00\x3cabc"
    found, said = feed(one, b"\x01\x00" + ping + b"\x00\x05hello\x04\x05\x04PONG\x04\x04\x03HUH", 10_000)
    assert said == b"\x04\x08\x04PONGabc"
    assert found == [[GIVEN, b"", b"hello"]]
    assert one.ttl_ms == 6_000
    assert PING == b"\x04\x07\x04PING\0\0"


@pytest.mark.parametrize(
    "data",
    [
        b"\x08\x00",  # a reserved bit
        b"\x05\x00",  # a command with more to follow
        b"\x04\x05\x04PING",  # no time to live
        b"\x04\x18\x04PING\0\0" + b"c" * 17,  # a context above 16 bytes
        b"\x02" + (1 << 40).to_bytes(8, "big"),  # announced, above the limit
        b"\x06" + (1 << 20).to_bytes(8, "big"),  # a command above the limit
        b"\x03\0\0\0\0\0\0\x80\0" + bytes(32_768) + b"\x02\0\0\0\0\0\x0f\x90\0",  # together above the limit
    ],
)
@pytest.mark.parametrize("step", [1, 100_000])
def test_what_breaks_the_protocol_ends_it_after_what_came_before(data: bytes, step: int) -> None:
    """The messages before the fault are given, the fault is named, nothing is raised."""
    one = opened()
    found, _ = feed(one, HELLO + data, step if len(data) < 1_000 else 1_000)
    assert found == [[GIVEN, b"", b"hello"]]
    assert isinstance(one.broken, PeerError)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        SIGNATURE + b"\x03\x01CURVE" + bytes(15) + b"\0" + bytes(31),
        GREETING_31 + b"\x04\x18\x05READY\x0bSocket-Type\0\0\0\x03PUB",
        GREETING_31 + b"\x04\x1a\x05READY\x0bSocket-Type\0\0\0\x09DEALER",  # cut short
        GREETING_31 + b"\x04\x0b\x05ERROR\x04nope",
        GREETING_31 + HELLO,
        GREETING_31 + b"\x06" + (1 << 30).to_bytes(8, "big"),
        GREETING_31 + b"\x04\x2a\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\x01\0",
        SIGNATURE + b"\x01\x01\x00\x00",  # a PUB of version 2
        SIGNATURE + b"\x00\x05\x00\x00",
        SIGNATURE + b"\x01\x05\x01\x00",
        b"\x00\x00",
        b"\x05\x01lucy",
    ],
)
@pytest.mark.parametrize("step", [1, 10_000])
def test_a_wrong_handshake_ends_it(data: bytes, step: int) -> None:
    """Another protocol, mechanism, socket type, or a name that is not for peers to give."""
    one = wire()
    found, _ = feed(one, data, step)
    assert found == []
    assert not one.opened
    assert isinstance(one.broken, PeerError)


def test_a_message_of_too_many_frames_is_given_cut_short() -> None:
    """More than ``frames_max`` are given, so that the owner sees it; the rest is not kept."""
    one = opened(frames_max=4)
    found, _ = feed(one, b"\x01\x01x" * 5_000 + b"\x00\x00" + HELLO, 300)
    assert len(found) == 2
    assert 4 < len(found[0]) < 4 + 110
    assert found[1] == [GIVEN, b"", b"hello"]


def test_at_most_so_many_messages_a_call() -> None:
    """The rest is given by calls with nothing."""
    one = opened()
    assert len(one.receive(HELLO * 5, 2)) == 2
    assert one.pending
    assert len(one.receive(b"", 2)) == 2
    assert len(one.receive(b"", 2)) == 1
    assert not one.pending


frames = st.lists(st.binary(max_size=300), min_size=1, max_size=6)


@settings(max_examples=100, deadline=None)
@given(st.lists(frames, max_size=8), st.integers(1, 400), st.booleans())
def test_what_is_written_is_read_wherever_it_is_cut(
    messages: list[list[bytes]], step: int, old: bool
) -> None:
    """Both framings, in pieces of any size."""
    one = wire()
    out: list[bytes] = []
    for message in messages:
        (encode_1 if old else encode)([GIVEN, *message], out)
    found, _ = feed(one, (b"\x01\x00" if old else GREETING_31 + NAMED) + b"".join(out), step)
    assert found == [[GIVEN, *message] for message in messages]


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=600),
    st.integers(1, 200),
    st.sampled_from([b"", SIGNATURE, GREETING_31, GREETING_31 + NAMED]),
)
def test_any_bytes_are_messages_or_a_fault(data: bytes, step: int, before: bytes) -> None:
    """Nothing is raised, and every message has the peer's identity in front and a frame behind it."""
    one = wire(message_max_bytes=1_000, frames_max=8)
    for at in range(0, len(before + data), step):
        if one.broken is None:
            for message in one.receive((before + data)[at : at + step]):
                assert message[0] == one.identity
                assert len(message) > 1


frames_of_a_body = st.lists(
    st.one_of(st.binary(max_size=9), st.sampled_from([bytes(255), bytes(256), bytes(70_000)])), min_size=1
)


@given(frames_of_a_body, st.binary(max_size=20), st.integers(1, 40))
def test_a_whole_message_is_found_and_read_where_it_lies(frames: list[bytes], more: bytes, cut: int) -> None:
    """Its end, whatever is behind it, is known without its frames; there is none while a byte is missing."""
    message = encoded(frames)
    assert decoded(message) == frames
    assert message_end(b"??" + message + more, 2, len(frames)) == 2 + len(message)
    assert message_end(message[: max(0, len(message) - cut)], 0, len(frames)) == 0
    assert message_end(message, 0, len(frames) - 1) == 0


def test_a_command_is_no_message() -> None:
    """Nor are reserved bits."""
    assert message_end(PING, 0, 64) == 0
    assert message_end(b"\x08\0", 0, 64) == 0


def test_at_rest_is_between_two_messages() -> None:
    """Not before the handshake is done, within a frame, between two frames, or within a long one."""
    assert not wire().at_rest
    one = wire()
    feed(one, GREETING_31 + READY, 10_000)
    assert one.at_rest
    for begun in (b"\0", b"\1\0", b"\2" + (70_000).to_bytes(8, "big") + bytes(40_000)):
        one = wire()
        feed(one, GREETING_31 + READY + begun, 10_000)
        assert not one.at_rest
    old = wire()
    feed(old, b"\x01\x00" + b"\x06\x00hello", 10_000)
    assert old.opened
    assert not old.at_rest
