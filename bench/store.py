"""``python -m bench store``: the ring beside raw fdatasync, SQLite and beanstalkd; restart, memory, latency.

Every contender stores records of 256 bytes, each durable before its writer goes on: one writer that waits
each time, or 32 at once. All take turns in one run; ratios are formed round by round.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Final

from bench.http import raw_fdatasync
from bench.peers import beanstalk, sqlite
from bench.store_rig import Bench, open_ring_at, preload
from bench.store_start import start_table
from titanic_store import Options, Policy

WRITERS: Final = 32
OPEN_COUNTS: Final = (0, 100_000, 1_000_000)
MIB: Final = 1 << 20
SCRUB_BYTES_PER_SECOND: Final = 64 * MIB
STICK_COUNT: Final = 2_000
STILL_CHUNKS: Final = 16
"""No growth for as long as one run takes."""

Runs = dict[str, list[float]]


def spread(values: list[float], digits: int = 0) -> str:
    """Median, and the smallest and the largest."""
    low, middle, high = min(values), median(values), max(values)
    return f"{middle:,.{digits}f} ({low:,.{digits}f}-{high:,.{digits}f})"


def ratio(runs: Runs, ours: str, theirs: str, digits: int = 2) -> str:
    """Round by round."""
    return spread([a / b for a, b in zip(runs[ours], runs[theirs], strict=True)], digits)


@contextmanager
def folder_on(base: Path | None) -> Iterator[Path]:
    """A folder that is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="bench-store-", dir=base))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def ring_rate(folder: Path, writers: int, seconds: float, open_count: int = 0) -> float:
    """Records per second, ``writers`` of them on their way at any time."""
    path = folder / "ring"
    with open_ring_at(path, Options(floor_chunks=8)) as bench:
        if open_count:
            preload(bench, open_count)
        rate = bench.closed_loop(writers, seconds)
    path.unlink()
    return rate


def rates(folder: Path, rounds: int, seconds: float) -> Runs:
    """One writer and 32, everybody in turn; the first round warms up."""
    contenders: dict[str, Callable[[], float]] = {
        "raw fdatasync": lambda: raw_fdatasync(folder, seconds).per_second,
        "ring, 1 writer": lambda: ring_rate(folder, 1, seconds),
        "SQLite, 1 writer": lambda: sqlite.single(folder, seconds),
        "ring, 32 writers": lambda: ring_rate(folder, WRITERS, seconds),
        "SQLite, 32 connections": lambda: sqlite.threads(folder, WRITERS, seconds),
        "SQLite, 32 rows a transaction": lambda: sqlite.batches(folder, WRITERS, seconds),
    }
    if beanstalk.found():
        contenders["beanstalkd, 1 writer"] = lambda: beanstalk.rate(folder, 1, seconds)
        contenders["beanstalkd, 32 writers"] = lambda: beanstalk.rate(folder, WRITERS, seconds)
    runs: Runs = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, run in contenders.items():
            print(f"\rround {number}/{rounds}  {name:<36}", end="", file=sys.stderr, flush=True)
            found = run()
            if number:
                runs[name].append(found)
    return runs


def rates_table(runs: Runs) -> list[str]:
    """Rates, and what they are of one raw fdatasync after the other."""
    lines = ["| what | records per second | ÷ raw fdatasync | ring ÷ this |", "|---|---|---|---|"]
    for name in runs:
        ours = "ring, 1 writer" if name.endswith(", 1 writer") else "ring, 32 writers"
        against = "" if name.startswith(("ring", "raw")) else ratio(runs, ours, name)
        lines.append(f"| {name} | {spread(runs[name])} | {ratio(runs, name, 'raw fdatasync')} | {against} |")
    return lines


def flat_table(folder: Path, rounds: int, seconds: float, counts: tuple[int, ...]) -> list[str]:
    """The rate of 32 writers, and the processor time of an append, beside so many open jobs."""
    found: dict[int, list[tuple[float, float]]] = {count: [] for count in counts}
    for count in counts:
        path = folder / "ring"
        with open_ring_at(path, Options(policy=Policy.parse("never"))) as bench:
            preload(bench, count)
        with open_ring_at(path, Options()) as bench:
            for _ in range(rounds + 1):
                rate = bench.closed_loop(WRITERS, seconds, close=True)
                found[count].append((rate, bench.append_us()))
        path.unlink()
    lines = ["| open jobs | records per second, 32 writers | µs of an append |", "|---|---|---|"]
    for count, results in found.items():
        rates_, costs = zip(*results[1:], strict=True)
        lines.append(f"| {count:,} | {spread([*rates_])} | {spread([*costs], 2)} |")
    return lines


def _still(folder: Path, seconds: float) -> Bench.Latency:
    with open_ring_at(folder / "still", Options(floor_chunks=STILL_CHUNKS)) as bench:
        found = bench.latency(seconds, busy=bench.fill)
        assert not bench.ring.counters["chunks_grown"], "the file grew"
    return found


