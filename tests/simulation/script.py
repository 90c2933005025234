"""What goes wrong in a history, as plain data: every fault with its time and its numbers.

A script is complete: what a change of :func:`generate` does to later seeds does not touch it, so a failure
is kept as its script (``kept/*.json``) and not as its seed. ``seed`` is for what happens between the faults
only: delays, clients' choices, each from a stream of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Final

import msgspec

VERSION: Final = 2
END_MS: Final = 20_000
CLIENTS_COUNT: Final = 3
ACTIVE: Final = 2
PASSIVE: Final = 3
"""In place of a node: who that was at the last step ``look``."""
KEPT: Final = Path(__file__).parent / "kept"


class Step(msgspec.Struct, frozen=True, omit_defaults=True):
    """One fault, or its end. ``do`` names a function of :mod:`tests.simulation.faults`."""

    at_ms: int
    do: str
    node: int = -1
    client: int = -1
    ms: int = 0
    share: float = 0.0
    double: float = 0.0


class Script(msgspec.Struct, frozen=True, omit_defaults=True):
    """A whole history. ``finds``: bugs of :mod:`tests.simulation.sabotage` that go wrong in it."""

    seed: int
    steps: tuple[Step, ...]
    version: int = VERSION
    family: str = ""
    sync: bool = True
    serve_alone: bool = True
    islands: bool = False
    lossy: float = 0.0  # share of what the nodes say that is lost still after everything is healed
    why: str = ""
    finds: tuple[str, ...] = ()


def save(script: Script, path: Path) -> None:
    """A line per step, so that a person can read and shorten it."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(script), indent=1) + b"\n")


def load(path: Path) -> Script:
    """The script in a file."""
    return msgspec.json.decode(path.read_bytes(), type=Script)


