"""Majordomo frames against bytes written down from RFCs 7/MDP and 18/MDP, not made by our writers."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import PeerError
from core.pure import mdp
from core.pure.mdp_messages import (
    ClientReply,
    ClientRequest,
    Disconnect,
    Heartbeat,
    WorkerReady,
    WorkerReply,
    WorkerRequest,
)

ID = b"\x00\x6b\x8b\x45\x67"  # as libzmq makes them
ADDRESS = b"\x00\x32\x7b\x23\xc6"


class Case(NamedTuple):
    """One command: its frames on the socket of the peer that sends or reads it, and what they mean."""

    name: str
    frames: list[bytes]
    value: object
    least: int  # frames the RFC asks for
    open_end: bool  # whether it may have more


TO_BROKER = [
    Case(
        "0.1 client REQUEST",
        [b"", b"MDPC01", b"echo", b"Hello world"],
        ClientRequest((ID,), b"echo", [b"Hello world"], 1),
        4,
        True,
    ),
    Case(
        "0.1 worker READY",
        [b"", b"MDPW01", b"\x01", b"echo"],
        WorkerReady(ID, b"echo", 1),
        4,
        False,
    ),
    Case(
        "0.1 worker REPLY",
        [b"", b"MDPW01", b"\x03", ADDRESS, b"", b"Hello world"],
        WorkerReply(ID, ADDRESS, [b"Hello world"], True, 1),
        6,
        True,
    ),
    Case("0.1 worker HEARTBEAT", [b"", b"MDPW01", b"\x04"], Heartbeat(ID, 1), 3, False),
    Case("0.1 worker DISCONNECT", [b"", b"MDPW01", b"\x05"], Disconnect(ID, (), 1), 3, True),
    Case(
        "0.2 client REQUEST",
        [b"MDPC02", b"\x01", b"echo", b"Hello world"],
        ClientRequest((ID, b""), b"echo", [b"Hello world"], 2),
        4,
        True,
    ),
    Case("0.2 worker READY", [b"MDPW02", b"\x01", b"echo"], WorkerReady(ID, b"echo", 2), 3, False),
    Case(
        "0.2 worker PARTIAL",
        [b"MDPW02", b"\x03", ADDRESS, b"", b"half"],
        WorkerReply(ID, ADDRESS, [b"half"], False, 2),
        5,
        True,
    ),
    Case(
        "0.2 worker FINAL",
        [b"MDPW02", b"\x04", ADDRESS, b"", b"whole"],
        WorkerReply(ID, ADDRESS, [b"whole"], True, 2),
        5,
        True,
    ),
    Case("0.2 worker HEARTBEAT", [b"MDPW02", b"\x05"], Heartbeat(ID, 2), 2, False),
    Case("0.2 worker DISCONNECT", [b"MDPW02", b"\x06"], Disconnect(ID, (), 2), 2, True),
]
TO_WORKER = [
    Case(
        "0.1 REQUEST",
        [b"", b"MDPW01", b"\x02", ADDRESS, b"", b"Hello world"],
        WorkerRequest(ADDRESS, [b"Hello world"], 1),
        6,
        True,
    ),
    Case("0.1 HEARTBEAT", [b"", b"MDPW01", b"\x04"], Heartbeat(version=1), 3, False),
    Case("0.1 DISCONNECT", [b"", b"MDPW01", b"\x05"], Disconnect(version=1), 3, True),
    Case(
        "0.2 REQUEST",
        [b"MDPW02", b"\x02", ADDRESS, b"", b"Hello world"],
        WorkerRequest(ADDRESS, [b"Hello world"], 2),
        5,
        True,
    ),
    Case("0.2 HEARTBEAT", [b"MDPW02", b"\x05"], Heartbeat(version=2), 2, False),
    Case("0.2 DISCONNECT", [b"MDPW02", b"\x06"], Disconnect(version=2), 2, True),
]
TO_CLIENT = [
    Case("0.1 REPLY", [b"", b"MDPC01", b"echo", b"Hi"], ClientReply((), b"echo", [b"Hi"]), 4, True),
    Case(
        "0.2 PARTIAL", [b"MDPC02", b"\x02", b"echo", b"H"], ClientReply((), b"echo", [b"H"], False), 4, True
    ),
    Case("0.2 FINAL", [b"MDPC02", b"\x03", b"echo", b"Hi"], ClientReply((), b"echo", [b"Hi"]), 4, True),
]


def _ids(cases: list[Case]) -> list[str]:
    return [case.name for case in cases]


# ---- hostile input first ----


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [ID],
        [ID, b""],
        [ID, b"MDPC01"],
        [ID, b"", b"MDPX01", b"echo", b"body"],
        [ID, b"", b"MDPC02", b"\x01", b"echo", b"body"],  # 0.2 behind an empty frame
        [ID, b"MDPC01", b"echo", b"body"],  # 0.1 without its empty frame
        [ID, b"", b"MDPC01", b"", b"body"],  # a service without a name
        [ID, b"MDPC02", b"\x01", b"", b"body"],
        [ID, b"MDPC02", b"\x03", b"echo", b"body"],  # a FINAL is not for the broker
        [ID, b"", b"MDPW01", b"\x02", ADDRESS, b"", b"x"],  # nor is a REQUEST of a worker
        [ID, b"", b"MDPW01", b"\x06"],
        [ID, b"", b"MDPW01", b""],
        [ID, b"", b"MDPW01", b"\x01\x01", b"echo"],
        [ID, b"", b"MDPW01", b"\x01", b""],
        [ID, b"", b"MDPW01", b"\x03", ADDRESS, ADDRESS, b"", b"x"],  # two address frames
        [ID, b"", b"MDPW01", b"\x03", b"", b"", b"x"],  # no address
        [ID, b"MDPW02", b"\x07"],
        [ID, b"corr", b"", b"MDPW01", b"\x01", b"echo"],  # only clients have envelopes
        [ID, *[b"hop"] * 17, b"", b"MDPC01", b"echo", b"x"],  # one hop too many
        [ID, *[b"hop"] * 100_000],
    ],
    ids=range(21),
)
def test_what_is_not_a_command_is_a_peer_error_with_the_identity(frames: list[bytes]) -> None:
    """The broker learns who sent it and nothing else."""
    with pytest.raises(PeerError) as caught:
        mdp.parse(frames)
    assert caught.value.identity == (frames[0] if frames else b"")


@given(st.lists(st.binary(max_size=8) | st.sampled_from([b"", b"MDPC01", b"MDPW01", b"MDPC02", b"MDPW02"])))
def test_no_reader_raises_anything_but_peer_error(frames: list[bytes]) -> None:
    """Any frames: a value or PeerError; and ``explain`` always has a line."""
    for reader in (mdp.parse, mdp.parse_client_reply, mdp.parse_for_worker):
        try:
            reader(frames)
        except PeerError:
            pass
    for to_broker in (None, True, False):
        assert "\n" not in mdp.explain(frames, to_broker=to_broker)


# ---- the commands of the RFCs ----


@pytest.mark.parametrize("case", TO_BROKER, ids=_ids(TO_BROKER))
def test_command_to_the_broker_is_read_whole(case: Case) -> None:
    """The frames of the RFC, behind the ROUTER's identity, give the value."""
    assert mdp.parse([ID, *case.frames]) == case.value


