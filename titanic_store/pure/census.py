"""A digest of what is alive, kept up to date record by record: two nodes compare it (P6)."""

from __future__ import annotations

from struct import Struct
from typing import Final

_DIGEST: Final = Struct("<Q16s16s")


class Census:
    """Counts the open keys, and combines them, and those with a reply, by exclusive or."""

    def __init__(self) -> None:
        self._count = self._keys = self._replied = 0

    def opened(self, key: bytes) -> None:
        """``key`` is open now, without a reply."""
        self._count += 1
        self._keys ^= int.from_bytes(key)

    def replied(self, key: bytes) -> None:
        """The open ``key`` has its first reply."""
        self._replied ^= int.from_bytes(key)

    def closed(self, key: bytes, *, replied: bool) -> None:
        """``key`` is not open any more."""
        self._count -= 1
        self._keys ^= int.from_bytes(key)
        if replied:
            self._replied ^= int.from_bytes(key)

    def digest(self) -> bytes:
        """40 bytes."""
        return _DIGEST.pack(self._count, self._keys.to_bytes(16), self._replied.to_bytes(16))
