"""The Titanic service: RFC 9/TSP, the extended services, and the life of a job."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import JournalFailedError
from core.pure import tsp
from core.pure.jobs import Kind, RequestMeta
from core.pure.lifecycle import LifeLimits
from core.pure.mdp import NOT_STARTED
from core.pure.notes import Notes
from core.pure.titanic import TitanicLimits, parse_address
from tests.support.memory_journal import MemoryJournal
from tests.support.titanic_rig import Rig

ANY_FRAMES = st.lists(st.binary(max_size=60), max_size=5)
SERVICES = st.sampled_from(
    [tsp.SUBMIT, tsp.FETCH, tsp.STATUS, tsp.REQUEST, tsp.REPLY, tsp.CLOSE, b"titanic.nothing"]
)


@given(SERVICES, ANY_FRAMES)
@settings(max_examples=500)
def test_any_bytes_are_answered_once(service: bytes, body: list[bytes]) -> None:
    """Whatever a client sends to a titanic service, it gets exactly one answer with a status."""
    rig = Rig()
    rig.titanic.handle(service, (b"c",), body, rig.now)
    rig.sync()
    assert len(rig.answers) == 1
    assert tsp.status_of(rig.answers[0][2]).isdigit()


# -- RFC 9


def test_rfc9_request_reply_close() -> None:
    """titanic.request gives 200 and 32 hex digits; reply 300, then 200 and the frames; close 200."""
    rig = Rig()
    assert rig.ask(tsp.REQUEST, b"echo", b"Hello", b"world") is None, "no answer before the sync"
    rig.sync()
    status, key = rig.answers[-1][2]
    assert status == b"200"
    assert len(key) == 32
    assert key == key.lower()
    assert rig.ask(tsp.REPLY, key) == (b"300",)
    work = rig.must_take()
    assert work.frames == [b"Hello", b"world"]
    rig.titanic.done(work.address, [b"good", b"bye"], rig.now)
    assert rig.ask(tsp.REPLY, key) == (b"300",), "the reply is not durable yet"
    rig.sync()
    assert rig.ask(tsp.REPLY, key.upper()) == (b"200", b"good", b"bye")
    assert rig.ask(tsp.REPLY, key) == (b"200", b"good", b"bye"), "asking never deletes"
    assert rig.ask(tsp.CLOSE, key) is None
    rig.sync()
    assert rig.answers[-1][2] == (b"200",)
    answer = rig.ask(tsp.REPLY, key)
    assert answer is not None
    assert answer[0][:3] == b"400"


def test_rfc9_close_of_an_unknown_uuid_is_200() -> None:
    """Closing is idempotent."""
    assert Rig().ask(tsp.CLOSE, b"0" * 32) == (b"200",)


@pytest.mark.parametrize("body", [[], [b""], [b"x" * 32], [b"0" * 31], [b"0" * 32, b"more"], [b"\xff" * 32]])
def test_rfc9_malformed_uuids_are_400(body: list[bytes]) -> None:
    """Reply and close answer 400 to what is no UUID."""
    for service in (tsp.REPLY, tsp.CLOSE):
        answer = Rig().ask(service, *body)
        assert answer is not None
        assert answer[0][:3] == b"400"


@pytest.mark.parametrize(
    "name", [b"", b"mmi.service", b"titanic.request", b"a/b", b"\x00", b"x" * 256, "é".encode()]
)
def test_bad_service_names_are_refused_with_a_reason(name: bytes) -> None:
    """Reserved, empty, long and unprintable names never become jobs."""
    rig = Rig()
    plain = rig.ask(tsp.REQUEST, name, b"body")
    head = tsp.encode_head(tsp.SubmitHead(rig.key(), RequestMeta(name, 0)))
    extended = rig.ask(tsp.SUBMIT, head, b"body")
    assert plain is not None
    assert plain[0][:3] == b"400"
    assert len(plain[0]) > 3
    assert extended is not None
    assert extended[0] == b"400"
    assert not rig.journal.log


# -- durability


def test_no_acknowledgement_before_the_sync() -> None:
    """Submit, reply and close tell nobody anything until their record is durable (D1)."""
    rig = Rig()
    key = rig.key()
    head = tsp.encode_head(tsp.SubmitHead(key, RequestMeta(b"echo", 0)))
    assert rig.ask(tsp.SUBMIT, head, b"x") is None
    assert rig.take() is None, "not offered before the sync"
    rig.sync()
    assert rig.fetch(key, wait_ms=1_000) is None
    count = len(rig.answers)
    rig.titanic.done(rig.must_take().address, [b"r"], rig.now)
    assert len(rig.answers) == count, "the waiter hears of a reply only when it is durable"
    rig.sync()
    assert rig.answers[-1][2][0] == b"200"


def test_a_failed_journal_is_not_survived() -> None:
    """The error of a dead journal goes up to the shell; nobody is answered (D4)."""
    rig = Rig()
    rig.journal.failed = True
    with pytest.raises(JournalFailedError):
        rig.ask(tsp.REQUEST, b"echo", b"x")
    assert not rig.answers


def test_a_full_store_refuses_new_jobs_only() -> None:
    """507 for a submit, 500 for plain TSP; the reply and the close of an accepted job still work (R8)."""
    rig = Rig()
    key = rig.submit()
    rig.journal._capacity = 0
    head = tsp.encode_head(tsp.SubmitHead(rig.key(), RequestMeta(b"echo", 0)))
    refused = rig.ask(tsp.SUBMIT, head, b"x" * 100)
    assert refused is not None
    assert refused[0] == b"507"
    plain = rig.ask(tsp.REQUEST, b"echo", b"x" * 100)
    assert plain is not None
    assert plain[0][:3] == b"500"
    rig.titanic.done(rig.must_take().address, [b"r" * 200], rig.now)
    rig.sync()
    assert rig.state(key).state == "succeeded"
    rig.ask(tsp.CLOSE, key.hex().encode())
    rig.sync()
    assert rig.answers[-1][2] == (b"200",)


# -- submit


def test_a_repeated_submit_finds_its_job() -> None:
    """The same id and request twice, before or after the sync, is one job and one queue entry (X2)."""
    rig = Rig()
    key = rig.key()
    head = tsp.encode_head(tsp.SubmitHead(key, RequestMeta(b"echo", 0)))
    rig.ask(tsp.SUBMIT, head, b"x")
    rig.ask(tsp.SUBMIT, head, b"x")
    rig.sync()
    rig.ask(tsp.SUBMIT, head, b"x")
    rig.sync()
    acks = [tsp.decode_ack(frames[1]) for _, _, frames in rig.answers]
    assert [ack.replayed for ack in acks] == [False, True, True]
    assert {ack.key for ack in acks} == {key}
    rig.must_take()
    assert rig.take() is None


def test_an_id_of_another_request_is_a_conflict() -> None:
    """The same id with another body or service is refused, and the first job is untouched."""
    rig = Rig()
    key = rig.submit(b"echo", b"one")
    for service, body in ((b"echo", b"two"), (b"other", b"one")):
        rig.ask(tsp.SUBMIT, tsp.encode_head(tsp.SubmitHead(key, RequestMeta(service, 0))), body)
        rig.sync()
        assert rig.answers[-1][2][0] == b"409"
    assert rig.must_take().frames == [b"one"]


def test_an_id_of_a_foreign_secret_is_refused() -> None:
    """Only ids made with this node's secret are taken, so that 410 stays true for ever."""
    rig = Rig()
    answer = rig.ask(tsp.SUBMIT, tsp.encode_head(tsp.SubmitHead(b"0" * 16, RequestMeta(b"echo", 0))), b"x")
    assert answer is not None
    assert answer[0] == b"404"


