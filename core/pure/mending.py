"""Damage on one node, mended from the other while both run (R2, R18; D3).

Whoever meets a damaged record, a read or the scrub, asks the peer for it by its sequence: with the same epoch
it is the same record on both disks. What comes back is compared with what the damaged place still says about
itself before it is written over it. Either node may ask, whatever its role.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol

from core.pure.peer import RECORDS_MAX_COUNT, Fetch, Fetched, Record, encode, records_of, row_of

RESEND_MS: Final = 500
PATIENCE_MS: Final = 5_000
"""A reader waits so long for the right bytes; then the damage is reported."""
REST_MS: Final = 5_000
"""After a vain attempt a record is not asked for again for so long."""
ANSWER_MAX_BYTES: Final = 4 << 20

Done = Callable[[bool], None]


class Mended(Protocol):
    """What mending asks of its node."""

    def record_at(self, sequence: int) -> Record | None:
        """A record as it is here; None if it is gone, or damaged."""
        ...

    def mend(self, record: Record, done: Callable[[], None]) -> bool:
        """Put a record of the peer where ours is damaged; False if it is another one. ``done``: durably."""
        ...


class _Want:
    def __init__(self, now_ms: int) -> None:
        self.until_ms = now_ms + PATIENCE_MS
        self.asked_ms = now_ms - RESEND_MS
        self.waiting: list[Done] = []
        self.writing = False


class Mending:
    """Asks for single records, and answers who asks."""

    def __init__(self, host: Mended, session: int, send: Callable[[list[bytes]], None]) -> None:
        self._host = host
        self._session = session
        self._send = send
        self._wants: dict[int, _Want] = {}
        self._vain: dict[int, int] = {}  # sequence -> when it may be asked for again
        self._number = 0
        self.mended_count = self.vain_count = self.lent_count = 0

    def want(self, sequence: int, now_ms: int, done: Done | None = None) -> bool:
        """Ask for this record; ``done`` is told whether it is whole again. False: it is no use to ask now."""
        if self._vain.get(sequence, 0) > now_ms:
            return False
        want = self._wants.get(sequence)
        if want is None:
            want = self._wants[sequence] = _Want(now_ms)
            self._ask(now_ms)
        if done is not None:
            want.waiting.append(done)
        return True

    def hope(self) -> None:
        """The peer is there again: what was asked in vain may be asked once more."""
        self._vain.clear()

    def on_tick(self, now_ms: int) -> None:
        """Ask again for what did not come; give up in the end."""
        if not self._wants:
            return
        for sequence in [seq for seq, want in self._wants.items() if now_ms >= want.until_ms]:
            self._end(sequence, now_ms, good=False)
        self._ask(now_ms)

    def _ask(self, now_ms: int) -> None:
        due = [
            seq
            for seq, want in self._wants.items()
            if not want.writing and now_ms >= want.asked_ms + RESEND_MS
        ]
        if not due:
            return
        due = due[:RECORDS_MAX_COUNT]
        for sequence in due:
            self._wants[sequence].asked_ms = now_ms
        self._number += 1
        self._send(encode(Fetch(self._session, self._number, tuple(due))))

    def _end(self, sequence: int, now_ms: int, *, good: bool) -> None:
        want = self._wants.pop(sequence, None)
        if want is None:
            return
        if good:
            self.mended_count += 1
        else:
            self.vain_count += 1
            self._vain[sequence] = now_ms + REST_MS
        for done in want.waiting:
            done(good)

    def on_fetch(self, message: Fetch) -> None:
        """Send what is whole here, as much as fits into one message; what is missing is asked for again."""
        found: list[Record] = []
        size = 0
        for sequence in message.sequences[:RECORDS_MAX_COUNT]:
            record = self._host.record_at(sequence)
            if record is not None:
                found.append(record)
                size += sum(map(len, record.body))
            if size > ANSWER_MAX_BYTES:
                break
        self.lent_count += len(found)
        rows = tuple(map(row_of, found))
        answer = Fetched(self._session, message.session, message.number, rows)
        self._send(encode(answer, [part for record in found for part in record.body]))

    def on_fetched(self, message: Fetched, frames: Sequence[bytes], now_ms: int) -> None:
        """Write what was asked for where it belongs. PeerError if it was damaged on its way."""
        if message.to_session != self._session:
            return
        for record in records_of(message.rows, frames):
            want = self._wants.get(record.sequence)
            if want is None or want.writing:
                continue
            want.writing = True
            sequence = record.sequence
            if not self._host.mend(record, partial(self._end, sequence, now_ms, good=True)):
                self._end(sequence, now_ms, good=False)
