"""What ended in a turn, told to each who waits in one message (``titanic.told``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from core.errors import DamagedRecordError
from core.pure import tsp
from core.pure.ports import Path, Tell
from core.pure.watch_heads import TOLD, ToldHead, ToldRow
from core.shell.bodies import Bodies

TOLD_MAX_BYTES: Final = 1 << 20
"""Of the replies in one message."""
REPLY_MAX_BYTES: Final = 1 << 16
"""A larger reply is fetched: copying it is what costs."""


class Telling:
    """Collects until :meth:`flush`; ``reply(path, service, frames)`` sends."""

    def __init__(self, bodies: Bodies, reply: Callable[[Path, bytes, Sequence[bytes]], None]) -> None:
        self._bodies = bodies
        self._reply = reply
        self._rows: dict[Path, list[ToldRow]] = {}  # by who asked: the path without the tag of the question
        self._parts: dict[Path, list[bytes]] = {}
        self._paths: dict[Path, Path] = {}
        self._bytes = 0

    def tell(self, effect: Tell) -> None:
        """One more job; a reply that cannot be read, or is large or of several frames, is to be asked for."""
        row, body = ToldRow(effect.key), b""
        if effect.job is not None:
            try:
                meta, frames = self._bodies.reply(effect.job)
            except DamagedRecordError:
                frames = ()  # whoever asks meets it, and mends it
            if len(frames) == 1 and len(frames[0]) <= REPLY_MAX_BYTES:
                body = frames[0]
                head = tsp.ReplyHead(meta.content_type, meta.attempt, meta.replied_ms)
                row = ToldRow(effect.key, head, len(body))
        who = effect.path[:-1]
        rows = self._rows.get(who)
        if rows is None:
            rows = self._rows[who] = []
            self._parts[who], self._paths[who] = [], effect.path
        rows.append(row)
        self._parts[who].append(body)
        self._bytes += len(body)
        if self._bytes > TOLD_MAX_BYTES:
            self.flush()

    def flush(self) -> None:
        """Everything that was collected is sent."""
        if not self._rows:
            return
        for who, rows in self._rows.items():
            head = tsp.encode_head(ToldHead(tuple(rows)))
            self._reply(self._paths[who], TOLD, (tsp.OK, head, b"".join(self._parts[who])))
        self._rows.clear()
        self._parts.clear()
        self._paths.clear()
        self._bytes = 0
