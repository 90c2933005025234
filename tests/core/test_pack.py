"""``titanic.pack``: many jobs as one step are the same jobs as one by one."""

from __future__ import annotations

import re
from struct import pack as pack_struct
from typing import Any

import pytest

from core.pure import tsp
from core.pure.events import KEPT_COUNT
from core.pure.jobs import Kind, RequestMeta, decode_request
from core.pure.titanic import TitanicLimits
from tests.support.titanic_rig import PATH, Rig


def packed(keys: list[bytes], bodies: list[bytes], meta: RequestMeta) -> tuple[bytes, bytes]:
    sizes = pack_struct(f"<{len(bodies)}I", *map(len, bodies))
    return tsp.encode_head(tsp.PackHead(b"".join(keys), sizes, meta)), b"".join(bodies)


def ask(rig: Rig, keys: list[bytes], bodies: list[bytes], **options: Any) -> tsp.PackAck:
    count = len(rig.answers)
    assert rig.ask(tsp.PACK, *packed(keys, bodies, rig.meta(**options))) is None, "answered before the sync"
    rig.sync()
    assert len(rig.answers) == count + 1, "one question, one answer"
    path, service, answer = rig.answers[-1]
    assert (path, service, answer[0]) == (PATH, tsp.PACK, tsp.OK)
    return tsp.decode_pack_ack(answer[1])


def records(rig: Rig) -> list[tuple[Kind, bytes, object]]:
    """The log, but for the size that is the mean of a pack's."""
    found: list[tuple[Kind, bytes, object]] = []
    for kind, key, raw in rig.journal.log:
        if kind != Kind.REQUEST:
            found.append((kind, key, raw))
            continue
        meta = decode_request(raw)
        assert bool(meta.body_bytes) <= bool(meta.owner)
        meta.body_bytes = 0
        found.append((kind, key, meta))
    return found


def shown(rig: Rig) -> list[str]:
    """Every job of the index; a state as its number, as the compiled build keeps it."""
    jobs = rig.journal.index.values()
    return [re.sub(r"state=<State\.\w+: (\d)>", r"state=\1", repr(job)) for job in jobs]


def told(rig: Rig) -> list[tuple[object, ...]]:
    events, _, _ = rig.titanic.events.after(0, 1 << 60, 10_000)
    return [(event.id, event.at_ms, event.kind, event.key, event.owner) for event in events]


