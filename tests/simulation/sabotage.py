"""A pair with one bug at a time: the histories must find each, or they prove nothing.

A bug that only one family of histories can show names it. Three are covered by another defence and are
switched on together with its absence: two by the merge of P7, which brings back what the wrong leader lacks,
one by the epoch that each shipped batch says it continues.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
import pytest

from core.pure import healing, pair
from core.pure.healing import Healing, Outcome
from core.pure.jobs import Kind, ReplyMeta, encode_meta
from core.pure.pair import Action, Event, State
from core.pure.peer import Ack, Beat, Record, Ship, Start, encode
from core.pure.replication import Receiver
from core.pure.twin import Twin
from core.pure.twin_core import LEASEHOLD, OUTDATED, PEER_OUTDATED, TwinCore
from core.pure.watch import Watch
from gateway.composition import pair_host

Bug = Callable[[pytest.MonkeyPatch], None]
BUGS: Final[dict[str, Bug]] = {}
FAMILY_OF: Final[dict[str, str]] = {}
FAR_MS: Final = 1 << 40


def bug(function: Bug) -> Bug:
    """One of the list; its name is its id, its docstring the mistake."""
    BUGS[function.__name__] = function
    return function


def shown_by(family: str) -> Callable[[Bug], Bug]:
    """The family of histories that shows this bug."""

    def named(function: Bug) -> Bug:
        FAMILY_OF[function.__name__] = family
        return function

    return named


# -- P1: epochs


@bug
def keeps_its_epoch(patch: pytest.MonkeyPatch) -> None:
    """A takeover goes on under the epoch that was."""
    right = TwinCore._claim

    def claim(self: TwinCore, flags: int) -> None:
        epoch = self.epoch
        right(self, flags)
        self.epoch = max(epoch, 2)

    patch.setattr(TwinCore, "_claim", claim)


@bug
def serves_before_its_epoch_is_synced(patch: pytest.MonkeyPatch) -> None:
    """The new epoch is on its way to the disk when the first answer leaves."""
    right = TwinCore._perform

    def perform(self: TwinCore, action: Action, now_ms: int) -> None:
        right(self, action, now_ms)
        if action in (Action.CLAIM, Action.CONDEMN):
            self._awaited = 0
            self._fire(Event.STORED, now_ms)

    patch.setattr(TwinCore, "_perform", perform)


@bug
def stays_active_under_a_lower_epoch(patch: pytest.MonkeyPatch) -> None:
    """An active that meets a higher one goes on, and so does one whose client brings a higher epoch."""
    for state in pair.ACTIVE:
        for event in (Event.PEER_ACTIVE, Event.NEWER):
            patch.setitem(pair.TABLE, (state, event), (state, ()))


@bug
@shown_by("partition")
def compares_epochs_the_wrong_way(patch: pytest.MonkeyPatch) -> None:
    """Of two actives the one with the higher epoch yields; and it does not merge."""
    forgets_to_merge(patch)
    right = Twin._met_active

    def met_active(self: Twin, beat: Beat, now_ms: int) -> None:
        if self.active and beat.epoch < self.epoch:
            self._fire(Event.PEER_ACTIVE, now_ms)
        elif self.active:
            self._fire(Event.PEER_STALE, now_ms)
        else:
            right(self, beat, now_ms)

    patch.setattr(Twin, "_met_active", met_active)


@bug
def deaf_to_clients(patch: pytest.MonkeyPatch) -> None:
    """A client that saw a higher epoch changes nothing."""
    right = Twin.on_vote

    def on_vote(self: Twin, epoch: int, now_ms: int, stamp_ms: int = 0) -> None:
        right(self, min(epoch, self.epoch), now_ms, stamp_ms)

    patch.setattr(Twin, "on_vote", on_vote)


# -- P2: replication


@bug
def acknowledges_before_the_peers_sync(patch: pytest.MonkeyPatch) -> None:
    """The follower says durable of what it has in memory."""

    def acknowledge(self: Receiver) -> None:
        replica = self._replica_of()
        facts = (replica.last_seq, replica.last_seq, self.agreed_seq)
        if self.streaming and facts != self._acked:
            self._acked = facts
            self._send(encode(Ack(self._session, self.follow, self.epoch, *facts)))

    patch.setattr(Receiver, "acknowledge", acknowledge)


@bug
def answers_before_the_peer(patch: pytest.MonkeyPatch) -> None:
    """An answer leaves when the own disk has it."""
    right = TwinCore.answer

    def answer(self: TwinCore, answer: object, now_ms: int) -> None:
        if self.state is State.PAIRED:
            self._host.deliver(answer)
        else:
            right(self, answer, now_ms)

    patch.setattr(TwinCore, "answer", answer)


# -- P3: voting


@bug
def promotes_without_currency(patch: pytest.MonkeyPatch) -> None:
    """A vote promotes a node that may lack acknowledged jobs."""
    for state in (State.OUTDATED, State.JOINING):
        patch.setitem(pair.TABLE, (state, Event.VOTE), (State.LEADING, (Action.CLAIM,)))


@bug
def enters_without_the_records(patch: pytest.MonkeyPatch) -> None:
    """A follower counts as in sync before it has what was acknowledged."""

    def try_enter(self: Twin, now_ms: int) -> None:
        if self.state is State.JOINING and self.receiver.streaming:
            self._fire(Event.OFFERED, now_ms)

    patch.setattr(Twin, "_try_enter", try_enter)


@bug
def the_window_opens_at_once(patch: pytest.MonkeyPatch) -> None:
    """A late beat is a death."""
    patch.setattr(Watch, "opens_ms", lambda self: self.heard_ms + 300)


@bug
@shown_by("late-voter")
def the_window_never_closes(patch: pytest.MonkeyPatch) -> None:
    """A vote promotes however long the silence has lasted."""
    patch.setattr(Watch, "closes_ms", lambda self: self.peer_sent_ms + FAR_MS)


@bug
def forgets_that_it_is_outdated(patch: pytest.MonkeyPatch) -> None:
    """A node whose window closed does not say so on its disk."""
    right = TwinCore._store

    def store(self: TwinCore, epoch: int, *, set_flags: int = 0, clear_flags: int = 0) -> int:
        return right(self, epoch, set_flags=set_flags & ~OUTDATED, clear_flags=clear_flags)

    patch.setattr(TwinCore, "_store", store)


# -- P4: alone


@bug
def goes_alone_without_the_window(patch: pytest.MonkeyPatch) -> None:
    """An active that lost its passive does not wait until that cannot be promoted any more."""
    patch.setattr(TwinCore, "_wait_over_ms", lambda self: 0)


@bug
def answers_alone_without_saying_so(patch: pytest.MonkeyPatch) -> None:
    """An active that goes on alone does not record that its peer is outdated."""
    right = TwinCore._store

    def store(self: TwinCore, epoch: int, *, set_flags: int = 0, clear_flags: int = 0) -> int:
        return right(self, epoch, set_flags=set_flags & ~PEER_OUTDATED, clear_flags=clear_flags)

    patch.setattr(TwinCore, "_store", store)


@bug
def ignores_its_lease(patch: pytest.MonkeyPatch) -> None:
    """Answers although the peer may have taken over."""
    right = Twin._met_passive

    def met_passive(self: Twin, beat: Beat, theirs: State, now_ms: int) -> None:
        right(self, beat, theirs, now_ms)
        self._lease_ms = now_ms + FAR_MS

    patch.setattr(Twin, "_met_passive", met_passive)


@bug
def counts_its_lease_from_arrival(patch: pytest.MonkeyPatch) -> None:
    """From the peer's word instead of from the own beat that it echoed: old news look fresh."""
    right = Twin._met_passive

    def met_passive(self: Twin, beat: Beat, theirs: State, now_ms: int) -> None:
        self.watch.lease_ms = lambda: now_ms + 4_000  # type: ignore[method-assign]
        right(self, beat, theirs, now_ms)

    patch.setattr(Twin, "_met_passive", met_passive)


