"""One node of a pair, all but its IO: the table of :mod:`core.pure.pair`, beats, replication, the gate.

What arrives goes in by ``on_message``, ``on_vote``, ``on_tick``, ``on_durable``, ``stored``; what is to be done
goes out through :class:`TwinHost`. Call :meth:`on_tick` at least every heartbeat.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec

from core.errors import PeerError
from core.pure import pair, peer
from core.pure.merging import Merger, may_hold_acknowledged
from core.pure.pair import ACKNOWLEDGES, ACTIVE, Action, Event, State
from core.pure.peer import Beat, Message, Record
from core.pure.replication import Host, Receiver, Replica, Sender
from core.pure.watch import Times, Watch

OUTDATED: Final = 2
PEER_OUTDATED: Final = 4
LAST_ACTIVE: Final = 8
PAIR_NEW: Final = 16
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


class TwinHost(Host, Protocol):
    """What a twin asks of the shell around it."""

    def send(self, frames: list[bytes]) -> None:
        """To the peer; it may get lost."""
        ...

    def store(self, token: int, *, epoch: int, set_flags: int, clear_flags: int) -> None:
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

    def halt(self, why: str) -> None:
        """End the process with an error."""
        ...


class Twin:
    """A node of a pair. ``replica`` gives the journal of now: it is another one once a log was set aside."""

    def __init__(
        self, replica: Callable[[], Replica], host: TwinHost, options: TwinOptions, *,
        session: int, epoch: int, flags: int, now_ms: int,
    ) -> None:  # fmt: skip
        self._replica = replica
        self._host = host
        self._options = options
        self._times = times = options.times
        self.state = State.WAITING
        self.epoch = epoch
        self.outdated = bool(flags & OUTDATED)
        self.why = "waits for its peer"
        self.watch = Watch(times, session, now_ms)
        self.receiver = Receiver(replica, session, host, host.send)
        self.receiver.merge_first = self._merge_first
        self.sender: Sender | None = None
        self.peer: Beat | None = None
        self.held: deque[tuple[int, object]] = deque()
        self.held_dropped_count = 0
        self.changes: deque[tuple[int, str, str, str, int]] = deque(maxlen=HISTORY_COUNT)
        self.counters: dict[str, int] = dict.fromkeys(
            ("pair_changes", "pair_takeovers", "pair_pauses", "pair_diverged", "pair_messages_invalid"), 0
        )
        self._sealed = bool(flags & PEER_OUTDATED)
        self._new = bool(flags & PAIR_NEW)
        self._proven = self._sealed or (self._new and not options.backup)
        self._grace_ms = now_ms + times.failover_ms
        self._highest = epoch
        self._token = self._awaited = 0
        self._ticked_ms = self._woke_ms = now_ms
        self._beat_ms = now_ms - times.heartbeat_ms
        self._lease_ms = self._taken_ms = self._handing_ms = self._offered_ms = 0
        self._counts = (0, 0)
        self._confirmed = False
        self._offer: tuple[int, int] | None = None  # follow, sequence
        self._counted_from = 0
        self._yields_to = 0
        self._merger: Merger | None = None
        self._dirty = True
        self._handlers: dict[type[Message], Callable[..., None]] = {
            peer.Beat: self._on_beat,
            peer.Follow: self._on_follow,
            peer.Start: self._on_start,
            peer.Want: self._on_want,
            peer.Ack: self._on_ack,
            peer.Offer: self._on_offer,
            peer.Confirm: self._on_confirm,
            peer.Merge: self._on_merge,
            peer.Merged: self._on_merged,
            peer.Goodbye: self._on_goodbye,
        }

    # -- what others may know

    @property
    def active(self) -> bool:
        """Whether this node serves clients and workers."""
        return self.state in ACTIVE

    @property
    def lag_count(self) -> int:
        """Records that are here and not known to be durable at the follower; -1 without one."""
        sender = self.sender
        return self._replica().last_seq - sender.acked_seq if sender is not None and self._counts[0] else -1

    # -- inputs

    def on_tick(self, now_ms: int) -> None:
        """Let time pass; beat."""
        self._advance(now_ms)
        if self.sender is not None:
            self.sender.on_tick(now_ms)
            self._try_admit(now_ms)
        self.receiver.on_tick(now_ms)
        if self._merger is not None:
            self._merger.on_tick(now_ms)
        self._release(now_ms)
        if self._dirty or now_ms - self._beat_ms >= self._times.heartbeat_ms:
            self._beat(now_ms)

    def on_message(self, frames: Sequence[bytes], now_ms: int) -> None:
        """Something of the peer. What is no message of a pair is counted and dropped."""
        self._advance(now_ms)
        try:
            message = peer.decode(frames)
            if isinstance(message, peer.Ship):
                self._on_ship(message, frames, now_ms)
            else:
                self._current_frames = frames
                self._handlers[type(message)](message, now_ms)
        except (PeerError, ValueError):
            self.counters["pair_messages_invalid"] += 1
        self._release(now_ms)
        if self._dirty:
            self._beat(now_ms)

    def on_vote(self, epoch: int, now_ms: int) -> None:
        """A client asks, and the highest epoch it ever met is ``epoch`` (0: it knows none)."""
        self._advance(now_ms)
        if self.state is State.STOPPED:
            return
        if epoch > self.epoch:
            self._highest = max(self._highest, epoch)
            self._fire(Event.NEWER, now_ms)
        elif self.state is not State.WINDOW or now_ms >= self.watch.opens_ms():
            self._fire(Event.VOTE, now_ms)
        if self._dirty:
            self._beat(now_ms)

    def on_durable(self, now_ms: int) -> None:
        """The journal synced something, or took records in: ship, acknowledge, let answers go."""
        self._advance(now_ms)
        if self.sender is not None:
            self.sender.pump(now_ms)
        self.receiver.acknowledge()
        self._try_enter(now_ms)
        self._release(now_ms)

    def flush(self, now_ms: int) -> None:
        """Records were appended: ship them side by side with the local sync."""
        if self.sender is not None:
            self.sender.pump(now_ms)

    def stored(self, token: int, now_ms: int) -> None:
        """The superblock asked for with this token is synced."""
        self._advance(now_ms)
        if token and token == self._awaited:
            self._awaited = 0
            self._fire(Event.STORED, now_ms)
            self._release(now_ms)
        if self._dirty:
            self._beat(now_ms)

    def on_refused(self, now_ms: int) -> None:
        """The peer's machine says that nobody listens on its port."""
        self._advance(now_ms)
        if self.state is State.WAITING and self._proven and not self.watch.met():
            self._fire(Event.PROVEN, now_ms)
        elif self.state in (State.PAIRED, State.HANDING) and now_ms < self._lease_ms:
            self._fire(Event.PEER_GONE if self._options.serve_alone else Event.REFUSE, now_ms)

    def command(self, event: Event, now_ms: int) -> bool:
        """HANDOVER or PROMOTE of the operator, or STUCK; False if it cannot be done in this state."""
        self._advance(now_ms)
        if (self.state, event) not in pair.TABLE:
            return False
        self._fire(event, now_ms)
        if self._dirty:
            self._beat(now_ms)
        return True

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

    # -- time

    def _advance(self, now_ms: int) -> None:
        gap_ms, self._ticked_ms = now_ms - self._ticked_ms, now_ms
        if gap_ms > self._times.pause_ms:
            self._woke_ms = now_ms
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

    # -- the table

    def _fire(self, event: Event, now_ms: int) -> None:
        before = self.state
        after, actions = pair.step(before, event)
        if after is not before:
            self._changed(before, after, event, now_ms)
        for action in actions:
            self._perform(action, now_ms)

    def _changed(self, before: State, after: State, event: Event, now_ms: int) -> None:
        self.state = after
        self._awaited = 0
        self._dirty = True
        self.why = event.value
        self.counters["pair_changes"] += 1
        self.changes.append((now_ms, before.value, event.value, after.value, self.epoch))
        self._host.tell(event.value, f"{before.value} -> {after.value}: {event.value}, epoch {self.epoch}")
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
        if after not in LEASEHOLD:
            self._counts = (0, 0)

    def _perform(self, action: Action, now_ms: int) -> None:
        if action in (Action.CLAIM, Action.CONDEMN):
            self._claim(PEER_OUTDATED if action is Action.CONDEMN else 0)
        elif action is Action.SEAL:
            self._sealed = True
            self._store(0, set_flags=PEER_OUTDATED)
        elif action is Action.PARDON:
            self._sealed = self._proven = False
            self._awaited = self._store(0, clear_flags=PEER_OUTDATED)
        elif action is Action.CONFESS:
            self.outdated = True
            self._proven = self._sealed = self._new = False
            self._store(0, set_flags=OUTDATED, clear_flags=PEER_OUTDATED | LAST_ACTIVE | PAIR_NEW)
        elif action is Action.CLEAR:
            self._awaited = self._store(0, clear_flags=OUTDATED)
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
            self.outdated = False
            self._host.send(peer.encode(peer.Confirm(self.watch.session, self.receiver.follow)))
        else:
            self._host.halt(self.why)

    def _claim(self, flags: int) -> None:
        """A new epoch: the primary's are even, the backup's odd, so that the two never claim the same one."""
        epoch = max(self.epoch, self._highest) + 1
        self.epoch = epoch + (epoch + self._options.backup) % 2
        self._highest = self.epoch
        self.outdated = self._new = False
        self._proven = self._sealed = bool(flags & PEER_OUTDATED)
        self._awaited = self._store(
            self.epoch,
            set_flags=LAST_ACTIVE | flags,
            clear_flags=OUTDATED | PAIR_NEW | (PEER_OUTDATED & ~flags),
        )
        if self.sender is not None:
            self.sender = Sender(self._replica(), self.watch.session, self.epoch, self._host.send)

    def _store(self, epoch: int, *, set_flags: int = 0, clear_flags: int = 0) -> int:
        self._token += 1
        self._host.store(self._token, epoch=epoch, set_flags=set_flags, clear_flags=clear_flags)
        return self._token

    # -- beats

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
                    nodes=self._options.nodes,
                )
            )
        )

    def _on_beat(self, beat: Beat, now_ms: int) -> None:
        theirs = State(beat.state)
        if beat.session == self.watch.session:
            return
        if beat.backup == self._options.backup:
            self._same_role("backup" if beat.backup else "primary")
            return
        self._highest = max(self._highest, beat.epoch)
        fresh = self.watch.receive(beat, now_ms)
        if self.state is State.STOPPED:
            return
        if not fresh:
            if theirs in ACTIVE and self.active and beat.epoch > self.epoch:
                self.peer = beat
                self._fire(Event.PEER_ACTIVE, now_ms)
            return
        known, self.peer = self.peer, beat
        if known is None or known.session != beat.session:
            self._dirty = True
        if theirs in ACTIVE:
            self._met_active(beat, now_ms)
        elif self.active:
            self._met_passive(beat, theirs, now_ms)
        else:
            self._met_equal(beat, theirs, now_ms)

    def _same_role(self, role: str) -> None:
        """Two primaries are a mistake of configuration; one that serves is not ended by it."""
        self.counters["pair_messages_invalid"] += 1
        if not self.active and self.state is not State.STOPPED:
            self.why = f"both nodes are configured as {role}"
            self._host.tell("same-role", self.why)
            self.state = State.STOPPED
            self._host.halt(self.why)

    def _met_active(self, beat: Beat, now_ms: int) -> None:
        if beat.epoch < self.epoch:
            self._fire(Event.PEER_STALE, now_ms)
            return
        following = self.state in (State.JOINING, State.ENTERING, State.PASSIVE, State.WINDOW)
        self._fire(Event.PEER_ACTIVE, now_ms)
        counted = (beat.counts, beat.counts_follow) == (self.watch.session, self.receiver.follow)
        if not following:
            return
        if (beat.session, beat.epoch) != (self.receiver.leader, self.receiver.epoch):
            if self.state is State.JOINING:
                self._offer = None
                self.receiver.begin(beat.session, beat.epoch, now_ms)
            else:
                self._fire(Event.LEFT_BEHIND, now_ms)
        elif self.state is not State.JOINING and not counted and beat.number > self._counted_from:
            self._fire(Event.LEFT_BEHIND, now_ms)

    def _met_passive(self, beat: Beat, theirs: State, now_ms: int) -> None:
        claims = theirs in (State.CLAIMING, State.LEADING)
        if beat.epoch > self.epoch and not claims and self.state in (State.TAKEN, State.ALONE):
            self._fire(Event.PEER_AHEAD, now_ms)
            return
        if self.sender is not None and self.sender.follower not in (0, beat.session):
            self.sender = Sender(self._replica(), self.watch.session, self.epoch, self._host.send)
            self._fire(Event.FOLLOWER_LOST, now_ms)
        if self.state not in LEASEHOLD or self._counts[0] == 0:
            return
        if claims:
            return
        same = (beat.session, beat.follow) == self._counts
        if not same or theirs not in STILL_IN_SYNC or (self._confirmed and theirs is State.JOINING):
            self._fire(Event.PEER_OUT if self._options.serve_alone else Event.REFUSE, now_ms)
            return
        self._lease_ms = self.watch.lease_ms()
        if now_ms < self._lease_ms and self.state in (State.SUSPENDED, State.CANVASS, State.REFUSING):
            self._fire(Event.LEASE_BACK, now_ms)

    def _met_equal(self, beat: Beat, theirs: State, now_ms: int) -> None:
        """Neither is active: the further log leads, once the other promised not to (P5)."""
        if beat.yields_to == self.watch.session:
            self._fire(Event.PEER_YIELDS, now_ms)
        elif self.state is State.YIELDING and beat.session == self._yields_to:
            return  # a promise is kept; what that beat says may be older than it
        elif theirs is not State.YIELDING:
            replica = self._replica()
            epochs = replica.epochs()
            mine = (not self.outdated, epochs[-1][0] if epochs else 0, replica.last_seq)
            other = (not beat.outdated, beat.last_epoch, beat.last_seq)
            better = other > mine or (other == mine and self._options.backup)
            if better and self._sealed:
                return  # what this node acknowledged alone is here only: it leads, or nobody does
            self._fire(Event.PEER_BETTER if better else Event.PEER_WORSE, now_ms)
            if self.state is State.YIELDING and self._yields_to != beat.session:
                self._yields_to, self._dirty = beat.session, True

    def _on_goodbye(self, message: peer.Goodbye, now_ms: int) -> None:
        if self.state in (State.PAIRED, State.HANDING) and message.session == self._counts[0]:
            self._fire(Event.PEER_GONE if self._options.serve_alone else Event.REFUSE, now_ms)

    # -- as active

    def _on_follow(self, message: peer.Follow, now_ms: int) -> None:
        if self.sender is not None and self.state is not State.CONDEMNING:
            if self._counts[0] and (message.session, message.follow) != self._counts:
                return  # its beat says first that it is out
            self.sender.on_follow(message, now_ms)

    def _on_want(self, message: peer.Want, now_ms: int) -> None:
        if self.sender is not None:
            self.sender.on_want(message, now_ms)

    def _on_ack(self, message: peer.Ack, now_ms: int) -> None:
        if self.sender is not None:
            self.sender.on_ack(message, now_ms)
            self._try_admit(now_ms)

    def _try_admit(self, now_ms: int) -> None:
        sender, beat = self.sender, self.peer
        if sender is None or beat is None or not sender.caught_up():
            return
        if self.state in (State.TAKEN, State.ALONE, State.REFUSING):
            if beat.state == State.JOINING.value and (beat.session, beat.follow) == (
                sender.follower, sender.follow,
            ):  # fmt: skip
                self._fire(Event.CAUGHT_UP, now_ms)
        elif (
            self.state is State.PAIRED and not self._confirmed and now_ms >= self._offered_ms + OFFER_EVERY_MS
        ):
            self._fire(Event.CAUGHT_UP, now_ms)

    def _send_offer(self, now_ms: int) -> None:
        assert self.sender is not None, "an offer is made to a follower"
        if self._counts == (0, 0):
            self._counts = (self.sender.follower, self.sender.follow)
            self._confirmed = False
            self._lease_ms = self.watch.lease_ms()
            self._dirty = True
        self._offered_ms = now_ms
        self.sender.offer(self._replica().last_seq, self.watch.number)

    def _on_confirm(self, message: peer.Confirm, now_ms: int) -> None:
        del now_ms
        if (message.session, message.follow) == self._counts:
            self._confirmed = True

    def _on_merge(self, message: peer.Merge, now_ms: int) -> None:
        """Take in what a split left at the other side; the same part again is only confirmed again."""
        del now_ms
        sender = self.sender
        if sender is None or (message.session, message.follow) != (sender.follower, sender.follow):
            return
        done = peer.Merged(self.watch.session, message.session, message.follow, message.number)
        records = peer.records_of(message.rows, self._current_frames)
        self._host.merge(records, message.common, done=lambda: self._host.send(peer.encode(done)))

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

    # -- as follower

    def _on_start(self, message: peer.Start, now_ms: int) -> None:
        if self.state is State.JOINING:
            self.receiver.on_start(message, now_ms)

    def _on_ship(self, message: peer.Ship, frames: Sequence[bytes], now_ms: int) -> None:
        if self.state not in (State.JOINING, State.ENTERING, State.PASSIVE, State.WINDOW):
            return
        if not self.receiver.on_ship(message, frames, now_ms):
            self.counters["pair_diverged"] += 1
            self._host.tell("diverged", "the digests of the live jobs differ: a full copy follows")
            if self.state is not State.JOINING:
                self._fire(Event.LEFT_BEHIND, now_ms)
            self.receiver.begin(message.session, message.epoch, now_ms, full=True)
            self._dirty = True
        self.epoch = max(self.epoch, message.epoch)
        self._highest = max(self._highest, self.epoch)
        self._try_enter(now_ms)

    def _on_offer(self, message: peer.Offer, now_ms: int) -> None:
        mine = (self.receiver.leader, self.watch.session, self.receiver.follow, self.receiver.epoch)
        if (message.session, message.to_session, message.follow, message.epoch) != mine:
            return
        if self.state is State.JOINING:
            self._offer = (message.follow, message.seq)
            self._counted_from = message.number
            self._try_enter(now_ms)
        elif self.state in (State.PASSIVE, State.WINDOW):
            self._fire(Event.OFFERED, now_ms)

    def _try_enter(self, now_ms: int) -> None:
        if self.state is not State.JOINING or self._offer is None:
            return
        follow, seq = self._offer
        if follow == self.receiver.follow and self._replica().durable_seq >= seq:
            self._fire(Event.OFFERED, now_ms)

    def _merge_first(self, start: peer.Start) -> bool:
        """Whether records must reach the active before this node forgets them (P7)."""
        replica = self._replica()
        if not may_hold_acknowledged(replica, start, sync=self._options.sync):
            return False
        if self._merger is None or self._merger.start.follow != start.follow:
            self._merger = Merger(replica, start, self.watch.session, self._host.send)
        return not self._merger.done

    def _on_merged(self, message: peer.Merged, now_ms: int) -> None:
        merger = self._merger
        if merger is not None and merger.on_merged(message) and self.state is State.JOINING:
            self._host.tell("merged", f"{merger.sent_count} records of an earlier split are with the active")
            self.receiver.on_start(merger.start, now_ms)
