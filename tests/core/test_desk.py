"""Batches, lists, services and events: the services that operators, dashboards and gateways ask."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from core.pure import tsp
from core.pure.desk import LOOKS_MAX_COUNT
from core.pure.events import KEPT_COUNT
from core.pure.jobs import RequestMeta
from core.pure.mmi import ServiceRow
from core.pure.shelf import RESTING_MAX_COUNT
from core.pure.titanic import TitanicLimits
from tests.support.titanic_rig import PATH, Rig

NEW = (
    tsp.BATCH,
    tsp.PACK,
    tsp.DELETE,
    tsp.CANCEL,
    tsp.RETRY,
    tsp.LIST,
    tsp.SERVICES,
    tsp.PAUSE,
    tsp.RESUME,
    tsp.EVENTS,
)
VALUES = st.recursive(
    st.none() | st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=20) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=6),
    max_leaves=12,
)


@given(st.sampled_from(NEW), st.lists(st.binary(max_size=40), max_size=4) | VALUES.map(lambda v: [v]))
@example(tsp.LIST, [["\x80".encode("latin-1")]]).via("text that is no UTF-8")
@example(tsp.PACK, [[b"k" * 16, b"\x01\0\0\0", [b"echo", 0]], b"xx"]).via("sizes of other bodies")
@settings(max_examples=600, deadline=None)
def test_any_head_is_answered_once(service: bytes, body: list[object]) -> None:
    """Bytes or msgpack of any shape get one answer with a status, and never an exception."""
    rig = Rig()
    rig.submit()
    count = len(rig.answers)
    frames = [part if isinstance(part, bytes) else tsp.encode_head(part) for part in body]
    rig.titanic.handle(service, PATH, frames, rig.now)
    rig.sync()
    rig.pass_ms(tsp.WAIT_MAX_MS)  # a question about events may say how long it waits
    assert len(rig.answers) == count + 1
    assert tsp.status_of(rig.answers[-1][2]).isdigit()


# -- batch


def batch(
    rig: Rig, *lines: bytes, keys: Sequence[bytes] = (), meta: RequestMeta | None = None
) -> tsp.BatchAck:
    chosen = tuple(keys) or tuple(rig.key() for _ in lines)
    answer = rig.synced(tsp.BATCH, tsp.BatchHead(chosen, meta or rig.meta()), *lines)
    assert answer[0] == tsp.OK, answer
    return tsp.decode_batch_ack(answer[1])


@pytest.mark.parametrize(
    ("keys", "lines", "service"),
    [(0, 0, b"echo"), (2, 1, b"echo"), (1, 2, b"echo"), (1_001, 1_001, b"echo"), (1, 1, b"mmi.x")],
)
def test_a_batch_that_makes_no_sense_is_refused_whole(keys: int, lines: int, service: bytes) -> None:
    """No lines, other counts, too many, a bad service: 400 and nothing is written."""
    rig = Rig()
    head = tsp.BatchHead(tuple(rig.key() for _ in range(keys)), rig.meta(service))
    answer = rig.ask(tsp.BATCH, tsp.encode_head(head), *[b"x"] * lines)
    assert answer is not None
    assert answer[0] == tsp.UNKNOWN
    assert not rig.journal.log


def test_a_batch_is_answered_when_all_of_it_is_durable() -> None:
    """One answer, a line per line, in order; the jobs run in that order."""
    rig = Rig()
    keys = tuple(rig.key() for _ in range(500))
    head = tsp.encode_head(tsp.BatchHead(keys, rig.meta(priority=2)))
    assert rig.ask(tsp.BATCH, head, *(b"%d" % n for n in range(500))) is None
    assert rig.take() is None
    rig.sync()
    ack = tsp.decode_batch_ack(rig.answers[-1][2][1])
    assert [(line.status, line.key, line.state) for line in ack.lines] == [
        (200, key, "queued") for key in keys
    ]
    assert [rig.must_take().frames[0] for _ in range(500)] == [b"%d" % n for n in range(500)]


def test_a_bad_line_does_not_spoil_the_others() -> None:
    """Too long, a foreign id, an id of another service, a full store: each line says its own."""
    rig = Rig(limits=TitanicLimits(request_max_bytes=10))
    other = rig.submit(b"other")
    keys = (rig.key(), rig.key(), b"0" * 16, other, rig.key())
    lines = (b"ok", b"x" * 11, b"ok", b"ok", b"ok")
    ack = batch(rig, *lines, keys=keys)
    assert [line.status for line in ack.lines] == [200, 400, 404, 409, 200]
    assert all(line.detail for line in ack.lines if line.status != 200)
    rig.journal._capacity = 0
    assert [line.status for line in batch(rig, b"a", b"b").lines] == [507, 507]


def test_a_repeated_batch_makes_no_second_jobs() -> None:
    """Under the same ids, and under an idempotency key with other ids; another fingerprint is 422."""
    rig = Rig()
    keys = (rig.key(), rig.key())
    meta = rig.meta(idempotency=b"k" * 16, fingerprint=b"f")
    first = batch(rig, b"a", b"b", keys=keys, meta=meta)
    by_id = batch(rig, b"a", b"b", keys=keys, meta=meta)
    by_key = batch(rig.restart(), b"a", b"b", meta=meta)
    assert [line.key for line in first.lines] == [line.key for line in by_key.lines] == list(keys)
    assert all(line.replayed for line in (*by_id.lines, *by_key.lines))
    other = batch(rig, b"a", b"b", meta=rig.meta(idempotency=b"k" * 16, fingerprint=b"g"))
    assert [line.status for line in other.lines] == [422, 422]
    assert len(rig.titanic.life.roster) == 2


# -- lists


def pages(rig: Rig, **head: object) -> list[tsp.JobPage]:
    """All pages of a list."""
    found: list[tsp.JobPage] = []
    cursor = b""
    while not found or cursor:
        answer = rig.ask(tsp.LIST, tsp.encode_head(tsp.ListHead(cursor=cursor, **head)))  # type: ignore[arg-type]
        assert answer is not None
        assert answer[0] == tsp.OK, answer
        found.append(tsp.decode_page(answer[1]))
        cursor = found[-1].cursor
    return found


def keys_of(found: list[tsp.JobPage]) -> list[bytes]:
    return [row.key for page in found for row in page.rows]


def test_a_list_of_an_unknown_state_is_400() -> None:
    """The states are a closed set."""
    answer = Rig().ask(tsp.LIST, tsp.encode_head(tsp.ListHead(state="closed")))
    assert answer is not None
    assert answer[0] == tsp.UNKNOWN


def test_lists_are_newest_first_and_filtered() -> None:
    """By service, state and owner; every row says what it is; also after a restart."""
    rig = Rig()
    keys = []
    for number in range(30):
        rig.clock.ms += 1
        service = b"even" if number % 2 == 0 else b"odd"
        keys.append(rig.submit(service, owner="alice" if number % 3 == 0 else "bob"))
    rig.titanic.lost(rig.must_take(b"odd").address, "no", rig.now, stated=True)
    rig.sync()
    newest = keys[::-1]
    for node in (rig, rig.restart()):
        assert keys_of(pages(node, limit=7)) == newest
        assert keys_of(pages(node, service="even")) == newest[1::2]
        assert keys_of(pages(node, owner="alice")) == [key for key in newest if keys.index(key) % 3 == 0]
        assert keys_of(pages(node, state="scheduled")) == [keys[1]]
        assert keys_of(pages(node, service="none")) == []
    row = pages(rig, state="scheduled")[0].rows[0]
    assert (row.service, row.attempt, row.owner, row.created_ms) == ("odd", 1, "bob", 1_600_001_000_002)
    assert row.due_ms > rig.now.wall_ms


def test_a_cursor_stays_good_while_jobs_come_and_go() -> None:
    """What was there all the time comes once; what was closed or submitted meanwhile does not disturb."""
    rig = Rig()
    keys = []
    for _ in range(40):
        rig.clock.ms += 1
        keys.append(rig.submit())
    page = pages(rig, limit=10)[0]
    assert [row.key for row in page.rows] == keys[:29:-1]
    for key in (page.cursor, keys[25], keys[35]):
        rig.ask(tsp.CLOSE, key.hex().encode())
    rig.clock.ms += 1
    rig.submit()
    rig.sync()
    rest = []
    cursor = page.cursor
    while cursor:
        answer = rig.ask(tsp.LIST, tsp.encode_head(tsp.ListHead(limit=7, cursor=cursor)))
        assert answer is not None
        page = tsp.decode_page(answer[1])
        rest += [row.key for row in page.rows]
        cursor = page.cursor
    assert rest == [key for key in keys[29::-1] if key != keys[25]]


def test_a_list_looks_at_a_bounded_number_of_jobs() -> None:
    """Among many, a rare state takes more pages, never a long look."""
    rig = Rig()
    rare = rig.submit(b"echo", not_before_ms=rig.now.wall_ms + 10_000)
    rig.clock.ms += 1
    for _ in range(3 * LOOKS_MAX_COUNT):
        rig.ask(tsp.SUBMIT, tsp.encode_head(tsp.SubmitHead(rig.key(), rig.meta())), b"x")
    rig.sync()
    found = pages(rig, state="scheduled", service="echo")
    assert keys_of(found) == [rare]
    assert len(found) == 4
    assert [len(page.rows) for page in found[:3]] == [0, 0, 0]


# -- services


class Workforce:
    """A broker's directory."""

    def __init__(self, *rows: ServiceRow) -> None:
        self._rows = {row.name: row for row in rows}

    def available(self, service: bytes) -> bool:
        return service in self._rows

    def row(self, service: bytes) -> ServiceRow | None:
        return self._rows.get(service)

    def names(self) -> Sequence[bytes]:
        return sorted(self._rows)


