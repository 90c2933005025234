"""The commit thread: batches form by themselves, nobody waits for a timer, an idle store sleeps."""

import threading
import time
from pathlib import Path

import pytest

from tests.titanic_store.rig import DEADLINE_SECONDS, Pebble, Waiting, key, open_on, options, request, until
from titanic_store import Kind, Policy, Ring, StoreFailedError
from titanic_store.shell.committer import LAZY_MS, Committer
from titanic_store.shell.faulty import FaultyDisk, FaultyStorage


class SlowStorage(FaultyStorage):
    """Syncs return when the test lets them; it can see that one is under way."""

    def __init__(self, disk: FaultyDisk) -> None:
        super().__init__(disk)
        self.entered = threading.Event()
        self.gate = threading.Semaphore(0)
        self.error: OSError | None = None

    def sync(self) -> None:
        self.entered.set()
        assert self.gate.acquire(timeout=DEADLINE_SECONDS)
        if self.error is not None:
            raise self.error
        super().sync()


def slow() -> tuple[SlowStorage, Committer, threading.Event]:
    """A commit thread over a slow disk."""
    storage, rung = SlowStorage(FaultyDisk()), threading.Event()
    return storage, Committer(storage, Policy(), rung.set, 0, align_bytes=8, thread=True), rung


def put(committer: Committer, token: object, seq: int) -> None:
    with committer.mutex:
        batch = committer.batch
        run = batch.run or batch.begin(4096 * seq)
        run.parts.append(b"x")
        run.end += 1
        batch.tokens.append(token)
        batch.last_seq = seq
        batch.waiting = True
    committer.wake()


def test_what_arrives_during_a_sync_is_the_next_batch() -> None:
    """One sync for all that came meanwhile, and none of it acknowledged by the sync under way (R10)."""
    storage, committer, rung = slow()
    put(committer, "first", 1)
    assert storage.entered.wait(DEADLINE_SECONDS)
    storage.entered.clear()
    for seq in range(2, 50):
        put(committer, seq, seq)
    assert not committer.done
    storage.gate.release()
    until(lambda: len(committer.done) == 1, rung, "the first batch")
    assert (committer.done[0].tokens, committer.durable_seq) == (["first"], 1)
    committer.notified = False  # as the owner does when it looks
    storage.gate.release()
    until(lambda: len(committer.done) == 2, rung, "the second batch")
    assert committer.done[1].tokens == list(range(2, 50))
    assert (committer.durable_seq, committer.sync_count) == (49, 2)
    committer.stop()


def test_one_call_for_all_that_is_done() -> None:
    """The owner is notified once until it has looked."""
    rings: list[int] = []
    committer = Committer(
        FaultyDisk().open(), Policy(), lambda: rings.append(1), 0, align_bytes=8, thread=False
    )
    for seq in range(1, 4):
        put(committer, seq, seq)
        committer.turn()
    assert len(rings) == 1
    committer.notified = False
    put(committer, 4, 4)
    committer.turn()
    assert len(rings) == 2


def test_a_failed_sync_ends_the_store_at_once() -> None:
    """The owner is told, the first error is kept, nothing is handed back (R11)."""
    storage, committer, rung = slow()
    storage.error = OSError(5, "the cable is out")
    put(committer, "never", 1)
    storage.gate.release()
    until(lambda: committer.failure is not None, rung, "the failure")
    put(committer, "neither", 2)
    committer.stop()
    assert not committer.done
    assert committer.durable_seq == 0
    assert "the cable is out" in str(committer.failure)
    assert isinstance(committer.failure, StoreFailedError)


def test_a_lonely_record_waits_for_no_timer(tmp_path: Path) -> None:
    """One waiter at a time: each is served long before any timer of the store could fire (R10)."""
    waiting = Waiting(tmp_path / "titanic.ring", options(max_chunks=12))
    times = []
    for number in range(40):
        start = time.perf_counter()
        request(waiting.ring, number)
        assert waiting.wait(1) == [number]
        times.append(time.perf_counter() - start)
    assert sorted(times)[20] < LAZY_MS / 1000
    assert waiting.ring.batch_count >= 40
    waiting.ring.close()


