"""One node of a pair, all but its IO: the table of :mod:`core.pure.pair`, beats, replication, the gate.

What arrives goes in by ``on_message``, ``on_vote``, ``on_tick``, ``on_durable``, ``stored``; what is to be
done goes out through :class:`TwinHost`. Call :meth:`on_tick` at least every heartbeat.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from core.errors import JournalFullError, PeerError
from core.pure import pair, pair_story, peer
from core.pure.merging import Merger
from core.pure.pair import ACTIVE, IN_SYNC, Event, State
from core.pure.peer import Beat, Message
from core.pure.replication import Replica, Sender
from core.pure.twin_core import (
    LEASEHOLD,
    OFFER_EVERY_MS,
    PEER_OUTDATED,
    STILL_IN_SYNC,
    UNSHARED,
    TwinCore,
    TwinHost,
    TwinOptions,
)

SAME_VERSION: Final = "if that goes on, the two nodes are not of the same version"

__all__ = ["LEASEHOLD", "PEER_OUTDATED", "UNSHARED", "Twin", "TwinHost", "TwinOptions"]


class Twin(TwinCore):
    """A node of a pair. ``replica`` gives the journal of now: it is another one once a log was set aside."""

    def __init__(
        self, replica: Callable[[], Replica], host: TwinHost, options: TwinOptions, *,
        session: int, epoch: int, flags: int, peer_seq: int, now_ms: int,
    ) -> None:  # fmt: skip
        super().__init__(
            replica,
            host,
            options,
            session=session,
            epoch=epoch,
            flags=flags,
            peer_seq=peer_seq,
            now_ms=now_ms,
        )
        self.receiver.merge_first = self._merge_first
        self._current_frames: Sequence[bytes] = ()
        self._heard = False
        self._silent_start = True  # no step was told yet: a node that only waits says once why (P5)
        self._taken_in: tuple[tuple[int, int, int], bool] | None = None  # the part of a merge, and if durable
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
            peer.Fetch: self._on_fetch,
            peer.Fetched: self._on_fetched,
        }

    def on_tick(self, now_ms: int) -> None:
        """Let time pass; watch the disk; beat."""
        self._advance(now_ms)
        self._watch_disk(now_ms)
        if self._silent_start and (now_ms >= self._grace_ms or self.state is not State.WAITING):
            self._silent_start = False
            if self.state is State.WAITING:
                self._host.tell("waiting", pair_story.first_words(self))
        if self.sender is not None:
            self.sender.on_tick(now_ms)
            self._try_admit(now_ms)
        self.receiver.on_tick(now_ms)
        self._tend_wounds(now_ms)
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
        except (PeerError, ValueError) as error:
            self.counters["pair_messages_invalid"] = count = self.counters["pair_messages_invalid"] + 1
            if count & (count - 1) == 0:  # each time there are twice as many
                self._host.tell(
                    "invalid", f"{count} messages of the peer cannot be read: {error}; {SAME_VERSION}"
                )
        self._release(now_ms)
        if self._dirty:
            self._beat(now_ms)

    def on_vote(self, epoch: int, now_ms: int, stamp_ms: int = 0) -> None:
        """A client asks, and the highest epoch it ever met is ``epoch`` (0: it knows none).

        Before it asked it had an answer that this node gave at ``stamp_ms`` (0: it had none).
        """
        self._advance(now_ms)
        if self.state is State.STOPPED:
            return
        if epoch > self.epoch:
            self._highest = max(self._highest, epoch)
            self._fire(Event.NEWER, now_ms)
        elif self._counts_as_vote(now_ms, stamp_ms):
            self._fire(Event.VOTE, now_ms)
        if self._dirty:
            self._beat(now_ms)

    def _counts_as_vote(self, now_ms: int, stamp_ms: int) -> bool:
        """A passive asks for its window only; an active for evidence from after its peer's window (P4).

        What a client asked before, and what was long on its way, says nothing of a promotion meanwhile.
        """
        if self.state is State.WINDOW:
            return now_ms >= self.watch.opens_ms()
        if self.state is State.CANVASS:
            return self._wait_over_ms() - self._times.margin_ms // 2 <= stamp_ms <= now_ms
        return True

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
        counted = self._counts[0] != 0
        uncounted = self.state is State.REFUSING and not counted
        if beat.epoch > self.epoch and not claims and (self.state in (State.TAKEN, State.ALONE) or uncounted):
            self._fire(Event.PEER_AHEAD, now_ms)
            return
        if self.sender is not None and not counted and self.sender.follower not in (0, beat.session):
            self.sender = Sender(self._replica(), self.watch.session, self.epoch, self._host.send)
            refuses = self.state is State.ADMITTING and not self._options.serve_alone
            self._fire(Event.REFUSE if refuses else Event.FOLLOWER_LOST, now_ms)
        if self.state not in LEASEHOLD or self._counts[0] == 0:
            return
        if claims:
            return
        same = (beat.session, beat.follow) == self._counts
        if not same or theirs not in STILL_IN_SYNC or (self._confirmed and theirs is State.JOINING):
            self._out(now_ms)
            return
        self._lease_ms = self.watch.lease_ms()
        if now_ms < self._lease_ms and self.state in (State.SUSPENDED, State.CANVASS, State.REFUSING):
            self._fire(Event.LEASE_BACK, now_ms)

    def _out(self, now_ms: int) -> None:
        """The follower that counted does not any more, by its own word."""
        if self._options.serve_alone:
            self._fire(Event.PEER_OUT, now_ms)
            return
        assert self.sender is not None, "it had a follower"
        self._unshared, self._shared_seq = True, self.sender.acked_seq
        self._counts = (0, 0)
        self.sender = Sender(self._replica(), self.watch.session, self.epoch, self._host.send)
        self._fire(Event.REFUSE, now_ms)

    def _met_equal(self, beat: Beat, theirs: State, now_ms: int) -> None:
        """Neither is active: the further log leads, once the other promised not to (P5)."""
        if theirs is State.STOPPED:
            # it never answers anybody again; what it acknowledged, a node in sync has (P8)
            if self.state in IN_SYNC and beat.session == self.receiver.leader:
                self._fire(Event.PEER_YIELDS, now_ms)
        elif self._holed:
            if not beat.outdated and beat.last_epoch and theirs is not State.YIELDING:
                self._fire(Event.PEER_BETTER, now_ms)  # R2: it has what is missing here
                self._yields_to, self._dirty = beat.session, True
        elif beat.yields_to == self.watch.session:
            self._fire(Event.PEER_YIELDS, now_ms)
        elif self.state is State.YIELDING and beat.session == self._yields_to:
            return  # a promise is kept; what that beat says may be older than it
        elif theirs is not State.YIELDING:
            replica = self._replica()
            epochs = replica.epochs()
            last_epoch = epochs[-1][0] if epochs else 0
            # an empty log is not outdated and yet the worst: a disk was lost there, or never used
            mine = (not self.outdated and last_epoch > 0, last_epoch, replica.last_seq)
            other = (not beat.outdated and beat.last_epoch > 0, beat.last_epoch, beat.last_seq)
            better = other > mine or (other == mine and self._options.backup)
            if better and self._sealed:
                return  # what this node acknowledged alone is here only: it leads, or nobody does
            self._fire(Event.PEER_BETTER if better else Event.PEER_WORSE, now_ms)
            if self.state is State.YIELDING and self._yields_to != beat.session:
                self._yields_to, self._dirty = beat.session, True

    def _on_goodbye(self, message: peer.Goodbye, now_ms: int) -> None:
        if self.state in (State.PAIRED, State.HANDING) and message.session == self._counts[0]:
            self._fire(Event.PEER_GONE if self._options.serve_alone else Event.REFUSE, now_ms)

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

    def _on_confirm(self, message: peer.Confirm, now_ms: int) -> None:
        del now_ms
        if (message.session, message.follow) == self._counts:
            self._confirmed = True
            if self._unshared:  # it has all that was acknowledged, and from here on the gate waits for it
                self._unshared = False
                self._store(0, clear_flags=UNSHARED)

    def _on_merge(self, message: peer.Merge, now_ms: int) -> None:
        """Take in what a split left at the other side; the same part again is only confirmed again."""
        del now_ms
        sender = self.sender
        if sender is None or (message.session, message.follow) != (sender.follower, sender.follow):
            return
        part = (message.session, message.follow, message.number)
        if self._taken_in == (part, False):
            return  # it is on its way to the disk
        records = peer.records_of(message.rows, self._current_frames)

        def done() -> None:
            self._taken_in = (part, True)
            self._host.send(peer.encode(peer.Merged(self.watch.session, *part)))

        if self._taken_in == (part, True):
            done()
            return
        self._taken_in = (part, False)
        try:
            self._host.merge(records, message.common, done=done)
        except JournalFullError as error:  # what was taken in stays; the rest comes again
            self._taken_in = None
            self._host.tell("merge-full", f"a merge waits for room: {error}")

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

    def _tend_wounds(self, now_ms: int) -> None:
        """What reads and the scrub found damaged is asked for, if somebody is there."""
        reachable = self._hears(now_ms)
        if reachable and not self._heard:
            self.mending.hope()
        self._heard = reachable
        for sequence in self._host.wounds(hopeful=reachable):
            if reachable:
                self.mending.want(sequence, now_ms)
        self.mending.on_tick(now_ms)

    def _hears(self, now_ms: int) -> bool:
        return self.watch.met() and now_ms < self.watch.heard_ms + self._times.failover_ms

    def mend(self, sequence: int, done: Callable[[bool], None], now_ms: int) -> bool:
        """A reader needs this damaged record; ``done`` later. False: report the damage, nobody can help."""
        return self._hears(now_ms) and self.mending.want(sequence, now_ms, done)

    def _on_fetch(self, message: peer.Fetch, now_ms: int) -> None:
        del now_ms
        self.mending.on_fetch(message)

    def _on_fetched(self, message: peer.Fetched, now_ms: int) -> None:
        self.mending.on_fetched(message, self._current_frames, now_ms)

    def _merge_first(self, start: peer.Start) -> bool:
        """Whether records must reach the active before this node forgets them (P7)."""
        replica = self._replica()
        since = start.common
        if start.full:  # the common record is not in both rings any more
            since = max(self._shared_seq, replica.first_seq - 1)
        if since >= replica.last_seq or (self._options.sync and not self._unshared):
            return False
        if self._merger is None or self._merger.start.follow != start.follow:
            self._merger = Merger(replica, start, since, self.watch.session, self._host.send)
        return not self._merger.done

    def _on_merged(self, message: peer.Merged, now_ms: int) -> None:
        merger = self._merger
        if merger is not None and merger.on_merged(message) and self.state is State.JOINING:
            text = f"{merger.sent_count} records of an earlier split are with the active"
            if merger.damaged_count:
                text += f"; {merger.damaged_count} are damaged, and only in the file that is set aside"
            self._host.tell("merged", text)
            self.receiver.on_start(merger.start, now_ms)