@pytest.mark.parametrize("case", TO_BROKER, ids=_ids(TO_BROKER))
def test_command_to_the_broker_with_frames_missing_is_refused(case: Case) -> None:
    """Every shorter beginning of the command is a peer error."""
    assert len(case.frames) == case.least
    for count in range(case.least):
        with pytest.raises(PeerError):
            mdp.parse([ID, *case.frames[:count]])


@pytest.mark.parametrize("case", TO_BROKER, ids=_ids(TO_BROKER))
def test_command_to_the_broker_with_frames_to_spare(case: Case) -> None:
    """Bodies grow (empty frames included), DISCONNECT has a reason, everything else is refused."""
    spare = [b"", b"more"]
    if not case.open_end:
        with pytest.raises(PeerError):
            mdp.parse([ID, *case.frames, *spare])
        return
    value = mdp.parse([ID, *case.frames, *spare])
    if isinstance(value, Disconnect):
        assert value.reason == (b"", b"more")
    else:
        assert isinstance(value, ClientRequest | WorkerReply)
        assert list(value.body) == [case.frames[-1], b"", b"more"]


@pytest.mark.parametrize("case", TO_WORKER, ids=_ids(TO_WORKER))
def test_command_to_a_worker(case: Case) -> None:
    """Whole it is read; with frames missing it is refused; with frames to spare as the RFC allows."""
    assert mdp.parse_for_worker(case.frames) == case.value
    for count in range(case.least):
        with pytest.raises(PeerError):
            mdp.parse_for_worker(case.frames[:count])
    if case.open_end:
        mdp.parse_for_worker([*case.frames, b"more"])
    else:
        with pytest.raises(PeerError):
            mdp.parse_for_worker([*case.frames, b"more"])


