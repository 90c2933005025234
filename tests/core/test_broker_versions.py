"""MDP/0.2 (RFC 18) on the same broker, and both versions mixed."""

from __future__ import annotations

import pytest

from tests.support.broker_rig import BrokerRig, disconnect, reply, request


@pytest.fixture
def rig() -> BrokerRig:
    """A broker with default limits, no Titanic."""
    return BrokerRig()


def ask_2(rig: BrokerRig, client: bytes) -> list[list[bytes]]:
    return rig.receive(client, b"MDPC02", b"\x01", b"echo", b"body")


def ready_2(rig: BrokerRig, worker: bytes) -> list[list[bytes]]:
    return rig.receive(worker, b"MDPW02", b"\x01", b"echo")


def address_of(rig: BrokerRig, sent: list[list[bytes]]) -> bytes:
    """The client-address frame of the one REQUEST sent."""
    (frames,) = sent
    return frames[4] if frames[1] == b"" else frames[3]


def test_an_01_worker_that_speaks_02_is_disconnected(rig: BrokerRig) -> None:
    """A conversation has one version; the answer is in the worker's."""
    rig.ready(b"W")
    assert rig.receive(b"W", b"MDPW02", b"\x05") == [disconnect(b"W")]


def test_a_reply_in_the_other_version_is_not_taken(rig: BrokerRig) -> None:
    """Right address, wrong version: the registration is over and the request goes on."""
    rig.ready(b"W1")
    rig.ready(b"W2")
    rig.ask(b"C")
    sent = rig.receive(b"W1", b"MDPW02", b"\x04", b"C", b"", b"done")
    assert sent == [disconnect(b"W1"), request(b"W2", b"C")]


def test_unexpected_02_commands_are_answered_with_an_02_disconnect(rig: BrokerRig) -> None:
    """HEARTBEAT, PARTIAL and FINAL of a worker nobody knows."""
    for command in ([b"\x05"], [b"\x03", b"C", b"", b"x"], [b"\x04", b"C", b"", b"x"]):
        assert rig.receive(b"W", b"MDPW02", *command) == [[b"W", b"MDPW02", b"\x06"]]


def test_02_throughout(rig: BrokerRig) -> None:
    """Any number of PARTIALs, then exactly one FINAL, all in 0.2 frames."""
    ready_2(rig, b"W")
    sent = ask_2(rig, b"C")
    address = address_of(rig, sent)
    assert sent == [[b"W", b"MDPW02", b"\x02", address, b"", b"body"]]
    for part in (b"1", b"2"):
        assert rig.receive(b"W", b"MDPW02", b"\x03", address, b"", part) == [
            [b"C", b"MDPC02", b"\x02", b"echo", part]
        ]
    assert rig.receive(b"W", b"MDPW02", b"\x04", address, b"", b"3") == [
        [b"C", b"MDPC02", b"\x03", b"echo", b"3"]
    ]
    assert rig.count("partials") == 2


def test_a_partial_does_not_free_its_worker(rig: BrokerRig) -> None:
    """The next request waits for the FINAL."""
    ready_2(rig, b"W")
    address = address_of(rig, ask_2(rig, b"C1"))
    ask_2(rig, b"C2")
    rig.receive(b"W", b"MDPW02", b"\x03", address, b"", b"1")
    assert rig.broker.gauges["requests_waiting"] == 1
    assert len(rig.receive(b"W", b"MDPW02", b"\x04", address, b"", b"2")) == 2


def test_after_final_nothing_more_is_sent_to_the_client(rig: BrokerRig) -> None:
    """A PARTIAL or FINAL behind it is unexpected."""
    for late in (b"\x03", b"\x04"):
        ready_2(rig, b"W")
        address = address_of(rig, ask_2(rig, b"C"))
        rig.receive(b"W", b"MDPW02", b"\x04", address, b"", b"1")
        assert rig.receive(b"W", b"MDPW02", late, address, b"", b"2") == [[b"W", b"MDPW02", b"\x06"]]


def test_an_01_client_is_served_by_an_02_worker(rig: BrokerRig) -> None:
    """Partials are dropped for it, and counted."""
    ready_2(rig, b"W")
    assert rig.ask(b"C") == [[b"W", b"MDPW02", b"\x02", b"C", b"", b"body"]]
    assert rig.receive(b"W", b"MDPW02", b"\x03", b"C", b"", b"half") == []
    assert rig.count("partials_dropped") == 1
    assert rig.receive(b"W", b"MDPW02", b"\x04", b"C", b"", b"done") == [reply(b"C")]


def test_an_02_client_is_served_by_an_01_worker(rig: BrokerRig) -> None:
    """Its REPLY is the FINAL."""
    rig.ready(b"W")
    sent = ask_2(rig, b"C")
    address = address_of(rig, sent)
    assert sent == [request(b"W", address)]
    assert rig.reply(b"W", address) == [[b"C", b"MDPC02", b"\x03", b"echo", b"done"]]


def test_workers_of_both_versions_share_a_service(rig: BrokerRig) -> None:
    """Least recently used first, whatever they speak."""
    rig.ready(b"W1")
    ready_2(rig, b"W2")
    assert rig.ask(b"C1") == [request(b"W1", b"C1")]
    assert rig.ask(b"C2") == [[b"W2", b"MDPW02", b"\x02", b"C2", b"", b"body"]]


def test_an_02_worker_gets_02_heartbeats(rig: BrokerRig) -> None:
    """In the frames of RFC 18."""
    ready_2(rig, b"W")
    assert rig.pass_ms(2_500) == [[b"W", b"MDPW02", b"\x05"]]


def test_a_lost_02_request_is_tried_again_in_the_next_workers_version(rig: BrokerRig) -> None:
    """The client need not know."""
    ready_2(rig, b"W1")
    ask_2(rig, b"C")
    rig.unreachable(b"W1")
    (frames,) = rig.ready(b"W2")
    assert frames == request(b"W2", frames[4])
    assert rig.reply(b"W2", frames[4]) == [[b"C", b"MDPC02", b"\x03", b"echo", b"done"]]
