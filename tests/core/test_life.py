"""The life of a job beyond its first attempt: time, hands, retention, and all of it after a restart."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from core.pure import tsp
from core.pure.jobs import CloseMeta, Kind, State, decode_close
from core.pure.lifecycle import LifeLimits, ServiceLimits
from core.pure.titanic import TitanicLimits, parse_address
from tests.support.titanic_rig import PATH, Rig

DAY_MS = 24 * 3_600_000
SHORT = TitanicLimits(life=LifeLimits(retention_ms=10_000, dead_letter_retention_ms=60_000))


def same(rig: Rig) -> Rig:
    return rig


@pytest.fixture(params=["running", "restarted"])
def maybe_restart(request: pytest.FixtureRequest) -> Callable[[Rig], Rig]:
    """What holds for a running node holds for one that was restarted."""
    return Rig.restart if request.param == "restarted" else same


def job_head(key: bytes, owner: str = "") -> tsp.JobHead:
    return tsp.JobHead(key, owner)


# -- time


def test_a_job_does_not_start_before_its_time(maybe_restart: Callable[[Rig], Rig]) -> None:
    """not_before: scheduled until then, queued at that very millisecond."""
    rig = Rig()
    key = rig.submit(not_before_ms=rig.now.wall_ms + 5_000)
    rig = maybe_restart(rig)
    rig.pass_ms(4_999)
    assert rig.take() is None
    assert rig.state(key).state == "scheduled"
    rig.pass_ms(1)
    assert parse_address(rig.must_take().address) == (key, 1)


def test_a_job_not_started_in_time_is_a_dead_letter(maybe_restart: Callable[[Rig], Rig]) -> None:
    """expires: it fails with that reason, durably, and is not handed out."""
    rig = Rig()
    key = rig.submit(expires_ms=rig.now.wall_ms + 5_000)
    rig = maybe_restart(rig)
    rig.pass_ms(4_999)
    assert rig.state(key).state == "queued"
    rig.pass_ms(1)
    assert rig.take() is None
    rig.sync()
    status = maybe_restart(rig).state(key)
    assert (status.state, status.attempt) == ("failed", 0)
    assert status.reason.startswith("expired")


def test_a_started_job_does_not_expire(maybe_restart: Callable[[Rig], Rig]) -> None:
    """An expiry counts until the first attempt only, even if that attempt fails."""
    rig = Rig()
    key = rig.submit(expires_ms=rig.now.wall_ms + 5_000)
    rig.titanic.lost(rig.must_take().address, "no", rig.now)
    rig.sync()
    rig = maybe_restart(rig)
    rig.pass_ms(100_000)
    assert rig.state(key).state == "queued"


def test_an_expiry_before_the_start_time_wins() -> None:
    """A job that would expire before it may start never starts."""
    rig = Rig()
    key = rig.submit(not_before_ms=rig.now.wall_ms + 9_000, expires_ms=rig.now.wall_ms + 1_000)
    rig.pass_ms(1_000)
    rig.sync()
    assert rig.state(key).state == "failed"
    rig.pass_ms(20_000)
    assert rig.take() is None


def test_a_closed_or_cancelled_job_does_not_expire() -> None:
    """The expiry of a job that is gone does nothing."""
    rig = Rig()
    closed, cancelled = (rig.submit(expires_ms=rig.now.wall_ms + 1_000) for _ in range(2))
    rig.ask(tsp.CLOSE, closed.hex().encode())
    rig.sync()
    rig.synced(tsp.CANCEL, job_head(cancelled))
    rig.pass_ms(2_000)
    rig.sync()
    assert rig.state(cancelled).state == "cancelled"
    assert rig.titanic.life.counters["jobs_expired"] == 0


def test_a_service_may_have_its_own_attempts_and_timeout() -> None:
    """ServiceLimits stand between the node's defaults and what the job says."""
    own = {b"slow": ServiceLimits(attempt_timeout_ms=1_000, attempts_max=1)}
    rig = Rig(limits=TitanicLimits(life=LifeLimits(services=own)))
    key, stubborn = rig.submit(b"slow"), rig.submit(b"slow", attempts_max=2)
    rig.must_take(b"slow")
    rig.must_take(b"slow")
    rig.pass_ms(1_000)
    rig.sync()
    assert (rig.state(key).state, rig.state(key).attempts_max) == ("failed", 1)
    assert rig.state(stubborn).state == "scheduled"


