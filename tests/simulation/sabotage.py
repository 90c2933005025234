"""A pair with one bug at a time: the histories must find each, or they prove nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from core.pure import twin as twin_module
from core.pure.pair import Event, State
from core.pure.peer import Beat, Start
from core.pure.twin import LEASEHOLD, Twin
from core.pure.watch import Watch

FAR_MS: Final = 1 << 40


class AnswersBeforeThePeer(Twin):
    """An answer leaves when the own disk has it."""

    def answer(self, answer: object, now_ms: int) -> None:
        if self.state is State.PAIRED:
            self._host.deliver(answer)
        else:
            super().answer(answer, now_ms)


class IgnoresItsLease(Twin):
    """Answers although the peer may have taken over."""

    def _met_passive(self, beat: Beat, theirs: State, now_ms: int) -> None:
        super()._met_passive(beat, theirs, now_ms)
        self._lease_ms = now_ms + FAR_MS


class LeaseFromArrival(Twin):
    """Counts its lease from the peer's word instead of from its own beat that was echoed."""

    def _met_passive(self, beat: Beat, theirs: State, now_ms: int) -> None:
        self.watch.lease_ms = lambda: now_ms + 4_000  # type: ignore[method-assign]
        super()._met_passive(beat, theirs, now_ms)


class EntersWithoutTheRecords(Twin):
    """Counts as in sync before it has what was acknowledged."""

    def _try_enter(self, now_ms: int) -> None:
        if self.state is State.JOINING and self.receiver.streaming:
            self._fire(Event.OFFERED, now_ms)


class HastyWatch(Watch):
    """The window opens at once."""

    def opens_ms(self) -> int:
        return self.heard_ms + 300


def _with_watch(watch: type[Watch]) -> type[Twin]:
    class Sabotaged(Twin):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            self.watch = watch(self._times, self.watch.session, named["now_ms"])

    return Sabotaged


class DeafToClients(Twin):
    """A client that saw a higher epoch changes nothing."""

    def on_vote(self, epoch: int, now_ms: int) -> None:
        super().on_vote(min(epoch, self.epoch), now_ms)


class KeepsItsEpoch(Twin):
    """Takes over under the epoch that was."""

    def _claim(self, flags: int) -> None:
        epoch = self.epoch
        super()._claim(flags)
        self.epoch = max(epoch, 2)


class ServesUnproven(Twin):
    """Starts as active whatever its superblock says."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._proven = self._sealed = True


class ForgetsToMerge(Twin):
    """Sets aside what the other island acknowledged."""

    def _merge_first(self, start: Start) -> bool:
        return False


class KeepsItsSuffix(Twin):
    """A returning node keeps what only it has."""

    def _on_start(self, message: Start, now_ms: int) -> None:
        kept = Start(
            message.session,
            message.to_session,
            message.follow,
            message.epoch,
            max(message.common, self._replica().last_seq),
            message.first_seq,
            message.full,
            message.id_secret,
        )
        super()._on_start(kept, now_ms)


class BreaksItsPromise(Twin):
    """Promises not to lead, and leads."""

    def _met_equal(self, beat: Beat, theirs: State, now_ms: int) -> None:
        before = self.state
        super()._met_equal(beat, theirs, now_ms)
        if self.state is State.YIELDING and before is not State.YIELDING:
            self._beat(now_ms)
            self.state = State.WAITING
            self._fire(Event.PEER_YIELDS, now_ms)


class SleepsWell(Twin):
    """Answers after a sleep as if no time had passed."""

    def _advance(self, now_ms: int) -> None:
        if now_ms - self._ticked_ms > self._times.pause_ms and self.state in LEASEHOLD:
            self._lease_ms = max(self._lease_ms, now_ms + 500)
        super()._advance(now_ms)


class CountsWithoutASeal(Twin):
    """Goes on alone without saying so on its disk, and takes an old record of it for a new one."""

    def _store(self, epoch: int, *, set_flags: int = 0, clear_flags: int = 0) -> int:
        return super()._store(epoch, set_flags=set_flags | twin_module.PEER_OUTDATED, clear_flags=0)


BUGS: Final[dict[str, Callable[[], type[Twin]]]] = {
    "answers before the peer": lambda: AnswersBeforeThePeer,
    "ignores its lease": lambda: IgnoresItsLease,
    "lease from arrival": lambda: LeaseFromArrival,
    "enters without the records": lambda: EntersWithoutTheRecords,
    "the window opens at once": lambda: _with_watch(HastyWatch),
    "deaf to clients": lambda: DeafToClients,
    "keeps its epoch": lambda: KeepsItsEpoch,
    "serves unproven": lambda: ServesUnproven,
    "forgets to merge": lambda: ForgetsToMerge,
    "keeps its suffix": lambda: KeepsItsSuffix,
    "breaks its promise": lambda: BreaksItsPromise,
    "sleeps well": lambda: SleepsWell,
    "seals for ever": lambda: CountsWithoutASeal,
}
