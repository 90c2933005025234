"""Healing a split (P7): what only the loser has and may have acknowledged reaches the winner first.

A log's records behind the last common one were acknowledged by nobody while the node had a follower in `sync`
mode: they are set aside. Once a node has gone on alone it has claimed an epoch of its own, so a record of such
an epoch behind the common one is the sign that answers may have been given for all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from core.pure.peer import RECORDS_MAX_COUNT, Merge, Merged, Record, Start, encode, row_of
from core.pure.replication import SHIP_MAX_BYTES, RecordsGoneError, Replica, epoch_at

RESEND_MS: Final = 1_000


def may_hold_acknowledged(replica: Replica, start: Start, *, sync: bool) -> bool:
    """Whether a record behind the last common one may have been acknowledged by this node."""
    epochs = replica.epochs()
    if start.common >= replica.last_seq or not epochs:
        return False
    return not sync or epochs[-1][0] > max(epoch_at(epochs, start.common), 1)


class Merger:
    """Sends the records behind ``start.common``, one part after the other; the loser's side."""

    def __init__(
        self, replica: Replica, start: Start, session: int, send: Callable[[list[bytes]], None]
    ) -> None:
        self.start: Final = start
        self.done = False
        self.sent_count = 0
        self._session = session
        self._send = send
        self._number = 0
        self._sent_ms = -RESEND_MS
        self._common = max(start.common, replica.first_seq - 1) if start.full else start.common
        self._source = replica.records_after(self._common)
        self._part: list[bytes] = []
        self._last = False
        self._next()

    def _next(self) -> None:
        batch: list[Record] = []
        size = 0
        while size < SHIP_MAX_BYTES and len(batch) < RECORDS_MAX_COUNT:
            try:
                record = next(self._source, None)
            except RecordsGoneError:
                record = None
            if record is None:
                self._last = True
                break
            batch.append(record)
            size += sum(map(len, record.body))
        self._number += 1
        self.sent_count += len(batch)
        rows = tuple(map(row_of, batch))
        part = Merge(self._session, self.start.follow, self._number, self._common, rows, self._last)
        self._part = encode(part, [piece for record in batch for piece in record.body])
        self._send(self._part)

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