def test_thousands_due_at_once_do_not_stall_the_node() -> None:
    """A tick starts or expires a thousand at most, and asks for the next one at once."""
    rig = Rig()
    for number in range(2_500):
        when = rig.now.wall_ms + 5_000
        meta = rig.meta(not_before_ms=when) if number % 2 else rig.meta(expires_ms=when)
        rig.ask(tsp.SUBMIT, tsp.encode_head(tsp.SubmitHead(rig.key(), meta)), b"x")
    rig.sync()
    rig.pass_ms(5_000)
    assert rig.titanic.life.counters["jobs_expired"] == 1_000
    assert rig.titanic.next_deadline() == rig.now.mono_ms
    rig.pass_ms(0)
    rig.sync()
    assert rig.titanic.life.shelf.summary()["echo"]["queued"] == 1_250
    assert rig.titanic.life.shelf.summary()["echo"]["failed"] == 1_250


# -- cancel


@pytest.mark.parametrize("step", ["queued", "scheduled", "running"])
def test_a_cancelled_job_runs_no_more(step: str, maybe_restart: Callable[[Rig], Rig]) -> None:
    """Whatever it was doing; a running attempt is taken from its worker, its reply dropped."""
    rig = Rig()
    key = rig.submit(not_before_ms=rig.now.wall_ms + 1_000 if step == "scheduled" else 0)
    work = rig.must_take() if step == "running" else None
    answer = rig.synced(tsp.CANCEL, job_head(key))
    assert answer[0] == tsp.OK
    assert tsp.decode_status(answer[1]).state == "cancelled"
    assert rig.abandoned == ([(key, 1)] if work else [])
    rig = maybe_restart(rig)
    rig.pass_ms(2_000)
    assert rig.take() is None
    if work is not None:
        rig.titanic.done(work.address, [b"late"], rig.now)
    rig.sync()
    assert rig.state(key).state == "cancelled"
    fetched = rig.fetch(key)
    assert fetched is not None
    assert fetched[0] == tsp.CONFLICT


def test_a_cancel_before_the_submit_is_durable_wins() -> None:
    """The request's own sync does not put the job back in the queue."""
    rig = Rig()
    key = rig.key()
    rig.ask(tsp.SUBMIT, tsp.encode_head(tsp.SubmitHead(key, rig.meta())), b"x")
    rig.ask(tsp.CANCEL, tsp.encode_head(job_head(key)))
    rig.sync()
    assert [frames[0] for _, _, frames in rig.answers] == [tsp.OK, tsp.OK]
    assert rig.take() is None
    assert rig.state(key).state == "cancelled"


def test_cancelling_twice_is_fine_and_too_late_is_a_conflict() -> None:
    """A cancelled job says 200 again; one that succeeded, also while it is being written, says 409."""
    rig = Rig()
    key, done = rig.submit(), rig.submit()
    assert [rig.synced(tsp.CANCEL, job_head(key))[0] for _ in range(2)] == [tsp.OK, tsp.OK]
    rig.titanic.done(rig.must_take().address, [b"r"], rig.now)
    answers = [rig.synced(tsp.CANCEL, job_head(done)) for _ in range(2)]
    assert [answer[0] for answer in answers] == [tsp.CONFLICT, tsp.CONFLICT]
    assert tsp.decode_status(answers[0][1]).state == "succeeded"


def test_a_waiter_hears_of_a_cancel() -> None:
    """A fetch that waits is answered 409 once the cancel is durable."""
    rig = Rig()
    key = rig.submit()
    assert rig.fetch(key, wait_ms=60_000, path=(b"waiter",)) is None
    rig.ask(tsp.CANCEL, tsp.encode_head(job_head(key)))
    assert not [path for path, _, _ in rig.answers if path == (b"waiter",)]
    rig.sync()
    assert [frames[0] for path, _, frames in rig.answers if path == (b"waiter",)] == [tsp.CONFLICT]


# -- retry