class Plan:
    """Steps in the making; ``random`` is the generator's own."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.steps: list[Step] = []
        self.islands = False

    def add(self, at_ms: int, do: str, node: int = -1, **more: float) -> None:
        """One step."""
        self.steps.append(msgspec.convert({"at_ms": at_ms, "do": do, "node": node, **more}, Step))

    def pick(self, *lengths_ms: int) -> int:
        """One of these lengths, and up to 0.9 s more."""
        return self.random.choice(lengths_ms) + self.random.randint(0, 900)

    def node(self) -> int:
        """One of the two."""
        return self.random.randint(0, 1)


# -- single faults


def _kill(plan: Plan, at_ms: int) -> None:
    node = plan.node()
    plan.add(at_ms, "kill", node)
    if plan.random.random() < 0.7:
        plan.add(at_ms + plan.random.randint(1, 30), "refused", 1 - node)
    plan.add(at_ms + plan.pick(100, 1_000, 3_000, 8_000), "start", node)


def _kill_both(plan: Plan, at_ms: int) -> None:
    for node in (0, 1):
        plan.add(at_ms + plan.random.choice((0, 5, 800)), "kill", node)
        plan.add(at_ms + plan.pick(1_000, 1_500, 6_000), "start", node)


def _pause(plan: Plan, at_ms: int) -> None:
    node = plan.node()
    plan.add(at_ms, "pause", node)
    plan.add(at_ms + plan.pick(300, 1_500, 2_500, 4_500, 9_000), "resume", node)


def _cut(plan: Plan, at_ms: int, *nodes: int) -> None:
    length_ms = plan.pick(400, 1_800, 2_500, 4_500, 9_000)
    for node in nodes or (0, 1):
        plan.add(at_ms, "cut", node)
        plan.add(at_ms + length_ms, "mend", node)


def _cut_one_way(plan: Plan, at_ms: int) -> None:
    _cut(plan, at_ms, plan.node())


def _lossy(plan: Plan, at_ms: int) -> None:
    random = plan.random
    end_ms = at_ms + random.randint(2_000, 10_000)
    for node in (0, 1):
        plan.add(
            at_ms, "wire", node,
            share=random.choice((0.0, 0.1, 0.4)), double=random.choice((0.0, 0.2)),
            ms=random.choice((20, 100, 900)),
        )  # fmt: skip
        plan.add(end_ms, "wire", node, ms=20)


def _slow(plan: Plan, at_ms: int) -> None:
    node = plan.node()
    plan.add(at_ms, "slow", node, share=0.3)
    plan.add(at_ms + plan.random.randint(1_000, 6_000), "slow", node)


def _stick(plan: Plan, at_ms: int) -> None:
    node = plan.node()
    plan.add(at_ms, "stick", node)
    end_ms = at_ms + plan.pick(1_000, 4_500, 8_000)
    plan.add(end_ms, "unstick", node)
    plan.add(end_ms + plan.random.randint(10, 2_000), "start", node)


def _handover(plan: Plan, at_ms: int) -> None:
    plan.add(at_ms, "handover")


def _trim(plan: Plan, at_ms: int) -> None:
    plan.add(at_ms, "trim")


Fault = Callable[[Plan, int], None]
FAULTS: Final[tuple[Fault, ...]] = (
    _kill, _kill, _kill_both, _pause, _pause, _cut, _cut_one_way, _slow, _stick, _handover, _trim, _lossy,
)  # fmt: skip


# -- families


def _bad_clients(plan: Plan) -> None:
    """All clients but the first, which can always reach whoever lives, have bad wires."""
    for client in range(1, CLIENTS_COUNT):
        for node in (0, 1):
            plan.add(
                100, "client-wire", node, client=client,
                share=plan.random.choice((0.0, 0.05, 0.3)), ms=plan.random.choice((5, 50, 400)),
            )  # fmt: skip


def _storm(plan: Plan) -> None:
    """One fault after the other, or several at once."""
    _bad_clients(plan)
    random = plan.random
    at_ms = random.randint(4_000, 6_000)
    while at_ms < END_MS - 4_000:
        random.choice(FAULTS)(plan, at_ms)
        at_ms += random.choice((200, 1_000, 3_000, 7_000)) + random.randint(0, 1_000)


def _partition(plan: Plan) -> None:
    """No way between the nodes, and clients that reach only one of them; one client reaches both."""
    random = plan.random
    for at_ms in (random.randint(4_500, 5_500), random.randint(12_500, 13_500)):
        _cut(plan, at_ms, *random.choice(((), (), (0,), (1,))))
        for client in range(1, CLIENTS_COUNT):
            node = plan.node()
            plan.add(at_ms - random.randint(0, 300), "client-cut", node, client=client)
            plan.add(at_ms + plan.pick(3_000, 6_000), "client-mend", node, client=client)
        if random.random() < 0.6:
            node = plan.node()
            asleep_ms = at_ms + random.choice((0, 1_000, 1_900, 3_000))
            plan.add(asleep_ms, "pause", node)
            plan.add(asleep_ms + plan.pick(500, 2_000, 4_000, 5_500), "resume", node)


def _islands(plan: Plan) -> None:
    """Each node with clients of its own and no way between: the excepted network (P7)."""
    random = plan.random
    plan.islands = True
    at_ms = random.randint(5_000, 7_000)
    for node in (0, 1):
        plan.add(at_ms, "cut", node)
        plan.add(at_ms + 9_000, "mend", node)
    late_ms = random.choice((0, 2_500))  # until then clients that were at one node go to the other
    for client in range(CLIENTS_COUNT):
        node = plan.node()
        plan.add(at_ms + random.randint(0, late_ms), "client-cut", node, client=client)
        if random.random() < 0.6:  # it changes sides in the middle of it
            plan.add(at_ms + 6_500, "client-cut", 1 - node, client=client)
            plan.add(at_ms + 6_500, "client-mend", node, client=client)
    if random.random() < 0.5:
        _kill(plan, at_ms + random.randint(7_000, 10_500))
    if random.random() < 0.3:
        plan.add(at_ms + 6_500, "trim")


def _late_voter(plan: Plan) -> None:
    """Nobody reaches the passive node while its window is open; later somebody does who knows nothing."""
    random = plan.random
    at_ms = random.randint(5_000, 7_000)
    plan.add(at_ms - 300, "look")
    for node in (0, 1):
        plan.add(at_ms, "cut", node)
        plan.add(at_ms + 9_500, "mend", node)
    for client in range(CLIENTS_COUNT):
        plan.add(at_ms - 300, "client-cut", PASSIVE, client=client)
        plan.add(at_ms + 9_500, "client-mend", PASSIVE, client=client)
    for client in range(1, CLIENTS_COUNT):
        plan.add(at_ms - 300, "client-cut", ACTIVE, client=client)
        plan.add(at_ms + random.randint(4_600, 6_500), "client-mend", PASSIVE, client=client)
        plan.add(at_ms + 9_500, "client-mend", ACTIVE, client=client)


def _stuck(plan: Plan) -> None:
    """A disk that hangs for good: the other node goes on (P8), or this one without it."""
    at_ms = plan.random.randint(4_500, 5_500)
    plan.add(at_ms, "stick", plan.node())
    plan.add(END_MS - 200, "progress", ms=2_500)
    plan.add(END_MS - 100, "unstick", 0)
    plan.add(END_MS - 100, "unstick", 1)


def _lost_disk(plan: Plan) -> None:
    """A disk is gone for good, and at the same moment power may fail at the other machine (P2)."""
    node, at_ms = plan.node(), plan.random.randint(5_000, 9_000)
    slow, killed = plan.random.random() < 0.6, plan.random.random() < 0.5
    if slow:
        plan.add(at_ms - plan.random.randint(200, 1_500), "slow", 1 - node, share=0.5)
    if killed:
        plan.add(at_ms, "kill", 1 - node)
        plan.add(at_ms + plan.pick(100, 2_000), "start", 1 - node)
    if not slow and not killed:
        plan.add(at_ms + 9_500, "progress", ms=2_500)
    plan.add(at_ms, "lose-disk", node)


def _altered(plan: Plan) -> None:
    """While a follower is down, its journal is changed so that only the digest can tell (P6)."""
    at_ms = plan.random.randint(5_000, 8_000)
    plan.add(at_ms, "alter-follower")
    plan.add(at_ms + 1_500, "start", 0)
    plan.add(at_ms + 1_500, "start", 1)


def _rot(plan: Plan) -> None:
    """Records go bad on one disk that are whole on the other (D3), with a fault or two in between."""
    random = plan.random
    at_ms = random.randint(4_500, 6_000)
    while at_ms < END_MS - 5_000:
        plan.add(at_ms, "rot", plan.node(), ms=random.randint(1, 8))
        if random.random() < 0.3:
            random.choice((_kill, _pause, _slow, _handover, _cut_one_way))(
                plan, at_ms + random.randint(0, 900)
            )
        at_ms += random.randint(1_000, 4_000)


def _rejoin(plan: Plan) -> None:
    """A node comes back again and again, and each time something goes wrong while it catches up (P6)."""
    _bad_clients(plan)
    random = plan.random
    at_ms = random.randint(4_500, 6_000)
    while at_ms < END_MS - 4_000:
        node = plan.node()
        plan.add(at_ms, "kill", node)
        if random.random() < 0.5:
            plan.add(at_ms + random.randint(1, 30), "refused", 1 - node)
        back_ms = at_ms + plan.pick(100, 1_500, 3_000, 5_500)
        if random.random() < 0.3:  # so that it needs a full copy
            plan.add(back_ms - 50, "trim")
        plan.add(back_ms, "start", node)
        for _ in range(random.randint(1, 4)):
            back_ms += random.randint(1, 600)
            random.choice(MEANWHILE)(plan, back_ms)
        at_ms = back_ms + plan.pick(300, 2_000, 4_000)


def _blink(plan: Plan, at_ms: int) -> None:
    """The link is gone for a moment, as often as not too short to be noticed."""
    for node in random_nodes(plan):
        plan.add(at_ms, "cut", node)
        plan.add(at_ms + plan.random.choice((50, 300, 1_500, 2_500)), "mend", node)


def random_nodes(plan: Plan) -> tuple[int, ...]:
    """One of the two, or both."""
    return plan.random.choice(((0,), (1,), (0, 1)))


MEANWHILE: Final[tuple[Fault, ...]] = (
    _kill, _pause, _blink, _blink, _lossy, _handover, _trim, _slow, _stick,
)  # fmt: skip


def _movers(plan: Plan) -> None:
    """Two islands; who gets no answer on the one goes to the other with the same job, and closes it there."""
    random = plan.random
    plan.islands = True
    at_ms = random.randint(5_000, 7_000)
    plan.add(at_ms - 300, "look")
    for node in (0, 1):
        plan.add(at_ms, "cut", node)
        plan.add(at_ms + 9_000, "mend", node)
    plan.add(at_ms - 250, "client-cut", PASSIVE, client=0)  # by it the old active goes on, and wins
    for client in range(1, CLIENTS_COUNT):
        lossy_ms, moves_ms = at_ms + random.randint(4_000, 4_500), at_ms + random.randint(6_000, 7_000)
        plan.add(at_ms - 250, "client-cut", ACTIVE, client=client)
        plan.add(lossy_ms, "client-wire", PASSIVE, client=client, share=0.6, ms=100)
        plan.add(moves_ms, "client-cut", PASSIVE, client=client)
        plan.add(moves_ms, "client-mend", ACTIVE, client=client)
        plan.add(moves_ms, "closes", client=client)


def _empty_disk(plan: Plan) -> None:
    """The active's disk is gone, and nobody promotes the passive in time: outdated meets empty (P5)."""
    at_ms = plan.random.randint(5_000, 9_000)
    plan.add(at_ms - 300, "look")
    plan.add(at_ms, "lose-disk", ACTIVE)
    for client in range(CLIENTS_COUNT):
        plan.add(at_ms - 250, "client-cut", PASSIVE, client=client)
        plan.add(at_ms + plan.random.randint(5_000, 8_000), "client-mend", PASSIVE, client=client)