def services(rig: Rig, **head: object) -> tsp.ServicesPage:
    answer = rig.ask(tsp.SERVICES, tsp.encode_head(tsp.ServicesHead(**head)))  # type: ignore[arg-type]
    assert answer is not None
    assert answer[0] == tsp.OK
    return tsp.decode_services_page(answer[1])


def test_services_join_jobs_and_workers() -> None:
    """Those with jobs and those with workers, sorted, with counts, the oldest job and rates."""
    rig = Rig()
    rig.titanic.desk.directory = Workforce(ServiceRow(b"a", 2, 1, 3, 0), ServiceRow(b"echo", 4, 0, 0, 9))
    oldest_ms = rig.now.wall_ms
    rig.submit()
    rig.clock.ms += 1_000
    rig.submit()
    rig.submit(b"zed", not_before_ms=rig.now.wall_ms + 1)
    rows = services(rig).rows
    assert [row.name for row in rows] == ["a", "echo", "zed"]
    assert (rows[0].workers, rows[0].workers_idle, rows[0].requests) == (2, 1, 3)
    assert (rows[1].workers, rows[1].queued, rows[1].oldest_ms) == (4, 2, oldest_ms)
    assert (rows[2].scheduled, rows[2].queued, rows[2].oldest_ms) == (1, 0, 0)
    rig.titanic.done(rig.must_take().address, [b"r"], rig.now)
    rig.titanic.lost(rig.must_take().address, "no", rig.now, stated=True)
    rig.sync()
    row = services(rig, service="echo").rows[0]
    assert (row.succeeded, row.scheduled) == (1, 1)
    assert (row.accepted_per_minute, row.succeeded_per_minute, row.failed_per_minute) == (2, 1, 1)
    rig.pass_ms(120_000)
    assert services(rig, service="echo").rows[0].accepted_per_minute == 0
    assert services(rig, service="nobody").rows == ()


