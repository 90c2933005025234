"""Idempotency keys at the node: one key, one job, whatever is repeated, crashes or is closed (X1, X2)."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from typing import Any

import pytest

from core.pure import tsp
from core.pure.jobs import Job, Kind, Now
from core.pure.keys import MEMORY_BYTES, Keys
from core.pure.notes import Binding
from core.pure.ports import Effect
from tests.support.titanic_rig import Rig

KEY = b"k" * 16
HOUR_MS = 3_600_000


def ask(rig: Rig, body: bytes = b"x", *, fingerprint: bytes = b"f", **more: Any) -> None:
    """Submit under KEY with a new id; nothing is synced."""
    meta = rig.meta(idempotency=KEY, fingerprint=fingerprint, **more)
    rig.ask(tsp.SUBMIT, tsp.encode_head(tsp.SubmitHead(rig.key(), meta)), body)


def submit(rig: Rig, body: bytes = b"x", *, fingerprint: bytes = b"f", **more: Any) -> tsp.SubmitAck:
    """The acknowledgement of a submit under KEY."""
    ask(rig, body, fingerprint=fingerprint, **more)
    rig.sync()
    status, head = rig.answers[-1][2]
    assert status == tsp.OK, head
    return tsp.decode_ack(head)


@pytest.mark.parametrize(
    "more",
    [
        {"idempotency": b"short"},
        {"idempotency": b"k" * 17},
        {"idempotency": KEY, "fingerprint": b"f" * 65},
        {"idempotency": KEY, "key_lifetime_ms": -1},
        {"retention_ms": -1},
    ],
)
def test_malformed_keys_and_times_are_400(more: dict[str, Any]) -> None:
    """What cannot be kept is refused before anything is written."""
    rig = Rig()
    answer = rig.ask(tsp.SUBMIT, tsp.encode_head(tsp.SubmitHead(rig.key(), rig.meta(**more))), b"x")
    assert answer is not None
    assert answer[0] == tsp.UNKNOWN
    assert not rig.journal.log


def test_one_key_is_one_job() -> None:
    """Repeats, the first before the sync, get the first id, replayed; one job runs."""
    rig = Rig()
    for _ in range(3):
        ask(rig)
    rig.sync()
    acks = [tsp.decode_ack(frames[1]) for _, _, frames in rig.answers]
    acks.append(submit(rig))
    assert [ack.replayed for ack in acks] == [False, True, True, True]
    assert len({ack.key for ack in acks}) == 1
    rig.must_take()
    assert rig.take() is None


def test_another_request_under_the_key_is_422() -> None:
    """Another fingerprint is refused with an ErrorHead, and makes no job."""
    rig = Rig()
    submit(rig)
    ask(rig, fingerprint=b"g")
    rig.sync()
    status, head = rig.answers[-1][2]
    assert status == tsp.MISMATCH
    assert "another request" in tsp.decode_error(head).detail
    assert len(rig.titanic.life.roster) == 1


def test_a_key_outlives_its_job_and_a_restart() -> None:
    """After the close, and after a crash, the first id is told, and that it is closed."""
    rig = Rig()
    first = submit(rig).key
    assert submit(rig.restart()).key == first
    rig.ask(tsp.CLOSE, first.hex().encode())
    rig.sync()
    for node in (rig, rig.restart()):
        ack = submit(node)
        assert (ack.key, ack.state, ack.replayed) == (first, "closed", True)
        assert ack.created_ms == 1_600_001_000_000


def test_a_key_ends_with_its_lifetime() -> None:
    """24 h by default, as asked within the limit; then the same key makes a new job, also after a restart."""
    for lifetime_ms, true_ms in ((0, 24 * HOUR_MS), (5_000, 5_000), (10**12, 7 * 24 * HOUR_MS)):
        for restarts in (False, True):
            rig = Rig()
            first = submit(rig, key_lifetime_ms=lifetime_ms).key
            rig.clock.ms += true_ms - 1
            assert submit(rig).key == first
            rig = rig.restart() if restarts else rig
            rig.clock.ms += 1
            again = submit(rig)
            assert again.key != first
            assert submit(rig).key == again.key


def test_expired_keys_are_closed_in_the_journal() -> None:
    """Housekeeping closes them, a hundred at a time, and counts them; a key bound again stays."""
    rig = Rig()
    for number in range(250):
        meta = rig.meta(idempotency=number.to_bytes(16, "big"), fingerprint=b"f", key_lifetime_ms=5_000)
        rig.ask(tsp.SUBMIT, tsp.encode_head(tsp.SubmitHead(rig.key(), meta)), b"x")
    rig.sync()
    assert rig.titanic.keys.count == 250
    rig.clock.ms += 5_000
    meta = rig.meta(idempotency=bytes(16), fingerprint=b"f", key_lifetime_ms=HOUR_MS)
    rig.ask(tsp.SUBMIT, tsp.encode_head(tsp.SubmitHead(rig.key(), meta)), b"x")
    rig.sync()
    assert rig.titanic.keys.count == 250
    rig.pass_ms(20_000)
    assert 99 <= rig.titanic.keys.expired_count <= 100
    for _ in range(5):
        rig.pass_ms(10)
    rig.sync()
    assert rig.titanic.keys.count == 1
    assert sum(kind == Kind.CLOSE for kind, _, _ in rig.journal.log) == 249
    assert rig.restart().titanic.keys.count == 1


def test_a_crash_between_request_and_key_leaves_one_job() -> None:
    """The request was durable, its key was not: the next start binds it, and the repeat finds the job."""
    rig = Rig()
    ask(rig)
    kinds = [kind for kind, _, _ in rig.journal.log]
    assert kinds == [Kind.REQUEST, Kind.KEY]
    rig.journal._synced_count = 1
    again = rig.restart()
    ack = submit(again)
    assert ack.replayed
    assert len(again.titanic.life.roster) == 1
    assert submit(again.restart()).key == ack.key


def test_a_key_that_finds_no_room_at_the_start_is_bound_in_memory() -> None:
    """A full store must not make a second job of the same key; the record follows when there is room."""
    rig = Rig()
    ask(rig)
    rig.journal._synced_count = 1
    rig.journal._capacity = 0
    again = rig.restart()
    assert again.titanic.keys.count == 0
    assert submit(again).replayed
    again.journal._capacity = 1 << 20
    again.pass_ms(10_000)
    again.sync()
    assert again.titanic.keys.count == 1
    assert submit(again.restart()).replayed


def test_a_store_with_room_for_the_request_only_refuses_the_submit() -> None:
    """507, and neither job nor key is left."""
    rig = Rig()
    meta = rig.meta(idempotency=KEY, fingerprint=b"f" * 64)
    body = b"x" * 10
    head = tsp.encode_head(tsp.SubmitHead(rig.key(), meta))
    rig.journal._capacity = len(tsp.encode_head(meta)) + 20 + len(body)
    answer = rig.ask(tsp.SUBMIT, head, body)
    assert answer is not None
    assert answer[0] == tsp.FULL
    rig.sync()
    assert not rig.journal.index
    assert rig.titanic.keys.count == 0


class LeanPort:
    """Writes nothing: what is left in memory is the keys' own."""

    settled_seq = 0

    def __init__(self, index: dict[bytes, Job]) -> None:
        self.index = index

    def append(
        self, kind: int, job: Job, meta: bytes, body: Sequence[bytes], after_sync: tuple[Effect, ...]
    ) -> int:
        job.request_at = 1 << 40 | len(self.index)
        self.index[job.key] = job
        return 0

    def append_all(
        self,
        kind: int,
        jobs: Sequence[Job],
        meta: bytes,
        bodies: Sequence[bytes],
        after_sync: tuple[Effect, ...],
    ) -> int:
        return 0

    def barrier(self, after_sync: tuple[Effect, ...]) -> None: ...

    def perform(self, effect: Effect) -> None: ...


def test_the_memory_of_a_key_is_what_is_published() -> None:
    """5·10⁴ keys cost at most what the gauge says, and not much less."""
    index: dict[bytes, Job] = {}
    keys = Keys(index, LeanPort(index), lifetime_ms=1, lifetime_max_ms=1)
    count = 50_000
    tracemalloc.start()
    try:
        for number in range(count):
            binding = Binding(KEY, b"f", 1_600_000_000_000 + number * 100)
            keys.bind(number.to_bytes(16, "big"), binding, (), Now(0, 0))
        each = tracemalloc.get_traced_memory()[0] / count
    finally:
        tracemalloc.stop()
    print(f"{each:.0f} bytes per key")
    assert MEMORY_BYTES / 2 < each <= MEMORY_BYTES
