"""Healing a split, the loser's side (P7): what only it acknowledged reaches the winner first.

A log's records behind the last common one were acknowledged by nobody while the node had a follower in `sync`
mode: they are set aside. A node that answers without one says so in its superblock before it does, with the
sequence up to which its peer has everything; what is behind that is merged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from core.errors import DamagedRecordError
from core.pure.peer import RECORDS_MAX_COUNT, Merge, Merged, Record, Start, encode, row_of
from core.pure.replication import SHIP_MAX_BYTES, RecordsGoneError, Replica

RESEND_MS: Final = 1_000


class Merger:
    """Sends the records behind ``since``, one part after the other, until the winner has each."""

    def __init__(
        self,
        replica: Replica,
        start: Start,
        since: int,
        session: int,
        send: Callable[[list[bytes]], None],
    ) -> None:
        self.start: Final = start
        self.done = False
        self.sent_count = 0
        self.damaged_count = 0
        self._session = session
        self._send = send
        self._number = 0
        self._sent_ms = -RESEND_MS
        self._common = self._seq = since
        self._replica = replica
        self._source = replica.records_after(since)
        self._part: list[bytes] = []
        self._last = False
        self._next()

    def _next(self) -> None:
        batch: list[Record] = []
        size = 0
        while size < SHIP_MAX_BYTES and len(batch) < RECORDS_MAX_COUNT:
            record = self._read()
            if record is None:
                self._last = True
                break
            self._seq = record.sequence
            record = self._replica.plain(record)
            if record.sequence <= self._common:
                continue  # relocated here, and opened before the split: the winner knows it or closed it
            batch.append(record)
            size += sum(map(len, record.body))
        self._number += 1
        self.sent_count += len(batch)
        rows = tuple(map(row_of, batch))
        part = Merge(self._session, self.start.follow, self._number, self._common, rows, self._last)
        self._part = encode(part, [piece for record in batch for piece in record.body])
        self._send(self._part)

    def _read(self) -> Record | None:
        """The next record that is whole; None behind the last."""
        while True:
            try:
                return next(self._source, None)
            except RecordsGoneError:
                return None
            except DamagedRecordError:  # nobody else has it: it stays in what is set aside
                self._seq += 1
                self.damaged_count += 1
                self._source = self._replica.records_after(self._seq)

    def on_merged(self, message: Merged) -> bool:
        """The winner has this part; True when it was the last."""
        mine = (self._session, self.start.follow, self._number)
        if (message.to_session, message.follow, message.number) != mine or self.done:
            return False
        if self._last:
            self.done = True
        else:
            self._next()
        return self.done

    def on_tick(self, now_ms: int) -> None:
        """Send the part again that nobody confirmed."""
        if not self.done and now_ms - self._sent_ms >= RESEND_MS:
            self._sent_ms = now_ms
            self._send(self._part)