def dead(rig: Rig, **options: Any) -> bytes:
    """A job whose only attempt failed."""
    key = rig.submit(attempts_max=1, **options)
    rig.titanic.lost(rig.must_take().address, "broken", rig.now, stated=True)
    rig.sync()
    assert rig.state(key).state == "failed"
    return key


def test_a_dead_letter_is_retried_by_hand(maybe_restart: Callable[[Rig], Rig]) -> None:
    """Its attempts start anew, its reason is gone, its expiry counts no more."""
    rig = Rig()
    key = maybe_key = dead(rig, expires_ms=rig.now.wall_ms + 1_000)
    answer = rig.synced(tsp.RETRY, job_head(key))
    assert answer[0] == tsp.OK
    rig = maybe_restart(rig)
    rig.pass_ms(10_000)
    status = rig.state(key)
    assert (status.state, status.attempt, status.reason) == ("queued", 0, "")
    assert parse_address(rig.must_take().address) == (maybe_key, 1)


def test_only_a_dead_letter_is_retried() -> None:
    """Queued, running, succeeded and cancelled jobs say 409 with their state; unknown ids 404."""
    rig = Rig()
    queued = rig.submit(b"other")
    running = rig.submit()
    rig.must_take()
    cancelled = rig.submit(b"third")
    rig.synced(tsp.CANCEL, job_head(cancelled))
    for key, state in ((queued, "queued"), (running, "running"), (cancelled, "cancelled")):
        answer = rig.synced(tsp.RETRY, job_head(key))
        assert (answer[0], tsp.decode_status(answer[1]).state) == (tsp.CONFLICT, state)
    assert rig.synced(tsp.RETRY, job_head(b"0" * 16))[0] == tsp.NOT_FOUND


def test_two_retries_are_one() -> None:
    """Asked twice before the sync, the job is queued once."""
    rig = Rig()
    key = dead(rig)
    for _ in range(2):
        rig.ask(tsp.RETRY, tsp.encode_head(job_head(key)))
    rig.sync()
    assert parse_address(rig.must_take().address) == (key, 1)
    assert rig.take() is None


# -- pause and resume


def test_a_paused_service_hands_out_nothing(maybe_restart: Callable[[Rig], Rig]) -> None:
    """Jobs are accepted and wait; after the resume they go in order; both are durable when answered."""
    rig = Rig()
    first = rig.submit()
    row = tsp.decode_service_row(rig.synced(tsp.PAUSE, tsp.PauseHead("echo"))[1])
    assert (row.paused, row.queued) == (True, 1)
    rig = maybe_restart(rig)
    second = rig.submit()
    assert rig.take() is None
    assert rig.submit(b"other"), "other services go on"
    rig.must_take(b"other")
    row = tsp.decode_service_row(rig.synced(tsp.RESUME, tsp.PauseHead("echo"))[1])
    assert not row.paused
    rig = maybe_restart(rig)
    assert [parse_address(rig.must_take().address) for _ in range(2)] == [(first, 1), (second, 1)]


def test_pause_and_resume_may_cross() -> None:
    """The last word counts, whatever was on its way to the disk."""
    rig = Rig()
    rig.submit()
    for service in (tsp.PAUSE, tsp.PAUSE, tsp.RESUME, tsp.PAUSE):
        rig.ask(service, tsp.encode_head(tsp.PauseHead("echo")))
    rig.sync()
    assert rig.take() is None
    assert rig.restart().take() is None
    for service in (tsp.RESUME, tsp.PAUSE, tsp.RESUME):
        rig.ask(service, tsp.encode_head(tsp.PauseHead("echo")))
    rig.sync()
    assert rig.restart().take() is not None
    assert rig.take() is not None


def test_a_resume_that_is_not_durable_hands_out_nothing() -> None:
    """Only the sync ends the pause, so that a crash cannot have run what was paused."""
    rig = Rig()
    rig.submit()
    rig.synced(tsp.PAUSE, tsp.PauseHead("echo"))
    rig.ask(tsp.RESUME, tsp.encode_head(tsp.PauseHead("echo")))
    assert rig.take() is None


# -- retention