def test_404_and_410_differ() -> None:
    """An id never issued is 404; one that was issued and is closed is 410, for fetch and status alike."""
    rig = Rig()
    key = rig.submit()
    rig.ask(tsp.CLOSE, key.hex().encode())
    closing = rig.fetch(key)
    assert closing is None, "a close that is not durable is told to nobody"
    rig.sync()
    assert rig.answers[-1][2][0] == b"410"
    for service in (tsp.FETCH, tsp.STATUS):
        gone = rig.ask(service, tsp.encode_head(tsp.FetchHead(key)))
        never = rig.ask(service, tsp.encode_head(tsp.FetchHead(b"1" * 16)))
        assert gone is not None
        assert never is not None
        assert (gone[0], never[0]) == (b"410", b"404")


# -- the life of a job


def test_first_dispatch_follows_acceptance() -> None:
    """Within a service and priority jobs are taken in the order they were accepted; high goes first (O1)."""
    rig = Rig()
    keys = [rig.submit(b"echo", priority=priority) for priority in (1, 1, 0, 2, 1, 2, 0)]
    taken = [parse_address(rig.must_take().address) for _ in keys]
    order = [keys.index(address[0]) for address in taken if address is not None]
    assert order == [3, 5, 0, 1, 4, 2, 6]


def test_a_lost_worker_gives_the_job_back_to_the_head_of_its_queue() -> None:
    """The first loss costs no delay, the attempt is counted, the place is kept."""
    rig = Rig()
    first, second = rig.submit(), rig.submit()
    work = rig.must_take()
    rig.titanic.lost(work.address, "worker gone", rig.now)
    again = parse_address(rig.must_take().address)
    assert again == (first, 2)
    assert parse_address(rig.must_take().address) == (second, 1)


