"""A store over the faulty disk, what its client was promised, and everything that may happen to both.

One number decides a whole history. The checkers are those of ``promises.md``: lost, phantom, resurrected,
reply changed, order, check clean.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from tests.titanic_store.rig import Pebble, key, open_on, options
from tests.torture.sources import Clock, decided_by
from titanic_store import (
    Kind,
    Policy,
    Ring,
    RingFullError,
    StoreFailedError,
)
from titanic_store.shell.checking import check_storage
from titanic_store.shell.faulty import Fault, FaultyDisk, PowerCut

OPEN_MAX_COUNT: Final = 12
SIZES: Final = (0, 1, 90, 300, 300, 2000, 4096, 9000, 9000, 25_000, 52_500)


class BrokenPromiseError(AssertionError):
    """The store did what it must never do; the message says which promise and what happened before."""


@dataclass(slots=True)
class Known:
    """What the client knows of one job."""

    body: bytes
    accepted: bool = False  # acknowledged, or seen after an opening
    reply: bytes | None = None  # tried
    replied: bool = False
    closing: bool = False
    closed: bool = False
    safe: bool = False  # accepted before a sync, so that no policy may lose it
    buried: bool = False  # closed before a sync, so that no policy may bring it back


@dataclass(slots=True)
class Score:
    """What a history was made of, so that nobody believes one in which nothing happened."""

    crashes: int = 0
    refusals: int = 0
    refused_replies: int = 0
    acknowledged: int = 0
    found: int = 0
    turns: int = 0

    def add(self, other: Score) -> None:
        """Both together."""
        for name in Score.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass
class World:
    """A disk, the ring on it while it is open, and the client's ledger."""

    seed: int
    align: int = 4096
    policy: str = "always"
    max_chunks: int = 9
    clock: Clock = field(default_factory=Clock)
    score: Score = field(default_factory=Score)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.disk = FaultyDisk(self.seed)
        self.sectors = (512,) if self.align == 512 else (512, 4096)
        self.jobs: dict[int, Known] = {}
        self.log: list[str] = []
        self.ring: Ring[Pebble] = self._open()

    @property
    def strict(self) -> bool:
        """Whether acknowledged means durable."""
        return self.policy == "always"

    def _open(self) -> Ring[Pebble]:
        policy = Policy.parse(self.policy)
        return open_on(self.disk, options(align=self.align, max_chunks=self.max_chunks, policy=policy))

    def broken(self, what: str) -> BrokenPromiseError:
        """The error, with the seed and the last steps."""
        steps = " | ".join(self.log[-12:])
        return BrokenPromiseError(
            f"{what} (seed {self.seed}, align {self.align}, {self.policy}, {len(self.log)} steps: {steps})"
        )

    # -- what the client does

    def request(self, size: int) -> None:
        """One more job."""
        number = len(self.jobs) + 1
        known = Known(b"%d:" % number + self.random.randbytes(size))
        try:
            self.ring.append(
                Kind.REQUEST, Pebble(key(number)), b"q%d" % number, (known.body,), ("accepted", number)
            )
        except RingFullError:
            self.score.refusals += 1
            return
        self.jobs[number] = known

    def note(self, number: int) -> None:
        """A step in a job's life; nobody waits for it."""
        self.ring.append(Kind.ATTEMPT, self._entry(number), b"step")

    def reply(self, number: int) -> None:
        """The job's one reply; refused only if it is larger than what is kept for it (R8)."""
        known, entry = self.jobs[number], self._entry(number)
        body = known.reply or b"%d=" % number + self.random.randbytes(self.random.choice((0, 700, 6000)))
        try:
            self.ring.append(Kind.REPLY, entry, b"r", (body,), ("replied", number))
        except RingFullError:
            if len(body) <= 1024 and not entry.reply_at:
                raise
            self.score.refused_replies += 1
            return
        known.reply = body

    def close(self, number: int) -> None:
        """The job goes; never refused (R8)."""
        self.jobs[number].closing = True
        self.ring.append(Kind.CLOSE, self._entry(number), b"", (), ("closed", number))

    def time_passes(self, seconds: float) -> None:
        """The store's thread gets its turn afterwards, as it would."""
        self.clock.sleep(seconds)
        self.ring._committer._guarded_turn()
        self.hear(self.ring.completed())

    def listen(self) -> None:
        """Hear what came back so far, and give the ring its turn."""
        self.hear(self.ring.completed())

    def commit(self) -> None:
        """Everything appended is written and, as the policy says, synced; promises are heard."""
        self.ring._committer._guarded_turn()
        self.hear(self.ring.completed())

    def hear(self, tokens: list[Any]) -> None:
        """What was acknowledged."""
        for kind, number in tokens:
            self.score.acknowledged += 1
            setattr(self.jobs[number], kind, True)
        if not self.disk.unsynced:
            for known in self.jobs.values():
                known.safe = known.safe or known.accepted
                known.buried = known.buried or known.closed

    def _entry(self, number: int) -> Pebble:
        entry = self.ring.index.get(key(number))
        if entry is None:
            raise self.broken(f"lost: job {number} left the index without a close")
        return entry

    def usable(self) -> list[int]:
        """Jobs that are there and not being closed, oldest first."""
        return [
            number for name in self.ring.index if not self.jobs[number := int.from_bytes(name, "big")].closing
        ]

    # -- what happens to the machine

    def close_in_order(self) -> None:
        """Stopped, checked, started again."""
        self.ring.close()
        self.hear(self.ring.completed())
        self.check_file()
        self.reopen()

    def kill(self) -> None:
        """The process dies; what it wrote is in the page cache."""
        self.ring.abandon()
        self.disk.fault = self.disk.cut_at = None
        self.disk.locked = False
        self.reopen()

    def power_fails(self) -> None:
        """Whatever was not synced may be there, torn or gone; the store opens, whatever the policy."""
        self.ring.abandon()
        self.disk.crash(self.sectors)
        self.score.crashes += 1
        self.reopen()

    def reopen(self) -> None:
        """Open what is on the disk and hold it against the ledger. What was never synced may all be gone."""
        self.disk.capacity_bytes = 1 << 40
        self.ring = self._open()
        self.score.turns = max(self.score.turns, self.ring.layout().block.tail_turn)
        self.compare()

    # -- checkers

    def compare(self) -> None:
        """No promise is broken; what was in doubt is decided now, for ever."""
        found = {int.from_bytes(name, "big"): entry for name, entry in self.ring.index.items()}
        for number, entry in found.items():
            known = self.jobs.get(number)
            if known is None:
                raise self.broken(f"phantom: job {number}")
            if known.closed and (self.strict or known.buried):
                raise self.broken(f"resurrected: job {number}")
            self._compare_bytes(number, known, entry)
        for number, known in self.jobs.items():
            if number in found:
                known.accepted, known.closing, known.closed = True, False, False
                known.safe = True  # what an opening reads was synced
                continue
            if known.accepted and not known.closing and (self.strict or known.safe):
                raise self.broken(f"lost: job {number}")
            known.closing = known.closed = known.buried = True  # gone, or never there: it must not come back
        if list(found) != sorted(found):
            raise self.broken(f"order: {list(found)}")
        self.score.found += len(found)

    def _compare_bytes(self, number: int, known: Known, entry: Pebble) -> None:
        meta, body = self.ring.read(entry.request_at)
        if body != known.body or meta != b"q%d" % number:
            raise self.broken(f"request changed: job {number}")
        if entry.reply_at:
            if known.reply is None or self.ring.read(entry.reply_at)[1] != known.reply:
                raise self.broken(f"reply changed: job {number}")
            known.replied = True
        elif known.replied:
            if self.strict:
                raise self.broken(f"reply lost: job {number}")
            known.replied = False

    def check_file(self) -> None:
        """A store that was closed in order is clean, and nothing of it is torn."""
        storage = self.disk.open()
        report = check_storage(storage, "disk")
        storage.close()
        if not report.clean or report.facts["torn_bytes"]:
            raise self.broken(f"check: {report.lines()}")


