"""What a twin asks for, done on a journal: the part of a pair's node that needs no loop and no socket."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from core.errors import DamagedRecordError
from core.pure.events import Step
from core.pure.healing import Healing, Outcome, closed_since
from core.pure.jobs import Job, Now
from core.pure.jobs import State as JobState
from core.pure.pair import ACTIVE, Event, State
from core.pure.peer import Record
from core.pure.ports import Effect
from core.pure.receipts import REPLICATED
from core.pure.replication import RecordsGoneError
from core.pure.twin import UNSHARED, Twin
from core.shell.titanic_port import TitanicShell
from gateway.composition.replica import PairJournal
from titanic_store import RingFullError


class MergeRow(NamedTuple):
    """One line of a merge's report: this was done with a record of this job."""

    key: bytes
    service: bytes
    outcome: Outcome


class Call(Effect, frozen=True, gc=False):
    """Call this once the records before it are durable."""

    run: Callable[[], None]


def call(effect: Effect) -> None:
    """The performer of :class:`Call`."""
    assert isinstance(effect, Call)
    effect.run()


FSYNC: Final = "fsync"


def in_short(twin: Twin, before: State, event: Event, after: State) -> str:
    """A step in the words of the table."""
    return f"{before.value} -> {after.value}: {event.value}, epoch {twin.epoch}"


