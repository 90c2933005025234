"""Ids that prove themselves: UUID version 8 with time, randomness and a keyed tag (RFC 9562, 5.8).

The tag tells an id that was issued here from one that never was, for ever and without tombstones:
that is the difference between HTTP 410 and 404. It is no secret of any job: whoever may read an id
may use it; authorisation is another matter.
"""

from __future__ import annotations

from hashlib import blake2s
from struct import unpack
from typing import Final

from core.pure.jobs import KEY_BYTES

# | unix time, ms: 48 | version 8: 4 | random: 12 | variant 2: 2 | random: 38 | tag: 24 |  bits, high first
RANDOM_BITS: Final = 50
TAG_BYTES: Final = 3
SECRET_BYTES: Final = 32

_RANDOM_MASK: Final = 0xFFF << 40 | 0x3F_FFFF_FFFF
_FIXED_BITS: Final = 0x8 << 52 | 0b10 << 38
assert _RANDOM_MASK.bit_count() == RANDOM_BITS

_HEX: Final = frozenset("0123456789abcdefABCDEF")


class Mint:
    """Makes ids and recognises its own. Told the time and the randomness."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) != SECRET_BYTES:
            raise ValueError(f"an id secret has {SECRET_BYTES} bytes, not {len(secret)}")
        self._keyed = blake2s(key=secret, digest_size=TAG_BYTES, person=b"titanic1")

    def make(self, wall_ms: int, random: int) -> bytes:
        """A new id of 16 bytes; ``random`` has 50 bits and is never used twice in one millisecond."""
        high = random >> 38 & 0xFFF
        low = random & 0x3F_FFFF_FFFF
        head = ((wall_ms & 0xFFFF_FFFF_FFFF) << 56 | 0x8 << 52 | high << 40 | 0b10 << 38 | low).to_bytes(
            13, "big"
        )
        tag = self._keyed.copy()
        tag.update(head)
        return head + tag.digest()

    def make_many(self, wall_ms: int, random: bytes) -> list[bytes]:
        """New ids in ascending order, one for every 8 bytes of ``random``, of which 50 bits are used."""
        keyed, begin = self._keyed, (wall_ms & 0xFFFF_FFFF_FFFF).to_bytes(6, "big")
        made = []
        for bits in unpack(f">{len(random) // 8}Q", random):
            head = begin + (bits & _RANDOM_MASK | _FIXED_BITS).to_bytes(7, "big")
            tag = keyed.copy()
            tag.update(head)
            made.append(head + tag.digest())
        made.sort()
        return made

    def issued(self, key: bytes) -> bool:
        """Whether this mint made ``key`` (a stranger's id passes once in 16 million)."""
        if len(key) != KEY_BYTES or key[6] >> 4 != 8 or key[8] >> 6 != 0b10:
            return False
        tag = self._keyed.copy()
        tag.update(key[:13])
        return tag.digest() == key[13:]


def made_at_ms(key: bytes) -> int:
    """When the id says it was made, unix milliseconds."""
    return int.from_bytes(key[:6], "big")


def parse_id(text: str) -> bytes | None:
    """16 bytes of a UUID written as 32 hex digits in either case, with or without the four dashes."""
    if len(text) == 36 and text[8] == text[13] == text[18] == text[23] == "-":
        text = text.replace("-", "")
    if len(text) != 2 * KEY_BYTES or not _HEX.issuperset(text):
        return None
    return bytes.fromhex(text)