# -- P5: cold start


@bug
def serves_unproven(patch: pytest.MonkeyPatch) -> None:
    """Starts as active whatever its superblock says."""
    right = Twin.__init__

    def init(self: Twin, *arguments: Any, **named: Any) -> None:
        right(self, *arguments, **named)
        self._proven = self._sealed = True

    patch.setattr(Twin, "__init__", init)


@bug
def breaks_its_promise(patch: pytest.MonkeyPatch) -> None:
    """Promises not to lead, and leads."""
    right = Twin._met_equal

    def met_equal(self: Twin, beat: Beat, theirs: State, now_ms: int) -> None:
        before = self.state
        right(self, beat, theirs, now_ms)
        if self.state is State.YIELDING and before is not State.YIELDING:
            self._beat(now_ms)
            self.state = State.WAITING
            self._fire(Event.PEER_YIELDS, now_ms)

    patch.setattr(Twin, "_met_equal", met_equal)


@bug
@shown_by("storm")
def the_lesser_log_leads(patch: pytest.MonkeyPatch) -> None:
    """With both present, the one with fewer records leads; and what only the other has is not merged."""
    forgets_to_merge(patch)
    right = Twin._met_equal

    def met_equal(self: Twin, beat: Beat, theirs: State, now_ms: int) -> None:
        seq = self._replica().last_seq
        if beat.yields_to == self.watch.session or beat.last_seq == seq or theirs is State.YIELDING:
            right(self, beat, theirs, now_ms)
        elif self.state is not State.YIELDING:
            self._fire(Event.PEER_BETTER if beat.last_seq < seq else Event.PEER_WORSE, now_ms)

    patch.setattr(Twin, "_met_equal", met_equal)