def act(world: World) -> None:
    """One to four things a client does, then usually a commit."""
    random = world.random
    for _ in range(random.randint(1, 4)):
        usable = world.usable()
        dice = random.random()
        if not usable or (dice < 0.45 and len(usable) < OPEN_MAX_COUNT):
            world.log.append("request")
            world.request(random.choice(SIZES))
        elif dice < 0.55:
            world.note(random.choice(usable))
        elif dice < 0.7:
            world.log.append("reply")
            world.reply(random.choice(usable))
        else:
            number = usable[0] if random.random() < 0.6 else random.choice(usable)
            world.log.append(f"close {number}")
            world.close(number)
    if random.random() < 0.2:
        world.listen()  # with all of that still on its way
    if random.random() < 0.9:
        world.commit()
    if random.random() < 0.2:
        world.time_passes(random.choice((0.001, 0.03, 2.0)))


def trouble(world: World) -> None:
    """One thing that happens to machines."""
    random, disk = world.random, world.disk
    kind = random.choice(("cut", "cut", "cut", "kill", "error", "short", "full", "orderly"))
    world.log.append(kind)
    if kind == "kill":
        world.kill()
    elif kind == "orderly":
        world.close_in_order()
    elif kind == "full":
        disk.capacity_bytes = len(disk.cache)
        for _ in range(6):
            act(world)
        disk.capacity_bytes = 1 << 40
    else:
        at = len(disk.calls) + random.randrange(14)
        if kind == "cut":
            disk.cut_at = at
        else:
            code = random.choice((errno.EIO, errno.ENOSPC))
            disk.fault = Fault(at, code, short=kind == "short")
        until_it_breaks(world)


def until_it_breaks(world: World) -> None:
    """Work goes on into the trouble; then the machine is started again, after a power failure or not."""
    try:
        for _ in range(12):
            act(world)
    except (PowerCut, OSError):  # while the file grew in the caller's own call
        world.power_fails()
        return
    except StoreFailedError as error:
        refuses_everything(world)
        if isinstance(error.__cause__, PowerCut):
            world.power_fails()
            return
    world.disk.cut_at = None
    if world.random.random() < 0.7:
        world.power_fails()
    else:
        world.kill()


def refuses_everything(world: World) -> None:
    """After the first error nothing is acknowledged any more (R11, D4)."""
    for attempt in (lambda: world.ring.barrier("x"), world.ring.completed):
        try:
            attempt()
        except StoreFailedError:
            continue
        raise world.broken("a failed store goes on")


def run_history(seed: int, steps: int = 40) -> Score:
    """One history; raises BrokenPromiseError, and whatever our own code dies of."""
    with decided_by(seed) as clock:
        return _history(seed, steps, clock)


def _history(seed: int, steps: int, clock: Clock) -> Score:
    random = Random(f"shape {seed}")
    world = World(
        seed,
        align=random.choice((4096, 4096, 512)),
        policy=random.choice(("always", "always", "always", "never", "interval:5ms")),
        max_chunks=random.choice((6, 7, 9)),
        clock=clock,
    )
    try:
        for _ in range(steps):
            act(world)
            if random.random() < 0.2:
                trouble(world)
        world.power_fails()
        world.close_in_order()
    except BrokenPromiseError:
        raise
    except Exception as error:
        raise world.broken(f"{type(error).__name__}: {error}") from error
    return world.score
