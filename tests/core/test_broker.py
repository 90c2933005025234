"""The broker's rules for transient requests, MDP/0.1; each test is named after a rule of RFC 7."""

from __future__ import annotations

from itertools import pairwise

import pytest

from core.pure.limits import BrokerLimits
from tests.support.broker_rig import BrokerRig, disconnect, heartbeat, reply, request


@pytest.fixture
def rig() -> BrokerRig:
    """A broker with default limits, no Titanic."""
    return BrokerRig()


# ---- hostile input first ----


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [b"X"],
        [b"X", b""],
        [b"X", b"", b"MDPW01"],
        [b"X", b"", b"MDPW01", b"\x01"],
        [b"X", b"", b"MDPC01", b"\xff\xfe", b"body"],
        [b"X", b"", b"MDPC01", b"line\nfeed", b"body"],
        [b"X", b"", b"MDPC01", b"s" * 256, b"body"],
        [b"X", b"", b"MDPW01", b"\x01", b"\x00"],
        [b"X", *[b""] * 2_000],
    ],
    ids=range(10),
)
def test_an_invalid_message_is_dropped_and_counted(rig: BrokerRig, frames: list[bytes]) -> None:
    """Nothing is sent, nothing remembered, one drop counted."""
    assert rig.receive(*frames) == []
    assert rig.count("dropped_invalid") == 1
    assert rig.broker.services() == []
    assert rig.broker.next_deadline() is None


def test_the_broker_should_treat_the_sender_of_an_invalid_message_as_invalid(rig: BrokerRig) -> None:
    """Its registration is over; what it had goes to the next worker."""
    rig.ready(b"W1")
    rig.ready(b"W2")
    rig.ask(b"C")
    assert rig.receive(b"W1", b"garbage") == [disconnect(b"W1"), request(b"W2", b"C")]
    assert rig.broker.workers(b"echo") == 1


def test_a_message_over_the_size_limit_is_dropped() -> None:
    """The cap counts all frames together."""
    rig = BrokerRig(BrokerLimits(message_max_bytes=100))
    rig.ready(b"W")
    assert rig.receive(b"C", b"", b"MDPC01", b"echo", b"x" * 50, b"x" * 50) == []
    assert rig.count("dropped_invalid") == 1


# ---- requests and replies ----


def test_a_request_goes_to_a_worker_with_precisely_one_client_address_frame(rig: BrokerRig) -> None:
    """The address is followed by an empty frame and the body, unchanged."""
    assert rig.ready(b"W") == []
    sent = rig.receive(b"C", b"", b"MDPC01", b"echo", b"Hello", b"", b"world")
    assert sent == [[b"W", b"", b"MDPW01", b"\x02", b"C", b"", b"Hello", b"", b"world"]]


def test_a_reply_goes_to_its_client(rig: BrokerRig) -> None:
    """With the service's name and the body, unchanged."""
    rig.ready(b"W")
    rig.ask(b"C")
    sent = rig.receive(b"W", b"", b"MDPW01", b"\x03", b"C", b"", b"Hello", b"")
    assert sent == [[b"C", b"", b"MDPC01", b"echo", b"Hello", b""]]


def test_an_envelope_stack_travels_in_the_one_address_frame(rig: BrokerRig) -> None:
    """The worker echoes an opaque frame; the client gets its envelope back."""
    rig.ready(b"W")
    (given,) = rig.receive(b"C", b"hop", b"7", b"", b"MDPC01", b"echo", b"Hi")
    address = given[4]
    assert given == [b"W", b"", b"MDPW01", b"\x02", address, b"", b"Hi"]
    assert rig.reply(b"W", address) == [[b"C", b"hop", b"7", b"", b"MDPC01", b"echo", b"done"]]


def test_a_worker_handles_at_most_one_request_at_a_time(rig: BrokerRig) -> None:
    """The second request waits for the first one's reply."""
    rig.ready(b"W")
    assert rig.ask(b"C1") == [request(b"W", b"C1")]
    assert rig.ask(b"C2") == []
    assert rig.reply(b"W", b"C1") == [reply(b"C1"), request(b"W", b"C2")]


def test_the_least_recently_used_worker_is_first(rig: BrokerRig) -> None:
    """A worker that has just worked is last in line."""
    for worker in (b"W1", b"W2", b"W3"):
        rig.ready(worker)
    assert rig.ask(b"C1") == [request(b"W1", b"C1")]
    rig.reply(b"W1", b"C1")
    assert rig.ask(b"C2") == [request(b"W2", b"C2")]
    assert rig.ask(b"C3") == [request(b"W3", b"C3")]
    assert rig.ask(b"C4") == [request(b"W1", b"C4")]


