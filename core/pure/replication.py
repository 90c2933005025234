"""The journal on two disks: :class:`Sender` on the active node, :class:`Receiver` on the passive. P2, P6.

Both are told what arrives and what time it is; what they say leaves through ``send``. The one promise there
is, "durable at the peer up to here", is :attr:`Sender.acked_seq`, and nothing else may release an answer.

Two logs that both have a record with the same epoch and sequence agree up to there: an epoch has one writer,
and whoever copies its records copies them in order. So the last common record follows from the lists of
epochs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol

from core.errors import CoreError, DamagedRecordError, PeerError
from core.pure.epochs import epoch_at, last_common
from core.pure.pacing import CLOSE_ENOUGH, Pace
from core.pure.peer import (
    RECORDS_MAX_COUNT,
    Ack,
    Crowd,
    Follow,
    Offer,
    Part,
    Record,
    Row,
    Ship,
    Start,
    Want,
    behind,
    encode,
    last_seq_of,
    packed,
    parts_of,
)

Send = Callable[[list[bytes]], None]

SHIP_MAX_BYTES: Final = 1 << 20
FLIGHT_MAX_BYTES: Final = 8 << 20
RESEND_MS: Final = 500
QUIET_MS: Final = 2_000
"""A follower that was sent nothing for so long asks again where it stands."""


class RecordsGoneError(CoreError):
    """The ring has moved on: a follower this far behind needs a full copy."""


class Replica(Protocol):
    """What the pair needs of a journal: its records as they are, and more of them."""

    @property
    def first_seq(self) -> int:
        """The lowest sequence that is still there."""
        ...

    @property
    def last_seq(self) -> int:
        """The sequence of the last record appended."""
        ...

    @property
    def durable_seq(self) -> int:
        """Every record up to here is durable."""
        ...

    @property
    def syncing(self) -> bool:
        """Whether something, a record or a superblock, is on its way to the disk."""
        ...

    @property
    def sync_count(self) -> int:
        """How many syncs have come back."""
        ...

    @property
    def id_secret(self) -> bytes:
        """What the ids of both nodes are made with."""
        ...

    def epochs(self) -> list[tuple[int, int]]:
        """(epoch, first sequence with it) of the records that are there, oldest first."""
        ...

    def records_after(self, seq: int) -> Iterator[Record]:
        """Every record behind ``seq``, lazily. RecordsGoneError."""
        ...

    def without_body(self, seq: int) -> Record:
        """A damaged record as far as it is known, marked as lost. DamagedRecordError if nothing is known."""
        ...

    def parts_after(self, seq: int) -> Iterator[Part]:
        """As :meth:`records_after`; what was appended as one, or could have been, comes as one."""
        ...

    def plain(self, record: Record) -> Record:
        """A relocated job as the record that opened it, with its sequence; any other record as it is."""
        ...

    def append_foreign_all(self, parts: Sequence[Part]) -> None:
        """The next records of the active's log; ``durable_seq`` follows once they are synced."""
        ...

    def live_digest(self) -> bytes:
        """Of all that is alive as of ``last_seq``: equal on both nodes, or one of them is wrong."""
        ...


