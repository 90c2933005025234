"""A pair on networks of its own: three network namespaces, joined by veth, as root.

    python -m tests.support.islands FOLDER SCENARIO

Runs one scenario and ends with 0 if every checker is content. Node A and node B are joined by the link
(10.77.1.0/30); the clients' namespace C reaches each of them over a wire of its own (10.77.2.0/30 and
10.77.3.0/30). The program itself runs in C. Nothing of it touches the namespace it was started from.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from tests.support.load import Load
from tests.support.pair import ROLES, Pair, first_new_answer, new_seed, under_load
from tests.support.processes import Processes, Titanic, processes, until

NAMES: Final = "ABC"
LINK: Final = ("10.77.1.1", "10.77.1.2")
OUTSIDE: Final = ("10.77.2.1", "10.77.3.1")
CLIENTS: Final = ("10.77.2.2", "10.77.3.2")
BROKER_PORT: Final = 5555
LINK_PORT: Final = 5600
WIRE: Final = "wire"
NOWHERE: Final = "02:00:00:00:00:99"


def ip(*arguments: str) -> None:
    """``ip`` with these arguments. CalledProcessError."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=30)


class Islands:
    """The namespaces ``PREFIXa``, ``PREFIXb``, ``PREFIXc`` and the wires between them."""

    def __init__(self, prefix: str) -> None:
        self.names = [f"{prefix}{name.lower()}" for name in NAMES]

    def make(self) -> None:
        """All of it; what is left of an earlier try is removed."""
        self.remove()
        for name in self.names:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        a, b, c = self.names
        self._wire(a, b, LINK[0], LINK[1], WIRE)
        self._wire(a, c, OUTSIDE[0], CLIENTS[0], "out0")
        self._wire(b, c, OUTSIDE[1], CLIENTS[1], "out1")

    def _wire(self, left: str, right: str, left_address: str, right_address: str, device: str) -> None:
        ip("link", "add", device, "netns", left, "type", "veth", "peer", "name", device, "netns", right)
        for name, address in ((left, left_address), (right, right_address)):
            ip("-n", name, "address", "add", f"{address}/30", "dev", device)
            ip("-n", name, "link", "set", device, "up")

    def remove(self) -> None:
        """No namespace of these names is there any more."""
        for name in self.names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True, timeout=30)

    def cut(self, number: int, device: str) -> None:
        """The cable is out, at this node's end."""
        ip("-n", self.names[number], "link", "set", device, "down")

    def plug(self, number: int, device: str) -> None:
        """The cable is in again."""
        ip("-n", self.names[number], "link", "set", device, "up")

    def deafen(self, number: int) -> None:
        """What this node sends over the link arrives at nobody; it still hears the other."""
        where = (LINK[1 - number], "lladdr", NOWHERE, "dev", WIRE, "nud", "permanent")
        ip("-n", self.names[number], "neighbour", "replace", *where)

    def undeafen(self, number: int) -> None:
        """Both directions again."""
        ip("-n", self.names[number], "neighbour", "delete", LINK[1 - number], "dev", WIRE)


class IslandPair(Pair):
    """A pair whose nodes live in namespaces of their own."""

    def __init__(self, islands: Islands, family: Processes, folder: Path) -> None:
        self._islands = islands
        super().__init__(family, folder, "--insecure")

    def start(self, number: int, *, ready: bool = True) -> Titanic:
        """See Pair.start."""
        self.brokers = tuple(f"tcp://{address}:{BROKER_PORT}" for address in OUTSIDE)
        node = self.family.start(
            *("node", "--data", str(self.data(number)), "--broker", self.brokers[number]),
            *("--role", ROLES[number], "--json", "--peer-bind", f"tcp://{LINK[number]}:{LINK_PORT}"),
            *("--peer", f"tcp://{LINK[1 - number]}:{LINK_PORT}", "--insecure"),
            under=("ip", "netns", "exec", self._islands.names[number]),
        )
        if ready:
            node.facts()
        return node


async def _while(
    pair: Pair, load: Load, rng: random.Random, hurt: Callable[[], None], heal: Callable[[], None]
) -> int:
    """The node that serves while it hurts; the two are a pair again at the end, and it still serves."""
    await load.moment(rng)
    pair.disturb()
    hurt()
    await first_new_answer(load)
    await load.moment(rng)
    serves = await asyncio.to_thread(until, "one serves", pair.active, deadline_s=40) - 1
    pair.disturb()
    heal()
    after = await asyncio.to_thread(pair.until_paired)
    assert after == serves, "nothing fails back by itself"
    return serves


async def link_cut(islands: Islands, pair: Pair, load: Load, rng: random.Random) -> None:
    """The cable between the nodes is pulled: one goes on, the other waits."""
    await _while(pair, load, rng, lambda: islands.cut(0, WIRE), lambda: islands.plug(0, WIRE))


async def link_cut_one_way(islands: Islands, pair: Pair, load: Load, rng: random.Random) -> None:
    """The active node's words do not arrive, it hears the other: the other takes over."""
    active = await asyncio.to_thread(pair.until_paired)
    serves = await _while(pair, load, rng, lambda: islands.deafen(active), lambda: islands.undeafen(active))
    assert serves == 1 - active


async def machine_unplugged(islands: Islands, pair: Pair, load: Load, rng: random.Random) -> None:
    """Both cables of the active node are pulled: the other takes over; plugged in again it follows."""
    active = await asyncio.to_thread(pair.until_paired)
    devices = (WIRE, f"out{active}")

    def hurt() -> None:
        for device in devices:
            islands.cut(active, device)

    def heal() -> None:
        for device in devices:
            islands.plug(active, device)

    assert await _while(pair, load, rng, hurt, heal) == 1 - active


SCENARIOS: Final[dict[str, Callable[[Islands, Pair, Load, random.Random], Awaitable[None]]]] = {
    "link-cut": link_cut,
    "link-cut-one-way": link_cut_one_way,
    "machine-unplugged": machine_unplugged,
}


def scene(islands: Islands, folder: Path, name: str) -> None:
    """Run in C: a pair under load, hurt and healed, then every checker."""
    with processes(folder) as family:
        pair = IslandPair(islands, family, folder)

        async def torment(load: Load, rng: random.Random) -> None:
            await SCENARIOS[name](islands, pair, load, rng)

        pair.check(asyncio.run(under_load(pair.serve(), new_seed(), torment)))


def main(folder: str, name: str, prefix: str = "") -> None:
    """Make the namespaces and run this program again in C; there, run the scenario."""
    if prefix:
        scene(Islands(prefix), Path(folder), name)
        return
    islands = Islands(f"tj{os.getpid()}")
    try:
        islands.make()
        inside = ["ip", "netns", "exec", islands.names[2], sys.executable, "-m", "tests.support.islands"]
        done = subprocess.run([*inside, folder, name, islands.names[0][:-1]], check=False, timeout=240)
    finally:
        islands.remove()
    raise SystemExit(done.returncode)


if __name__ == "__main__":
    main(*sys.argv[1:])