def test_workers_get_requests_of_their_own_service_only(rig: BrokerRig) -> None:
    """One worker handles precisely one service."""
    rig.ready(b"W", b"echo")
    assert rig.ask(b"C", service=b"other") == []
    assert rig.ready(b"V", b"other") == [request(b"V", b"C")]


# ---- queueing ----


def test_the_broker_should_queue_requests_for_which_no_service_is_registered(rig: BrokerRig) -> None:
    """They wait, in order, for the worker that comes later."""
    assert rig.ask(b"C1") == []
    assert rig.ask(b"C2") == []
    assert rig.ready(b"W") == [request(b"W", b"C1")]
    assert rig.reply(b"W", b"C1")[1:] == [request(b"W", b"C2")]


def test_the_broker_should_expire_requests_after_a_configurable_time() -> None:
    """Not a millisecond before; then they are gone, counted, and their service forgotten."""
    rig = BrokerRig(BrokerLimits(request_expiry_ms=5_000))
    rig.ask(b"C")
    rig.pass_ms(4_999)
    assert rig.broker.row(b"echo") is not None
    rig.pass_ms(1)
    assert rig.count("requests_expired") == 1
    assert rig.broker.services() == []
    assert rig.broker.gauges["requests_waiting_bytes"] == 0
    assert rig.broker.next_deadline() is None
    assert rig.ready(b"W") == []


def test_a_request_does_not_expire_while_its_service_is_registered() -> None:
    """RFC 7 expires requests "if no service has been registered"; a busy worker is a service."""
    rig = BrokerRig(BrokerLimits(request_expiry_ms=5_000))
    rig.ready(b"W")
    rig.ask(b"C1")
    rig.ask(b"C2")
    rig.pass_ms(60_000)
    assert rig.reply(b"W", b"C1") == [reply(b"C1"), request(b"W", b"C2")]
    assert rig.count("requests_expired") == 0


def test_a_thousand_requests_expire_per_tick_and_the_rest_at_once_after() -> None:
    """Expiry of very many leaves room for messages between."""
    rig = BrokerRig(BrokerLimits(request_expiry_ms=5_000))
    for number in range(1_500):
        rig.ask(b"C%d" % number)
    rig.ms += 5_000
    rig.broker.on_tick(rig.now)
    assert rig.count("requests_expired") == 1_000
    deadline_ms = rig.broker.next_deadline()
    assert deadline_ms is not None
    assert deadline_ms <= rig.ms
    rig.broker.on_tick(rig.now)
    assert rig.count("requests_expired") == 1_500


def test_the_queue_is_bounded_by_count_by_bytes_and_by_client() -> None:
    """What does not fit is refused and counted; what waits is kept."""
    by_count = BrokerRig(BrokerLimits(queued_max_count=2))
    by_bytes = BrokerRig(BrokerLimits(queued_max_bytes=9))
    by_client = BrokerRig(BrokerLimits(queued_per_client_max_count=2))
    for rig in (by_count, by_bytes):
        for client in (b"C1", b"C2", b"C3"):
            rig.ask(client, b"four")
        assert rig.count("requests_refused") == 1
        assert rig.broker.gauges["requests_waiting"] == 2
        assert rig.broker.gauges["requests_waiting_bytes"] == 8
    for _ in range(3):
        by_client.ask(b"greedy")
    by_client.ask(b"other")
    assert by_client.count("requests_refused") == 1
    assert by_client.broker.gauges["requests_waiting"] == 3


def test_the_broker_should_serve_clients_on_a_fair_basis(rig: BrokerRig) -> None:
    """A client that asks once waits for one request of the greedy client, not for all of them."""
    for number in range(3):
        rig.ask(b"greedy", b"%d" % number)
    rig.ask(b"modest", b"only")
    order = [rig.ready(b"W")[0]]
    for _ in range(3):
        order.append(rig.reply(b"W", order[-1][4])[1])
    assert [(frames[4], frames[6]) for frames in order] == [
        (b"greedy", b"0"),
        (b"modest", b"only"),
        (b"greedy", b"1"),
        (b"greedy", b"2"),
    ]


# ---- opening and closing ----


def test_there_is_no_response_to_a_ready(rig: BrokerRig) -> None:
    """The worker assumes that it is registered."""
    assert rig.ready(b"W") == []
    assert rig.broker.workers(b"echo") == 1


def test_a_further_ready_is_answered_with_disconnect(rig: BrokerRig) -> None:
    """The registration is over; what it had goes to the next worker; it may register again."""
    rig.ready(b"W")
    rig.ask(b"C")
    assert rig.ready(b"W") == [disconnect(b"W")]
    assert rig.broker.workers(b"echo") == 0
    assert rig.ready(b"W") == [request(b"W", b"C")]


