"""``titanic serve --pair``: both nodes of a pair and a gateway on this machine, to try it.

It shows what a pair does, and protects from nothing but the end of a process: one machine, one disk. A node
that ends, whoever ended it, does not end the rest: the other one serves, and this one is started again after
a while and follows. A gateway that ends, ends everything, as without ``--pair``.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from core.pure.pair_heads import PairCommand
from core.shell.curve import load_client
from gateway.composition.journal import DATA_FILE
from gateway.composition.pair_ask import Answers, ask_all
from gateway.composition.serve import (
    READY_MS,
    Child,
    ChildEndedError,
    Program,
    Supervisor,
    gateway_program,
    node_program,
    until_ready,
)
from gateway.composition.settings import Settings, SettingsError

ROLES: Final = ("primary", "backup")
RESTART_S: Final = 5.0
"""Longer than a takeover takes, so that one can be watched."""
RESTART_MAX_S: Final = 60.0
STEADY_S: Final = 60.0
"""A node that ran so long begins again with the short pause."""
POLL_S: Final = 0.1
PORT_MAX: Final = 65_535
Note = Callable[[str], None]


class Side(NamedTuple):
    """One node of the two: where it keeps its jobs, where its clients find it, where its peer does."""

    role: str
    data: Path
    broker: str
    link: str


def sides(settings: Settings) -> tuple[Side, Side]:
    """Primary and backup, out of ``--data`` and ``--broker``. Raises SettingsError if they cannot be.

    The data folder gets a folder for each. With the broker's port P the backup has P + 1, and the link
    between the two P + 2 and P + 3 of the loopback address; with port 0 all are free ones.
    """
    host, _, last = settings.broker.rpartition(":")
    if not settings.broker.startswith("tcp://") or not (last.isdecimal() or last == "*"):
        raise SettingsError(f"--pair needs a tcp endpoint with a port as --broker, not {settings.broker}")
    port = int(last) if last.isdecimal() else 0
    if port > PORT_MAX - 3:
        raise SettingsError(f"--pair takes the broker's port and the three behind it: {port} is too high")
    if (settings.data / DATA_FILE).exists():
        raise SettingsError(
            f"{settings.data} holds the store of a single node; make it the primary's: mkdir"
            f" {settings.data / ROLES[0]} && mv {settings.data / DATA_FILE} {settings.data / ROLES[0]}/"
        )
    ports = [port, port + 1, port + 2, port + 3] if port else [0, 0, *_free_ports(2)]
    first, second = (
        Side(role, settings.data / role, f"{host}:{ports[at]}", f"tcp://127.0.0.1:{ports[2 + at]}")
        for at, role in enumerate(ROLES)
    )
    return first, second


def refuse_pairs_folder(settings: Settings) -> None:
    """A single node is not begun beside a pair's stores, where its jobs would not be found. SettingsError."""
    for role in ROLES:
        if (settings.data / role / DATA_FILE).exists() and not (settings.data / DATA_FILE).exists():
            raise SettingsError(
                f"{settings.data} holds the two stores of a pair; say --pair, or choose another --data"
            )


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def side_program(settings: Settings, side: Side, peer: Side, verbose: int) -> Program:
    """One node, told of the other."""
    own = settings.model_copy(update={"data": side.data, "broker": side.broker})
    program = node_program(own, verbose)
    flags = ("--role", side.role, "--peer-bind", side.link, "--peer", peer.link)
    more = ("--replication", settings.replication, "--alone", settings.alone)
    return Program(side.role, [*program.arguments, *flags, *more])