def test_pages_of_services() -> None:
    """By prefix, in order, each once, however they are cut."""
    rig = Rig()
    for number in range(50):
        rig.submit(b"s%02d" % number)
    rig.submit(b"other")
    names: list[str] = []
    after = ""
    while not names or after:
        page = services(rig, prefix="s", after=after, limit=7)
        names += [row.name for row in page.rows]
        after = page.after
    assert names == [f"s{number:02d}" for number in range(50)]


def test_services_with_one_job_each_do_not_fill_memory() -> None:
    """Empty services rest, a bounded number of them, and are forgotten after two minutes."""
    rig = Rig()
    for number in range(RESTING_MAX_COUNT + 500):
        rig.ask(tsp.CLOSE, rig.submit(b"s%d" % number).hex().encode())
        rig.sync()
    assert len(rig.titanic.life.queues) == RESTING_MAX_COUNT
    rig.pass_ms(120_000)
    assert not rig.titanic.life.queues
    assert services(rig).rows == ()


def test_ten_thousand_services_do_not_slow_a_message_down() -> None:
    """Submit, take and reply cost at most twice what they cost with one service (best of five)."""

    def pace(rig: Rig) -> float:
        best = 1e9
        for _ in range(5):
            heads = [tsp.encode_head(tsp.SubmitHead(rig.key(), rig.meta())) for _ in range(500)]
            start = time.perf_counter()
            for head in heads:
                rig.titanic.handle(tsp.SUBMIT, PATH, [head, b"x"], rig.now)
            rig.sync()
            for _ in heads:
                rig.titanic.done(rig.must_take().address, [b"r"], rig.now)
            rig.sync()
            rig.titanic.next_deadline()
            best = min(best, time.perf_counter() - start)
        return best

    few, many = Rig(), Rig()
    for number in range(10_000):
        meta = many.meta(b"s%d" % number)
        many.titanic.handle(
            tsp.SUBMIT, PATH, [tsp.encode_head(tsp.SubmitHead(many.key(), meta)), b"x"], many.now
        )
    many.sync()
    assert pace(many) < 2 * pace(few)