class Sender:
    """Ships the journal to one follower; a new FOLLOW of it begins anew."""

    def __init__(self, replica: Replica, session: int, epoch: int, send: Send) -> None:
        self._replica = replica
        self._session = session
        self._epoch = epoch
        self._send = send
        self.follower = 0  # its session
        self.follow = 0
        self.received_seq = 0
        self.acked_seq = 0
        self.agreed_seq = -1
        self.streaming = False
        self._cursor = 0  # everything up to here was sent
        self._cursor_epoch = 0
        self._flight: list[tuple[int, int]] = []  # (last sequence, bytes) of what is not received yet
        self._flight_bytes = 0
        self._source: Iterator[Part] | None = None
        self._crowds = False  # whether the follower takes them
        self._pace = Pace()
        self._progress_ms = 0
        self._started = False
        self.lost_count = 0

    def on_follow(self, message: Follow, now_ms: int) -> None:
        """Say where both logs agree, or that the follower must begin with an empty one."""
        if self.streaming and self._is_ours(message.session, message.follow) and not message.full:
            return  # an old question, come late
        replica = self._replica
        ours = replica.epochs()
        common = -1
        if not message.full:
            common = last_common(ours, replica.last_seq, message.epochs, message.last_seq)
        if not message.epochs and message.last_seq == replica.first_seq - 1:
            common = message.last_seq  # an empty log that begins where this one does contradicts nothing
        full = common < replica.first_seq - 1
        if self._is_before(message):
            return
        if (message.session, message.follow) != (self.follower, self.follow):
            self.agreed_seq = -1
            self.received_seq = self.acked_seq = 0
        self.follower, self.follow = message.session, message.follow
        self.streaming = False
        self._started = True
        start = Start(
            self._session,
            message.session,
            message.follow,
            self._epoch,
            replica.first_seq - 1 if full else common,
            replica.first_seq,
            full,
            replica.id_secret,
        )
        self._send(encode(start))
        self._progress_ms = now_ms

    def on_want(self, message: Want, now_ms: int) -> None:
        """Send everything after the sequence the follower names."""
        if not self._is_ours(message.session, message.follow):
            return
        self.streaming = True
        self._crowds = message.crowds
        self._pace.begin(self._replica.last_seq)
        self._rewind(message.seq)
        self._progress_ms = now_ms
        if message.seq == self._replica.last_seq:
            self._send_batch([], [], self._cursor, self._cursor_epoch)
        self.pump(now_ms)

    def on_ack(self, message: Ack, now_ms: int) -> None:
        """The follower has this much; more may follow."""
        if not self._is_ours(message.session, message.follow) or message.epoch != self._epoch:
            return
        if message.received_seq > self.received_seq or message.durable_seq > self.acked_seq:
            self._progress_ms = now_ms
        self.received_seq = max(self.received_seq, message.received_seq)
        self.acked_seq = max(self.acked_seq, message.durable_seq)
        self.agreed_seq = max(self.agreed_seq, message.agreed_seq)
        while self._flight and self._flight[0][0] <= self.received_seq:
            self._flight_bytes -= self._flight.pop(0)[1]
        self.pump(now_ms)

    def _is_before(self, message: Follow) -> bool:
        """Whether the same process has asked again since."""
        return message.session == self.follower and message.follow < self.follow

    def _is_ours(self, session: int, follow: int) -> bool:
        return self._started and (session, follow) == (self.follower, self.follow)

    def _rewind(self, seq: int) -> None:
        self._cursor = seq
        self._cursor_epoch = epoch_at(self._replica.epochs(), seq)
        self._source = None
        self._flight.clear()
        self._flight_bytes = 0

    def pump(self, now_ms: int) -> None:
        """Ship what is there, as far as the follower keeps up; once per turn of the loop is enough."""
        if not self.streaming:
            return
        cursor, last_seq, flying = self._cursor, self._replica.last_seq, bool(self._flight)
        end = cursor + self._pace.due_count(cursor, last_seq, now_ms, flying=flying)
        try:
            while self._cursor < end and self._flight_bytes < FLIGHT_MAX_BYTES:
                self._ship(end - self._cursor)
        except RecordsGoneError:
            self.lost_count += 1
            self.streaming = False
            self.on_follow(Follow(self.follower, self.follow, (), 0, full=True), now_ms)
        except DamagedRecordError:
            self._source = None  # nothing is known of it; the next pump tries again

    def _ship(self, max_count: int) -> None:
        replica = self._replica
        after = replica.parts_after if self._crowds else replica.records_after
        if self._source is None:
            self._source = after(self._cursor)
        rows: list[Row] = []
        bodies: list[bytes] = []
        part: Part | None = None
        size = count = 0
        while size < SHIP_MAX_BYTES and count < min(max_count, RECORDS_MAX_COUNT):
            try:
                found = next(self._source, None)
            except DamagedRecordError:  # who asks for it does not have it: nobody can mend it
                found = replica.without_body((last_seq_of(part) if part is not None else self._cursor) + 1)
                self._source = after(found.sequence)
            if found is None:
                self._source = None
                break
            part = found
            row, body = packed(part)
            rows.append(row)
            bodies += body
            count += len(part.keys) if isinstance(part, Crowd) else 1
            size += 100 + len(row.key) + len(row.meta) + row.body_bytes
        if part is not None:
            seq = last_seq_of(part)
            self._flight.append((seq, size))
            self._flight_bytes += size
            self._send_batch(rows, bodies, seq, part.epoch)

    def _send_batch(self, rows: Sequence[Row], bodies: Sequence[bytes], seq: int, epoch: int) -> None:
        """The records up to ``seq``, if any, and with the last one there is the digest."""
        digest = self._replica.live_digest() if seq == self._replica.last_seq else b""
        ship = Ship(
            self._session,
            self.follower,
            self.follow,
            self._epoch,
            self._cursor,
            self._cursor_epoch,
            tuple(rows),
            digest,
        )
        self._cursor, self._cursor_epoch = seq, epoch
        self._send(encode(ship, bodies))

    def on_tick(self, now_ms: int) -> None:
        """Send again what nobody received for a while."""
        late = self.streaming and now_ms - self._progress_ms >= RESEND_MS
        if late and self.received_seq < self._cursor:
            self._progress_ms = now_ms
            self._rewind(self.received_seq)
        elif late and self.agreed_seq < 0 and self._cursor == self._replica.last_seq:
            self._progress_ms = now_ms
            self._send_batch([], [], self._cursor, self._cursor_epoch)
        self.pump(now_ms)

    def caught_up(self) -> bool:
        """Whether the follower holds all but what is on its way, and both agree on it."""
        behind = self._replica.last_seq - self.acked_seq
        return self.streaming and self.agreed_seq >= 0 and behind <= CLOSE_ENOUGH and self.acked_seq > 0

    def offer(self, seq: int, number: int) -> None:
        """Tell the follower that it counts once it has ``seq``; beats up to ``number`` do not say so yet."""
        self._send(encode(Offer(self._session, self.follower, self.follow, self._epoch, seq, number)))


