"""What a node of a pair is between two messages: state, clocks, the table at work, beats, the gate."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec

from core.pure import pair, peer
from core.pure.mending import Mended, Mending
from core.pure.merging import Merger
from core.pure.pair import ACKNOWLEDGES, ACTIVE, Action, Event, State
from core.pure.peer import Beat, Record
from core.pure.replication import Host, Receiver, Replica, Sender
from core.pure.watch import Times, Watch

OUTDATED: Final = 2
PEER_OUTDATED: Final = 4
LAST_ACTIVE: Final = 8
PAIR_NEW: Final = 16
UNSHARED: Final = 32
HOLED: Final = 64
"""Flags of the superblock; the numbers are the file format's."""

OFFER_EVERY_MS: Final = 500
HELD_MAX_COUNT: Final = 100_000
HISTORY_COUNT: Final = 100
STILL_IN_SYNC: Final = frozenset((State.PASSIVE, State.WINDOW, State.ENTERING, State.JOINING))
UNBOUND: Final = ACKNOWLEDGES - {State.PAIRED, State.HANDING}
"""Answers as soon as its own disk has it."""
HEARS: Final = frozenset((State.PASSIVE, State.ENTERING, State.JOINING, State.YIELDING))
LEASEHOLD: Final = frozenset((State.PAIRED, State.HANDING, State.SUSPENDED, State.CANVASS, State.REFUSING))


class TwinOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What one node of a pair is told by its operator."""

    backup: bool = False
    sync: bool = True  # an answer waits for both disks; else for the own one
    serve_alone: bool = True
    lag_max_count: int = 100_000  # records the peer may be behind in `local` mode
    times: Times = Times()
    nodes: str = ""


class TwinHost(Host, Mended, Protocol):
    """What a twin asks of the shell around it."""

    def wounds(self, *, hopeful: bool) -> list[int]:
        """Sequences of the damaged records that are known; ``hopeful``: the peer may have them whole."""
        ...

    def send(self, frames: list[bytes]) -> None:
        """To the peer; it may get lost."""
        ...

    def store(self, token: int, *, epoch: int, set_flags: int, clear_flags: int, peer_seq: int) -> None:
        """Into the superblock (epoch 0: as it is); :meth:`Twin.stored` with the token once it is synced."""
        ...

    def serve(self) -> None:
        """Answer clients and workers, from the jobs in the journal; first a record of the new epoch."""
        ...

    def retire(self) -> None:
        """Stop that, and forget what only this process knows: the journal's index is as on disk again."""
        ...

    def deliver(self, answer: object) -> None:
        """Let this answer go to its client."""
        ...

    def merge(self, records: Sequence[Record], common: int, *, done: Callable[[], None]) -> None:
        """Take the other side's records in (P7); ``done`` once that is durable."""
        ...

    def tell(self, event: str, text: str) -> None:
        """One line for the operator."""
        ...

    def changed(self, before: State, event: Event, after: State) -> None:
        """The state is another one; the actions of the step follow."""
        ...

    def halt(self, why: str) -> None:
        """End the process with an error."""
        ...