def test_a_stated_failure_backs_off_and_grows() -> None:
    """Retries wait 1 s, 2 s, 4 s … each within the jitter of a quarter; the state says scheduled."""
    rig = Rig()
    key = rig.submit()
    for attempt in range(1, 6):
        work = rig.must_take()
        rig.titanic.lost(work.address, "cannot", rig.now, stated=True)
        status = rig.state(key)
        assert (status.state, status.attempt) == ("scheduled", attempt)
        delay = status.due_ms - rig.now.wall_ms
        assert 0.74 * 1_000 * 2 ** (attempt - 1) <= delay <= 1.26 * 1_000 * 2 ** (attempt - 1)
        rig.pass_ms(delay - 1)
        assert rig.take() is None
        rig.pass_ms(1)


def test_a_job_that_crossed_a_leaving_worker_has_not_failed() -> None:
    """A worker that leaves on purpose started nothing: no failure, no delay the first time."""
    rig = Rig()
    key = rig.submit(b"echo", attempts_max=1)
    failed = rig.titanic.life.counters["attempts_failed"]
    rig.titanic.lost(rig.must_take().address, NOT_STARTED, rig.now, stated=True)
    assert rig.titanic.life.counters["attempts_failed"] == failed
    assert rig.state(key).state == "queued"
    rig.titanic.lost(rig.must_take().address, NOT_STARTED, rig.now, stated=True)
    assert rig.state(key).state == "scheduled", "a worker that only ever leaves is not given it in a loop"
    rig.pass_ms(400_000)
    rig.titanic.lost(rig.must_take().address, "broken", rig.now, stated=True)
    rig.sync()
    assert rig.state(key).state == "failed"


def test_used_up_attempts_make_a_dead_letter() -> None:
    """After the last attempt the job has failed, keeps its reason, is kept until closed, and says 409."""
    rig = Rig()
    key = rig.submit(b"echo", attempts_max=2)
    assert rig.fetch(key, wait_ms=600_000) is None
    for reason in ("first", "second"):
        rig.titanic.lost(rig.must_take().address, reason, rig.now, stated=True)
        rig.pass_ms(10_000)
    assert rig.answers[-1][2][0] != b"409", "a death is told only when durable"
    rig.sync()
    assert rig.answers[-1][2][0] == b"409"
    status = rig.state(key)
    assert (status.state, status.attempt, status.reason) == ("failed", 2, "second")
    assert rig.take() is None
    plain = rig.ask(tsp.REPLY, key.hex().encode())
    assert plain is not None
    assert plain[0][:3] == b"500"


def test_zero_attempts_means_for_ever() -> None:
    """An attempts_max of 0 never gives up, as in the guide."""
    rig = Rig()
    key = rig.submit(b"echo", attempts_max=0)
    for _ in range(60):
        rig.titanic.lost(rig.must_take().address, "no", rig.now)
        rig.pass_ms(400_000)
    assert rig.state(key).state == "queued"