OPTIONS: list[dict[str, Any]] = [
    {},
    {"owner": "k", "priority": 2, "retention_ms": 5, "content_type": "a/b"},
    {"not_before_ms": 1_700_000_000_000},
    {"expires_ms": 1_700_000_000_000},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_a_pack_is_what_its_jobs_are_one_by_one(options: dict[str, Any]) -> None:
    """Records, index, counts, owners, rosters, rates, events and the order of work are the same."""
    one, many = Rig(), Rig()
    keys = [one.key() for _ in range(30)]
    bodies = [b"%d" % number * (number % 3) for number in range(30)]
    for key, body in zip(keys, bodies, strict=True):
        one.ask(tsp.SUBMIT, tsp.encode_head(tsp.SubmitHead(key, one.meta(**options))), body)
    one.sync()
    ack = ask(many, keys, bodies, **options)
    assert (ack.state, ack.lines) == ("scheduled" if "not_before_ms" in options else "queued", ())
    assert records(many) == records(one)
    assert shown(many) == shown(one)
    first, second = one.titanic.life, many.titanic.life
    assert second.counters == first.counters
    assert second.owners.open_counts == first.owners.open_counts
    assert second.queues[b"echo"].counts == first.queues[b"echo"].counts
    assert second.roster.after(b"", 100) == first.roster.after(b"", 100) == keys
    assert second.queues[b"echo"].roster.after(b"", 100) == keys
    assert second.notes == first.notes or vars(second.notes).keys() == vars(first.notes).keys()
    assert second.notes.expiries == first.notes.expiries
    now = one.now.mono_ms
    assert second.queues[b"echo"].accepted.per_minute(now) == first.queues[b"echo"].accepted.per_minute(now)
    assert told(many) == told(one)
    if "not_before_ms" not in options:
        assert [many.must_take().frames[0] for _ in keys] == bodies
    assert many.take() is None


def test_nothing_is_told_and_nothing_runs_before_the_sync() -> None:
    """D1: neither the answer, nor an event, nor work."""
    rig = Rig()
    assert rig.ask(tsp.PACK, *packed([rig.key(), rig.key()], [b"a", b"b"], rig.meta())) is None
    assert rig.take() is None
    assert rig.titanic.events.after(0, rig.shell.settled_seq, 10)[0] == ()
    rig.sync()
    assert len(rig.answers) == 1
    assert rig.must_take().frames == [b"a"]


def test_a_job_closed_before_its_pack_is_durable_never_runs() -> None:
    """The close wins; the others of the pack run."""
    rig = Rig()
    keys = [rig.key() for _ in range(3)]
    rig.ask(tsp.PACK, *packed(keys, [b"a", b"b", b"c"], rig.meta()))
    assert rig.ask(tsp.CLOSE, keys[1].hex().encode()) is None
    rig.sync()
    assert [rig.must_take().frames[0] for _ in range(2)] == [b"a", b"c"]
    assert rig.take() is None
    assert list(rig.journal.index) == [keys[0], keys[2]]


def test_a_repeated_pack_makes_no_second_jobs() -> None:
    """Each line says that it was there; a new one among them is stored."""
    rig = Rig()
    keys = [rig.key() for _ in range(3)]
    assert ask(rig, keys[:2], [b"a", b"b"]).lines == ()
    again = ask(rig, keys, [b"a", b"b", b"c"]).lines
    assert [(line.status, line.key, line.replayed) for line in again] == [
        (200, keys[0], True),
        (200, keys[1], True),
        (200, keys[2], False),
    ]
    assert [kind for kind, _, _ in rig.journal.log] == [Kind.REQUEST] * 3


def test_a_bad_line_does_not_spoil_the_others() -> None:
    """Too long, a stranger's id, an id twice, a full store: each line says its own, as in a batch."""
    rig = Rig(limits=TitanicLimits(request_max_bytes=10))
    key = rig.key()
    lines = ask(rig, [key, rig.key(), b"0" * 16, key], [b"ok", b"x" * 11, b"ok", b"ok"]).lines
    assert [(line.status, line.replayed) for line in lines] == [
        (200, False),
        (400, False),
        (404, False),
        (200, True),
    ]
    rig.journal._capacity = 0
    assert [line.status for line in ask(rig, [rig.key(), rig.key()], [b"a", b"b"]).lines] == [507, 507]
    assert rig.titanic.life.owners.open_counts == {}


@pytest.mark.parametrize(
    ("keys", "sizes", "frames"),
    [
        (0, [], [b""]),
        (1, [1, 1], [b"ab"]),
        (2, [1], [b"a"]),
        (1, [2], [b"a"]),
        (1, [1], [b"ab"]),
        (1, [1], []),
        (1, [1], [b"a", b"b"]),
        (1_001, [0] * 1_001, [b""]),
        (2, [1 << 31, 1 << 31], [b"ab"]),
    ],
)
def test_a_pack_that_makes_no_sense_is_refused(keys: int, sizes: list[int], frames: list[bytes]) -> None:
    """Other counts, other sizes, too many: 400 and nothing is written."""
    rig = Rig()
    ids = b"".join(rig.key() for _ in range(keys))
    head = tsp.PackHead(ids, pack_struct(f"<{len(sizes)}I", *sizes), rig.meta())
    answer = rig.ask(tsp.PACK, tsp.encode_head(head), *frames)
    assert answer is not None
    assert answer[0] == tsp.UNKNOWN
    assert not rig.journal.log


@pytest.mark.parametrize("meta", [RequestMeta(b"mmi.x", 0), RequestMeta(b"echo", 0, idempotency=b"k" * 16)])
def test_a_pack_of_what_cannot_be_packed(meta: RequestMeta) -> None:
    """A reserved service, and an idempotency key, which belongs to one job: 400."""
    rig = Rig()
    answer = rig.ask(tsp.PACK, *packed([rig.key()], [b"x"], meta))
    assert answer is not None
    assert answer[0] == tsp.UNKNOWN


def test_packs_push_the_oldest_events_out() -> None:
    """What is forgotten is a gap, as with events that came one by one."""
    rig = Rig()
    for _ in range(KEPT_COUNT // 1_000 + 1):
        ask(rig, [rig.key() for _ in range(1_000)], [b""] * 1_000)
    events, next_, gap_to = rig.titanic.events.after(0, rig.shell.settled_seq, 5)
    assert (gap_to, [event.id for event in events]) == (1_000, [1_001, 1_002, 1_003, 1_004, 1_005])
    assert next_ == 1_005
    assert decode_request(rig.journal.log[0][2]).accepted_ms == rig.now.wall_ms
