"""How many jobs, and bytes of their requests, each owner has open; nothing is kept per job for it."""

from __future__ import annotations

from typing import Final

from core.pure.jobs import NOBODY, Share

CLASS_BITS: Final = 5
SMALL_BYTES: Final = 64


def counted_bytes(size_bytes: int) -> int:
    """What a request of this size counts as: rounded up by at most 1/16, and never less than 64 bytes.

    So jobs of an owner share a few hundred objects, whatever their sizes.
    """
    if size_bytes <= SMALL_BYTES:
        return SMALL_BYTES
    shift = size_bytes.bit_length() - CLASS_BITS
    return -(-size_bytes >> shift) << shift


class Owners:
    """Counts open jobs by owner. The empty owner is nobody and not counted."""

    def __init__(self) -> None:
        self._shares: dict[str, dict[int, Share]] = {}
        self.open_counts: dict[str, int] = {}
        self.open_bytes: dict[str, int] = {}

    def opened(self, owner: str, size_bytes: int, count: int = 1) -> Share:
        """``count`` jobs of this size more; the object they share."""
        if not owner:
            return NOBODY
        counted = counted_bytes(size_bytes)
        shares = self._shares.setdefault(owner, {})
        share = shares.get(counted)
        if share is None:
            share = shares[counted] = Share(owner, counted)
        self.open_counts[owner] = self.open_counts.get(owner, 0) + count
        self.open_bytes[owner] = self.open_bytes.get(owner, 0) + count * counted
        return share

    def closed(self, share: Share, count: int = 1) -> None:
        """``count`` jobs less."""
        owner = share.name
        if not owner:
            return
        self.open_counts[owner] -= count
        self.open_bytes[owner] -= count * share.size_bytes
        if not self.open_counts[owner]:
            del self.open_counts[owner], self.open_bytes[owner], self._shares[owner]
