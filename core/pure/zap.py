"""ZAP, ZeroMQ RFC 27: libzmq asks, before a connection may speak, whether its CURVE key is known.

As the handler's ROUTER reads and writes it, on ``inproc://zeromq.zap.01``::

    request | identity | "" | "1.0" | request id | domain | address | routing id | mechanism | credentials |
    reply   | identity | "" | "1.0" | request id | status | text | user id | metadata |

The user id of an accepted connection is its public key as Z85 text; libzmq hands it on with every message.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Final

from core.errors import PeerError
from core.pure.allow import AllowList

ENDPOINT: Final = "inproc://zeromq.zap.01"
DOMAIN: Final = "titanic"
USER_ID: Final = "User-Id"
VERSION: Final = b"1.0"
KEY_BYTES: Final = 32
_Z85: Final = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_B85: Final = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~"
_TO_Z85: Final = bytes.maketrans(_B85, _Z85)


def z85(key: bytes) -> str:
    """A key as the 40 printable characters of ZeroMQ RFC 32."""
    return base64.b85encode(key).translate(_TO_Z85).decode("ascii")


def answer(frames: Sequence[bytes], allowed: AllowList) -> list[bytes]:
    """200 with the key as user id if it is on the list, else 400. Raises PeerError for what is no request."""
    if len(frames) < 9 or frames[1] or frames[2] != VERSION:
        raise PeerError("not a ZAP 1.0 request", frames[0] if frames else b"")
    domain, mechanism, credentials = frames[4], frames[7], frames[8:]
    if domain != DOMAIN.encode() or mechanism != b"CURVE" or len(credentials) != 1:
        return _reply(frames, b"400", b"only CURVE is served here", b"")
    if len(credentials[0]) != KEY_BYTES:
        return _reply(frames, b"400", b"not a key", b"")
    key = z85(credentials[0])
    if key not in allowed.peers:
        return _reply(frames, b"400", b"unknown key", b"")
    return _reply(frames, b"200", b"OK", key.encode())


def _reply(frames: Sequence[bytes], status: bytes, text: bytes, user_id: bytes) -> list[bytes]:
    return [frames[0], b"", VERSION, frames[3], status, text, user_id, b""]