def close_causes(rig: Rig) -> list[str]:
    return [decode_close(meta).cause for kind, _, meta in rig.journal.log if kind == Kind.CLOSE]


def test_replies_and_dead_letters_past_their_retention_are_closed(
    maybe_restart: Callable[[Rig], Rig],
) -> None:
    """Each after its own time, with a CLOSE that says why; jobs that have not ended stay."""
    rig = Rig(limits=SHORT)
    letter, waiting = dead(rig), rig.submit(b"nobody")
    done = rig.submit()
    rig.titanic.done(rig.must_take().address, [b"r"], rig.now)
    rig.sync()
    rig = maybe_restart(rig)
    assert rig.state(done).keep_until_ms == rig.now.wall_ms + 10_000
    rig.pass_ms(9_999)
    rig.sync()
    assert rig.state(done).state == "succeeded"
    rig.pass_ms(1_001)
    rig.sync()
    gone = rig.fetch(done)
    assert gone is not None
    assert gone[0] == tsp.GONE
    assert rig.state(letter).state == "failed"
    rig.pass_ms(50_000)
    rig.sync()
    assert set(rig.journal.index) == {waiting}
    assert close_causes(rig) == ["retention", "retention"]


def test_a_job_may_ask_for_its_own_retention(maybe_restart: Callable[[Rig], Rig]) -> None:
    """Longer or shorter than the default, also after a restart."""
    rig = Rig(limits=SHORT)
    keys = [rig.submit(retention_ms=ms) for ms in (2_000, 30_000, 0)]
    for _ in keys:
        rig.titanic.done(rig.must_take().address, [b"r"], rig.now)
    rig.sync()
    rig = maybe_restart(rig)
    left = []
    for ms in (3_000, 9_000, 20_000):
        rig.pass_ms(ms)
        rig.sync()
        left.append([keys.index(key) for key in rig.journal.index])
    assert left == [[1, 2], [1], []]


def test_retention_for_ever_keeps() -> None:
    """0 as the default of the node means until closed, and sets no timer."""
    rig = Rig(limits=TitanicLimits(life=LifeLimits(retention_ms=0, dead_letter_retention_ms=0)))
    rig.submit()
    rig.titanic.done(rig.must_take().address, [b"r"], rig.now)
    rig.sync()
    assert rig.titanic.next_deadline() is None


def test_retention_closes_in_small_batches() -> None:
    """Of thousands due at once a hundred are closed per look; all are gone within a second of looks."""
    rig = Rig(limits=SHORT)
    count = 3_000
    for _ in range(count):
        rig.ask(tsp.SUBMIT, tsp.encode_head(tsp.SubmitHead(rig.key(), rig.meta())), b"x")
    rig.sync()
    for _ in range(count):
        rig.titanic.done(rig.must_take().address, [b"r"], rig.now)
    rig.sync()
    rig.pass_ms(10_000)
    looks = 0
    while rig.titanic.life.counters["jobs_retention_ended"] < count:
        before = rig.titanic.life.counters["jobs_retention_ended"]
        deadline = rig.titanic.next_deadline()
        assert deadline is not None
        rig.pass_ms(max(0, deadline - rig.now.mono_ms))
        assert rig.titanic.life.counters["jobs_retention_ended"] - before <= 100
        looks += 1
        assert looks < 100
    rig.sync()
    assert not rig.journal.index
    assert rig.now.mono_ms < 1_000_000 + 10_000 + 2_000


# -- progress


def test_the_last_progress_is_seen_while_the_job_runs(maybe_restart: Callable[[Rig], Rig]) -> None:
    """A PARTIAL of the current attempt shows in the status, and is gone when the job has ended."""
    rig = Rig()
    key = rig.submit()
    work = rig.must_take()
    rig.titanic.progress(work.address, [b"10 %"], rig.now)
    assert rig.state(key).progress == b"10 %"
    rig.titanic.progress(b"J" + key + b"\0\0\0\x07", [b"other attempt"], rig.now)
    rig.titanic.progress(work.address, [], rig.now)
    assert rig.state(key).progress == b""
    rig.pass_ms(1_000)
    rig.titanic.progress(work.address, [b"x", b"50 %" + b"!" * 5_000], rig.now)
    assert rig.state(key).progress == (b"50 %" + b"!" * 5_000)[:1_024]
    rig.sync()
    again = maybe_restart(rig)
    assert again.state(key).progress.startswith(b"50 %")
    rig.titanic.done(work.address, [b"r"], rig.now)
    rig.sync()
    assert rig.state(key).progress == b""
    assert not rig.titanic.life.notes.progress


