"""A store over the faulty disk or a real file, with an owner that remembers what it was told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from titanic_store import Kind, Options, Policy, Ring, open_ring
from titanic_store.pure.options import KIB
from titanic_store.shell.faulty import FaultyDisk
from titanic_store.shell.opening import Recovery, format_store

CHUNK: Final = 64 * KIB
DEADLINE_SECONDS: Final = 10.0
UNREADABLE: Final = b"unreadable"
SILENT: Final = b"\xff"
"""Keys of entries that get no reply begin so."""


class Pebble:
    """An index entry that keeps everything folded into it."""

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.request_at = 0
        self.reply_at = 0
        self.told: list[tuple[int, bytes, int]] = []


class Keeper:
    """The owner of pebbles; it cannot read a meta that begins with ``unreadable``."""

    def begin(self) -> None:
        """Pebbles are all there is."""

    def unreadable(self, kind: int, meta: bytes) -> str:
        return "says who" if meta.startswith(UNREADABLE) else ""

    def awaits_reply(self, entry: Pebble) -> bool:
        return not entry.key.startswith(SILENT)

    def open(self, kind: int, key: bytes, request_at: int, meta: bytes, origin_seq: int) -> Pebble:
        entry = self.new(kind, key)
        entry.request_at = request_at
        self.fold(entry, kind, meta, origin_seq)
        return entry

    def open_all(self, kind: int, keys: Sequence[bytes], meta: bytes, origin_seq: int) -> list[Pebble]:
        return [self.open(kind, key, 0, meta, seq) for seq, key in enumerate(keys, origin_seq)]

    def new(self, kind: int, key: bytes) -> Pebble:
        return Pebble(key)

    def fold(self, entry: Pebble, kind: int, meta: bytes, origin_seq: int) -> None:
        if meta.startswith(UNREADABLE):
            raise ValueError("cannot be read")
        entry.told.append((kind, meta, origin_seq))

    def snapshot(self, entry: Pebble, max_bytes: int) -> bytes:
        return b"".join(meta for _, meta, _ in entry.told)[:max_bytes]


def key(number: int) -> bytes:
    """The 16-byte key of the job with this number."""
    return number.to_bytes(16, "big")


def options(
    *,
    chunks: int = 6,
    max_chunks: int = 6,
    align: int = 4096,
    policy: Policy | None = None,
    chunk: int = CHUNK,
) -> Options:
    """A small store."""
    return Options(
        chunk_bytes=chunk,
        floor_chunks=chunks,
        align_bytes=align,
        max_bytes=8192 + max_chunks * chunk,
        policy=policy or Policy(),
    )


def open_on(disk: FaultyDisk, wanted: Options | None = None, *, thread: bool = False) -> Ring[Pebble]:
    """The ring on ``disk``, made if the disk is empty; committed by hand unless ``thread``."""
    wanted = wanted or options()
    storage = disk.open()
    try:
        if not storage.size():
            format_store(storage, wanted, 1_000)
        recovered = Recovery(storage, Keeper(), "disk").run()
        return Ring(storage, Keeper(), wanted, recovered, thread=thread)
    except BaseException:
        storage.close()
        raise


class Waiting:
    """A ring on a real file, whose tokens the test waits for."""

    def __init__(self, path: Path, wanted: Options | None = None) -> None:
        self.rung = threading.Event()
        self.ring = open_ring(path, Keeper(), wanted or options(), notify=self.rung.set)

    def wait(self, count: int) -> list[object]:
        """The next ``count`` tokens; fails after a deadline."""
        tokens = list(self.ring.completed())
        while len(tokens) < count:
            assert self.rung.wait(DEADLINE_SECONDS), f"{len(tokens)} of {count} tokens"
            self.rung.clear()
            tokens += self.ring.completed()
        return tokens


def request(ring: Ring[Pebble], number: int, body: bytes = b"body", meta: bytes = b"meta") -> Pebble:
    """Append the request of job ``number``; its token is the number."""
    pebble = Pebble(key(number))
    ring.append(Kind.REQUEST, pebble, meta, (body,), number)
    return pebble


def settle(ring: Ring[Pebble]) -> list[object]:
    """Commit by hand; the tokens."""
    ring.commit()
    return ring.completed()


def until(condition: Callable[[], bool], wake: threading.Event, what: str) -> None:
    """Wait until ``condition``, looking again at each ring of ``wake``."""
    while not condition():
        assert wake.wait(DEADLINE_SECONDS), what
        wake.clear()


def bodies(ring: Ring[Pebble]) -> dict[bytes, Sequence[bytes]]:
    """Key -> [request body, reply body] of everything alive, each read and checked."""
    return {
        pebble.key: [ring.read(at)[1] for at in (pebble.request_at, pebble.reply_at) if at]
        for pebble in ring.index.values()
    }
