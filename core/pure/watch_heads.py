"""The heads of ``titanic.watch`` and ``titanic.told``; see :mod:`core.pure.watching`."""

from __future__ import annotations

from typing import Final

import msgspec

from core.pure.tsp import ReplyHead

WATCH: Final = b"titanic.watch"
TOLD: Final = b"titanic.told"
"""The service of messages that answer no question of their own; it cannot be asked."""


class WatchHead(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """``titanic.watch``: tell of the ends of these jobs, up to a thousand ids one behind the other."""

    keys: bytes
    wait_ms: int
    owner: str = ""


class Watched(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """200 to a watch, when its time is over and so many jobs have not ended."""

    left_count: int


class ToldRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One job of a ``titanic.told``: its reply has ``size_bytes``. Without a head: fetch it, and see."""

    key: bytes
    head: ReplyHead | None = None
    size_bytes: int = 0


class ToldHead(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """``titanic.told``: a frame behind it has all replies, one after the other."""

    rows: tuple[ToldRow, ...]


decode_watch: Final = msgspec.msgpack.Decoder(WatchHead).decode
decode_told: Final = msgspec.msgpack.Decoder(ToldHead).decode