@pytest.mark.parametrize("case", TO_CLIENT, ids=_ids(TO_CLIENT))
def test_answer_to_a_client(case: Case) -> None:
    """Whole it is read; with frames missing it is refused; a longer body is a body."""
    assert mdp.parse_client_reply(case.frames) == case.value
    for count in range(case.least):
        with pytest.raises(PeerError):
            mdp.parse_client_reply(case.frames[:count])
    assert mdp.parse_client_reply([*case.frames, b""]).body == [case.frames[-1], b""]


@pytest.mark.parametrize(
    "frames",
    [
        [b"", b"MDPW01", b"\x02", ADDRESS, b"not empty", b"x"],
        [b"", b"MDPW01", b"\x02", b"", b"", b"x"],
        [b"", b"MDPW01", b"\x01", b"echo"],
        [b"", b"MDPC01", b"echo", b"x"],
    ],
)
def test_a_worker_refuses_what_no_broker_sends(frames: list[bytes]) -> None:
    """A malformed REQUEST or another role's command is a peer error."""
    with pytest.raises(PeerError):
        mdp.parse_for_worker(frames)


# ---- envelopes ----


def test_an_01_client_gets_its_envelope_back() -> None:
    """Everything between identity and the first empty frame returns in front of the reply."""
    asked = mdp.parse([ID, b"hop", b"42", b"", b"MDPC01", b"echo", b"Hi", b""])
    assert asked == ClientRequest((ID, b"hop", b"42"), b"echo", [b"Hi", b""], 1)
    assert isinstance(asked, ClientRequest)
    answered = mdp.to_client(asked.path, b"echo", [b"Ho"])
    assert answered == [ID, b"hop", b"42", b"", b"MDPC01", b"echo", b"Ho"]
    assert mdp.parse_client_reply(answered[1:]) == ClientReply((b"hop", b"42"), b"echo", [b"Ho"])


def test_the_longest_envelope_is_sixteen_frames() -> None:
    """Sixteen pass, seventeen are refused: a peer cannot make the broker search."""
    hops = [b"hop"] * 16
    assert mdp.parse([ID, *hops, b"", b"MDPC01", b"echo", b"x"])
    with pytest.raises(PeerError):
        mdp.parse([ID, *hops, b"hop", b"", b"MDPC01", b"echo", b"x"])


@pytest.mark.parametrize("header", [b"MDPC02", b"MDPW02"])
def test_an_envelope_cannot_begin_like_02(header: bytes) -> None:
    """The one ambiguity between the versions: the broker reads 0.2, so the writer refuses."""
    with pytest.raises(PeerError):
        mdp.parse([ID, header, b"", b"MDPC01", b"echo", b"x"])
    with pytest.raises(AssertionError):
        mdp.client_request(b"echo", [b"x"], envelope=(header,))


def test_the_path_of_an_02_client_answers_in_02_by_itself() -> None:
    """Wherever a path was kept meanwhile, its own frames say which version to speak."""
    asked = mdp.parse([ID, b"MDPC02", b"\x01", b"echo", b"Hi"])
    assert isinstance(asked, ClientRequest)
    kept = mdp.unpack_path(mdp.pack_path(asked.path))
    assert mdp.to_client(kept, b"echo", [b"Ho"]) == [ID, b"MDPC02", b"\x03", b"echo", b"Ho"]
    assert mdp.to_client(kept, b"echo", [b"H"], final=False) == [ID, b"MDPC02", b"\x02", b"echo", b"H"]


# ---- the writers ----