class Host(Protocol):
    """What a receiver asks of its node: steps that touch files."""

    def cut_after(self, seq: int) -> bool:
        """Set aside and forget every record behind ``seq``; False if that needs a full copy instead."""
        ...

    def begin_again(self, first_seq: int, id_secret: bytes) -> None:
        """Set the whole log aside; an empty one begins at ``first_seq``."""
        ...

    def adopt(self, id_secret: bytes) -> None:
        """Ids are made as the active makes them, durably."""
        ...


class Receiver:
    """Follows the active node's journal. ``session`` is this process's, ``leader`` the active's."""

    def __init__(self, replica: Callable[[], Replica], session: int, host: Host, send: Send) -> None:
        self._replica_of = replica
        self._session = session
        self._host = host
        self._send = send
        self.follow = 0
        self.leader = 0
        self.epoch = 0
        self.agreed_seq = -1
        self.streaming = False
        self.diverged_count = 0
        self.damaged_count = 0
        self.merge_first: Callable[[Start], bool] = lambda start: False
        self._full = False
        self._asked_ms = 0
        self._acked = (0, 0, -1)
        self._moved_ms = 0

    def begin(self, leader: int, epoch: int, now_ms: int, *, full: bool = False) -> None:
        """Follow this active from now on."""
        self.follow += 1
        self.leader, self.epoch = leader, epoch
        self.streaming = False
        self.agreed_seq = -1
        self._full = full
        self._moved_ms = 0
        self._acked = (0, 0, -1)
        self._ask(now_ms)

    def stop(self) -> None:
        """Follow nobody."""
        self.leader = 0
        self.streaming = False

    def _ask(self, now_ms: int) -> None:
        self._asked_ms = now_ms
        replica = self._replica_of()
        self._send(
            encode(
                Follow(self._session, self.follow, tuple(replica.epochs()), replica.last_seq, full=self._full)
            )
        )

    def _is_ours(self, message: Start | Ship) -> bool:
        return (message.session, message.to_session, message.follow, message.epoch) == (
            self.leader,
            self._session,
            self.follow,
            self.epoch,
        )

    def on_start(self, message: Start, now_ms: int) -> None:
        """Cut what the active does not have, or begin again, and ask for the rest."""
        if not self._is_ours(message):
            return
        if message.full and (self.streaming or not self._full):
            # acknowledgements of one log must never count for another: a new log is a new FOLLOW
            self.begin(self.leader, self.epoch, now_ms, full=True)
            return
        if self.streaming or self.merge_first(message):
            return
        replica = self._replica_of()
        if message.full:
            self._host.begin_again(message.first_seq, message.id_secret)
        else:
            if message.common < replica.last_seq and not self._host.cut_after(message.common):
                self._full = True
                self._ask(now_ms)
                return
            if replica.id_secret != message.id_secret:
                self._host.adopt(message.id_secret)
        self._full = False
        self.streaming = True
        self.agreed_seq = -1
        self._want(now_ms)

    def _want(self, now_ms: int) -> None:
        self._asked_ms = now_ms
        self._send(encode(Want(self._session, self.follow, self._replica_of().last_seq, crowds=True)))

    def on_ship(self, message: Ship, frames: Sequence[bytes], now_ms: int) -> bool:
        """Append what continues the log. False if the active and this node disagree about what is alive."""
        if not self._is_ours(message) or not self.streaming:
            return True
        replica = self._replica_of()
        try:
            parts = parts_of(message.rows, frames)
        except PeerError:
            self.damaged_count += 1
            self._want(now_ms)
            return True
        last_seq = replica.last_seq
        ours = epoch_at(replica.epochs(), message.prev_seq)
        if ours and message.prev_epoch and ours != message.prev_epoch and message.prev_seq <= last_seq:
            self.diverged_count += 1  # what it continues is not what is here (P2)
            return False
        if message.prev_seq > last_seq:
            if now_ms - self._asked_ms >= RESEND_MS // 2:
                self._want(now_ms)
            return True
        fresh = behind(parts, last_seq)
        if fresh:
            replica.append_foreign_all(fresh)
            last_seq = last_seq_of(fresh[-1])
        self._moved_ms = now_ms
        if message.digest and (last_seq_of(parts[-1]) if parts else message.prev_seq) == last_seq:
            if replica.live_digest() != message.digest:
                self.diverged_count += 1
                return False
            self.agreed_seq = last_seq
        if not fresh:  # else the sync that is on its way says it all; a slow one is preceded by on_tick
            self.acknowledge()
        return True

    def acknowledge(self) -> None:
        """Say what is new since the last time: received, durable, agreed."""
        if not self.streaming:
            return
        replica = self._replica_of()
        facts = (replica.last_seq, replica.durable_seq, self.agreed_seq)
        if facts != self._acked:
            self._acked = facts
            self._send(encode(Ack(self._session, self.follow, self.epoch, *facts)))

    def on_tick(self, now_ms: int) -> None:
        """Ask again while nothing comes; repeat the last acknowledgement, which may have been lost."""
        if not self.leader:
            return
        if now_ms - self._asked_ms >= RESEND_MS:
            if not self.streaming:
                self._ask(now_ms)
                return
            self._asked_ms = now_ms
            if now_ms - self._moved_ms >= QUIET_MS:
                self._want(now_ms)
            self._acked = (0, 0, -1)
        self.acknowledge()
