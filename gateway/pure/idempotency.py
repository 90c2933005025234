"""Idempotency-Key (draft-ietf-httpapi-idempotency-key-header): its forms, its scope and the fingerprint.

The node keeps, for the published lifetime, ``binding -> (job, fingerprint)``. The binding is a hash over
caller, service and key: two callers may use the same key, and one caller may use it for two services.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

KEY_MAX_BYTES: Final = 255
LIFETIME_MS: Final = 24 * 3_600_000
BINDING_BYTES: Final = 16

_TOKEN: Final = frozenset(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz:/=")


def parse_key(value: bytes) -> bytes:
    """The key in a header value: a quoted string (RFC 8941) or a bare token. Raises ValueError."""
    text = value.strip()
    if not text:
        raise ValueError("Idempotency-Key is empty.")
    if len(text) > KEY_MAX_BYTES:
        raise ValueError(f"Idempotency-Key has {len(text)} bytes; the limit is {KEY_MAX_BYTES}.")
    if text[:1] == b'"':
        return _quoted(text)
    if not _TOKEN.issuperset(text):
        raise ValueError("Idempotency-Key is neither a quoted string nor a token.")
    return text


def _quoted(text: bytes) -> bytes:
    key, at, end = bytearray(), 1, len(text) - 1
    while at < end:
        byte = text[at]
        if byte == 0x5C:  # a backslash stands before a quote or another backslash only
            at += 1
            if at >= end or text[at] not in b'"\\':
                break
            byte = text[at]
        elif byte == 0x22 or not 0x20 <= byte <= 0x7E:
            break
        key.append(byte)
        at += 1
    if at != end or end < 1 or text[end] != 0x22 or not key:
        raise ValueError("Idempotency-Key is not a quoted string of printable ASCII.")
    return bytes(key)


def binding(owner: str, service: bytes, key: bytes, line: int = -1) -> bytes:
    """The 16 bytes under which the node keeps the key; ``line`` of a batch, -1 for a single submit."""
    parts = (owner.encode(), service, key, b"" if line < 0 else b"%d" % line)
    return _digest(parts, b"titanic-binding")


def fingerprint(query: bytes, content_type: bytes, frames: Sequence[bytes]) -> bytes:
    """16 bytes that differ when any of this does: options as sent, type and frames."""
    return _digest((query, content_type, *frames), b"titanic-print")


def _digest(parts: Sequence[bytes], purpose: bytes) -> bytes:
    digest = blake2b(digest_size=BINDING_BYTES, person=purpose)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()