def test_progress_is_written_once_a_second() -> None:
    """A chatty worker does not fill the journal."""
    rig = Rig()
    rig.submit()
    work = rig.must_take()
    records = len(rig.journal.log)
    for n in range(1_000):
        rig.titanic.progress(work.address, [b"%d" % n], rig.now)
    assert len(rig.journal.log) == records + 1


# -- owners


def test_a_job_of_another_owner_never_was(maybe_restart: Callable[[Rig], Rig]) -> None:
    """Fetch, status, cancel and retry say 404, delete does nothing; the owner and nobody see it."""
    rig = Rig()
    key = rig.submit(owner="alice")
    rig = maybe_restart(rig)
    assert rig.synced(tsp.FETCH, tsp.FetchHead(key, 60_000, "bob"))[0] == tsp.NOT_FOUND
    for service in (tsp.CANCEL, tsp.RETRY, tsp.STATUS):
        head = tsp.FetchHead(key, 0, "bob") if service == tsp.STATUS else job_head(key, "bob")
        assert rig.synced(service, head)[0] == tsp.NOT_FOUND
    assert rig.synced(tsp.DELETE, job_head(key, "bob"))[0] == tsp.OK
    assert rig.state(key).owner == "alice"
    assert rig.titanic.life.owners.open_counts == {"alice": 1}
    assert rig.synced(tsp.DELETE, job_head(key, "alice"))[0] == tsp.OK
    assert not rig.journal.index
    assert rig.titanic.life.owners.open_counts == {}


# -- order (O1)


@pytest.mark.parametrize("seed", [1])
def test_o1_first_dispatch_follows_acceptance_with_many_workers(seed: int) -> None:
    """10⁵ jobs, 8 workers that finish in any order or vanish: first attempts start as accepted."""
    print(f"seed {seed}")
    dice = random.Random(seed)
    rig = Rig()
    count = 100_000
    accepted: dict[int, list[bytes]] = {0: [], 1: [], 2: []}
    started: dict[int, list[bytes]] = {0: [], 1: [], 2: []}
    priorities: dict[bytes, int] = {}
    hands: list[bytes] = []
    while rig.titanic.life.counters["jobs_succeeded"] < count:
        for _ in range(min(dice.randrange(9), count - len(priorities))):
            key, priority = rig.key(), dice.randrange(3)
            priorities[key] = priority
            accepted[priority].append(key)
            rig.titanic.handle(
                tsp.SUBMIT, PATH, [tsp.encode_head(tsp.SubmitHead(key, rig.meta(priority=priority))), b"x"],
                rig.now,
            )  # fmt: skip
        if dice.random() < 0.5 or len(priorities) == count:
            rig.sync()
        while len(hands) < 8 and (work := rig.take()) is not None:
            address = parse_address(work.address)
            assert address is not None
            if address[1] == 1:
                started[priorities[address[0]]].append(address[0])
            hands.append(work.address)
        for _ in range(dice.randrange(len(hands) + 1)):  # what is done is synced in the next turn
            work_address = hands.pop(dice.randrange(len(hands)))
            if dice.random() < 0.02:
                rig.titanic.lost(work_address, "gone", rig.now)
            else:
                rig.titanic.done(work_address, [b"r"], rig.now)
        rig.clock.ms += 1 if len(priorities) < count else 1_000
        rig.titanic.on_tick(rig.now)
        rig.answers.clear()
        rig.woken.clear()
    assert started == accepted


def test_ended_states_are_told_by_name() -> None:
    """Every public state is one of the closed set of the lists."""
    from core.pure.answering import STATE_NAMES

    assert {STATE_NAMES[state] for state in STATE_NAMES} - {"closed"} == set(tsp.STATES)
    assert State.BINDING not in STATE_NAMES
    assert CloseMeta(1).cause == "client"
