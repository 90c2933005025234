"""The loser's side of a healing: what is sent, and what is done about records that cannot be read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from core.errors import DamagedRecordError
from core.pure.merging import Merger
from core.pure.peer import Merge, Merged, Record, Start, decode, records_of


class Log:
    """Records 1 to 9; some of them are damaged."""

    def __init__(self, *damaged: int) -> None:
        self._damaged = damaged

    def records_after(self, seq: int) -> Iterator[Record]:
        for sequence in range(seq + 1, 10):
            if sequence in self._damaged:
                raise DamagedRecordError(f"record {sequence}")
            yield Record(1, 0, sequence, 3, bytes((sequence,)) * 16, b"", (b"body",))

    def plain(self, record: Record) -> Record:
        return record


def test_a_damaged_record_is_left_out_and_counted() -> None:
    """Nobody else has it: the rest is merged all the same, and the count says that something stays aside."""
    sent: list[list[bytes]] = []
    start = Start(1, 2, 7, 4, 3, 1, False, bytes(32))
    merger = Merger(cast("Any", Log(5, 6, 9)), start, 3, 2, sent.append)
    (frames,) = sent
    part = decode(frames)
    assert isinstance(part, Merge)
    assert [record.sequence for record in records_of(part.rows, frames)] == [4, 7, 8]
    assert part.last
    assert merger.on_merged(Merged(1, 2, 7, 1))
    assert (merger.sent_count, merger.damaged_count) == (3, 3)
