"""``titanic.store`` and ``titanic.backup``: what the store is doing, and an image of it, as frames.

The heads follow ``core/pure/tsp.py``; ``docs/internals/tsp.md`` lists them with all others.
"""

from __future__ import annotations

from typing import Final, Protocol

import msgspec

STORE: Final = b"titanic.store"
BACKUP: Final = b"titanic.backup"

PINS_MAX_COUNT: Final = 100
CHUNKS_MAX_COUNT: Final = 10_000
PART_MAX_BYTES: Final = 4 << 20
IMAGES_MAX_COUNT: Final = 4
IMAGE_IDLE_MS: Final = 60_000
"""An image that nobody asks for is let go of after this, and with it the room it pins."""


class StoreHead(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """``titanic.store``: how many of the jobs that pin the tail to name."""

    pins_max: int = 10


class ChunkRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One chunk, in its place in the file. ``state``: head, alive, dead (waits for the tail) or free."""

    turn: int  # 0: free
    state: str
    alive: int = 0  # records that an entry of the index points to


class PinRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An entry with a record in the oldest chunk: until it is closed or moved, the tail stays."""

    key: bytes
    part: str  # request | reply
    offset: int


class Forecast(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How the store grows. ``usable_bytes``: what jobs can need before a submit finds no room, about."""

    needed_bytes: int
    usable_bytes: int
    per_minute: float | None = None  # bytes more each minute; None: not known yet
    full_in_ms: int | None = None  # None: it does not grow, or that is not known


class StoreFacts(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """200 to ``titanic.store``. ``chunks`` is in the order of the file."""

    facts: dict[str, int | str]
    chunks: tuple[ChunkRow, ...] = ()
    pins: tuple[PinRow, ...] = ()
    chunks_omitted: int = 0
    forecast: Forecast | None = None  # None: of a file at rest


class BackupHead(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """``titanic.backup``: a part of an image; an empty ``token`` begins one, ``end`` lets go of one.

    ``digest`` in the question that begins asks for the SHA-256 of the whole image with the first part.
    """

    token: bytes = b""
    offset: int = 0
    limit: int = 1 << 20
    digest: bool = False
    end: bool = False


class BackupPart(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """200 to ``titanic.backup``, one frame behind it: the bytes at ``offset``, then ``zero_bytes`` of zeros.

    The image is whole when ``next_offset`` is ``total_bytes``. 300 with an empty frame: the digest is being
    computed, ask again with ``token``.
    """

    token: bytes
    total_bytes: int
    offset: int
    next_offset: int
    zero_bytes: int = 0
    last_seq: int = 0  # everything up to here is in the image
    jobs: int = 0
    sha256: bytes = b""


class Image(Protocol):
    """A store as it was at one moment. :meth:`read` is called in other threads."""

    @property
    def total_bytes(self) -> int:
        """Length of the file that the image is."""
        ...

    @property
    def last_seq(self) -> int:
        """The last record in it."""
        ...

    @property
    def job_count(self) -> int:
        """Live entries in it."""
        ...

    @property
    def intact(self) -> bool:
        """Whether the store still keeps what :meth:`read` needs; once False, for ever."""
        ...

    def read(self, offset: int, size: int) -> tuple[bytes, int]:
        """At most ``size`` bytes from ``offset``, and how many zeros follow them. OSError from the disk."""
        ...

    def release(self) -> None:
        """The store may reuse its room. May be called again."""
        ...


class StorePort(Protocol):
    """What ``titanic.store`` and ``titanic.backup`` need of a journal that is a file."""

    def facts(self, pins_max: int) -> StoreFacts:
        """How the store stands; bounded work whatever its size."""
        ...

    def begin_image(self) -> Image:
        """An image of now. It may be read once a barrier set now has come back."""
        ...


decode_store: Final = msgspec.msgpack.Decoder(StoreHead).decode
decode_facts: Final = msgspec.msgpack.Decoder(StoreFacts).decode
decode_backup: Final = msgspec.msgpack.Decoder(BackupHead).decode
decode_part: Final = msgspec.msgpack.Decoder(BackupPart).decode
