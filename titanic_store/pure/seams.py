"""What the store needs of others: a file below it, an owner of the index entries above it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol, TypeVar


class Entry(Protocol):
    """One live key in memory. The store writes both positions (0: no such record) and nothing else."""

    key: bytes
    request_at: int
    reply_at: int


E = TypeVar("E", bound=Entry)
E_co = TypeVar("E_co", bound=Entry, covariant=True)


class Owner(Protocol[E]):
    """Makes entries and understands metas, so that the store need not.

    At start the store calls :meth:`open` for each record that opens an entry and :meth:`fold` for each
    other record of an entry that is (still) there, in the order of the log. A relocated entry begins with
    :meth:`new`; its JOB is folded as the record it replaces, then as JOB with what :meth:`snapshot` gave. A
    CLOSE is folded just before the entry goes. :meth:`open` and :meth:`fold` raise ValueError on a meta that
    is :meth:`unreadable`.
    """

    def begin(self) -> None:
        """A log is told from its begin: what was told before counts no more."""
        ...

    def unreadable(self, kind: int, meta: bytes) -> str:
        """Why the meta of a record of this kind cannot be folded; empty if it can. Nothing changes.

        Of a JOB it is what :meth:`snapshot` gave.
        """
        ...

    def awaits_reply(self, entry: E) -> bool:
        """Whether ``entry`` may get a reply one day: room is kept for it (R8). It never changes."""
        ...

    def open(self, kind: int, key: bytes, request_at: int, meta: bytes, origin_seq: int) -> E:
        """As :meth:`new`, its ``request_at`` set, and :meth:`fold` with the record: one call, for speed."""
        ...

    def open_all(self, kind: int, keys: Sequence[bytes], meta: bytes, origin_seq: int) -> list[E]:
        """:meth:`open` for each key, all with this meta; ``origin_seq`` is the first's, positions are 0."""
        ...

    def new(self, kind: int, key: bytes) -> E:
        """An entry for ``key``, both positions 0."""
        ...

    def fold(self, entry: E, kind: int, meta: bytes, origin_seq: int) -> None:
        """Bring ``entry`` up to date with one record; ``origin_seq`` orders entries by acceptance."""
        ...

    def snapshot(self, entry: E, max_bytes: int) -> bytes:
        """The state of ``entry`` in place of all notes about it so far, in at most ``max_bytes`` (R8).

        They are at least 224, and no more where the store is nearly full: then something must be left out.
        """
        ...


Judge = Callable[[int, bytes], str]
"""As :meth:`Owner.unreadable`."""


class Foreign(NamedTuple):
    """A record without its place in a file: what one node of a pair sends to the other (P2)."""

    kind: int
    flags: int
    sequence: int
    epoch: int
    key: bytes
    meta: bytes
    body: Sequence[bytes]


class Crowd(NamedTuple):
    """Records that follow each other, each opening an entry: only sequence, key and body are their own."""

    kind: int
    sequence: int  # of the first
    epoch: int
    keys: Sequence[bytes]
    meta: bytes
    bodies: Sequence[bytes]

    def each(self) -> Iterator[Foreign]:
        """The records one by one."""
        kind, sequence, epoch, keys, meta, bodies = self
        for number, (key, body) in enumerate(zip(keys, bodies, strict=True), sequence):
            yield Foreign(kind, 0, number, epoch, key, meta, (body,) if body else ())


class Storage(Protocol):
    """A file, as little of it as the store needs. Every method raises OSError when the disk does."""

    def size(self) -> int:
        """Length of the file in bytes."""
        ...

    def read_at(self, offset: int, size: int) -> bytes:
        """``size`` bytes from ``offset``; fewer only at the end of the file."""
        ...

    def write_at(self, offset: int, parts: Sequence[bytes | bytearray | memoryview]) -> None:
        """Write the parts one behind the other; all of them, or OSError (R13). Not durable yet."""
        ...

    def sync(self) -> None:
        """All writes that returned before this call are durable afterwards."""
        ...

    def allocate(self, size: int) -> None:
        """The file has at least ``size`` bytes, with room on the disk for each; OSError ENOSPC if not."""
        ...

    def write_zeros(self, offset: int, size: int) -> None:
        """These bytes are zeros, durably. Called by another thread than the rest.

        Goes through a descriptor of its own: the kernel tells each descriptor once of an error, and that
        of a record must reach :meth:`sync`.
        """
        ...

    def truncate(self, size: int) -> None:
        """The file has exactly ``size`` bytes."""
        ...

    def sync_dir(self) -> None:
        """The file's name and length are durable afterwards."""
        ...

    def close(self) -> None:
        """Give up the file and its lock. May be called again."""
        ...
