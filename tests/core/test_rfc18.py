"""RFC 18/MDP 0.2, every MUST, SHALL and SHOULD by name; frames are written down from the RFC."""

from __future__ import annotations

import pytest
import zmq

from core.errors import PeerError
from core.pure import mdp
from core.pure import peer_worker as pw
from core.pure.limits import BrokerLimits
from core.shell.link import connect_dealer
from tests.support.broker_rig import BrokerRig

READY = [b"MDPW02", b"\x01", b"echo"]
BEAT = [b"MDPW02", b"\x05"]
BYE = [b"MDPW02", b"\x06"]


@pytest.fixture
def rig() -> BrokerRig:
    """A broker with default limits, no Titanic."""
    return BrokerRig()


def ask(rig: BrokerRig, client: bytes, body: bytes = b"hi") -> list[list[bytes]]:
    """A 0.2 client asks."""
    return rig.receive(client, b"MDPC02", b"\x01", b"echo", body)


def worker_peer() -> pw.WorkerPeer:
    """Our worker in version 0.2, after its READY."""
    peer = pw.WorkerPeer(b"echo", version=2)
    assert peer.open(0) == [pw.Connect(0), pw.Send(READY)]
    return peer


def test_rfc18_01_commands_have_the_frames_of_the_rfc(rig: BrokerRig) -> None:
    """No empty frame in front; PARTIAL and FINAL instead of REPLY; other numbers than 0.1."""
    rig.receive(b"W", *READY)
    (sent,) = rig.receive(b"C", b"MDPC02", b"\x01", b"echo", b"one", b"two")
    assert sent[:3] == [b"W", b"MDPW02", b"\x02"]
    assert sent[4:] == [b"", b"one", b"two"]
    partial = rig.receive(b"W", b"MDPW02", b"\x03", sent[3], b"", b"half")
    assert partial == [[b"C", b"MDPC02", b"\x02", b"echo", b"half"]]
    final = rig.receive(b"W", b"MDPW02", b"\x04", sent[3], b"", b"whole")
    assert final == [[b"C", b"MDPC02", b"\x03", b"echo", b"whole"]]


def test_rfc18_02_clients_must_use_a_dealer_socket() -> None:
    """Ours does."""
    socket = connect_dealer("tcp://127.0.0.1:9")
    assert socket.get(zmq.TYPE) == zmq.DEALER
    socket.close(0)


def test_rfc18_03_the_client_must_be_prepared_for_partials() -> None:
    """The reader tells PARTIAL from FINAL, and anything else is an error."""
    partial = mdp.parse_client_reply([b"MDPC02", b"\x02", b"echo", b"half"])
    final = mdp.parse_client_reply([b"MDPC02", b"\x03", b"echo", b"whole"])
    assert (partial.final, list(partial.body)) == (False, [b"half"])
    assert (final.final, list(final.body)) == (True, [b"whole"])
    with pytest.raises(PeerError):
        mdp.parse_client_reply([b"MDPC02", b"\x01", b"echo", b"a request"])


@pytest.mark.parametrize("late", [b"\x03", b"\x04"], ids=["partial", "final"])
def test_rfc18_04_after_final_the_broker_shall_send_the_client_nothing(rig: BrokerRig, late: bytes) -> None:
    """What a worker sends behind its FINAL is unexpected."""
    rig.receive(b"W", *READY)
    (sent,) = ask(rig, b"C")
    rig.receive(b"W", b"MDPW02", b"\x04", sent[3], b"", b"whole")
    assert rig.receive(b"W", b"MDPW02", late, sent[3], b"", b"more") == [[b"W", *BYE]]


def test_rfc18_05_the_broker_should_queue_and_expire_requests_without_a_service() -> None:
    """Queued until a worker registers; expired after a configurable time if none does."""
    rig = BrokerRig(BrokerLimits(request_expiry_ms=5_000))
    assert ask(rig, b"C", b"first") == []
    (sent,) = rig.receive(b"W", *READY)
    assert sent[4:] == [b"", b"first"]
    rig.receive(b"W", *BYE)
    rig.pass_ms(6_000)
    assert rig.receive(b"W", *READY) == []
    assert rig.count("requests_expired") == 1


def test_rfc18_06_a_worker_must_not_send_a_further_ready(rig: BrokerRig) -> None:
    """Ours does not; one that does is disconnected."""
    peer = worker_peer()
    for now_ms in range(0, 20_000, 500):
        peer.receive(BEAT, now_ms)
        assert pw.Send(READY) not in peer.on_tick(now_ms)
    rig.receive(b"W", *READY)
    assert rig.receive(b"W", *READY) == [[b"W", *BYE]]


def test_rfc18_07_there_is_no_response_to_a_ready(rig: BrokerRig) -> None:
    """The worker assumes that it succeeded."""
    assert rig.receive(b"W", *READY) == []
    assert worker_peer().receive([b"MDPW02", b"\x02", b"C", b"", b"hi"], 1) == [pw.Run(b"C", [b"hi"])]


def test_rfc18_08_after_disconnect_the_broker_must_send_no_further_commands(rig: BrokerRig) -> None:
    """No request, no heartbeat, also when it comes before READY."""
    assert rig.receive(b"W", *BYE) == []
    rig.receive(b"W", *READY)
    assert rig.receive(b"W", *BYE) == []
    assert ask(rig, b"C") == []
    assert rig.pass_ms(30_000) == []