def test_the_broker_must_respond_to_unexpected_commands_with_disconnect(rig: BrokerRig) -> None:
    """HEARTBEAT and REPLY before READY, and a REPLY nobody asked for."""
    assert rig.beat(b"W") == [disconnect(b"W")]
    assert rig.reply(b"W", b"C") == [disconnect(b"W")]
    rig.ready(b"W")
    assert rig.reply(b"W", b"C") == [disconnect(b"W")]
    assert rig.broker.workers(b"echo") == 0
    assert rig.count("unexpected") == 3


def test_after_its_disconnect_the_broker_sends_no_further_commands(rig: BrokerRig) -> None:
    """No request, no heartbeat, nothing to wait for."""
    rig.ready(b"W")
    assert rig.reply(b"W", b"C") == [disconnect(b"W")]
    assert rig.ask(b"C") == []
    assert rig.pass_ms(30_000) == []


def test_a_worker_may_send_disconnect_at_any_time_also_before_ready(rig: BrokerRig) -> None:
    """Nothing is answered."""
    assert rig.leave(b"W") == []
    assert rig.count("dropped_invalid") == rig.count("unexpected") == 0


def test_after_a_workers_disconnect_the_broker_must_send_it_nothing(rig: BrokerRig) -> None:
    """No request, no heartbeat, no answer."""
    rig.ready(b"W")
    assert rig.leave(b"W") == []
    assert rig.ask(b"C") == []
    assert rig.pass_ms(30_000) == []
    assert rig.count("workers_left") == 1


def test_a_reply_with_another_address_is_invalid(rig: BrokerRig) -> None:
    """A worker cannot answer a client that did not ask it; its request goes to another worker."""
    rig.ready(b"W1")
    rig.ready(b"W2")
    rig.ask(b"C")
    assert rig.reply(b"W1", b"victim") == [disconnect(b"W1"), request(b"W2", b"C")]
    assert rig.count("dropped_invalid") == 1


def test_one_worker_too_many_is_refused() -> None:
    """The number of workers is bounded; the rest keep working."""
    rig = BrokerRig(BrokerLimits(workers_max_count=1))
    rig.ready(b"W1")
    assert rig.ready(b"W2") == [disconnect(b"W2")]
    assert rig.ask(b"C") == [request(b"W1", b"C")]


# ---- heartbeats ----


def test_the_broker_must_send_heartbeats_at_regular_intervals(rig: BrokerRig) -> None:
    """One per interval to each worker, busy or idle, never further apart than the interval."""
    rig.ready(b"idle", b"one")
    rig.ready(b"busy", b"two")
    rig.ask(b"C", service=b"two")
    times: dict[bytes, list[int]] = {b"idle": [rig.ms], b"busy": [rig.ms]}
    for _ in range(200):
        for frames in rig.pass_ms(100):
            assert frames == heartbeat(frames[0])
            times[frames[0]].append(rig.ms)
        rig.beat(b"idle")
    for series in times.values():
        gaps = [after - before for before, after in pairwise(series)]
        assert len(gaps) >= 7
        assert max(gaps) <= 2_500 + 100
        assert min(gaps) >= 2_500 - 2 * 313 - 100


def test_peers_should_not_send_heartbeats_while_sending_other_commands(rig: BrokerRig) -> None:
    """A worker that gets a request a second gets no heartbeat besides."""
    rig.ready(b"W")
    for _ in range(20):
        assert rig.ask(b"C") == [request(b"W", b"C")]
        rig.reply(b"W", b"C")
        assert rig.pass_ms(1_000) == []


def test_an_idle_worker_silent_for_liveness_intervals_is_disconnected(rig: BrokerRig) -> None:
    """After 3 times 2.5 s it is forgotten, within a slot of an eighth of the interval, and told nothing."""
    rig.ready(b"W")
    rig.pass_ms(7_499)
    assert rig.broker.workers(b"echo") == 1
    assert heartbeat(b"W") not in rig.pass_ms(1 + 313)
    assert rig.broker.workers(b"echo") == 0
    assert rig.count("workers_expired") == 1
    assert rig.ask(b"C") == []


def test_any_received_command_except_disconnect_acts_as_a_heartbeat(rig: BrokerRig) -> None:
    """Heartbeats and replies both keep a worker; its next silence is measured from them."""
    rig.ready(b"W")
    rig.pass_ms(5_000)
    rig.beat(b"W")
    rig.pass_ms(5_000)
    rig.ask(b"C")
    rig.reply(b"W", b"C")
    rig.pass_ms(7_000)
    assert rig.broker.workers(b"echo") == 1
    rig.pass_ms(1_000)
    assert rig.broker.workers(b"echo") == 0


