"""RFC 7/MDP, every MUST and SHOULD by name; frames are written down from the RFC.

``docs/reference/rfc-conformance.md`` quotes the rule behind each number.
"""

from __future__ import annotations

import pytest
import zmq

from core.pure import mdp
from core.pure import peer_worker as pw
from core.pure.limits import BrokerLimits
from core.pure.zmtp import Wire
from core.shell.link import connect_dealer
from core.shell.sockets import bind_router
from tests.support.broker_rig import BrokerRig

READY = [b"", b"MDPW01", b"\x01", b"echo"]
BEAT = [b"", b"MDPW01", b"\x04"]
BYE = [b"", b"MDPW01", b"\x05"]


@pytest.fixture
def rig() -> BrokerRig:
    """A broker with default limits, no Titanic."""
    return BrokerRig()


def worker_peer() -> pw.WorkerPeer:
    """Our worker after its READY."""
    peer = pw.WorkerPeer(b"echo")
    assert peer.open(0) == [pw.Connect(0), pw.Send(READY)]
    return peer


def test_rfc7_01_the_broker_should_serve_clients_on_a_fair_basis(rig: BrokerRig) -> None:
    """A client with one request waits for one of the busy client's, not for all it sent."""
    rig.receive(b"W", *READY)
    for number in range(5):
        rig.receive(b"A", b"", b"MDPC01", b"echo", b"a%d" % number)
    rig.receive(b"B", b"", b"MDPC01", b"echo", b"b")
    served = []
    address = b"A"
    for _ in range(3):
        sent = rig.receive(b"W", b"", b"MDPW01", b"\x03", address, b"", b"done")
        assert sent[1][:4] == [b"W", b"", b"MDPW01", b"\x02"]
        address = sent[1][4]
        served.append(sent[1][6])
    assert served == [b"a1", b"b", b"a2"]


def test_rfc7_02_the_broker_must_use_a_router_socket() -> None:
    """For clients and workers alike, one socket for both."""
    with zmq.Context() as context:
        socket, _ = bind_router(context, "tcp://127.0.0.1:*")
        assert socket.get(zmq.TYPE) == zmq.ROUTER
        socket.close(0)
    # Without CURVE the socket is our own, and says in its handshake what it is (RFC 23).
    wire = Wire(b"\0peer", message_max_bytes=1_000, frames_max=10)
    wire.receive(b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16) + bytes(32))
    assert b"\x05READY\x0bSocket-Type\0\0\0\x06ROUTER" in b"".join(wire.out)


def test_rfc7_03_request_and_reply_of_clients_have_the_frames_of_the_rfc(rig: BrokerRig) -> None:
    """Empty, header, service, body: four frames or more, each way, body frames as they came."""
    rig.receive(b"W", *READY)
    rig.receive(b"C", b"", b"MDPC01", b"echo", b"one", b"", b"\xff")
    sent = rig.receive(b"W", b"", b"MDPW01", b"\x03", b"C", b"", b"eins", b"", b"\xfe")
    assert sent == [[b"C", b"", b"MDPC01", b"echo", b"eins", b"", b"\xfe"]]
    assert rig.receive(b"C", b"", b"MDPC01", b"echo") == []
    assert rig.count("dropped_invalid") == 1


def test_rfc7_04_dealer_clients_must_create_the_empty_frame() -> None:
    """Our client's DEALER does, behind its own correlation frame if it has one."""
    assert mdp.client_request(b"echo", [b"body"]) == [b"", b"MDPC01", b"echo", b"body"]
    tagged = mdp.client_request(b"echo", [b"body"], envelope=(b"tag",))
    assert tagged == [b"tag", b"", b"MDPC01", b"echo", b"body"]


def test_rfc7_05_the_broker_should_queue_requests_without_a_service(rig: BrokerRig) -> None:
    """The first worker that registers gets what waited."""
    assert rig.receive(b"C", b"", b"MDPC01", b"echo", b"hi") == []
    assert rig.receive(b"W", *READY) == [[b"W", b"", b"MDPW01", b"\x02", b"C", b"", b"hi"]]


def test_rfc7_06_the_broker_should_expire_requests_after_a_configurable_time() -> None:
    """If no service has been registered by then."""
    rig = BrokerRig(BrokerLimits(request_expiry_ms=5_000))
    rig.receive(b"C", b"", b"MDPC01", b"echo", b"hi")
    rig.pass_ms(5_001)
    assert rig.receive(b"W", *READY) == []
    assert rig.count("requests_expired") == 1