def _growing(folder: Path, seconds: float) -> Bench.Latency:
    with open_ring_at(folder / "grows", Options(floor_chunks=8)) as bench:
        found = bench.latency(seconds, busy=bench.grow)
        grown = bench.ring.counters["chunks_grown"]
        print(f"\rgrown {grown * 16 / seconds:,.0f} MiB/s", end="  ", file=sys.stderr, flush=True)
    return found


def _relocating(folder: Path, seconds: float) -> Bench.Latency:
    options = Options(chunk_bytes=4 * MIB, floor_chunks=16, max_bytes=65 * MIB, reply_reserve_bytes=0)
    with open_ring_at(folder / "moves", options) as bench:
        for _ in range(STICK_COUNT // 10):
            bench.stick(10)
            bench.burst(60)
        before = bench.ring.counters["records_relocated"]
        found = bench.latency(seconds, busy=bench.churn)
        moved = bench.ring.counters["records_relocated"] - before
        print(f"\rrelocated {moved / seconds:,.0f} records/s", end="  ", file=sys.stderr, flush=True)
        assert moved, "nothing was relocated"
    return found


def _scrubbing(folder: Path, seconds: float) -> Bench.Latency:
    options = Options(floor_chunks=STILL_CHUNKS, scrub_bytes_per_second=SCRUB_BYTES_PER_SECOND)
    with open_ring_at(folder / "scrubs", options) as bench:
        preload(bench, 50_000)
        found = bench.latency(seconds, busy=bench.fill)
        assert any(count for name, count in bench.ring.counters.items() if "scrub" in name), "no scrub"
    return found


def _raw(folder: Path, seconds: float) -> Bench.Latency:
    raw = raw_fdatasync(folder, seconds)
    return Bench.Latency(raw.p50_ms, raw.p99_ms, round(raw.per_second * seconds))


BESIDE: Final[dict[str, Callable[[Path, float], Bench.Latency]]] = {
    "raw fdatasync, no ring": _raw,
    "nothing else": _still,
    "growth": _growing,
    "relocation, 2,000 jobs stay open in 64 MiB": _relocating,
    "scrub, 64 MiB/s": _scrubbing,
}


def latency_table(folder: Path, rounds: int, seconds: float) -> list[str]:
    """A writer that waits each time, a job of 4 KB beside each; the ring does something else; all in turn."""
    found: dict[str, list[Bench.Latency]] = {name: [] for name in BESIDE}
    for _ in range(rounds):
        for name, run in BESIDE.items():
            found[name].append(run(folder, seconds))
            for path in folder.iterdir():
                path.unlink()
    still, raw = found["nothing else"], found["raw fdatasync, no ring"]
    lines = [
        "| beside | p50 ms | p99 ms | p99 ÷ p50 with nothing else | ÷ its p99 | ÷ p99 of raw fdatasync |"
    ]
    lines.append("|---|---|---|---|---|---|")
    for name, seen in found.items():
        to_p50 = [a.p99_ms / b.p50_ms for a, b in zip(seen, still, strict=True)]
        to_p99 = [a.p99_ms / b.p99_ms for a, b in zip(seen, still, strict=True)]
        to_raw = [a.p99_ms / b.p99_ms for a, b in zip(seen, raw, strict=True)]
        p50, p99 = (spread([run.p50_ms for run in seen], 3), spread([run.p99_ms for run in seen], 2))
        ratios = " | ".join(spread(values, 1) for values in (to_p50, to_p99, to_raw))
        lines.append(f"| {name} | {p50} | {p99} | {ratios} |")
    return lines


def main(arguments: list[str], machine: Callable[[], str]) -> None:
    """Parse, measure, print Markdown; ``--json FILE`` keeps the rates."""
    parser = argparse.ArgumentParser(prog="python -m bench store", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="counted rounds after one warm-up")
    parser.add_argument("--seconds", type=float, default=2, help="of each run")
    parser.add_argument("--jobs", type=int, default=OPEN_COUNTS[-1], help="open jobs at the most")
    parser.add_argument("--folder", type=Path, help="on the disk to be measured; default: the system's")
    parser.add_argument("--json", type=Path, help="write every round's rates here")
    options = parser.parse_args(arguments)
    counts = tuple(count for count in OPEN_COUNTS if count <= options.jobs)
    with folder_on(options.folder) as folder:
        runs = rates(folder, options.rounds, options.seconds)
        print(f"{datetime.now(UTC):%Y-%m-%d}, {machine()}, {sqlite.version()}, {beanstalk.version()};")
        print(f"{options.rounds} rounds of {options.seconds:g} s; 256-byte bodies\n")
        parts: tuple[Callable[[], list[str]], ...] = (
            lambda: rates_table(runs),
            lambda: latency_table(folder, options.rounds, max(1.0, options.seconds)),
            lambda: flat_table(folder, options.rounds, options.seconds, counts),
            lambda: start_table(folder, counts, min(3, options.rounds)),
        )
        for part in parts:  # each is shown as soon as it is there: the next one may fail
            print("\n".join(part()), end="\n\n", flush=True)
    if options.json:
        options.json.write_text(
            json.dumps({"machine": machine(), "rates": runs, "at": time.time()}, indent=1)
        )
