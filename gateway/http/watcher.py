"""Requests that wait for the end of a job, many in one question to the node (``titanic.watch``).

A fetch that waits costs both processes a question and an answer per job. Those that begin to wait in one
turn ask together, and are told of their replies as they come, those of one turn in one message. Whoever is
not told, for whatever reason, fetches the reply as ever: nothing depends on being told but time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

import msgspec

from core.errors import PeerError, ServerUnreachableError
from core.pure import tsp
from core.pure.watch_heads import WATCH, WatchHead, decode_told

GROUP_MAX: Final = 256
assert GROUP_MAX <= tsp.BATCH_MAX_COUNT, "a group is one question"

log = logging.getLogger("titanic.watcher")

Ask = Callable[[bytes, Sequence[bytes], float], Awaitable[list[bytes]]]


class Watched(Protocol):
    """Who waits for the end of a job."""

    def told(self, answer: list[bytes] | None) -> None:
        """The frames of a 200 to a fetch; None: it is not known, fetch it. Called once, if not cancelled."""
        ...


class _Group:
    """One question, and those of it who wait."""

    __slots__ = ("keys", "left_count", "owner", "task", "wait_ms")

    def __init__(self, wait_ms: int, owner: str) -> None:
        self.wait_ms = wait_ms
        self.owner = owner
        self.keys: list[bytes] = []
        self.left_count = 0
        self.task: asyncio.Task[None] | None = None


class Watcher:
    """Groups those who wait; ``ask(service, body, wait_s)`` is a call to the node."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._waiting: dict[bytes, list[tuple[Watched, _Group]]] = {}
        self._groups: list[_Group] = []  # of this turn
        self._handle: asyncio.Handle | None = None

    def add(self, key: bytes, wait_s: float, owner: str, who: Watched) -> None:
        """``who`` is told of the job's reply, or within ``wait_s`` and a call's time that it has to ask."""
        wait_ms = int(wait_s * 1_000)
        for group in self._groups:
            if group.wait_ms == wait_ms and group.owner == owner and group.left_count < GROUP_MAX:
                break
        else:
            group = _Group(wait_ms, owner)
            self._groups.append(group)
            if self._handle is None:
                self._handle = asyncio.get_running_loop().call_soon(self._flush)
        group.keys.append(key)
        group.left_count += 1
        self._waiting.setdefault(key, []).append((who, group))

    def leave(self, key: bytes, who: Watched) -> None:
        """``who`` does not wait any more."""
        waiting = self._waiting.get(key, [])
        for found in waiting:
            if found[0] is who:
                waiting.remove(found)
                if not waiting:
                    del self._waiting[key]
                self._settle(found[1])
                return

    def told(self, body: Sequence[bytes]) -> None:
        """A ``titanic.told`` came: the replies go to who waits for them."""
        try:
            rows = decode_told(body[1]).rows
            bodies = body[2]
        except (msgspec.MsgspecError, UnicodeDecodeError, IndexError) as wrong:
            log.warning("the node told something that cannot be read: %s", wrong)
            return
        at, waiting = 0, self._waiting
        for row in rows:
            end = at + row.size_bytes
            found = waiting.pop(row.key, None)
            if found is not None:
                reply = bodies[at:end]
                answer = None
                if row.head is not None and len(reply) == row.size_bytes:
                    answer = [tsp.OK, tsp.encode_head(row.head), reply]
                for who, group in found:
                    self._settle(group)
                    who.told(answer)
            at = end

    def drain(self) -> None:
        """Nobody waits any more: the server stops."""
        waiting, self._waiting = self._waiting, {}
        for found in waiting.values():
            for who, group in found:
                self._settle(group)
                who.told(None)

    def _settle(self, group: _Group) -> None:
        """One less waits; the question of a group without any is given up."""
        group.left_count -= 1
        if not group.left_count and group.task is not None:
            group.task.cancel()

    def _flush(self) -> None:
        self._handle = None
        groups, self._groups = self._groups, []
        for group in groups:
            if group.left_count:
                group.task = asyncio.get_running_loop().create_task(self._question(group))

    async def _question(self, group: _Group) -> None:
        head = tsp.encode_head(WatchHead(b"".join(group.keys), group.wait_ms, group.owner))
        try:
            with contextlib.suppress(ServerUnreachableError, PeerError):  # whoever asks meets it again
                await self._ask(WATCH, (head,), group.wait_ms / 1_000)
        finally:  # whatever went wrong, nobody is forgotten
            group.task = None
            for key in group.keys:
                for who in [who for who, other in self._waiting.get(key, ()) if other is group]:
                    self.leave(key, who)
                    who.told(None)