def test_rfc7_07_a_worker_must_connect_to_exactly_one_broker_by_one_dealer() -> None:
    """One Connect at a time: the next socket is opened after the last was closed; it is a DEALER."""
    peer = worker_peer()
    peer.receive(BEAT, 1)
    assert peer.receive(BYE, 2) == [pw.Close(deliver=False), pw.Connect(1), pw.Send(READY)]
    socket = connect_dealer("tcp://127.0.0.1:9")
    assert socket.get(zmq.TYPE) == zmq.DEALER
    socket.close(0)


def test_rfc7_08_a_worker_must_not_send_a_further_ready() -> None:
    """One READY per socket, whatever happens on it."""
    peer = worker_peer()
    for now_ms in range(0, 60_000, 500):
        peer.receive(BEAT, now_ms)
        sent = [action.frames for action in peer.on_tick(now_ms) if isinstance(action, pw.Send)]
        assert READY not in sent
    peer.receive([b"", b"MDPW01", b"\x02", b"C", b"", b"hi"], 60_000)
    assert pw.Send(READY) not in peer.finished([b"ho"], 60_001)


def test_rfc7_09_a_further_ready_is_answered_with_disconnect(rig: BrokerRig) -> None:
    """The other side of the rule: a worker that does is one no longer."""
    rig.receive(b"W", *READY)
    assert rig.receive(b"W", *READY) == [[b"W", *BYE]]
    assert rig.broker.workers(b"echo") == 0


def test_rfc7_10_there_is_no_response_to_a_ready(rig: BrokerRig) -> None:
    """And our worker takes the first request without having heard anything before."""
    assert rig.receive(b"W", *READY) == []
    request = [b"", b"MDPW01", b"\x02", b"C", b"", b"hi"]
    assert worker_peer().receive(request, 1) == [pw.Run(b"C", [b"hi"])]


def test_rfc7_11_a_worker_may_disconnect_before_ready(rig: BrokerRig) -> None:
    """Nothing is answered."""
    assert rig.receive(b"W", *BYE) == []


def test_rfc7_12_after_disconnect_the_broker_must_send_no_further_commands(rig: BrokerRig) -> None:
    """No request, no heartbeat, no DISCONNECT."""
    rig.receive(b"W", *READY)
    assert rig.receive(b"W", *BYE) == []
    assert rig.receive(b"C", b"", b"MDPC01", b"echo", b"hi") == []
    assert rig.pass_ms(30_000) == []


@pytest.mark.parametrize(
    "command",
    [BEAT, [b"", b"MDPW01", b"\x03", b"C", b"", b"unasked"]],
    ids=["heartbeat before ready", "reply before ready"],
)
def test_rfc7_13_the_broker_must_answer_the_unexpected_with_disconnect(
    rig: BrokerRig, command: list[bytes]
) -> None:
    """Valid at another time: DISCONNECT, and then no further commands to that worker."""
    assert rig.receive(b"W", *command) == [[b"W", *BYE]]
    assert rig.receive(b"C", b"", b"MDPC01", b"echo", b"hi") == []
    assert rig.pass_ms(30_000) == []


def test_rfc7_14_an_idle_workers_reply_is_unexpected(rig: BrokerRig) -> None:
    """Registered or not, a reply to nothing ends the conversation, and no client hears of it."""
    rig.receive(b"W", *READY)
    assert rig.receive(b"W", b"", b"MDPW01", b"\x03", b"C", b"", b"unasked") == [[b"W", *BYE]]
    assert rig.receive(b"C", b"", b"MDPC01", b"echo", b"hi") == []


@pytest.mark.parametrize(
    "frames",
    [
        [b"", b"MDPW01", b"\x09"],
        [b"", b"MDPW01", b"\x02", b"C", b"", b"a broker's command"],
        [b"", b"MDPW01", b"\x03", b"C", b"body without delimiter"],
        [b"", b"MDPW99", b"\x04"],
        [b"noise"],
    ],
)
def test_rfc7_15_the_broker_should_drop_invalid_messages_and_their_peer(
    rig: BrokerRig, frames: list[bytes]
) -> None:
    """Dropped and counted; a worker that sends one is treated as invalid: it gets no work any more."""
    rig.receive(b"W", *READY)
    rig.receive(b"W", *frames)
    assert rig.count("dropped_invalid") == 1
    assert rig.broker.workers(b"echo") == 0
    assert rig.receive(b"C", b"", b"MDPC01", b"echo", b"hi") == []


def test_rfc7_16_a_worker_that_gets_disconnect_must_close_and_reconnect_on_a_new_socket() -> None:
    """Nothing is sent on the old one; the new one begins with READY."""
    peer = worker_peer()
    peer.receive(BEAT, 1)
    assert peer.receive(BYE, 2) == [pw.Close(deliver=False), pw.Connect(1), pw.Send(READY)]