def test_an_attempt_times_out_and_its_worker_is_abandoned() -> None:
    """Past its timeout the attempt is failed and its worker told; a reply after the next take is dropped."""
    rig = Rig()
    key = rig.submit(b"echo", timeout_ms=5_000)
    first = rig.must_take()
    rig.pass_ms(4_999)
    assert not rig.abandoned
    rig.pass_ms(1)
    assert rig.abandoned == [(key, 1)]
    rig.pass_ms(10_000)
    second = rig.must_take()
    rig.titanic.done(first.address, [b"late"], rig.now)
    rig.sync()
    assert rig.state(key).state == "running"
    rig.titanic.done(second.address, [b"right"], rig.now)
    rig.titanic.done(second.address, [b"twice"], rig.now)
    rig.sync()
    fetched = rig.fetch(key)
    assert fetched is not None
    assert fetched[2] == b"right"
    assert rig.titanic.life.counters["replies_late"] == 2


def test_a_late_reply_is_taken_while_the_job_waits() -> None:
    """Work done is work done: a waiting job takes the reply of an older attempt and does not run again."""
    rig = Rig()
    key = rig.submit(b"echo", timeout_ms=5_000)
    work = rig.must_take()
    rig.pass_ms(5_000)
    rig.titanic.done(work.address, [b"late"], rig.now)
    rig.pass_ms(100_000)
    rig.sync()
    assert rig.take() is None
    assert rig.state(key).state == "succeeded"


def test_a_closed_job_does_not_run_and_its_reply_is_dropped() -> None:
    """Close wins over whatever the job was doing: queued, running, scheduled or succeeded."""
    rig = Rig()
    queued, running = rig.submit(), rig.submit(b"other")
    work = rig.must_take(b"other")
    waiting = rig.fetch(running, wait_ms=1_000)
    assert waiting is None
    for key in (queued, running):
        rig.ask(tsp.CLOSE, key.hex().encode())
    rig.titanic.done(work.address, [b"r"], rig.now)
    assert rig.take() is None
    rig.sync()
    assert [frames[0] for _, _, frames in rig.answers[-3:]] == [b"200", b"200", b"410"]
    assert len(rig.titanic.life.queues) == 2, "rates are kept for a while"
    rig.pass_ms(120_000)
    assert not rig.titanic.life.queues, "a service without jobs is forgotten"
    assert Kind.REPLY not in [kind for kind, _, _ in rig.journal.log]


def test_a_close_while_the_reply_is_being_written_wins() -> None:
    """REPLY then CLOSE in one commit: the job is gone, and never seen succeeded after that."""
    rig = Rig()
    key = rig.submit()
    rig.titanic.done(rig.must_take().address, [b"r"], rig.now)
    rig.ask(tsp.CLOSE, key.hex().encode())
    rig.sync()
    gone = rig.fetch(key)
    assert gone is not None
    assert gone[0] == b"410"


def test_a_reply_over_the_limit_is_a_dead_letter_that_says_so() -> None:
    """A reply that cannot be stored is not retried for ever."""
    rig = Rig(limits=TitanicLimits(life=LifeLimits(reply_max_bytes=10)))
    key = rig.submit()
    rig.titanic.done(rig.must_take().address, [b"x" * 11], rig.now)
    rig.sync()
    assert rig.state(key).state == "failed"
    assert "limit is 10" in rig.state(key).reason


def test_a_reply_without_room_is_a_dead_letter_that_says_so() -> None:
    """More than is kept for a reply (R8) found a full store: nothing is silent, and it can be put back."""
    rig = Rig()
    key = rig.submit(b"echo", attempts_max=1)
    rig.journal.reply_room = 10
    rig.titanic.done(rig.must_take().address, [b"x" * 1_000], rig.now)
    rig.sync()
    assert rig.state(key).state == "failed"
    assert "its reply of 1000 bytes was not kept" in rig.state(key).reason
    assert "10 were free" in rig.state(key).reason
    assert rig.titanic.life.counters["replies_without_room"] == 1
    rig.journal.reply_room = 1 << 30
    rig.ask(tsp.RETRY, tsp.encode_head(tsp.JobHead(key)))
    rig.sync()
    rig.titanic.done(rig.must_take().address, [b"x" * 1_000], rig.now)
    rig.sync()
    assert rig.state(key).state == "succeeded"


def test_a_request_that_cannot_be_read_is_buried_and_the_next_job_runs() -> None:
    """Damage is never given to a worker and never skipped silently (D3)."""
    rig = Rig()
    bad, good = rig.submit(), rig.submit()
    rig.shell.bodies.forget()
    rig.journal.damaged.add(rig.journal.index[bad].request_at)
    work = parse_address(rig.must_take().address)
    rig.sync()
    assert work == (good, 1)
    assert rig.shell.damaged_count == 1
    assert rig.titanic.life.notes.reasons[bad].startswith("its request cannot be read")