# -- events


def events(rig: Rig, since: int, **head: object) -> tsp.EventsPage:
    answer = rig.ask(tsp.EVENTS, tsp.encode_head(tsp.EventsHead(since, **head)))  # type: ignore[arg-type]
    assert answer is not None
    assert answer[0] == tsp.OK
    return tsp.decode_events_page(answer[1])


def test_events_tell_the_lives_of_jobs() -> None:
    """Every step in order, with ids that grow and are those of the records."""
    rig = Rig()
    key = rig.submit(attempts_max=2)
    rig.titanic.lost(rig.must_take().address, "no", rig.now, stated=True)
    rig.pass_ms(2_000)
    rig.titanic.progress(rig.must_take().address, [], rig.now)
    rig.titanic.lost(b"J" + key + b"\0\0\0\x02", "again", rig.now)
    rig.sync()
    rig.synced(tsp.RETRY, tsp.JobHead(key))
    rig.synced(tsp.CANCEL, tsp.JobHead(key))
    done = rig.submit(b"other")
    rig.titanic.done(rig.must_take(b"other").address, [b"r"], rig.now)
    rig.sync()
    rig.synced(tsp.DELETE, tsp.JobHead(done))
    rig.synced(tsp.PAUSE, tsp.PauseHead("echo"))
    rig.synced(tsp.RESUME, tsp.PauseHead("echo"))
    page = events(rig, 0, limit=1_000)
    kinds = [event.kind for event in page.events if event.service == "echo"]
    assert kinds == [
        "accepted", "started", "retrying", "started", "progress", "failed", "retried", "cancelled",
        "paused", "resumed",
    ]  # fmt: skip
    others = [(event.kind, event.key) for event in page.events if event.service == "other"]
    assert others == [(kind, done) for kind in ("accepted", "started", "succeeded", "closed")]
    ids = [event.id for event in page.events]
    assert ids == sorted(set(ids))
    assert page.next == ids[-1] == len(rig.journal.log)
    assert page.events[2].detail == "no"
    again = events(rig, ids[4], limit=3, service="echo")
    assert [event.id for event in again.events] == ids[5:8]