def test_rfc7_17_request_and_reply_must_contain_precisely_one_address_and_an_empty_frame(
    rig: BrokerRig,
) -> None:
    """Also for a client whose envelope has several frames; a reply without is invalid."""
    rig.receive(b"W", *READY)
    (sent,) = rig.receive(b"C", b"hop", b"tag", b"", b"MDPC01", b"echo", b"hi")
    assert sent[:4] == [b"W", b"", b"MDPW01", b"\x02"]
    assert sent[4]
    assert sent[5:] == [b"", b"hi"]
    answer = rig.receive(b"W", b"", b"MDPW01", b"\x03", sent[4], b"", b"ho")
    assert answer == [[b"C", b"hop", b"tag", b"", b"MDPC01", b"echo", b"ho"]]
    (again,) = rig.receive(b"C", b"", b"MDPC01", b"echo", b"hi")
    rig.receive(b"W", b"", b"MDPW01", b"\x03", again[4], again[4], b"", b"ho")
    assert rig.count("dropped_invalid") == 1


@pytest.mark.parametrize("kind", ["heartbeat", "reply"])
def test_rfc7_18_any_command_but_disconnect_acts_as_a_heartbeat(rig: BrokerRig, kind: str) -> None:
    """Liveness begins anew with each."""
    rig.receive(b"W", *READY)
    rig.receive(b"C", b"", b"MDPC01", b"echo", b"hi")
    rig.pass_ms(7_000)
    rig.receive(b"W", b"", b"MDPW01", b"\x03", b"C", b"", b"ho")
    if kind == "heartbeat":
        rig.pass_ms(7_000)
        rig.receive(b"W", *BEAT)
    rig.pass_ms(7_000)
    assert rig.broker.workers(b"echo") == 1
    rig.pass_ms(1_000)
    assert rig.broker.workers(b"echo") == 0


def test_rfc7_19_peers_should_not_beat_while_sending_other_commands(rig: BrokerRig) -> None:
    """A worker that is sent requests all the time gets no heartbeats."""
    rig.receive(b"W", *READY)
    for _ in range(10):
        rig.receive(b"C", b"", b"MDPC01", b"echo", b"hi")
        rig.receive(b"W", b"", b"MDPW01", b"\x03", b"C", b"", b"ho")
        assert rig.pass_ms(1_000) == []


def test_rfc7_20_the_broker_must_send_heartbeats_at_regular_intervals(rig: BrokerRig) -> None:
    """To idle and to busy workers; never more than an interval apart."""
    rig.receive(b"W1", *READY)
    rig.receive(b"W2", *READY)
    rig.receive(b"C", b"", b"MDPC01", b"echo", b"hi")
    for _ in range(10):
        sent = rig.pass_ms(2_500)
        assert sorted(sent) == [[b"W1", *BEAT], [b"W2", *BEAT]]
        rig.receive(b"W2", *BEAT)


def test_rfc7_21_the_worker_must_send_heartbeats_at_regular_intervals() -> None:
    """Every 2.5 s, also while it works."""
    peer = worker_peer()
    peer.receive([b"", b"MDPW01", b"\x02", b"C", b"", b"hi"], 1)
    for now_ms in (2_500, 5_000, 7_500):
        peer.receive(BEAT, now_ms - 1)
        assert peer.on_tick(now_ms) == [pw.Send(BEAT)]


def test_rfc7_22_the_broker_must_consider_a_silent_worker_disconnected(rig: BrokerRig) -> None:
    """After three intervals without a command. What is done about a busy one is in the document."""
    rig.receive(b"W", *READY)
    rig.pass_ms(7_499)
    assert rig.broker.workers(b"echo") == 1
    rig.pass_ms(400)
    assert rig.broker.workers(b"echo") == 0


def test_rfc7_23_the_worker_must_consider_a_silent_broker_disconnected() -> None:
    """After three intervals without a command."""
    peer = worker_peer()
    peer.receive(BEAT, 0)
    for now_ms in (2_500, 5_000):
        assert peer.on_tick(now_ms) == [pw.Send(BEAT)]
    assert pw.Close(deliver=False) in peer.on_tick(7_500)


def test_rfc7_24_the_worker_should_restart_a_new_conversation() -> None:
    """With a new socket and READY, after a pause that grows."""
    peer = worker_peer()
    peer.on_tick(7_500)
    retry_ms = peer.next_deadline()
    assert retry_ms is not None
    assert peer.on_tick(retry_ms) == [pw.Connect(1), pw.Send(READY)]


def test_rfc7_25_the_broker_should_stop_sending_to_a_disconnected_worker(rig: BrokerRig) -> None:
    """No messages of any type."""
    rig.receive(b"W", *READY)
    rig.pass_ms(8_000)
    assert rig.pass_ms(60_000) == []
    assert rig.receive(b"C", b"", b"MDPC01", b"echo", b"hi") == []