def test_the_brokers_writers_make_the_frames_of_the_rfcs() -> None:
    """Each list is written down from the RFC's tables."""
    body = [b"Hello", b"world"]
    assert mdp.to_client((ID,), b"echo", body) == [ID, b"", b"MDPC01", b"echo", *body]
    assert mdp.to_client((ID,), b"echo", body, version=2) == [ID, b"MDPC02", b"\x03", b"echo", *body]
    assert mdp.to_worker_request(ID, ADDRESS, body) == [ID, b"", b"MDPW01", b"\x02", ADDRESS, b"", *body]
    assert mdp.to_worker_request(ID, ADDRESS, body, version=2) == [
        ID,
        b"MDPW02",
        b"\x02",
        ADDRESS,
        b"",
        *body,
    ]
    assert mdp.to_worker_heartbeat(ID) == [ID, b"", b"MDPW01", b"\x04"]
    assert mdp.to_worker_heartbeat(ID, version=2) == [ID, b"MDPW02", b"\x05"]
    assert mdp.to_worker_disconnect(ID) == [ID, b"", b"MDPW01", b"\x05"]
    assert mdp.to_worker_disconnect(ID, version=2) == [ID, b"MDPW02", b"\x06"]


def test_the_peers_writers_make_the_frames_of_the_rfcs() -> None:
    """Each list is written down from the RFC's tables."""
    assert mdp.client_request(b"echo", [b"x"]) == [b"", b"MDPC01", b"echo", b"x"]
    assert mdp.client_request(b"echo", [b"x"], envelope=(b"7",)) == [b"7", b"", b"MDPC01", b"echo", b"x"]
    assert mdp.client_request(b"echo", [b"x"], version=2) == [b"MDPC02", b"\x01", b"echo", b"x"]
    assert mdp.worker_ready(b"echo") == [b"", b"MDPW01", b"\x01", b"echo"]
    assert mdp.worker_ready(b"echo", version=2) == [b"MDPW02", b"\x01", b"echo"]
    assert mdp.worker_reply(ADDRESS, [b"x"]) == [b"", b"MDPW01", b"\x03", ADDRESS, b"", b"x"]
    assert mdp.worker_reply(ADDRESS, [b"x"], version=2) == [b"MDPW02", b"\x04", ADDRESS, b"", b"x"]
    partial = mdp.worker_reply(ADDRESS, [b"x"], version=2, final=False)
    assert partial == [b"MDPW02", b"\x03", ADDRESS, b"", b"x"]
    assert mdp.worker_heartbeat() == [b"", b"MDPW01", b"\x04"]
    assert mdp.worker_heartbeat(version=2) == [b"MDPW02", b"\x05"]
    assert mdp.worker_disconnect() == [b"", b"MDPW01", b"\x05"]
    assert mdp.worker_disconnect([b"no disk"], version=2) == [b"MDPW02", b"\x06", b"no disk"]


def test_an_empty_body_is_written_as_one_empty_frame() -> None:
    """The RFCs ask for at least one body frame in REQUEST and REPLY."""
    assert mdp.client_request(b"echo", []) == [b"", b"MDPC01", b"echo", b""]
    assert mdp.client_request(b"echo", [], version=2) == [b"MDPC02", b"\x01", b"echo", b""]
    assert mdp.worker_reply(ADDRESS, []) == [b"", b"MDPW01", b"\x03", ADDRESS, b"", b""]
    assert mdp.worker_reply(ADDRESS, [], version=2) == [b"MDPW02", b"\x04", ADDRESS, b"", b""]
    assert mdp.to_client((ID,), b"echo", ()) == [ID, b"", b"MDPC01", b"echo", b""]
    assert mdp.to_worker_request(ID, ADDRESS, ()) == [ID, b"", b"MDPW01", b"\x02", ADDRESS, b"", b""]


names = st.binary(min_size=1, max_size=12)
hops = names.filter(lambda frame: frame not in (b"MDPC02", b"MDPW02"))
bodies = st.lists(st.binary(max_size=12), min_size=1, max_size=4)


