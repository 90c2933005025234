"""What one gateway process has counted, as a value that another process can show."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

import msgspec

BUCKETS_S: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)


class Cell(msgspec.Struct):
    """One (method, route, status): how long in all, and how often in each bucket."""

    method: str
    route: str
    status: int
    seconds: float = 0.0
    buckets: list[int] = msgspec.field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))

    def observe(self, seconds: float) -> None:
        """Count one request."""
        self.seconds += seconds
        self.buckets[bisect_left(BUCKETS_S, seconds)] += 1


class Counts(msgspec.Struct, frozen=True):
    """Everything a process shows: ``gauges`` go up and down, ``counters`` only up."""

    process: int
    cells: list[Cell]
    gauges: dict[str, float]
    counters: dict[str, float]


encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Counts).decode


def decode(raw: bytes) -> Counts | None:
    """The counts, or None for bytes that are none."""
    try:
        counts = _decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    whole = all(len(cell.buckets) == len(BUCKETS_S) + 1 for cell in counts.cells)
    return counts if whole else None