def test_a_meta_that_cannot_be_read_is_damage_and_not_the_end() -> None:
    """Its checksum is right, and it says nothing: who asks is told, the next job runs, nothing is mended."""
    rig = Rig()
    bad, good = rig.submit(), rig.submit()
    rig.shell.bodies.forget()
    at = rig.journal.index[bad].request_at
    rig.journal._bodies[at] = (b"\x93\x01", b"body")
    asked: list[int] = []

    def mend(at: int, done: Callable[[bool], None]) -> bool:
        asked.append(at)
        return at > 0

    rig.shell.mend = mend
    status = rig.ask(tsp.STATUS, tsp.encode_head(tsp.FetchHead(bad)))
    assert status is not None
    assert status[0] == tsp.ERROR
    assert f"offset {at}: the meta cannot be read".encode() in status[1]
    assert parse_address(rig.must_take().address) == (good, 1)
    rig.sync()
    assert "the meta cannot be read" in rig.titanic.life.notes.reasons[bad]
    assert asked == [0, 0], "a peer with the same bytes is not asked for them"


def test_a_reply_whose_meta_cannot_be_read_is_told_as_damaged() -> None:
    """Neither its fetch nor its status ends the node."""
    rig = Rig()
    key = rig.submit()
    rig.titanic.done(rig.must_take().address, [b"reply"], rig.now)
    rig.sync()
    rig.journal._bodies[rig.journal.index[key].reply_at] = (b"\xc1", b"reply")
    for service in (tsp.FETCH, tsp.STATUS):
        answer = rig.ask(service, tsp.encode_head(tsp.FetchHead(key)))
        assert answer is not None
        assert answer[0] == tsp.ERROR


# -- waiting


def test_a_wait_ends_with_its_time() -> None:
    """A fetch with wait_ms is answered 300 when the time is over, and leaves nothing behind."""
    rig = Rig()
    key = rig.submit()
    assert rig.fetch(key, wait_ms=500) is None
    rig.pass_ms(500)
    assert rig.answers[-1][2][0] == b"300"
    assert rig.titanic.waiters_count == 0
    assert not rig.titanic._waiters._waiters


def test_waiters_are_bounded() -> None:
    """Beyond the limit a wait is answered at once instead of being held."""
    rig = Rig(limits=TitanicLimits(waiters_max_count=2))
    key = rig.submit()
    held = [rig.fetch(key, wait_ms=60_000, path=(bytes([n]),)) for n in range(4)]
    assert [answer and answer[0] for answer in held] == [None, None, b"300", b"300"]
    rig.titanic.done(rig.must_take().address, [b"r"], rig.now)
    rig.sync()
    assert [(path, frames[0]) for path, _, frames in rig.answers[-2:]] == [
        ((b"\x00",), b"200"),
        ((b"\x01",), b"200"),
    ]


# -- restart


def test_restore_queues_in_acceptance_order_and_keeps_attempts() -> None:
    """After a restart running jobs are queued in their place, with their attempt counted."""
    journal = MemoryJournal()
    rig = Rig(journal)
    keys = [rig.submit(b"echo", b"%d" % n) for n in range(4)]
    rig.must_take()
    rig.titanic.done(rig.must_take().address, [b"r"], rig.now)
    rig.sync()
    after = Rig(journal)
    after.titanic.restore(list(journal.index.values()), Notes(), after.now)
    assert [after.state(key).state for key in keys] == ["queued", "succeeded", "queued", "queued"]
    taken = [parse_address(after.must_take().address) for _ in range(3)]
    assert taken == [(keys[0], 2), (keys[2], 1), (keys[3], 1)]


def test_many_dead_queue_entries_do_not_pile_up() -> None:
    """Submitting and closing without any worker holds no memory for closed jobs."""
    rig = Rig()
    kept = rig.submit()
    for _ in range(2_000):
        rig.ask(tsp.CLOSE, rig.submit().hex().encode())
    rig.sync()
    queue = rig.titanic.life.queues[b"echo"]
    assert queue.entries_count <= 2 * 64 + 2
    assert parse_address(rig.must_take().address) == (kept, 1)
    assert rig.take() is None
