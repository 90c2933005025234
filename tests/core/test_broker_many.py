"""10,000 services and 1,000 workers: all are served, a message takes the same steps as with one of each."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType

from tests.support.broker_rig import BrokerRig, heartbeat

SERVICES_COUNT = 10_000
WORKERS_COUNT = 1_000


def crowd() -> BrokerRig:
    """A thousand workers of as many services, nine thousand requests for services that nobody offers."""
    rig = BrokerRig()
    for number in range(SERVICES_COUNT):
        name = b"service-%d" % number
        if number < WORKERS_COUNT:
            rig.ready(b"W%d" % number, name)
        else:
            rig.ask(b"C%d" % number, service=name)
    return rig


def calls_of(work: Callable[[], object]) -> int:
    """How many calls, of Python and of C, are made meanwhile: a clock that other work does not disturb."""
    count = 0

    def count_call(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(count_call)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def round_trip(rig: BrokerRig) -> None:
    """A request and its reply."""
    rig.ask(b"C", service=b"service-0")
    rig.reply(b"W0", b"C")


def test_all_are_served() -> None:
    """Each worker gets the requests for its service, and a newcomer what has waited for it."""
    rig = crowd()
    assert rig.broker.gauges == {
        "services": SERVICES_COUNT,
        "workers": WORKERS_COUNT,
        "workers_idle": WORKERS_COUNT,
        "requests_waiting": SERVICES_COUNT - WORKERS_COUNT,
        "requests_waiting_bytes": (SERVICES_COUNT - WORKERS_COUNT) * len(b"body"),
    }
    for number in range(WORKERS_COUNT):
        assert rig.ask(b"C", service=b"service-%d" % number)[0][0] == b"W%d" % number
    assert rig.ready(b"new", b"service-9999")[0][:5] == [b"new", b"", b"MDPW01", b"\x02", b"C9999"]


def test_a_message_takes_as_many_steps_as_with_one_service_and_worker() -> None:
    """Request and reply, and a heartbeat: not one call more beside 10,000 services and 1,000 workers."""
    small, large = BrokerRig(), crowd()
    small.ready(b"W0", b"service-0")
    round_trip(small)
    round_trip(large)
    assert calls_of(lambda: round_trip(large)) == calls_of(lambda: round_trip(small))
    assert calls_of(lambda: large.beat(b"W0")) == calls_of(lambda: small.beat(b"W0"))


def test_a_thousand_idle_workers_cost_a_heartbeat_each_and_eight_looks() -> None:
    """In one interval every worker is sent one heartbeat, and the broker is woken at most nine times."""
    rig = BrokerRig()
    for number in range(WORKERS_COUNT):
        rig.ready(b"W%d" % number, b"service-%d" % number)
        rig.ms += number % 3
    rig.pass_ms(2_500)
    for number in range(WORKERS_COUNT):
        rig.beat(b"W%d" % number)
    before = rig.ticks_count
    sent = rig.pass_ms(2_500)
    beaten = [frames for frames in sent if frames == heartbeat(frames[0])]
    assert WORKERS_COUNT <= len(beaten) <= WORKERS_COUNT * 1.2
    assert rig.ticks_count - before <= 9
