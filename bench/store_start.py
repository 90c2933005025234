"""How long a store of many open jobs takes to open, and its memory; each in a process of its own."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Final

from bench.store_rig import NEVER, open_ring_at, preload
from core.pure.fold import Fold
from titanic_store import Options, open_ring
from titanic_store.shell.opening import peek

BLOCK: Final = 1 << 20
COLUMNS: Final = (
    *("open jobs", "file MiB", "allocated", "warm open, s", "read, s", "ratio"),
    *("cold open, s", "read, s", "ratio", "memory MiB", "bytes/job"),
)


def forget(path: Path) -> None:
    """The page cache has nothing of the file any more."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


def read_once(path: Path) -> float:
    """Seconds to read the file, as ``cat`` does; without the room that is only allocated at its end."""
    left_bytes = peek(path).file_bytes
    started = time.perf_counter()
    fd = os.open(path, os.O_RDONLY)
    buffer = bytearray(BLOCK)
    try:
        while left_bytes > 0 and (count := os.readv(fd, [buffer])):
            left_bytes -= count
    finally:
        os.close(fd)
    return time.perf_counter() - started


def resident_bytes() -> int:
    """Memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure_here(path: Path) -> dict[str, float]:
    """Open the store in this process."""
    gc.collect()
    before = resident_bytes()
    started = time.perf_counter()
    ring = open_ring(path, Fold(), Options(max_bytes=64 << 30))
    took_s = time.perf_counter() - started
    gc.collect()
    memory = resident_bytes() - before
    count = len(ring.index)
    ring.close()
    return {"open_s": took_s, "jobs": count, "bytes_per_job": memory / max(1, count), "bytes": memory}


def measure(path: Path) -> dict[str, float]:
    """Open the store in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.store_start", str(path)], capture_output=True, text=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def start_table(folder: Path, counts: tuple[int, ...], rounds: int) -> list[str]:
    """Rows for so many open jobs each."""
    lines = [
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "---|" * len(COLUMNS),
    ]
    for count in counts:
        path = folder / "start"
        with open_ring_at(path, Options(policy=NEVER, max_bytes=64 << 30)) as bench:
            preload(bench, count)
        warm, warm_read, cold, cold_read, memory, whole = [], [], [], [], [], []
        for _ in range(rounds):
            forget(path)
            cold_read.append(read_once(path))
            warm_read.append(read_once(path))
            found = measure(path)
            warm.append(found["open_s"])
            memory.append(found["bytes_per_job"])
            whole.append(found["bytes"] / BLOCK)
            assert found["jobs"] == count, "the store lost jobs"
            forget(path)
            cold.append(measure(path)["open_s"])
        row = [median(values) for values in (warm, warm_read, cold, cold_read)]
        sizes = f"{peek(path).file_bytes >> 20:,} | {path.stat().st_size >> 20:,}"
        times = [f"{a:.2f} | {b:.3f} | {a / b:.1f}" for a, b in (row[:2], row[2:])]
        memories = f"{median(whole):.1f} | {median(memory):.0f}"
        lines.append(f"| {count:,} | {sizes} | {' | '.join(times)} | {memories} |")
        path.unlink()
    return lines


if __name__ == "__main__":
    print(json.dumps(measure_here(Path(sys.argv[1]))))
