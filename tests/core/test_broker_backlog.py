"""Durable work through the broker: taken when a worker is free, done once, lost with its reason."""

from __future__ import annotations

import pytest

from tests.support.broker_rig import BrokerRig, disconnect, reply, request


@pytest.fixture
def rig() -> BrokerRig:
    """A broker with durable work and internal ``titanic.*`` services."""
    return BrokerRig(durable=True, internal=True)


def wake(rig: BrokerRig) -> list[list[bytes]]:
    rig.take_sent()
    rig.broker.wake(b"echo", rig.now)
    return rig.take_sent()


def abandon(rig: BrokerRig, address: bytes) -> list[list[bytes]]:
    rig.take_sent()
    rig.broker.abandon(address, rig.now)
    return rig.take_sent()


# ---- the titanic namespace ----


def test_titanic_services_are_handled_inside(rig: BrokerRig) -> None:
    """With the whole return path and the body; also names that mean nothing."""
    rig.receive(b"C", b"7", b"", b"MDPC01", b"titanic.request", b"echo", b"body")
    rig.receive(b"C", b"MDPC02", b"\x01", b"titanic.x", b"")
    assert rig.internal.asked == [
        (b"titanic.request", (b"C", b"7"), [b"echo", b"body"]),
        (b"titanic.x", (b"C", b""), [b""]),
    ]


def test_ready_for_a_titanic_name_is_answered_with_disconnect(rig: BrokerRig) -> None:
    """Nobody takes the node's own services over."""
    assert rig.ready(b"W", b"titanic.request") == [disconnect(b"W")]
    assert rig.count("workers_refused") == 1


def test_a_broker_without_titanic_lets_a_worker_register_its_names() -> None:
    """So a Titanic of its own process serves them on any broker."""
    rig = BrokerRig()
    assert rig.ready(b"W", b"titanic.request") == []
    assert rig.ask(b"C", service=b"titanic.request") == [request(b"W", b"C")]
    assert rig.reply(b"W", b"C") == [reply(b"C", service=b"titanic.request")]


# ---- taking ----


def test_a_new_worker_takes_what_waits(rig: BrokerRig) -> None:
    """The REQUEST carries the backlog's own address."""
    rig.backlog.put(b"echo", b"job-1", b"body")
    assert rig.ready(b"W") == [request(b"W", b"job-1")]
    assert rig.backlog.taken == {b"job-1": b"W"}


def test_a_reply_is_done_and_the_worker_takes_the_next(rig: BrokerRig) -> None:
    """No client hears of it."""
    rig.backlog.put(b"echo", b"job-1", b"body")
    rig.backlog.put(b"echo", b"job-2", b"body")
    rig.ready(b"W")
    assert rig.reply(b"W", b"job-1") == [request(b"W", b"job-2")]
    assert rig.reply(b"W", b"job-2") == []
    assert rig.backlog.results == [(b"job-1", [b"done"]), (b"job-2", [b"done"])]


def test_wake_hands_work_to_idle_workers_least_recently_used_first(rig: BrokerRig) -> None:
    """As many as there are; those without work keep their place in line."""
    for worker in (b"W1", b"W2", b"W3"):
        rig.ready(worker)
    rig.backlog.put(b"echo", b"job-1", b"body")
    rig.backlog.put(b"echo", b"job-2", b"body")
    assert wake(rig) == [request(b"W1", b"job-1"), request(b"W2", b"job-2")]
    rig.reply(b"W1", b"job-1")
    assert wake(rig) == []
    assert rig.ask(b"C") == [request(b"W3", b"C")]
    assert rig.ask(b"D") == [request(b"W1", b"D")]


def test_wake_for_a_service_without_workers_does_nothing(rig: BrokerRig) -> None:
    """The work stays where it is."""
    rig.backlog.put(b"echo", b"job-1", b"body")
    assert wake(rig) == []
    assert rig.backlog.waiting(b"echo") == 1


def test_transient_and_durable_work_take_turns(rig: BrokerRig) -> None:
    """While both wait neither starves the other."""
    rig.ready(b"W")
    rig.ask(b"C0")
    for number in range(3):
        rig.ask(b"C%d" % (number + 1))
        rig.backlog.put(b"echo", b"job-%d" % number, b"body")
    order, address = [], b"C0"
    for _ in range(6):
        address = rig.reply(b"W", address)[-1][4]
        order.append(address)
    assert order == [b"job-0", b"C1", b"job-1", b"C2", b"job-2", b"C3"]


# ---- losing ----


def test_a_worker_that_is_gone_loses_its_work_to_the_backlog(rig: BrokerRig) -> None:
    """Not stated: the worker did not say so."""
    rig.backlog.put(b"echo", b"job-1", b"body")
    rig.ready(b"W")
    rig.unreachable(b"W")
    assert rig.backlog.losses == [(b"job-1", "the worker is gone", False)]


def test_disconnect_with_frames_to_spare_is_a_stated_reason(rig: BrokerRig) -> None:
    """Bounded, and printable whatever the worker sent."""
    for number, words in enumerate(([b"no disk", b"left"], [b"\xff\n\x00"], [b"x" * 5_000], [])):
        rig.backlog.put(b"echo", b"job-%d" % number, b"body")
        rig.ready(b"W")
        rig.leave(b"W", *words)
    assert rig.backlog.losses == [
        (b"job-0", "no disk left", True),
        (b"job-1", "�  ", True),
        (b"job-2", "x" * 1_024, True),
        (b"job-3", "the worker disconnected", False),
    ]