class PairHost:
    """Satisfies :class:`core.pure.twin.TwinHost`. ``twin`` is set by whoever makes both.

    ``make_shell(journal)`` gives a Titanic service restored from the journal, to serve with; ``drop_shell``
    is called when it must serve no more; with ``announces`` each step while it serves is an event for those
    who follow. ``again(journal, first_seq, id_secret)`` sets the journal aside
    and gives an empty one. ``aside(records, why)`` keeps records that the ring is about to forget.
    ``report(rows, epoch)`` puts what a merge did on the disk, before the other side is told that it is done.
    """

    twin: Twin
    _step: tuple[Twin, State, Event, State]

    def __init__(
        self,
        journal: PairJournal,
        *,
        clock: Callable[[], Now],
        make_shell: Callable[[PairJournal], TitanicShell],
        drop_shell: Callable[[], None],
        again: Callable[[PairJournal, int, bytes], PairJournal],
        aside: Callable[[PairJournal, int], None],
        report: Callable[[Sequence[MergeRow], int], None],
        send: Callable[[list[bytes]], None],
        deliver: Callable[[object], None],
        tell: Callable[[str, str], None],
        halt: Callable[[str], None],
        describe: Callable[[Twin, State, Event, State], str] = in_short,
        announces: bool = False,
    ) -> None:
        self.journal = journal
        self.shell: TitanicShell | None = None
        self.merged: dict[str, int] = {}
        self.send: Final = send
        self.deliver: Final = deliver
        self.tell: Final = tell
        self.halt: Final = halt
        self._clock = clock
        self._make_shell = make_shell
        self._drop_shell = drop_shell
        self._again = again
        self._aside = aside
        self._describe = describe
        self._announces = announces
        self._report = report

    # -- TwinHost

    def store(self, token: int, *, epoch: int, set_flags: int, clear_flags: int, peer_seq: int) -> None:
        """See TwinHost.store."""
        if set_flags & UNSHARED and self.journal.closes is None:
            self.journal.closes = set()
        elif clear_flags & UNSHARED:
            self.journal.closes = None
        self.journal.store(
            token, epoch=epoch, set_flags=set_flags, clear_flags=clear_flags, peer_seq=peer_seq
        )
        self._set_apart()

    def serve(self) -> None:
        """See TwinHost.serve."""
        number = self.journal.mark()
        if self.shell is None:
            self.shell = self._make_shell(self.journal)
            self.shell.mend = self.mend_for_reader
            self._set_apart()
            self._happened(number, in_short(*self._step))
        self.shell.titanic.intake.epoch = self.twin.epoch
        self._set_durability()

    def changed(self, before: State, event: Event, after: State) -> None:
        """See TwinHost.changed: a line for the operator, and an event for those who follow."""
        self._step = (self.twin, before, event, after)
        self.tell(event.value, self._describe(*self._step))
        if self.shell is None or after not in ACTIVE:
            return
        self._set_durability()
        self._announce(in_short(*self._step))

    def _announce(self, text: str) -> None:
        """An event for those who follow, if there is room for its record: none is worth a failure."""
        if not self._announces or self.shell is None:
            return
        try:
            number = self.journal.mark()  # an event has the sequence of a record
        except RingFullError:
            return
        self._happened(number, text)

    def _set_apart(self) -> None:
        """While the other node may have jobs that this one has not, closes of those are written down (P7)."""
        if self.shell is not None:
            apart = self.journal.closes is not None
            self.shell.titanic.desk.close_elsewhere = self._close_elsewhere if apart else None

    def _close_elsewhere(self, key: bytes, meta: bytes, answers: tuple[Effect, ...]) -> None:
        assert self.shell is not None, "somebody asked it"
        number = self.journal.close_elsewhere(key, meta, answers)
        if answers:
            self.shell.awaits(number)

    @property
    def durability(self) -> str:
        """What an answer of this node is worth now (P2)."""
        own = self.journal.durability
        return REPLICATED if self.twin.shares and own == FSYNC else own

    def _set_durability(self) -> None:
        if self.shell is not None:
            self.shell.titanic.intake.durability = self.durability

    def _happened(self, number: int, text: str) -> None:
        assert self.shell is not None, "events are of a node that serves"
        wall_ms = self._clock().wall_ms
        role = "backup" if self.twin.is_backup else "primary"
        entry = Job(b"", state=JobState.BINDING)
        self.shell.titanic.events.add(number, Step.PAIR, entry, wall_ms, f"{role}: {text}")

    def retire(self) -> None:
        """See TwinHost.retire."""
        if self.shell is not None:
            self.shell = None
            self._drop_shell()
            self.journal.cut_after(self.journal.last_seq)

    def cut_after(self, seq: int) -> bool:
        """See Host.cut_after."""
        try:
            self._aside(self.journal, seq)
        except (DamagedRecordError, RecordsGoneError) as error:
            self.tell("aside-whole", f"the whole file is set aside, since a part of it cannot be: {error}")
            return False
        return self.journal.cut_after(seq)

    def begin_again(self, first_seq: int, id_secret: bytes) -> None:
        """See Host.begin_again."""
        self.journal = self._again(self.journal, first_seq, id_secret)

    def adopt(self, id_secret: bytes) -> None:
        """See Host.adopt."""
        self.journal.adopt(id_secret)

    def record_at(self, sequence: int) -> Record | None:
        """See Mended.record_at."""
        return self.journal.record_at(sequence)

    def wounds(self, *, hopeful: bool) -> list[int]:
        """See TwinHost.wounds."""
        return self.journal.wounds(hopeful=hopeful)

    def mend(self, record: Record, done: Callable[[], None]) -> bool:
        """See Mended.mend."""
        if not self.journal.is_wounded(record.sequence):
            return False  # the log was cut meanwhile
        if not self.journal.mend(record, done):
            self.tell("not-mended", f"record {record.sequence} of the peer is not what is damaged here")
            return False
        self.tell("mended", f"record {record.sequence} was damaged here, and is mended from the peer")
        return True

    def mend_for_reader(self, at: int, done: Callable[[bool], None]) -> bool:
        """Somebody reads the damaged record at ``at``: True if the peer is asked for it, ``done`` later."""
        shell, sequence = self.shell, self.journal.wound_at(at)
        if not sequence:
            return False

        def told(good: bool) -> None:
            if self.shell is shell:
                done(good)

        return self.twin.mend(sequence, told, self._clock().mono_ms)

    def merge(self, records: Sequence[Record], common: int, *, done: Callable[[], None]) -> None:
        """See TwinHost.merge."""
        shell, journal = self.shell, self.journal
        if shell is None:
            return
        try:
            closed = closed_since(list(journal.records_after(common)))
        except (RecordsGoneError, DamagedRecordError):
            closed = set()  # the ring has moved on: better a job too many than one too few
        closed |= journal.closes or set()
        rows: list[MergeRow] = []

        def finished() -> None:
            self._merged(rows)
            done()

        healing = Healing(
            shell.titanic,
            journal.index.get,
            closed,
            lambda outcome, key, service: rows.append(MergeRow(key, service, outcome)),
            lambda step: self._later(shell, step),
            self._clock,
        )
        healing.run(records, finished)

    def _merged(self, rows: Sequence[MergeRow]) -> None:
        """A part of a merge is durable: count it, write it down, say so."""
        if not rows:
            return
        counts = Counter(row.outcome for row in rows)
        for outcome, count in counts.items():
            self.merged[outcome] = self.merged.get(outcome, 0) + count
        self._report(rows, self.twin.epoch)
        jobs = len({row.key for row in rows})
        told = ", ".join(f"{outcome} {count}" for outcome, count in sorted(counts.items()))
        text = f"a split is healed: {jobs} jobs of the other side were merged: {told}"
        self.tell("merged", text)
        self._announce(text)

    def _later(self, shell: TitanicShell, step: Callable[[], None]) -> None:
        def run() -> None:
            if self.shell is shell:
                step()

        shell.barrier((Call(run),))

    # -- the journal's news

    def on_synced(self) -> None:
        """Something is durable: perform what waited for it, then tell the twin. JournalFailedError."""
        if self.shell is not None:
            self.shell.on_synced()
        else:
            for _ in self.journal.completed():
                pass
        now_ms = self._clock().mono_ms
        stored, self.journal.stored = self.journal.stored, []
        for token in stored:
            self.twin.stored(token, now_ms)
        mended, self.journal.mended = self.journal.mended, []
        for done in mended:
            done()
        self.twin.on_durable(now_ms)
