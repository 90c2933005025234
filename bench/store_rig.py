"""A ring as the node has it, its writers in one thread, and what is measured on it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from core.pure.fold import Fold
from core.pure.jobs import CloseMeta, Job, Kind, RequestMeta, encode_meta
from titanic_store import Options, Policy, Ring, RingFullError, open_ring

META: Final = encode_meta(RequestMeta(b"wordcount", 1_732_370_000_000, "text/plain"))
CLOSED: Final = encode_meta(CloseMeta(1_732_370_000_001))
BODY: Final = (b"b" * 256,)
PRELOAD_COMMIT: Final = 512
APPENDS_COUNT: Final = 20_000


class Bench:
    """An open ring and the eventfd its commits ring."""

    class Latency(msgspec.Struct):
        """Of one append that is waited for."""

        p50_ms: float
        p99_ms: float
        count: int

    def __init__(self, path: Path, options: Options) -> None:
        self._bell = os.eventfd(0)
        self.ring: Ring[Job] = open_ring(path, Fold(), options, notify=self._notify)
        self._number = int.from_bytes(os.urandom(8), "big") << 64

    def _notify(self) -> None:
        os.eventfd_write(self._bell, 1)

    def close(self) -> None:
        """The store is closed in order."""
        self.ring.close()
        os.close(self._bell)

    def job(self) -> Job:
        """A new one; its key is new too."""
        self._number += 1
        return Job(self._number.to_bytes(16, "big"))

    def request(self, token: object | None) -> Job:
        """Append one of 256 bytes."""
        job = self.job()
        self.ring.append(Kind.REQUEST, job, META, BODY, token)
        return job

    def wait(self) -> list[object]:
        """The next tokens."""
        os.eventfd_read(self._bell)
        return self.ring.completed()

    def closed_loop(self, writers: int, seconds: float, *, close: bool = False) -> float:
        """Records per second; ``close``: what was acknowledged is closed again, by another record."""
        ring, count, waiting = self.ring, 0, 0
        started = time.perf_counter()
        deadline = started + seconds
        while time.perf_counter() < deadline:
            while waiting < writers:
                job = self.job()
                ring.append(Kind.REQUEST, job, META, BODY, job)
                waiting += 1
            done = self.wait()
            waiting -= len(done)
            count += len(done)
            if close:
                for stored in done:
                    assert isinstance(stored, Job)
                    ring.append(Kind.CLOSE, stored, CLOSED)
        while waiting:
            waiting -= len(self.wait())
        return count / (time.perf_counter() - started)

    def append_us(self) -> float:
        """What one append costs the thread that owns the ring, without waiting for the disk."""
        ring, jobs = self.ring, [self.job() for _ in range(APPENDS_COUNT)]
        started = time.thread_time()
        for job in jobs:
            ring.append(Kind.REQUEST, job, META, BODY)
        took_s = time.thread_time() - started
        for job in jobs:
            ring.append(Kind.CLOSE, job, CLOSED)
        ring.barrier("all")
        while not self.wait():
            pass
        return took_s / APPENDS_COUNT * 1e6

    def latency(self, seconds: float, busy: Callable[[], None] | None = None) -> Bench.Latency:
        """Append, wait until it is durable, again and again; ``busy`` gives the ring something else to do."""
        took: list[float] = []
        deadline = time.perf_counter() + seconds
        while time.perf_counter() < deadline:
            if busy is not None:
                busy()
            before = time.perf_counter()
            job = self.request("mine")
            while "mine" not in self.wait():
                pass
            took.append(time.perf_counter() - before)
            self.ring.append(Kind.CLOSE, job, CLOSED)
        took.sort()
        return Bench.Latency(took[len(took) // 2] * 1e3, took[int(len(took) * 0.99)] * 1e3, len(took))

    def stick(self, count: int) -> None:
        """So many jobs that stay open."""
        for _ in range(count):
            self.request(None)

    def fill(self) -> None:
        """More open jobs: the file must grow."""
        self.request(None)
        self.ring.append(Kind.REQUEST, self.job(), META, (bytes(4_000),))

    def grow(self) -> None:
        """The same, and the growing thread has work all the time: no store of this size needs so much."""
        self.fill()
        self.ring._head._request_growth(zeros=True)  # noqa: SLF001 - asked for without need

    def burst(self, count: int) -> None:
        """So many jobs of 4 KB come and go, in one commit."""
        for _ in range(count):
            self.churn()
        self.ring.barrier("burst")
        while "burst" not in self.wait():
            pass

    def churn(self) -> None:
        """A job of 4 KB comes and goes: the ring turns."""
        job = self.job()
        try:
            self.ring.append(Kind.REQUEST, job, META, (bytes(4_000),))
        except RingFullError:
            return
        self.ring.append(Kind.CLOSE, job, CLOSED)


@contextmanager
def open_ring_at(path: Path, options: Options) -> Iterator[Bench]:
    """A ring that is closed in order afterwards."""
    bench = Bench(path, options)
    try:
        yield bench
    finally:
        bench.close()


def preload(bench: Bench, count: int) -> None:
    """So many jobs that stay open."""
    ring = bench.ring
    for number in range(count):
        if number % PRELOAD_COMMIT == PRELOAD_COMMIT - 1:
            bench.request("some")
            bench.wait()
        else:
            bench.request(None)
    ring.barrier("all")
    while "all" not in bench.wait():
        pass


NEVER: Final = Policy.parse("never")
