"""Callbacks: who is told of a job's end, how often it is tried, and all of it after a restart."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from core.pure import tsp
from core.pure.jobs import CallMeta, Kind, State, decode_attempt
from core.pure.life_limits import CallLimits, LifeLimits
from core.pure.titanic import TitanicLimits
from tests.support.titanic_rig import Rig

URL = "https://example.org/done"
LEASE_MS = 60_000
CALLS = CallLimits(tries_max=3, backoff_first_ms=1_000, backoff_max_ms=10_000)
LIMITS = TitanicLimits(life=LifeLimits(calls=CALLS))
BRIEF = TitanicLimits(life=LifeLimits(calls=CALLS, retention_ms=5_000))


def same(rig: Rig) -> Rig:
    return rig


@pytest.fixture(params=["running", "restarted"])
def maybe_restart(request: pytest.FixtureRequest) -> Callable[[Rig], Rig]:
    """What holds for a running node holds for one that was restarted."""
    return Rig.restart if request.param == "restarted" else same


def succeed(rig: Rig) -> bytes:
    """The key of a job with a callback whose reply is durable."""
    key = rig.submit(callback=URL)
    rig.titanic.done(rig.must_take().address, [b"reply"], rig.now)
    rig.sync()
    return key


def take(rig: Rig, wait_ms: int = 0, limit: int = 10) -> tuple[tsp.JobStatus, ...] | None:
    answer = rig.ask(tsp.CALLBACKS, tsp.encode_head(tsp.CallbacksHead(limit, wait_ms, LEASE_MS)))
    return None if answer is None else tsp.decode_calls(answer[1]).calls


def taken(rig: Rig) -> list[bytes]:
    rig.pass_ms(0)
    calls = take(rig)
    assert calls is not None
    return [call.key for call in calls]


def report(rig: Rig, key: bytes, *, ok: bool, reason: str = "", final: bool = False, round_: int = 0) -> None:
    rig.synced(tsp.CALLED, tsp.CalledHead(key, round_, ok, reason, final))
    assert rig.answers[-1][2][0] == tsp.OK


def call_of(rig: Rig, key: bytes) -> CallMeta:
    call = rig.state(key).call
    assert call is not None
    return call


def test_nothing_is_due_before_the_end_is_durable(maybe_restart: Callable[[Rig], Rig]) -> None:
    """Neither a job that runs nor one whose reply is not synced is called for."""
    rig = Rig(limits=LIMITS)
    key = rig.submit(callback=URL)
    assert taken(rig) == []
    rig.titanic.done(rig.must_take().address, [b"reply"], rig.now)
    assert taken(rig) == []
    rig.sync()
    rig = maybe_restart(rig)
    assert taken(rig) == [key]


def test_a_job_without_a_callback_is_not_called_for(maybe_restart: Callable[[Rig], Rig]) -> None:
    """Its status has no call, and nothing is kept for it."""
    rig = Rig(limits=LIMITS)
    key = rig.submit()
    rig.titanic.done(rig.must_take().address, [b"reply"], rig.now)
    rig.sync()
    rig = maybe_restart(rig)
    assert taken(rig) == []
    assert rig.state(key).call is None
    assert not rig.titanic.life.notes.calls


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_every_end_is_called_for(end: str, maybe_restart: Callable[[Rig], Rig]) -> None:
    """A dead letter and a cancelled job as well as a reply."""
    rig = Rig(limits=LIMITS)
    key = rig.submit(callback=URL, attempts_max=1)
    if end == "failed":
        rig.titanic.lost(rig.must_take().address, "no", rig.now, stated=True)
    else:
        rig.ask(tsp.CANCEL, tsp.encode_head(tsp.JobHead(key)))
    rig.sync()
    rig = maybe_restart(rig)
    assert taken(rig) == [key]
    assert rig.state(key).state == end


def test_who_waits_is_told_at_the_end() -> None:
    """A long-poll is answered in the tick after the end, and what it says has the URL and the trace."""
    rig = Rig(limits=LIMITS)
    trace = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"
    key = rig.submit(callback=URL, traceparent=trace, owner="shop")
    assert take(rig, wait_ms=30_000) is None
    rig.titanic.done(rig.must_take().address, [b"reply"], rig.now)
    rig.sync()
    assert rig.titanic.next_deadline() == 0
    rig.pass_ms(0)
    (call,) = tsp.decode_calls(rig.answers[-1][2][1]).calls
    assert (call.key, call.callback, call.traceparent, call.owner) == (key, URL, trace, "shop")
    assert call.state == "succeeded"


def test_who_waited_long_enough_gets_an_empty_page() -> None:
    """wait_ms bounds the wait."""
    rig = Rig(limits=LIMITS)
    assert take(rig, wait_ms=1_000) is None
    rig.pass_ms(1_000)
    assert tsp.decode_calls(rig.answers[-1][2][1]).calls == ()


def test_a_delivery_is_one_taker_s_until_its_lease_ends(maybe_restart: Callable[[Rig], Rig]) -> None:
    """Nobody else gets it meanwhile; not reported, it is due again. A restart forgets the lease at once."""
    rig = Rig(limits=LIMITS)
    key = succeed(rig)
    assert taken(rig) == [key]
    rig.pass_ms(LEASE_MS - 1)
    assert taken(rig) == []
    again = maybe_restart(rig)
    again.pass_ms(1)
    assert taken(again) == [key]


def test_delivered_is_durable_before_the_report_is_answered(maybe_restart: Callable[[Rig], Rig]) -> None:
    """After that it is never due again."""
    rig = Rig(limits=LIMITS)
    key = succeed(rig)
    taken(rig)
    assert rig.ask(tsp.CALLED, tsp.encode_head(tsp.CalledHead(key, 0, ok=True))) is None
    rig.sync()
    rig = maybe_restart(rig)
    rig.pass_ms(LEASE_MS)
    assert taken(rig) == []
    call = call_of(rig, key)
    assert (call.settled, call.tries, call.reason) == (1, 1, "")


def test_a_failed_delivery_is_tried_again_later(maybe_restart: Callable[[Rig], Rig]) -> None:
    """The pause survives a restart, and grows."""
    rig = Rig(limits=LIMITS)
    key = succeed(rig)
    taken(rig)
    report(rig, key, ok=False, reason="500")
    rig = maybe_restart(rig)
    call = call_of(rig, key)
    assert (call.settled, call.tries, call.reason) == (0, 1, "500")
    pause_ms = call.due_ms - rig.now.wall_ms
    assert 750 <= pause_ms <= 1_250
    rig.pass_ms(pause_ms - 1)
    assert taken(rig) == []
    rig.pass_ms(1)
    assert taken(rig) == [key]
    report(rig, key, ok=False, reason="500")
    assert 2_250 <= call_of(rig, key).due_ms - rig.now.wall_ms <= 3_750


def test_after_so_many_tries_it_is_given_up(maybe_restart: Callable[[Rig], Rig]) -> None:
    """And the last reason is kept with the job."""
    rig = Rig(limits=LIMITS)
    key = succeed(rig)
    for number in range(3):
        rig.pass_ms(10_000)
        assert taken(rig) == [key]
        report(rig, key, ok=False, reason=f"no {number}")
    rig = maybe_restart(rig)
    rig.pass_ms(LEASE_MS)
    assert taken(rig) == []
    call = call_of(rig, key)
    assert (call.settled, call.tries, call.reason) == (2, 3, "no 2")


def test_a_final_failure_is_given_up_at_once() -> None:
    """A receiver that says 410 is not asked again."""
    rig = Rig(limits=LIMITS)
    key = succeed(rig)
    taken(rig)
    report(rig, key, ok=False, reason="410", final=True)
    assert call_of(rig, key).settled == 2


def test_retention_waits_for_an_open_callback() -> None:
    """A reply whose retention is shorter than the retries stays until the callback is settled."""
    rig = Rig(limits=BRIEF)
    key = succeed(rig)
    rig.pass_ms(8_000)
    rig.sync()
    assert taken(rig) == [key]
    report(rig, key, ok=True)
    for _ in range(5):
        rig.pass_ms(1_000)
        rig.sync()
    assert key not in rig.journal.index
    assert not rig.titanic.life.notes.calls


def test_a_closed_job_is_not_called_for() -> None:
    """Whoever closes the job knows of its end."""
    rig = Rig(limits=LIMITS)
    key = succeed(rig)
    rig.ask(tsp.CLOSE, key.hex().encode())
    rig.sync()
    assert taken(rig) == []
    report(rig, key, ok=True)
    assert rig.titanic.life.calls.open_count == 0


def test_each_end_is_called_for(maybe_restart: Callable[[Rig], Rig]) -> None:
    """A dead letter put back by hand ends again, in another round; a report of the first says nothing."""
    rig = Rig(limits=LIMITS)
    key = rig.submit(callback=URL, attempts_max=1)
    rig.titanic.lost(rig.must_take().address, "no", rig.now, stated=True)
    rig.sync()
    taken(rig)
    report(rig, key, ok=True)
    rig.ask(tsp.RETRY, tsp.encode_head(tsp.JobHead(key)))
    rig.ask(tsp.CALLED, tsp.encode_head(tsp.CalledHead(key, 0, ok=True)))
    rig.sync()
    rig = maybe_restart(rig)
    assert taken(rig) == []
    rig.titanic.done(rig.must_take().address, [b"reply"], rig.now)
    rig.sync()
    assert taken(rig) == [key]
    report(rig, key, ok=True)
    assert call_of(rig, key).settled == 0
    report(rig, key, ok=True, round_=1)
    assert (call_of(rig, key).settled, call_of(rig, key).round) == (1, 1)


def test_a_report_that_crosses_a_retry_says_nothing() -> None:
    """A report that crosses a retry on its way to the disk does not settle the next round."""
    rig = Rig(limits=LIMITS)
    key = rig.submit(callback=URL, attempts_max=1)
    rig.titanic.lost(rig.must_take().address, "no", rig.now, stated=True)
    rig.sync()
    taken(rig)
    rig.ask(tsp.RETRY, tsp.encode_head(tsp.JobHead(key)))
    rig.ask(tsp.CALLED, tsp.encode_head(tsp.CalledHead(key, 0, ok=True)))
    rig.sync()
    rig = rig.restart()
    call = call_of(rig, key)
    assert (call.settled, call.round) == (0, 1)


def test_the_snapshot_of_a_relocated_job_keeps_its_call() -> None:
    """Without the records of its deliveries, the fold knows them all the same."""
    rig = Rig(limits=LIMITS)
    key = succeed(rig)
    taken(rig)
    report(rig, key, ok=False, reason="500")
    before = call_of(rig, key)
    _, fold = rig.journal.reopened()
    job = rig.journal.index[key]
    fold.notes.calls[key] = before
    moved = fold.snapshot(job)
    fresh = type(fold)()
    again = fresh.new(Kind.REQUEST, key)
    again.reply_at = job.reply_at
    fresh.fold(again, Kind.REQUEST, rig.journal.read_request(job)[0], 1)
    fresh.fold(again, Kind.JOB, moved, 1)
    assert again.state == State.SUCCEEDED
    assert fresh.notes.calls[key] == before


def test_deliveries_are_events_and_counts() -> None:
    """Who follows along sees each try; a record each, none before."""
    rig = Rig(limits=LIMITS)
    key = succeed(rig)
    taken(rig)
    report(rig, key, ok=False, reason="HTTP 500")
    rig.pass_ms(2_000)
    taken(rig)
    report(rig, key, ok=True)
    page = rig.ask(tsp.EVENTS, tsp.encode_head(tsp.EventsHead(0)))
    assert page is not None
    said = [event.detail for event in tsp.decode_events_page(page[1]).events if event.kind == "callback"]
    assert said == ["failed: HTTP 500", "delivered"]
    counters = rig.titanic.life.counters
    assert (counters["callbacks_failed"], counters["callbacks_delivered"]) == (1, 1)
    outcomes = [decode_attempt(meta).outcome for kind, _, meta in rig.journal.log if kind == Kind.ATTEMPT]
    assert outcomes == [0, 6, 5]


@pytest.mark.parametrize("service", [tsp.CALLBACKS, tsp.CALLED])
def test_a_bad_head_is_refused(service: bytes) -> None:
    """Neither service believes its bytes."""
    rig = Rig(limits=LIMITS)
    for body in ((), (b"",), (b"\xc1",)):
        answer = rig.ask(service, *body)
        assert answer is not None
        assert answer[0] == tsp.UNKNOWN


def test_a_callback_longer_than_the_limit_is_refused() -> None:
    """At the node too, whoever sends it."""
    rig = Rig(limits=LIMITS)
    head = tsp.SubmitHead(rig.key(), rig.meta(callback="h" * 2_049))
    answer = rig.ask(tsp.SUBMIT, tsp.encode_head(head), b"x")
    assert answer is not None
    assert answer[0] == tsp.UNKNOWN


def test_a_hundred_are_handed_out_at_once_in_the_order_of_their_ends() -> None:
    """The limit bounds a page, and a taker that wants one gets the oldest."""
    rig = Rig(limits=LIMITS)
    keys = [succeed(rig) for _ in range(5)]
    first, rest = take(rig, limit=1), take(rig, limit=1_000)
    assert first is not None
    assert rest is not None
    assert [call.key for call in (*first, *rest)] == keys


def test_every_job_of_a_batch_is_called_for(maybe_restart: Callable[[Rig], Rig]) -> None:
    """Accepted as one step, each has a call of its own."""
    rig = Rig(limits=LIMITS)
    keys = tuple(rig.key() for _ in range(3))
    rig.synced(tsp.BATCH, tsp.BatchHead(keys, rig.meta(callback=URL)), b"1", b"2", b"3")
    for _ in keys:
        rig.titanic.done(rig.must_take().address, [b"reply"], rig.now)
    rig.sync()
    rig = maybe_restart(rig)
    assert sorted(taken(rig)) == sorted(keys)
