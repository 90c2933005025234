"""Which epochs the records of a chunk have: they are in the headers, and found by bisection (P1)."""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Final

from titanic_store.errors import DamagedStoreError
from titanic_store.pure.records import ROW
from titanic_store.shell.reading import RecordReader

_OFFSET_AT: Final = 20
_U64: Final = Struct("<Q")


def epoch_at(reader: RecordReader, rows: bytes, number: int) -> int:
    """Of one record of a chunk with these digest rows; of the nearest that is whole, if it is damaged."""
    for near in (*range(number, len(rows) // ROW.size), *range(number - 1, -1, -1)):
        at = _U64.unpack_from(rows, near * ROW.size + _OFFSET_AT)[0]
        try:
            return reader.read_header(at).epoch
        except DamagedStoreError:
            continue  # noticed, and mended once there is a peer
    raise DamagedStoreError(0, "no record of a chunk has a whole header")


def epoch_runs(reader: RecordReader, rows: bytes) -> Iterator[tuple[int, int]]:
    """(epoch, number of the first record with it) of a chunk, in order; epochs never fall."""
    at, count = 0, len(rows) // ROW.size
    while at < count:
        epoch = epoch_at(reader, rows, at)
        yield epoch, at
        at = _end_of(reader, rows, at, count, epoch)


def _end_of(reader: RecordReader, rows: bytes, low: int, high: int, epoch: int) -> int:
    """The first record behind ``low`` with another epoch."""
    if epoch_at(reader, rows, high - 1) == epoch:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        if epoch_at(reader, rows, middle) == epoch:
            low = middle
        else:
            high = middle
    return high