# -- P6: rejoin


@bug
@shown_by("islands")
def keeps_its_suffix(patch: pytest.MonkeyPatch) -> None:
    """A returning node keeps what only it has; and it does not ask what a batch continues."""
    right_ship = Receiver.on_ship

    def on_ship(self: Receiver, message: Ship, frames: Sequence[bytes], now_ms: int) -> bool:
        return right_ship(self, msgspec.structs.replace(message, prev_epoch=0), frames, now_ms)

    patch.setattr(Receiver, "on_ship", on_ship)
    right = Twin._on_start

    def on_start(self: Twin, message: Start, now_ms: int) -> None:
        last = max(message.common, self._replica().last_seq)
        right(self, msgspec.structs.replace(message, common=last), now_ms)

    patch.setattr(Twin, "_on_start", on_start)


@bug
@shown_by("altered")
def skips_the_digest(patch: pytest.MonkeyPatch) -> None:
    """A follower counts as in sync without comparing what is alive."""
    right = Receiver.on_ship

    def on_ship(self: Receiver, message: Any, frames: Sequence[bytes], now_ms: int) -> bool:
        replica = self._replica_of()
        patch.setattr(type(replica), "live_digest", lambda replica: message.digest)
        try:
            return right(self, message, frames, now_ms)
        finally:
            patch.setattr(type(replica), "live_digest", lambda replica: replica.ring.live_digest())

    patch.setattr(Receiver, "on_ship", on_ship)


# -- P7: healing a split


@bug
@shown_by("islands")
def forgets_to_merge(patch: pytest.MonkeyPatch) -> None:
    """Sets aside what the other island acknowledged."""
    patch.setattr(Twin, "_merge_first", lambda self, start: False)


@bug
@shown_by("islands")
def a_merge_drops_jobs(patch: pytest.MonkeyPatch) -> None:
    """Every second job of the other side is left out."""
    right = Healing._accept

    def accept(self: Healing, record: Record, now: Any) -> None:
        if record.key[-1] % 2:
            right(self, record, now)

    patch.setattr(Healing, "_accept", accept)


