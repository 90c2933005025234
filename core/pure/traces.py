"""A W3C trace context as bytes, to travel behind the address of an attempt.

| trace id: 16 | span id: 8 | flags: u8 |      00-<trace id>-<span id>-<flags>
"""

from __future__ import annotations

from typing import Final

TRACE_BYTES: Final = 25


def pack(traceparent: str) -> bytes:
    """The bytes of a version-00 ``traceparent``, b"" for anything that is none."""
    parts = traceparent.split("-")
    if len(parts) != 4 or tuple(map(len, parts)) != (2, 32, 16, 2):
        return b""
    try:
        raw = bytes.fromhex(parts[1] + parts[2] + parts[3])
    except ValueError:
        return b""
    return raw if len(raw) == TRACE_BYTES else b""


def unpack(raw: bytes) -> str:
    """The ``traceparent`` of these bytes, "" if they are none."""
    if len(raw) != TRACE_BYTES:
        return ""
    text = raw.hex()
    return f"00-{text[:32]}-{text[32:48]}-{text[48:]}"