@pytest.mark.parametrize(
    "command",
    [
        BEAT,
        [b"MDPW02", b"\x03", b"C", b"", b"unasked"],
        [b"MDPW02", b"\x04", b"C", b"", b"unasked"],
    ],
    ids=["heartbeat", "partial", "final"],
)
def test_rfc18_09_the_broker_must_answer_the_unexpected_with_disconnect(
    rig: BrokerRig, command: list[bytes]
) -> None:
    """In 0.2, and then no further commands."""
    assert rig.receive(b"W", *command) == [[b"W", *BYE]]
    assert ask(rig, b"C") == []
    assert rig.pass_ms(30_000) == []


@pytest.mark.parametrize(
    "frames",
    [
        [b"MDPW02", b"\x09"],
        [b"MDPW02", b"\x02", b"C", b"", b"a broker's command"],
        [b"MDPW02", b"\x04", b"C", b"no delimiter"],
        [b"MDPW02"],
        [b"MDPC02", b"\x03", b"echo", b"a broker's command"],
    ],
)
def test_rfc18_10_the_broker_should_drop_invalid_messages_and_their_peer(
    rig: BrokerRig, frames: list[bytes]
) -> None:
    """Dropped and counted; a worker that sends one is a worker no longer."""
    rig.receive(b"W", *READY)
    rig.receive(b"W", *frames)
    assert rig.count("dropped_invalid") == 1
    assert rig.broker.workers(b"echo") == 0


def test_rfc18_11_a_worker_that_gets_disconnect_must_close_and_reconnect_on_a_new_socket() -> None:
    """The new one begins with READY."""
    peer = worker_peer()
    peer.receive(BEAT, 1)
    assert peer.receive(BYE, 2) == [pw.Close(deliver=False), pw.Connect(1), pw.Send(READY)]


def test_rfc18_12_a_worker_shall_send_partials_then_exactly_one_final(rig: BrokerRig) -> None:
    """Any number of PARTIALs passes; the FINAL frees the worker; ours sends one FINAL per request."""
    rig.receive(b"W", *READY)
    (sent,) = ask(rig, b"C1")
    ask(rig, b"C2")
    for number in range(5):
        (partial,) = rig.receive(b"W", b"MDPW02", b"\x03", sent[3], b"", b"%d" % number)
        assert partial == [b"C1", b"MDPC02", b"\x02", b"echo", b"%d" % number]
    final, following = rig.receive(b"W", b"MDPW02", b"\x04", sent[3], b"", b"end")
    assert final == [b"C1", b"MDPC02", b"\x03", b"echo", b"end"]
    assert following[:3] == [b"W", b"MDPW02", b"\x02"]
    peer = worker_peer()
    peer.receive([b"MDPW02", b"\x02", b"C", b"", b"hi"], 1)
    assert peer.finished([b"ho"], 2) == [pw.Send([b"MDPW02", b"\x04", b"C", b"", b"ho"])]


def test_rfc18_13_commands_shall_contain_precisely_one_address_and_must_have_an_empty_frame(
    rig: BrokerRig,
) -> None:
    """REQUEST, PARTIAL and FINAL; two addresses are invalid."""
    rig.receive(b"W", *READY)
    (sent,) = ask(rig, b"C")
    assert sent[3]
    assert sent[4] == b""
    rig.receive(b"W", b"MDPW02", b"\x04", sent[3], sent[3], b"", b"ho")
    assert rig.count("dropped_invalid") == 1


def test_rfc18_14_any_command_but_disconnect_acts_as_a_heartbeat(rig: BrokerRig) -> None:
    """A PARTIAL too."""
    rig.receive(b"W", *READY)
    (sent,) = ask(rig, b"C")
    rig.pass_ms(7_000)
    rig.receive(b"W", b"MDPW02", b"\x03", sent[3], b"", b"half")
    rig.pass_ms(7_000)
    rig.receive(b"W", b"MDPW02", b"\x04", sent[3], b"", b"whole")
    rig.pass_ms(7_000)
    rig.receive(b"W", *BEAT)
    rig.pass_ms(7_000)
    assert rig.broker.workers(b"echo") == 1


def test_rfc18_15_peers_should_not_beat_while_sending_other_commands(rig: BrokerRig) -> None:
    """A worker that is sent requests all the time gets no heartbeats."""
    rig.receive(b"W", *READY)
    for _ in range(10):
        (sent,) = ask(rig, b"C")
        rig.receive(b"W", b"MDPW02", b"\x04", sent[3], b"", b"ho")
        assert rig.pass_ms(1_000) == []


def test_rfc18_16_both_must_send_heartbeats_at_regular_intervals(rig: BrokerRig) -> None:
    """Broker and worker, in 0.2."""
    rig.receive(b"W", *READY)
    for _ in range(4):
        assert rig.pass_ms(2_500) == [[b"W", *BEAT]]
        rig.receive(b"W", *BEAT)
    peer = worker_peer()
    for now_ms in (2_500, 5_000, 7_500):
        peer.receive(BEAT, now_ms - 1)
        assert peer.on_tick(now_ms) == [pw.Send(BEAT)]


def test_rfc18_17_a_peer_must_consider_a_silent_one_disconnected(rig: BrokerRig) -> None:
    """After three intervals, on both sides; the worker starts anew, the broker sends nothing more."""
    rig.receive(b"W", *READY)
    rig.pass_ms(8_000)
    assert rig.broker.workers(b"echo") == 0
    assert rig.pass_ms(60_000) == []
    peer = worker_peer()
    assert pw.Close(deliver=False) in peer.on_tick(7_500)
    retry_ms = peer.next_deadline()
    assert retry_ms is not None
    assert peer.on_tick(retry_ms) == [pw.Connect(1), pw.Send(READY)]
