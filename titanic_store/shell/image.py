"""Backups: the file as it was at one moment, read while the live ring goes on.

Sealed chunks do not change until their slot is used again, and the head only grows; so an image is the
chunks of the moment, the head cut where it ended then, and a superblock written to match. The tail is
pinned while the image is read; if the ring needs the room, the image is lost and no job is.
"""

from __future__ import annotations

import errno
from bisect import bisect_right
from collections.abc import Callable
from typing import Any, Final, Generic

import msgspec

from titanic_store.pure.layout import Layout, extents
from titanic_store.pure.seams import E
from titanic_store.pure.superblock import Flag, encode_superblock
from titanic_store.shell.ring import Ring

ReadAt = Callable[[int, int], bytes]


class Image:
    """The bytes of a store file that ``check`` accepts. Reads ``layout``'s chunks with ``read_at``.

    ``read`` may be called from any thread; what it gave counts only if ``intact`` afterwards.
    """

    def __init__(self, layout: Layout, read_at: ReadAt, job_count: int) -> None:
        block = layout.block
        self.total_bytes: Final = block.file_bytes
        self.last_seq: Final = block.durable_seq
        self.tail_turn: Final = block.tail_turn
        self.job_count: Final = job_count
        self._read_at = read_at
        self._extents = extents(layout)
        self._begins = [begin for begin, _ in self._extents]
        self._superblock = encode_superblock(msgspec.structs.replace(block, flags=block.flags | Flag.CLEAN))

    @property
    def intact(self) -> bool:
        """Whether all chunks of the image are still there."""
        return True

    def release(self) -> None:
        """Nobody reads the image any more."""

    def read(self, offset: int, size: int) -> tuple[bytes, int]:
        """At most ``size`` bytes from ``offset``, and how many zeros follow them."""
        number = bisect_right(self._begins, offset) - 1
        begin, end = self._extents[number] if number >= 0 else (0, 0)
        following = self._begins[number + 1] if number + 1 < len(self._begins) else self.total_bytes
        if offset >= end:
            return b"", following - offset
        data = self._superblock[offset - begin :] if number == 0 else b""
        data = data[:size] or self._read_at(offset, min(size, end - offset))
        if not data:
            raise OSError(errno.EIO, f"the file ends at {offset}, within a chunk")
        reached = offset + len(data)
        return data, following - reached if reached == end else 0


class LiveImage(Image):
    """An image of a ring that goes on. Made by :meth:`Backups.begin`."""

    def __init__(self, ring: Ring[Any], layout: Layout, released: Callable[[LiveImage], None]) -> None:
        super().__init__(layout, ring.read_raw, len(ring.index))
        self._ring: Ring[Any] = ring
        self._released = released

    @property
    def intact(self) -> bool:
        """Whether the ring still keeps all chunks of the image; once False, for ever."""
        return 0 < self._ring.pinned_turn <= self.tail_turn

    def release(self) -> None:
        """The ring may reuse the chunks."""
        self._released(self)


class Backups(Generic[E]):
    """The images of one ring; belongs to the thread that owns the ring."""

    def __init__(self, ring: Ring[E]) -> None:
        self._ring = ring
        self._images: list[LiveImage] = []

    def begin(self) -> LiveImage:
        """An image of everything appended so far. Read it once a barrier set now has come back."""
        image = LiveImage(self._ring, self._ring.layout(), self._release)
        self._pin([*self._intact(), image])
        return image

    def _release(self, image: LiveImage) -> None:
        self._pin([other for other in self._intact() if other is not image])

    def _intact(self) -> list[LiveImage]:
        return [image for image in self._images if image.intact]

    def _pin(self, images: list[LiveImage]) -> None:
        self._images = images
        self._ring.pin(min((image.tail_turn for image in images), default=0))