@bug
@shown_by("islands")
def a_merge_names_nobody(patch: pytest.MonkeyPatch) -> None:
    """Jobs are merged and the report does not say which."""
    patch.setattr(Healing, "_say", lambda self, outcome, record: None)


@bug
@shown_by("islands")
def a_merge_stores_a_second_reply(patch: pytest.MonkeyPatch) -> None:
    """The reply of the other side replaces the one that is here."""
    right = Healing._say

    def say(self: Healing, outcome: Outcome, record: Record) -> None:
        job = self._find(record.key)
        if outcome is Outcome.REPLY_KEPT and job is not None and job.reply_at:
            meta = encode_meta(ReplyMeta(0, job.attempt))
            self._titanic._port.append(Kind.REPLY, job, meta, record.body, ())
        right(self, outcome, record)

    patch.setattr(Healing, "_say", say)


@bug
@shown_by("movers")
def a_merge_opens_closed_jobs(patch: pytest.MonkeyPatch) -> None:
    """What was closed here since the split comes back with the other side's records."""
    patch.setattr(pair_host, "closed_since", lambda records: set())
    right = pair_host.PairHost.merge

    def merge(self: Any, records: Any, common: int, *, done: Any) -> None:
        self.journal.closes = set()
        right(self, records, common, done=done)

    patch.setattr(pair_host.PairHost, "merge", merge)


@bug
@shown_by("islands")
def a_merge_is_confirmed_before_it_is_durable(patch: pytest.MonkeyPatch) -> None:
    """The loser may forget its records while the winner has them in memory only."""

    def run(self: Healing, records: Sequence[Record], done: Callable[[], None], turn: int = 0) -> None:
        now = self._clock()
        for record in records:
            if record.kind in healing.PASSES[turn] and record.key not in self._closed:
                self._take(record, now)
        done()

    patch.setattr(Healing, "run", run)


# -- P8: paused and stuck


@bug
def sleeps_well(patch: pytest.MonkeyPatch) -> None:
    """Answers after a sleep as if no time had passed."""
    right = TwinCore._advance

    def advance(self: TwinCore, now_ms: int) -> None:
        if now_ms - self._ticked_ms > self._times.pause_ms and self.state in LEASEHOLD:
            self._lease_ms = max(self._lease_ms, now_ms + 500)
        right(self, now_ms)

    patch.setattr(TwinCore, "_advance", advance)


@bug
@shown_by("stuck")
def ignores_a_stuck_disk(patch: pytest.MonkeyPatch) -> None:
    """A node whose sync never comes back stays active."""
    patch.setattr(TwinCore, "_watch_disk", lambda self, now_ms: None)


@bug
@shown_by("stuck")
def believes_a_node_that_stopped(patch: pytest.MonkeyPatch) -> None:
    """The last beat of an active whose disk hangs is taken for that of a node that may lead."""
    right = Twin._met_equal

    def met_equal(self: Twin, beat: Beat, theirs: State, now_ms: int) -> None:
        right(self, beat, State.WAITING if theirs is State.STOPPED else theirs, now_ms)

    patch.setattr(Twin, "_met_equal", met_equal)


@bug
@shown_by("empty-disk")
def an_empty_disk_leads(patch: pytest.MonkeyPatch) -> None:
    """A node that lost its disk is not outdated, and so comes before one that is."""
    right = Twin._met_equal

    def met_equal(self: Twin, beat: Beat, theirs: State, now_ms: int) -> None:
        promised = beat.yields_to == self.watch.session or theirs is State.YIELDING
        if promised or self.state is State.YIELDING or beat.outdated == self.outdated:
            right(self, beat, theirs, now_ms)
        else:
            self._fire(Event.PEER_BETTER if self.outdated else Event.PEER_WORSE, now_ms)

    patch.setattr(Twin, "_met_equal", met_equal)