def test_an_invalid_message_of_a_busy_worker_loses_its_work(rig: BrokerRig) -> None:
    """The work is not stuck with a peer nobody trusts."""
    rig.backlog.put(b"echo", b"job-1", b"body")
    rig.ready(b"W")
    assert rig.receive(b"W", b"garbage") == [disconnect(b"W")]
    assert rig.backlog.losses == [(b"job-1", "the worker sent an invalid message", False)]


def test_a_reply_for_another_attempt_is_invalid(rig: BrokerRig) -> None:
    """The backlog hears that the work is lost, not that it is done."""
    rig.backlog.put(b"echo", b"job-1", b"body")
    rig.ready(b"W")
    assert rig.reply(b"W", b"job-2") == [disconnect(b"W")]
    assert rig.backlog.results == []
    assert [loss[0] for loss in rig.backlog.losses] == [b"job-1"]


def test_heartbeats_find_a_dead_busy_worker(rig: BrokerRig) -> None:
    """Busy workers get heartbeats too; the first one that cannot be sent ends the attempt."""
    rig.backlog.put(b"echo", b"job-1", b"body")
    rig.ready(b"W")
    (frames,) = rig.pass_ms(2_500)
    assert frames == [b"W", b"", b"MDPW01", b"\x04"]
    rig.unreachable(b"W")
    assert len(rig.backlog.losses) == 1


# ---- abandoning, and late replies ----


def test_an_abandoned_attempt_costs_its_worker_the_registration(rig: BrokerRig) -> None:
    """The worker is told DISCONNECT; the backlog, which decided, is not told again."""
    rig.backlog.put(b"echo", b"job-1", b"body")
    rig.ready(b"W")
    assert abandon(rig, b"job-1") == [disconnect(b"W")]
    assert rig.broker.workers(b"echo") == 0
    assert rig.backlog.losses == []
    assert abandon(rig, b"job-1") == []


def test_a_late_reply_is_offered_to_the_backlog_once(rig: BrokerRig) -> None:
    """Work done is work done; the worker still has to register again."""
    rig.backlog.put(b"echo", b"job-1", b"body")
    rig.ready(b"W")
    abandon(rig, b"job-1")
    assert rig.reply(b"W", b"job-1") == [disconnect(b"W")]
    assert rig.reply(b"W", b"job-1") == [disconnect(b"W")]
    assert rig.backlog.results == [(b"job-1", [b"done"])]
    assert rig.count("durable_late") == 1


def test_a_late_reply_of_anybody_else_is_not_believed(rig: BrokerRig) -> None:
    """Knowing an address is not having been given the work."""
    rig.backlog.put(b"echo", b"job-1", b"body")
    rig.ready(b"W")
    abandon(rig, b"job-1")
    rig.reply(b"thief", b"job-1")
    rig.reply(b"W", b"job-2")
    assert rig.backlog.results == []


def test_a_reply_is_handed_in_for_a_job_that_waits(rig: BrokerRig) -> None:
    """Whoever had it before node or connection went may bring it; DISCONNECT says that it was read."""
    rig.backlog.orphans[b"job-1"] = b"echo"
    assert rig.reply(b"new-name", b"job-1") == [disconnect(b"new-name")]
    assert rig.backlog.results == [(b"job-1", [b"done"])]
    assert rig.count("durable_late") == 1


@pytest.mark.interpreted
def test_a_reply_is_handed_in_by_those_who_may_work_for_the_service() -> None:
    """With an allow-list a peer that could not have been given the job cannot bring its reply."""
    rig = BrokerRig(durable=True)
    rig.backlog.orphans[b"job-1"] = b"echo"
    asked: list[bytes] = []

    def may_work(service: bytes) -> bool:
        asked.append(service)
        return len(asked) > 1

    rig.broker._may_work = may_work  # type: ignore[method-assign]
    rig.reply(b"thief", b"job-1")
    assert rig.backlog.results == []
    rig.reply(b"honest", b"job-1")
    assert rig.backlog.results == [(b"job-1", [b"done"])]
    assert asked == [b"echo", b"echo"]


def test_partials_of_durable_work_go_to_the_backlog(rig: BrokerRig) -> None:
    """They neither end the attempt nor reach a client; they are counted."""
    rig.backlog.put(b"echo", b"job-1", b"body")
    rig.receive(b"W", b"MDPW02", b"\x01", b"echo")
    assert rig.receive(b"W", b"MDPW02", b"\x03", b"job-1", b"", b"half") == []
    assert rig.count("durable_partials") == 1
    assert rig.backlog.partials == [(b"job-1", [b"half"])]
    rig.receive(b"W", b"MDPW02", b"\x04", b"job-1", b"", b"whole")
    assert rig.backlog.results == [(b"job-1", [b"whole"])]


def test_a_backlog_may_wake_the_broker_from_inside() -> None:
    """Work put back by ``lost`` and woken at once goes to the idle worker, each worker having one."""
    rig = BrokerRig(durable=True)
    backlog = rig.backlog
    inner_lost = backlog.lost

    def lost(address: bytes, reason: str, now: object, *, stated: bool = False) -> None:
        inner_lost(address, reason, rig.now, stated=stated)
        backlog.put(b"echo", address + b"'", b"body")
        rig.broker.wake(b"echo", rig.now)

    backlog.lost = lost  # type: ignore[method-assign]
    backlog.put(b"echo", b"job", b"body")
    rig.ready(b"W1")
    rig.ready(b"W2")
    assert rig.unreachable(b"W1") == [request(b"W2", b"job'")]
    assert rig.leave(b"W2") == []
    assert rig.ready(b"W3") == [request(b"W3", b"job''")]