def test_what_is_not_durable_is_not_told() -> None:
    """An event waits for every acknowledgement before it."""
    rig = Rig()
    rig.ask(tsp.SUBMIT, tsp.encode_head(tsp.SubmitHead(rig.key(), rig.meta())), b"x")
    assert events(rig, 0).events == ()
    rig.sync()
    assert [event.kind for event in events(rig, 0).events] == ["accepted"]


def test_followers_wait_and_are_told_once() -> None:
    """A long-poll is answered when something passes its filter, or empty when its time is over."""
    rig = Rig()
    for path, service in ((b"all", ""), (b"other", "other"), (b"bob", "")):
        head = tsp.EventsHead(-1, 5_000, service=service, owner="bob" if path == b"bob" else "")
        assert rig.ask(tsp.EVENTS, tsp.encode_head(head), path=(path,)) is None
    assert rig.titanic.next_deadline() == rig.now.mono_ms + 5_000
    rig.ask(tsp.SUBMIT, tsp.encode_head(tsp.SubmitHead(rig.key(), rig.meta())), b"x")
    rig.pass_ms(100)
    assert not rig.answers, "the submit is not durable"
    rig.sync()
    rig.pass_ms(100)
    assert [path for path, service, _ in rig.answers if service == tsp.EVENTS] == [(b"all",)]
    rig.pass_ms(5_000)
    late = [(path, tsp.decode_events_page(frames[1]).events) for path, _, frames in rig.answers[2:]]
    assert late == [((b"other",), ()), ((b"bob",), ())]
    assert rig.titanic.desk.followers_count == 0
    assert rig.titanic.desk.next_deadline() is None


def test_what_is_gone_is_a_gap() -> None:
    """Older than the ring, from before a restart, or an id that was never given out."""
    rig = Rig()
    for _ in range(KEPT_COUNT // 2 + 10):
        rig.submit()
        rig.must_take()
    page = events(rig, 0, limit=2)
    assert page.gap_to == 20
    assert page.events[0].id == 21
    last = len(rig.journal.log)
    assert events(rig, last).gap_to == -1
    assert events(rig, last + 5).gap_to == last
    again = rig.restart()
    base = len(again.journal.log)
    page = events(again, 100)
    assert (page.events, page.gap_to, page.next) == ((), base, base)
    assert events(again, base).gap_to == -1
    again.submit()
    assert [event.id for event in events(again, base).events] == [base + 1]


def test_what_was_told_is_no_gap_when_its_record_is_waited_for_again() -> None:
    """A repeated submit waits for the newest record, of which somebody was told already: nothing is amiss."""
    rig = Rig()
    rig.submit()
    rig.must_take()
    last = rig.titanic.events.last
    assert rig.titanic.events.after(0, rig.shell.settled_seq, 10)[1] == last
    rig.shell.barrier(())
    assert rig.shell.settled_seq < last
    assert rig.titanic.events.after(last, rig.shell.settled_seq, 10) == ((), last, -1)


def test_many_are_deleted_with_one_answer() -> None:
    """One answer once all are durably gone; unknown ones, another owner's and one named twice harm nobody."""
    rig = Rig()
    mine = [rig.submit(owner="k") for _ in range(3)]
    other = rig.submit(owner="other")
    keys = b"".join([*mine, mine[0], rig.key(), other])
    count = len(rig.answers)
    assert rig.ask(tsp.DELETE, tsp.encode_head(tsp.JobHead(keys, "k"))) is None
    assert set(mine) < set(rig.journal.index)
    rig.sync()
    assert len(rig.answers) == count + 1
    assert tsp.decode_deleted(rig.answers[-1][2][1]).key == keys
    assert list(rig.journal.index) == [other]
    too_many = rig.ask(tsp.DELETE, tsp.encode_head(tsp.JobHead(b"k" * 16 * 1_001)))
    assert too_many is not None
    assert too_many[0] == tsp.UNKNOWN