@given(names, names, bodies, st.lists(hops, max_size=3), st.sampled_from([1, 2]))
def test_two_ends_back_to_back(
    service: bytes, address: bytes, body: list[bytes], envelope: list[bytes], version: int
) -> None:
    """What one end writes the other reads unchanged, in both versions and directions."""
    path = tuple(envelope) if version == 1 else ()
    asked = mdp.parse([ID, *mdp.client_request(service, body, envelope=path, version=version)])
    assert isinstance(asked, ClientRequest)
    assert (asked.service, asked.body, asked.version) == (service, body, version)
    assert mdp.parse_client_reply(mdp.to_client(asked.path, service, body)[1:]) == ClientReply(
        path, service, body
    )
    request = mdp.to_worker_request(ID, address, body, version=version)[1:]
    assert mdp.parse_for_worker(request) == WorkerRequest(address, body, version)
    reply = mdp.parse([ID, *mdp.worker_reply(address, body, version=version)])
    assert reply == WorkerReply(ID, address, body, True, version)


# ---- packed paths ----


def test_a_lone_identity_packs_to_itself() -> None:
    """As in the guide: the client-address frame is the client's identity."""
    for identity in (ID, b"Lucy", b"\x00\x00\x00\x00\x01"):
        assert mdp.pack_path((identity,)) == identity
        assert mdp.unpack_path(identity) == (identity,)


@given(st.lists(st.binary(max_size=6), min_size=1, max_size=4).map(tuple))
def test_packing_a_path_loses_nothing(path: tuple[bytes, ...]) -> None:
    """Every path comes back, so no two paths share a packed form."""
    assert mdp.unpack_path(mdp.pack_path(path)) == path


def test_no_identity_can_pass_for_a_packed_path() -> None:
    """A peer may choose its identity's bytes; if they look packed they are packed once more."""
    forged = mdp.pack_path((b"victim", b"7"))
    assert mdp.pack_path((forged,)) != forged
    assert mdp.unpack_path(mdp.pack_path((forged,))) == (forged,)


@given(st.binary(max_size=24))
def test_any_bytes_unpack_or_are_a_peer_error(tail: bytes) -> None:
    """Sizes that lie are found."""
    try:
        assert isinstance(mdp.unpack_path(b"\x00\x00" + tail), tuple)
    except PeerError:
        pass


# ---- for people ----


EXPLAINED = {
    "MDPC01 REQUEST|REPLY service='echo' ['Hi']": [b"", b"MDPC01", b"echo", b"Hi"],
    "0x006b8b4567 '7' MDPC01 REQUEST|REPLY service='e' ['Hi']": [ID, b"7", b"", b"MDPC01", b"e", b"Hi"],
    "'Lucy' MDPW01 READY service='echo'": [b"Lucy", b"", b"MDPW01", b"\x01", b"echo"],
    "MDPW01 REQUEST for=0x00327b23c6 [0x00]": [b"", b"MDPW01", b"\x02", ADDRESS, b"", b"\x00"],
    "MDPW02 DISCONNECT ['no disk']": [b"MDPW02", b"\x06", b"no disk"],
    "MDPW02 HEARTBEAT": [b"MDPW02", b"\x05"],
    f"'L' MDPC02 PARTIAL service='e' ['{'x' * 40}'...(50 B)]": [b"L", b"MDPC02", b"\x02", b"e", b"x" * 50],
    "MDPW01 ?0x09": [b"", b"MDPW01", b"\x09"],
    "not MDP ['garbage']": [b"garbage"],
    "MDPW02 DISCONNECT ['a', 'a', 'a', 'a', 2 more]": [b"MDPW02", b"\x06", *[b"a"] * 6],
}


@pytest.mark.parametrize(("line", "frames"), EXPLAINED.items())
def test_explain_is_one_line_a_person_can_read(line: str, frames: list[bytes]) -> None:
    """Names for numbers, text as text, binary as hexadecimal, long frames shortened."""
    assert mdp.explain(frames) == line


def test_explain_says_the_direction_if_it_is_told() -> None:
    """An 0.1 client message looks the same both ways."""
    frames = [b"", b"MDPC01", b"echo", b"Hi"]
    assert mdp.explain(frames, to_broker=True).startswith("MDPC01 REQUEST ")
    assert mdp.explain(frames, to_broker=False).startswith("MDPC01 REPLY ")
