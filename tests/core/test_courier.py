"""A separate Titanic asks a foreign broker for a worker before it hands work over, and not too often."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from core.pure.courier import POLL_MS, Courier
from core.pure.jobs import Now

ECHO = b"echo"


def at(ms: int) -> Now:
    return Now(ms, ms)


def test_nothing_is_sent_before_the_broker_says_that_it_has_a_worker() -> None:
    """Work alone opens no window; the answer of mmi.service does."""
    courier = Courier(window=3)
    assert courier.room(ECHO) == 0
    assert courier.should_ask(ECHO)
    assert not courier.should_ask(ECHO), "one question at a time"
    assert courier.room(ECHO) == 0
    courier.answered(ECHO, at(0), available=True)
    assert courier.room(ECHO) == 3


def test_a_service_without_a_worker_is_asked_for_again_after_a_pause() -> None:
    """No polling faster than POLL_MS, and none at all while nothing waits."""
    courier = Courier()
    assert courier.next_deadline() is None
    courier.should_ask(ECHO)
    courier.answered(ECHO, at(100), available=False)
    assert not courier.should_ask(ECHO), "new work does not shorten the pause"
    assert courier.next_deadline() == 100 + POLL_MS
    assert courier.due(at(99 + POLL_MS)) is None
    assert courier.due(at(100 + POLL_MS)) == ECHO
    assert not courier._routes, "a service whose work went away meanwhile costs nothing"
    assert courier.should_ask(ECHO)


def test_an_attempt_given_up_closes_the_window() -> None:
    """After a lost request the broker is asked before it gets more."""
    courier = Courier(window=2)
    courier.should_ask(ECHO)
    courier.answered(ECHO, at(0), available=True)
    courier.sent(ECHO)
    courier.returned(ECHO, replied=False)
    assert courier.room(ECHO) == 0
    assert courier.should_ask(ECHO)


class CourierMachine(RuleBasedStateMachine):
    """Any order of events keeps the window, and forgets services that have nothing to do."""

    def __init__(self) -> None:
        super().__init__()
        self.courier = Courier(window=2)
        self.ms = 0
        self.in_flight = 0
        self.asking = False

    @rule()
    def wake(self) -> None:
        if self.courier.should_ask(ECHO):
            assert not self.asking
            self.asking = True

    @precondition(lambda self: self.asking)
    @rule(available=st.booleans())
    def answer(self, available: bool) -> None:
        self.courier.answered(ECHO, at(self.ms), available=available)
        self.asking = False

    @precondition(lambda self: self.courier.room(ECHO) > 0)
    @rule()
    def send(self) -> None:
        self.courier.sent(ECHO)
        self.in_flight += 1

    @precondition(lambda self: self.courier.room(ECHO) > 0)
    @rule()
    def run_out(self) -> None:
        self.courier.exhausted(ECHO)
        assert self.courier.room(ECHO) == 0

    @precondition(lambda self: self.in_flight > 0)
    @rule(replied=st.booleans())
    def come_back(self, replied: bool) -> None:
        self.in_flight -= 1
        self.courier.returned(ECHO, replied=replied)

    @rule(ms=st.integers(0, 2 * POLL_MS))
    def pass_time(self, ms: int) -> None:
        self.ms += ms
        while self.courier.due(at(self.ms)) is not None:
            continue

    @invariant()
    def the_window_holds(self) -> None:
        assert 0 <= self.in_flight <= 2
        assert self.courier.room(ECHO) <= 2 - self.in_flight


CourierMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestCourier = CourierMachine.TestCase
