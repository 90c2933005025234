"""``titanic.watch``: who waits for the ends of many jobs asks once, and is told of them as they come.

A fetch that waits is a question and an answer for each job. A gateway has hundreds of them at a time: here
they are one question a turn, and all that ended in a turn is told in one message (``titanic.told``). The
question itself is answered only when its time is over and somebody is left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from core.pure import tsp
from core.pure.answering import Answering, error
from core.pure.jobs import ENDED, KEY_BYTES, Job, Now, State
from core.pure.ports import Answer, Path, Port, Tell
from core.pure.timers import Timer, Timers
from core.pure.watch_heads import WATCH, Watched, decode_watch


class Group:
    """The jobs of one question that were not told of yet."""

    __slots__ = ("keys", "left_count", "path", "timer")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.keys: list[bytes] = []
        self.left_count = 0
        self.timer: Timer[Group] | None = None


class Watching:
    """Which questions wait for which job; at most ``max_count`` jobs are waited for."""

    def __init__(self, index: Mapping[bytes, Job], port: Port, answering: Answering, max_count: int) -> None:
        self._index = index
        self._port = port
        self._answering = answering
        self._max_count = max_count
        self._groups: dict[bytes, list[Group]] = {}
        self._timers: Timers[Group] = Timers()
        self.count = 0

    def __contains__(self, key: bytes) -> bool:
        return key in self._groups

    def watch(self, path: Path, body: Sequence[bytes], now: Now) -> None:
        """``titanic.watch``: what has ended, and what cannot be waited for, is told at once."""
        try:
            head = decode_watch(body[0])
        except (msgspec.MsgspecError, UnicodeDecodeError, IndexError) as wrong:
            self._answering.answer(path, WATCH, *error(tsp.UNKNOWN, f"head: {wrong}"))
            return
        keys = head.keys
        if not keys or len(keys) % KEY_BYTES or len(keys) > tsp.BATCH_MAX_COUNT * KEY_BYTES:
            detail = f"{len(keys)} bytes are not 1 to {tsp.BATCH_MAX_COUNT} ids"
            self._answering.answer(path, WATCH, *error(tsp.UNKNOWN, detail))
            return
        group, index, groups = Group(path), self._index, self._groups
        for at in range(0, len(keys), KEY_BYTES):
            key = keys[at : at + KEY_BYTES]
            job = index.get(key)
            if (
                job is None
                or job.state in _NO_JOB
                or job.state in ENDED
                or (head.owner and job.owner.name != head.owner)
                or head.wait_ms <= 0
                or self.count >= self._max_count
            ):
                self._tell(path, key, job, head.owner)
                continue
            groups.setdefault(key, []).append(group)
            group.keys.append(key)
            self.count += 1
        group.left_count = len(group.keys)
        if group.left_count:
            group.timer = self._timers.arm(now.mono_ms + min(head.wait_ms, tsp.WAIT_MAX_MS), group)

    def ended(self, job: Job) -> None:
        """The job's end is durable: whoever waits is told."""
        groups = self._groups.pop(job.key, None)
        if groups is None:
            return
        self.count -= len(groups)
        for group in groups:
            self._tell(group.path, job.key, job, "")
            group.left_count -= 1
            if not group.left_count and group.timer is not None:
                self._timers.cancel(group.timer)

    def _tell(self, path: Path, key: bytes, job: Job | None, owner: str) -> None:
        """A reply is told, to whom it belongs; of anything else only that it is to be asked for."""
        told = job is not None and job.state == State.SUCCEEDED and not (owner and job.owner.name != owner)
        self._port.perform(Tell(path, key, job if told else None))

    def on_tick(self, now: Now) -> None:
        """Answer the questions whose time is over."""
        while (group := self._timers.pop_due(now.mono_ms)) is not None:
            for key in group.keys:
                groups = self._groups.get(key)
                if groups is not None and group in groups:
                    groups.remove(group)
                    self.count -= 1
                    if not groups:
                        del self._groups[key]
            ack = tsp.encode_head(Watched(group.left_count))
            self._port.perform(Answer(group.path, WATCH, (tsp.OK, ack)))

    def next_deadline(self) -> int | None:
        """Monotonic milliseconds of the next :meth:`on_tick`, or None."""
        return self._timers.next_deadline()


_NO_JOB = (State.BINDING, State.CLOSING)