class PairRun:
    """The programs of ``serve --pair`` under one supervisor."""

    def __init__(self, supervisor: Supervisor, settings: Settings, verbose: int, note: Note) -> None:
        self._supervisor = supervisor
        self._settings = settings
        self._verbose = verbose
        self._note = note
        self._sides = sides(settings)
        self._nodes: dict[str, Child] = {}
        self._gateways: list[Child] = []
        self._keys = load_client(settings.curve_dir) if settings.curve_dir is not None else None

    async def run(self, ready: Callable[[dict[str, Any]], None], *, http: str, metrics: str) -> None:
        """Start all, call ``ready`` with the facts once the pair is whole; ends by an error or cancelled."""
        first, second = self._sides
        async with asyncio.TaskGroup() as group:  # at once: one may need the other to begin
            for side, peer in ((first, second), (second, first)):
                group.create_task(self._begin(side, peer))
        nodes = ",".join(side.broker for side in self._sides)
        facts: dict[str, Any] = {}
        for process in range(self._settings.gateways):
            program = gateway_program(self._settings, nodes, self._verbose, http, process, metrics)
            child = await self._supervisor.start(program)
            self._gateways.append(child)
            facts |= child.ready
        await self._unless_one_ends(until_ready(facts["http"]))
        answers = await self._unless_one_ends(self._until_whole())
        ready(facts | {side.role: self._facts(side, answers) for side in self._sides})
        await self._watch()

    async def _begin(self, side: Side, peer: Side) -> None:
        child = await self._supervisor.start(self._program(side, peer))
        self._nodes[side.role] = child
        bound = side._replace(
            broker=child.ready["broker"]
        )  # port 0 has become a real one: a restart keeps it
        first, second = self._sides
        self._sides = (bound, second) if first is side else (first, bound)

    def _program(self, side: Side, peer: Side) -> Program:
        return side_program(self._settings, side, peer, self._verbose)

    def _facts(self, side: Side, answers: Answers) -> dict[str, Any]:
        answer = answers[side.broker]
        return {
            "broker": side.broker,
            "data": str(side.data),
            "link": side.link,
            "encrypted": answer["encrypted"],
            "pid": self._nodes[side.role].process.pid,
            "state": answer["state"],
            "active": answer["active"],
        }

    async def _until_whole(self) -> Answers:
        """What both say once one is active and the other in sync. TimeoutError."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + READY_MS / 1000
        nodes = tuple(side.broker for side in self._sides)
        while True:
            answers = await ask_all(nodes, PairCommand(), keys=self._keys)
            if {answer.get("state") for answer in answers.values()} == {"paired", "passive"}:
                return answers
            if loop.time() > deadline:
                raise TimeoutError(f"the two nodes did not become a pair: {answers}")
            await asyncio.sleep(POLL_S)

    async def _unless_one_ends(self, work: Awaitable[Any]) -> Any:
        """The result of ``work``; ChildEndedError if a child ends before."""
        watch = asyncio.ensure_future(self._supervisor.watch())
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait((watch, task), return_when=asyncio.FIRST_COMPLETED)
            if watch.done():
                watch.result()
            return await task
        finally:
            for each in (watch, task):
                each.cancel()

    async def _watch(self) -> None:
        """Nodes are brought back; the end of a gateway is raised."""
        first, second = self._sides
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep(first, second))
            group.create_task(self._keep(second, first))
            for child in self._gateways:
                group.create_task(_raise_at_end(child))

    async def _keep(self, side: Side, peer: Side) -> None:
        """Never returns: whenever this node ends it is started again, later and later if it keeps ending."""
        loop = asyncio.get_running_loop()
        pause_s = RESTART_S
        while True:
            child, started_s = self._nodes[side.role], loop.time()
            error = ChildEndedError(child, await child.process.wait())
            if loop.time() - started_s > STEADY_S:
                pause_s = RESTART_S
            self._note(
                f"{error}; if it was active, the {peer.role} takes over; it is started again in {pause_s:g} s"
            )
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, RESTART_MAX_S)
            try:
                self._nodes[side.role] = again = await self._supervisor.restart(
                    child, self._program(side, peer)
                )
            except ChildEndedError as failed:
                self._nodes[side.role] = failed.child
                continue
            self._note(f"the {side.role} is back (pid {again.process.pid}) and follows whoever is active")


async def _raise_at_end(child: Child) -> None:
    raise ChildEndedError(child, await child.process.wait())


async def run_pair(
    supervisor: Supervisor,
    settings: Settings,
    verbose: int,
    note: Note,
    ready: Callable[[dict[str, Any]], None],
    *,
    http: str,
    metrics: str,
) -> None:
    """See PairRun. Raises what ended it: ChildEndedError, TimeoutError."""
    try:
        await PairRun(supervisor, settings, verbose, note).run(ready, http=http, metrics=metrics)
    except* ChildEndedError as group:
        raise _first(group.exceptions) from None


def _first(errors: Sequence[BaseException]) -> BaseException:
    while isinstance(errors[0], BaseExceptionGroup):
        errors = errors[0].exceptions
    return errors[0]