def test_a_record_nobody_waits_for_is_committed_soon(tmp_path: Path) -> None:
    """It rides with the next batch, or goes alone after a moment; then the thread sleeps again."""
    waiting = Waiting(tmp_path / "titanic.ring")
    ring = waiting.ring
    pebble = Pebble(key(1))
    ring.append(Kind.REQUEST, pebble, b"")
    until(lambda: ring.durable_seq == 1, waiting.rung, "the lazy record")
    assert ring.completed() == []
    syncs = ring.sync_count
    ring.append(Kind.ATTEMPT, pebble, b"")
    ring.append(Kind.REPLY, pebble, b"", (), "reply")
    assert waiting.wait(1) == ["reply"]
    assert (ring.durable_seq, ring.sync_count) == (3, syncs + 1)
    ring.close()


def test_an_idle_store_uses_no_processor_time(tmp_path: Path) -> None:
    """No deadline is set, no batch is made while nothing happens."""
    waiting = Waiting(tmp_path / "titanic.ring")
    request(waiting.ring, 1)
    waiting.wait(1)
    committer = waiting.ring._committer
    assert committer._lazy_deadline is None
    assert committer._sync_deadline is None
    before, batches = time.process_time(), waiting.ring.batch_count
    waiting.rung.clear()
    assert not waiting.rung.wait(0.2)
    assert waiting.ring.batch_count == batches
    assert time.process_time() - before < 0.05
    waiting.ring.close()


def test_interval_acknowledges_first_and_syncs_in_time(tmp_path: Path) -> None:
    """Tokens come back after the write; the sync follows within the interval, once for many (D2)."""
    waiting = Waiting(tmp_path / "titanic.ring", options(policy=Policy.parse("interval:40ms")))
    ring = waiting.ring
    for number in range(20):
        request(ring, number)
        assert waiting.wait(1) == [number]
    assert ring.durability == "interval; ms=40"
    deadline = time.monotonic() + DEADLINE_SECONDS
    poll = threading.Event()
    while ring.durable_seq < 20:
        assert time.monotonic() < deadline
        poll.wait(0.005)
    assert ring.sync_count <= 10
    ring.close()


def test_interval_frees_space_only_after_the_sync() -> None:
    """A close that is acknowledged but not synced frees nothing (R6)."""
    ring = open_on(FaultyDisk(), options(policy=Policy.parse("interval:60000ms")))
    pebble = request(ring, 1)
    ring.append(Kind.CLOSE, pebble, b"", (), "closed")
    ring.commit()
    assert ring.completed() == [1, "closed"]
    assert not ring.index
    assert sum(ring._head.space.alive_counts) == 1
    ring._committer._sync()
    ring.completed()
    assert sum(ring._head.space.alive_counts) == 0


@pytest.mark.parametrize("policy", ["always", "interval:50ms", "never"])
def test_closing_finishes_what_was_appended(tmp_path: Path, policy: str) -> None:
    """Everything is in the file after an orderly close, waited for or not, and its tokens come back."""
    path = tmp_path / "titanic.ring"
    waiting = Waiting(path, options(chunks=8, max_chunks=8, policy=Policy.parse(policy)))
    for number in range(100):
        request(waiting.ring, number)
    waiting.ring.append(Kind.KEY, Pebble(key(1000)), b"lazy")
    waiting.ring.close()
    assert waiting.ring.completed() == list(range(100))
    again = Waiting(path, options(max_chunks=8))
    assert len(again.ring.index) == 101
    again.ring.close()


def test_the_file_grows_behind_the_back_of_the_owner(tmp_path: Path) -> None:
    """Requests faster than the ring is long: the file grows, nobody is refused, all is there."""
    wanted = options(max_chunks=60)
    waiting = Waiting(tmp_path / "titanic.ring", wanted)
    for number in range(200):
        request(waiting.ring, number, bytes(4000))
    assert len(waiting.wait(200)) == 200
    assert waiting.ring.file_bytes > 16 * wanted.chunk_bytes
    waiting.ring.close()
    assert (tmp_path / "titanic.ring").stat().st_size <= wanted.max_bytes


def anonymous_count() -> int:
    """How many descriptors of this process are no files: eventfds, epolls."""
    return sum("anon_inode" in str(entry.resolve()) for entry in list(Path("/proc/self/fd").iterdir()))


def test_a_store_that_is_let_go_leaves_no_descriptor_open(tmp_path: Path) -> None:
    """What wakes the commit thread goes with it, closed in order or abandoned; waking nobody is harmless."""
    known = anonymous_count()
    for end in (Ring.close, Ring.abandon):
        waiting = Waiting(tmp_path / end.__name__)
        request(waiting.ring, 1)
        assert waiting.wait(1) == [1]
        assert anonymous_count() > known
        end(waiting.ring)
        waiting.ring._committer.wake()
        assert anonymous_count() == known