def _packs(plan: Plan) -> None:
    """A storm under clients that submit several jobs at once: what follows crosses as one, or in parts."""
    for client in range(CLIENTS_COUNT):
        plan.add(100, "packs", client=client)
    _storm(plan)


FAMILIES: Final[dict[str, tuple[int, Callable[[Plan], None]]]] = {
    "storm": (41, _storm),
    "rejoin": (10, _rejoin),
    "partition": (16, _partition),
    "late-voter": (4, _late_voter),
    "islands": (8, _islands),
    "stuck": (4, _stuck),
    "lost-disk": (5, _lost_disk),
    "altered": (3, _altered),
    "rot": (5, _rot),
    "packs": (0, _packs),
    "movers": (0, _movers),
    "empty-disk": (0, _empty_disk),
}
"""Name -> (how many of a hundred histories, what happens in it); of those with 0, tests ask by name."""
REFUSING: Final = ("storm", "partition", "rejoin")
"""Families of which some are played with --alone refuse: they demand no progress of one node."""


def generate(seed: int, *, family: str = "") -> Script:
    """The script of a seed; of one family, if it is named."""
    random = Random(f"script {VERSION} of {seed}")
    names = list(FAMILIES)
    drawn = random.choices(names, [FAMILIES[name][0] for name in names])[0]
    plan = Plan(random)
    for node in (0, 1):
        plan.add(random.randint(0, 3_000), "start", node)
    FAMILIES[family or drawn][1](plan)
    plan.steps.sort(key=lambda step: step.at_ms)
    name = family or drawn
    return Script(
        seed,
        tuple(plan.steps),
        family=name,
        islands=plan.islands,
        serve_alone=name not in REFUSING or random.random() < 0.85,
        lossy=random.choice((0.0, 0.1, 0.1)) if name == "rejoin" else 0.0,
    )
