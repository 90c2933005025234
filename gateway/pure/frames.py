"""``application/vnd.titanic.frames+json``: several frames in one HTTP body, each in base64 (RFC 4648, 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

FRAMES_MAX: Final = 64


class FramesDocument(msgspec.Struct, forbid_unknown_fields=True):
    """``{"frames": ["<base64>", …]}``."""

    frames: list[bytes]


_decode = msgspec.json.Decoder(FramesDocument).decode
_encode = msgspec.json.Encoder().encode


def decode(body: bytes) -> list[bytes]:
    """The frames of a document. Raises ValueError, with a sentence for the user."""
    try:
        frames = _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from error
    if not 1 <= len(frames.frames) <= FRAMES_MAX:
        raise ValueError(f"{len(frames.frames)} frames; there must be 1 to {FRAMES_MAX}")
    return frames.frames


def encode(frames: Sequence[bytes]) -> bytes:
    """The document of these frames."""
    return _encode(FramesDocument(list(frames)))