def test_a_worker_that_was_thought_dead_is_told_to_reconnect(rig: BrokerRig) -> None:
    """Its next heartbeat is unexpected: DISCONNECT, and it may register again."""
    rig.ready(b"W")
    rig.pass_ms(10_000)
    assert rig.beat(b"W") == [disconnect(b"W")]
    assert rig.ready(b"W") == []


def test_a_busy_worker_is_not_ended_by_silence(rig: BrokerRig) -> None:
    """Workers written like the guide's do not heartbeat while they work."""
    rig.ready(b"W")
    rig.ask(b"C")
    rig.pass_ms(600_000)
    assert rig.reply(b"W", b"C") == [reply(b"C")]


def test_a_worker_is_given_its_whole_liveness_after_long_work(rig: BrokerRig) -> None:
    """Silence is counted from the reply."""
    rig.ready(b"W")
    rig.ask(b"C")
    rig.pass_ms(600_000)
    rig.reply(b"W", b"C")
    rig.pass_ms(7_400)
    assert rig.broker.workers(b"echo") == 1


def test_a_broker_without_workers_sleeps_for_ever(rig: BrokerRig) -> None:
    """There is no deadline before the first worker and none after the last."""
    assert rig.broker.next_deadline() is None
    rig.ready(b"W")
    assert rig.broker.next_deadline() is not None
    rig.leave(b"W")
    assert rig.broker.next_deadline() is None


def test_a_thousand_idle_workers_cost_eight_wakes_an_interval() -> None:
    """However their beginnings are spread over time."""
    rig = BrokerRig()
    for number in range(1_000):
        rig.ready(b"W%d" % number)
        rig.ms += 7
    rig.pass_ms(0)
    for number in range(1_000):
        rig.beat(b"W%d" % number)
    rig.ticks_count = 0
    sent = rig.pass_ms(5_000)
    assert rig.ticks_count <= 17
    assert 2_000 <= len(sent) <= 3_000


# ---- workers that are lost ----


def test_a_lost_workers_request_goes_to_the_head_of_the_queue(rig: BrokerRig) -> None:
    """It is served before those that waited while it was being worked on."""
    rig.ready(b"W1")
    rig.ask(b"C1")
    rig.ask(b"C2")
    assert rig.unreachable(b"W1") == []
    assert rig.ready(b"W2") == [request(b"W2", b"C1")]
    assert rig.count("workers_unreachable") == 1
    assert rig.count("requests_requeued") == 1


def test_a_lost_workers_request_goes_to_an_idle_worker_at_once(rig: BrokerRig) -> None:
    """By EHOSTUNREACH and by the worker's DISCONNECT alike."""
    for worker in (b"W1", b"W2", b"W3"):
        rig.ready(worker)
    rig.ask(b"C")
    assert rig.unreachable(b"W1") == [request(b"W2", b"C")]
    assert rig.leave(b"W2") == [request(b"W3", b"C")]


def test_a_request_that_keeps_killing_workers_is_given_up(rig: BrokerRig) -> None:
    """After three attempts it is dropped and counted; the fourth worker lives."""
    rig.ask(b"C")
    for worker in (b"W1", b"W2", b"W3"):
        assert rig.ready(worker) == [request(worker, b"C")]
        rig.unreachable(worker)
    assert rig.ready(b"W4") == []
    assert rig.count("requests_given_up") == 1


def test_a_lost_request_waits_its_full_time_again() -> None:
    """Long work before the loss does not make it expire at once."""
    rig = BrokerRig(BrokerLimits(request_expiry_ms=5_000))
    rig.ready(b"W")
    rig.ask(b"C")
    rig.pass_ms(60_000)
    rig.unreachable(b"W")
    rig.pass_ms(4_999)
    assert rig.broker.gauges["requests_waiting"] == 1
    rig.pass_ms(1)
    assert rig.count("requests_expired") == 1


def test_an_unreachable_client_is_counted(rig: BrokerRig) -> None:
    """It is nobody's worker; nothing else happens."""
    assert rig.unreachable(b"C") == []
    assert rig.count("peers_unreachable") == 1


@pytest.mark.parametrize(
    "wrong",
    [{"heartbeat_ms": 0}, {"heartbeat_ms": 7}, {"liveness_count": 1}, {"queued_max_count": 0}],
)
def test_limits_that_cannot_work_are_refused(wrong: dict[str, int]) -> None:
    """When they are built, not when they bite."""
    with pytest.raises(ValueError):
        BrokerLimits(**wrong)