class TwinCore:
    """State and steps of a :class:`core.pure.twin.Twin`, which adds what the messages of the peer mean."""

    def __init__(
        self, replica: Callable[[], Replica], host: TwinHost, options: TwinOptions, *,
        session: int, epoch: int, flags: int, peer_seq: int, now_ms: int,
    ) -> None:  # fmt: skip
        self._replica = replica
        self._host = host
        self._options = options
        self._times = times = options.times
        self.state = State.WAITING
        self.epoch = epoch
        self.outdated = bool(flags & OUTDATED)
        self._holed = bool(flags & HOLED)  # acknowledged records are missing here, and only here
        self.why = "records are damaged here: waits for its peer" if self._holed else "waits for its peer"
        self.watch = Watch(times, session, now_ms)
        self.receiver = Receiver(replica, session, host, host.send)
        self.mending = Mending(host, session, host.send)
        self.sender: Sender | None = None
        self.peer: Beat | None = None
        self.held: deque[tuple[int, object]] = deque()
        self.held_dropped_count = 0
        self.changes: deque[tuple[int, str, str, str, int]] = deque(maxlen=HISTORY_COUNT)
        self.counters: dict[str, int] = dict.fromkeys(
            ("pair_changes", "pair_takeovers", "pair_pauses", "pair_diverged", "pair_messages_invalid"), 0
        )
        self.causes: dict[str, int] = {}  # changes of state, by event
        self.nodes = options.nodes  # where clients find this node; every beat says it
        self._sealed = bool(flags & PEER_OUTDATED)
        self._new = bool(flags & PAIR_NEW)
        self._unshared = bool(flags & UNSHARED)
        self._shared_seq = peer_seq  # what is behind it may have been acknowledged here only
        self._proven = self._sealed or (self._new and not options.backup)
        self._grace_ms = now_ms + times.failover_ms
        self._highest = epoch
        self._token = self._awaited = 0
        self._ticked_ms = self._woke_ms = now_ms
        self._beat_ms = now_ms - times.heartbeat_ms
        self._synced_ms, self._sync_count = now_ms, -1
        self._lease_ms = self._taken_ms = self._handing_ms = self._offered_ms = 0
        self._counts = (0, 0)
        self._confirmed = False
        self._offer: tuple[int, int] | None = None  # follow, sequence
        self._counted_from = 0
        self._yields_to = 0
        self._merger: Merger | None = None
        self._dirty = True

    @property
    def active(self) -> bool:
        """Whether this node serves clients and workers."""
        return self.state in ACTIVE

    @property
    def is_backup(self) -> bool:
        """Whether this is the backup, not the primary."""
        return self._options.backup

    @property
    def shares(self) -> bool:
        """Whether an answer leaves only when both disks have what it says (P2)."""
        return self._options.sync and self.state in (State.PAIRED, State.HANDING)

    @property
    def is_holed(self) -> bool:
        """Whether acknowledged records are damaged here, so that this node must follow before it may lead."""
        return self._holed

    @property
    def lag_count(self) -> int:
        """Records that are here and not known to be durable at the follower; -1 without one."""
        sender = self.sender
        return self._replica().last_seq - sender.acked_seq if sender is not None and self._counts[0] else -1

    def answer(self, answer: object, now_ms: int) -> None:
        """Let it go as soon as it is true on both disks (sync) and this node may speak (P4, P8)."""
        self._advance(now_ms)
        if self.state in UNBOUND and not self.held:
            self._host.deliver(answer)
            return
        self.held.append((self._replica().durable_seq, answer))
        if len(self.held) > HELD_MAX_COUNT:
            self.held.popleft()
            self.held_dropped_count += 1
        self._release(now_ms)

    def _advance(self, now_ms: int) -> None:
        gap_ms, self._ticked_ms = now_ms - self._ticked_ms, now_ms
        if gap_ms > self._times.pause_ms:
            self._woke_ms = self._synced_ms = now_ms  # the disk slept as well
            self.counters["pair_pauses"] += 1
            if self.state is not State.STOPPED:
                self._fire(Event.PAUSED, now_ms)
        watch = self.watch
        if self.state in HEARS and now_ms >= watch.opens_ms():
            self._fire(Event.SILENCE, now_ms)
        if self.state in (State.WINDOW, State.CLAIMING) and now_ms >= watch.closes_ms():
            self._fire(Event.WINDOW_ENDS, now_ms)
        elif self.state is State.WAITING and self._proven and now_ms >= self._grace_ms:
            self._fire(Event.PROVEN, now_ms)
        elif self.state is State.TAKEN and now_ms >= self._taken_ms + self._times.settle_ms:
            self._fire(Event.SETTLED, now_ms)
        elif self.state in (State.PAIRED, State.HANDING) and now_ms >= self._lease_ms:
            self._fire(Event.LEASE_ENDS, now_ms)
        elif self.state is State.HANDING:
            self._handing(now_ms)
        if self.state is State.SUSPENDED and now_ms >= self._wait_over_ms():
            self._fire(Event.WAIT_ENDS if self._options.serve_alone else Event.REFUSE, now_ms)

    def _watch_disk(self, now_ms: int) -> None:
        """A sync that does not come back ends the node: its peer can go on, this one cannot (P8)."""
        replica = self._replica()
        count = replica.sync_count
        if count != self._sync_count or not replica.syncing:
            self._sync_count, self._synced_ms = count, now_ms
        elif now_ms - self._synced_ms > self._times.stuck_ms and self.state is not State.STOPPED:
            self._fire(Event.STUCK, now_ms)

    def _wait_over_ms(self) -> int:
        canvass_ms = self._woke_ms + self._times.margin_ms
        return max(self.watch.over_ms(), canvass_ms) if self._counts[0] else canvass_ms

    def _handing(self, now_ms: int) -> None:
        replica = self._replica()
        assert self.sender is not None, "whoever hands over has a follower"
        if not self.held and self.sender.acked_seq == replica.last_seq == replica.durable_seq:
            self._fire(Event.DRAINED, now_ms)
        elif now_ms >= self._handing_ms + self._times.handover_ms:
            self._fire(Event.GIVE_UP, now_ms)

    def _fire(self, event: Event, now_ms: int) -> None:
        before = self.state
        after, actions = pair.step(before, event)
        if after is not before:
            self._changed(before, after, event, now_ms)
        for action in actions:
            self._perform(action, now_ms)
        if self.state not in LEASEHOLD:
            self._counts = (0, 0)

    def _changed(self, before: State, after: State, event: Event, now_ms: int) -> None:
        self.state = after
        self._awaited = 0
        self._dirty = True
        self.why = event.value
        self.counters["pair_changes"] += 1
        self.causes[event.value] = self.causes.get(event.value, 0) + 1
        self.changes.append((now_ms, before.value, event.value, after.value, self.epoch))
        self._host.changed(before, event, after)
        if after is not State.JOINING and after is not State.ENTERING and after not in pair.IN_SYNC:
            self.receiver.stop()
            self._merger = None
        if after is State.YIELDING:
            self._yields_to = self.watch.peer_session
            if self._new:
                self._new = self._proven = False
                self._store(0, clear_flags=PAIR_NEW)
        elif after is State.TAKEN:
            self._taken_ms = now_ms
            self.counters["pair_takeovers"] += 1
        elif after is State.HANDING:
            self._handing_ms = now_ms
        if after is not State.YIELDING:
            self._yields_to = 0

    def _perform(self, action: Action, now_ms: int) -> None:
        if action in (Action.CLAIM, Action.CONDEMN):
            self._claim(PEER_OUTDATED if action is Action.CONDEMN else 0)
        elif action is Action.SEAL:
            self._sealed = True
            self._store(0, set_flags=PEER_OUTDATED)
        elif action is Action.PARDON:
            assert self.sender is not None, "a follower is admitted"
            self._sealed = self._proven = False
            self._shared_seq = self.sender.acked_seq  # UNSHARED stays until the follower has the rest
            self._awaited = self._store(0, clear_flags=PEER_OUTDATED)
        elif action is Action.CONFESS:
            self.outdated = True
            self._proven = self._sealed = self._new = False
            self._store(0, set_flags=OUTDATED, clear_flags=PEER_OUTDATED | LAST_ACTIVE | PAIR_NEW)
        elif action is Action.CLEAR:
            self._unshared = False
            self._awaited = self._store(0, clear_flags=OUTDATED | UNSHARED | HOLED)
        elif action is Action.SERVE:
            self.sender = Sender(self._replica(), self.watch.session, self.epoch, self._host.send)
            self._host.serve()
        elif action is Action.RETIRE:
            self.sender = None
            self.held.clear()
            self._host.retire()
        elif action is Action.FOLLOW:
            assert self.peer is not None, "somebody is followed"
            self._offer = None
            self.receiver.begin(self.peer.session, self.peer.epoch, now_ms)
        elif action is Action.OFFER:
            self._send_offer(now_ms)
        elif action is Action.CONFIRM:
            self.outdated = self._holed = False
            self._host.send(peer.encode(peer.Confirm(self.watch.session, self.receiver.follow)))
        else:
            assert action is Action.HALT, "every action is performed"
            self.why = f"the disk does not sync: nothing came back for {self._times.stuck_ms} ms"
            self._host.halt(self.why)

    def _claim(self, flags: int) -> None:
        """A new epoch: the primary's are even, the backup's odd, so that the two never claim the same one."""
        epoch = max(self.epoch, self._highest) + 1
        self.epoch = epoch + (epoch + self._options.backup) % 2
        self._highest = self.epoch
        if self.sender is not None and self._counts[0]:
            self._shared_seq = self.sender.acked_seq
        elif not self._unshared:
            self._shared_seq = 0 if self._new else self._replica().last_seq
        self._unshared = True
        self.outdated = self._new = self._holed = False
        self._proven = self._sealed = bool(flags & PEER_OUTDATED)
        self._awaited = self._store(
            self.epoch,
            set_flags=LAST_ACTIVE | UNSHARED | flags,
            clear_flags=OUTDATED | PAIR_NEW | HOLED | (PEER_OUTDATED & ~flags),
        )
        if self.sender is not None:
            self.sender = Sender(self._replica(), self.watch.session, self.epoch, self._host.send)

    def _store(self, epoch: int, *, set_flags: int = 0, clear_flags: int = 0) -> int:
        self._token += 1
        self._host.store(
            self._token,
            epoch=epoch,
            set_flags=set_flags,
            clear_flags=clear_flags,
            peer_seq=self._shared_seq if self._unshared else 0,
        )
        return self._token

    def _beat(self, now_ms: int) -> None:
        self._dirty = False
        self._beat_ms = now_ms
        watch, replica = self.watch, self._replica()
        epochs = replica.epochs()
        self._host.send(
            peer.encode(
                Beat(
                    watch.session,
                    watch.next_number(now_ms),
                    watch.echo_session,
                    watch.echo_number,
                    self.state.value,
                    self.epoch,
                    epochs[-1][0] if epochs else 0,
                    replica.last_seq,
                    self.outdated,
                    follow=self.receiver.follow,
                    counts=self._counts[0],
                    counts_follow=self._counts[1],
                    backup=self._options.backup,
                    yields_to=self._yields_to,
                    nodes=self.nodes,
                )
            )
        )

    def _send_offer(self, now_ms: int) -> None:
        assert self.sender is not None, "an offer is made to a follower"
        if self._counts == (0, 0):
            self._counts = (self.sender.follower, self.sender.follow)
            self._confirmed = False
            self._lease_ms = self.watch.lease_ms()
            self._dirty = True
        self._offered_ms = now_ms
        self.sender.offer(self._replica().last_seq, self.watch.number)

    def _release(self, now_ms: int) -> None:
        """Let answers go whose records are where they must be (P2, P8)."""
        if not self.held or self.state not in ACKNOWLEDGES:
            return
        limit = self._replica().last_seq
        if self.state in (State.PAIRED, State.HANDING):
            assert self.sender is not None, "a pair has a follower"
            if now_ms >= self._lease_ms:
                return
            if self._options.sync or limit - self.sender.acked_seq > self._options.lag_max_count:
                limit = self.sender.acked_seq
        held, deliver = self.held, self._host.deliver
        while held and held[0][0] <= limit:
            deliver(held.popleft()[1])
