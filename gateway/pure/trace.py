"""W3C trace context: whether a ``traceparent`` is one, so that only sound ones are stored with a job."""

from __future__ import annotations

from typing import Final

_HEX: Final = frozenset(b"0123456789abcdef")


def traceparent(value: bytes) -> str:
    """The header's value if it is a valid version-00 traceparent (or a later one's first part), else ""."""
    text = value.strip()
    if len(text) < 55 or text[2:3] != b"-" or text[35:36] != b"-" or text[52:53] != b"-":
        return ""
    version, trace, parent, flags = text[:2], text[3:35], text[36:52], text[53:55]
    if not _HEX.issuperset(version + trace + parent + flags) or version == b"ff":
        return ""
    if len(text) > 55 and (version == b"00" or text[55:56] != b"-"):
        return ""
    if not trace.strip(b"0") or not parent.strip(b"0"):
        return ""
    return text[:55].decode("ascii")
