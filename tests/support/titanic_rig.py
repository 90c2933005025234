"""A Titanic service on a journal in memory, with a clock that the test owns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from core.pure import tsp
from core.pure.ids import Mint
from core.pure.jobs import Now, RequestMeta
from core.pure.ports import Abandon, Path, Wake, Work
from core.pure.titanic import TitanicLimits
from core.shell.clock import Clock
from core.shell.titanic_port import TitanicShell
from tests.support.memory_journal import MemoryJournal

SECRET = b"s" * 32
PATH: Path = (b"client",)


class RigClock(Clock):
    """Both clocks start at a million milliseconds and stand still."""

    def __init__(self) -> None:
        super().__init__()
        self.ms = 1_000_000

    def now(self) -> Now:
        return Now(self.ms, 1_600_000_000_000 + self.ms)


class Rig:
    """Requests in, answers out; nothing is durable before :meth:`sync`."""

    def __init__(self, journal: MemoryJournal | None = None, limits: TitanicLimits = TitanicLimits()) -> None:
        self.journal = journal or MemoryJournal()
        self.limits = limits
        self.clock = RigClock()
        self.mint = Mint(SECRET)
        self.answers: list[tuple[Path, bytes, Sequence[bytes]]] = []
        self.woken: list[bytes] = []
        self.abandoned: list[tuple[bytes, int]] = []
        self.made = 0
        self.shell = TitanicShell(
            self.journal,
            self.clock,
            lambda path, service, frames: self.answers.append((path, service, frames)),
            {
                Wake: lambda effect: self.woken.append(effect.service),  # type: ignore[attr-defined]
                Abandon: lambda effect: self.abandoned.append((effect.job.key, effect.attempt)),  # type: ignore[attr-defined]
            },
            id_secret=SECRET,
            limits=limits,
        )
        self.titanic = self.shell.titanic

    @property
    def now(self) -> Now:
        return self.clock.now()

    def key(self) -> bytes:
        self.made += 1
        return self.mint.make(self.now.wall_ms, self.made)

    def sync(self) -> None:
        self.journal.sync()
        self.shell.on_synced()

    def ask(self, service: bytes, *body: bytes, path: Path = PATH) -> Sequence[bytes] | None:
        """The answer to one request if it came at once, else None."""
        before = len(self.answers)
        self.titanic.handle(service, path, body, self.now)
        return self.answers[-1][2] if len(self.answers) > before else None

    def meta(self, service: bytes = b"echo", **options: Any) -> RequestMeta:
        return RequestMeta(service, 0, **options)

    def restart(self) -> Rig:
        """What comes up after a crash now: only what was synced is there; ids and time go on."""
        journal, fold = self.journal.reopened()
        again = Rig(journal, self.limits)
        again.clock.ms = self.clock.ms
        again.made = self.made + 1_000_000
        again.titanic.restore(list(journal.index.values()), fold.notes, again.now)
        return again

    def synced(self, service: bytes, head: object, *frames: bytes) -> Sequence[bytes]:
        """The answer to an extended question that waits for the disk."""
        count = len(self.answers)
        self.ask(service, tsp.encode_head(head), *frames)
        self.sync()
        assert len(self.answers) == count + 1, "one question, one answer"
        return self.answers[-1][2]

    def submit(self, service: bytes = b"echo", *frames: bytes, **options: Any) -> bytes:
        """The key of a job that is durable and queued."""
        key = self.key()
        head = tsp.encode_head(tsp.SubmitHead(key, self.meta(service, **options)))
        assert self.ask(tsp.SUBMIT, head, *(frames or (b"body",))) is None, "answered before the sync"
        self.sync()
        assert self.answers[-1][2][0] == tsp.OK, self.answers[-1]
        return key

    def take(self, service: bytes = b"echo", worker: bytes = b"w1") -> Work | None:
        return self.shell.take(service, worker, self.now)

    def must_take(self, service: bytes = b"echo", worker: bytes = b"w1") -> Work:
        work = self.take(service, worker)
        assert work is not None, f"no job of {service!r} to take"
        return work

    def pass_ms(self, ms: int) -> None:
        self.clock.ms += ms
        self.titanic.on_tick(self.now)

    def fetch(self, key: bytes, wait_ms: int = 0, path: Path = PATH) -> Sequence[bytes] | None:
        return self.ask(tsp.FETCH, tsp.encode_head(tsp.FetchHead(key, wait_ms)), path=path)

    def state(self, key: bytes) -> tsp.JobStatus:
        answer = self.ask(tsp.STATUS, tsp.encode_head(tsp.FetchHead(key)))
        assert answer is not None
        assert answer[0] == tsp.OK, answer
        return tsp.decode_status(answer[1])
