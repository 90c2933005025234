"""Majordomo frames, both directions: RFC 7/MDP (version 0.1) and RFC 18/MDP (version 0.2).

As the sockets of peers see them; a ROUTER has the peer's identity frame in front of each::

    0.1  client  REQUEST, REPLY      | envelope ... | "" | MDPC01 | service | body ...
         worker  READY               | "" | MDPW01 | 01 | service |
                 REQUEST, REPLY      | "" | MDPW01 | 02, 03 | client address | "" | body ...
                 HEARTBEAT           | "" | MDPW01 | 04 |
                 DISCONNECT          | "" | MDPW01 | 05 | reason ...   (reason: ours, to the broker only)
    0.2  client  REQUEST             | MDPC02 | 01 | service | body ...
                 PARTIAL, FINAL      | MDPC02 | 02, 03 | service | body ...
         worker  READY               | MDPW02 | 01 | service |
                 REQUEST             | MDPW02 | 02 | client address | "" | body ...
                 PARTIAL, FINAL      | MDPW02 | 03, 04 | client address | "" | body ...
                 HEARTBEAT           | MDPW02 | 05 |
                 DISCONNECT          | MDPW02 | 06 | reason ...

Every body has at least one frame: an empty body is written as one empty frame. Readers raise
PeerError on anything else and nothing but PeerError. ``docs/internals/mdp.md`` explains the choices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from core.errors import PeerError
from core.pure.mdp_messages import (
    ClientReply,
    ClientRequest,
    Disconnect,
    FromBroker,
    FromPeer,
    Heartbeat,
    WorkerReady,
    WorkerReply,
    WorkerRequest,
)
from core.pure.ports import Path

CLIENT_1: Final = b"MDPC01"
CLIENT_2: Final = b"MDPC02"
WORKER_1: Final = b"MDPW01"
WORKER_2: Final = b"MDPW02"
ENVELOPE_MAX_COUNT: Final = 16

READY: Final = b"\x01"
REQUEST: Final = b"\x02"
REPLY: Final = b"\x03"
HEARTBEAT: Final = b"\x04"
DISCONNECT: Final = b"\x05"
PARTIAL_2: Final = b"\x03"
FINAL_2: Final = b"\x04"
HEARTBEAT_2: Final = b"\x05"
DISCONNECT_2: Final = b"\x06"
PASSIVE: Final = b"passive"
"""Ours: the reason of a node of a pair that is not the one to talk to. Work at hand is not given up."""
NOT_STARTED: Final = "leaving: what was sent last was not started"
"""Ours: the reason of a worker that leaves on purpose. What crossed its DISCONNECT cost no attempt."""
CLIENT_REQUEST_2: Final = b"\x01"
CLIENT_PARTIAL_2: Final = b"\x02"
CLIENT_FINAL_2: Final = b"\x03"

MARK_2: Final = b""
"""Second and last frame of the path of an MDP/0.2 client, which has no envelope; a frame of an 0.1
envelope is never empty. So a path alone says how to answer it, wherever it is kept meanwhile."""

_EMPTY: Final = (b"",)
_PACKED: Final = b"\x00\x00"
_AUTO_IDENTITY_BYTES: Final = 5

_READY, _PARTIAL, _FINAL, _HEARTBEAT, _DISCONNECT = range(5)
# What a worker may send, by version; what is absent is invalid.
_SENT_BY_WORKER: Final[tuple[dict[bytes, int], ...]] = (
    {},
    {READY: _READY, REPLY: _FINAL, HEARTBEAT: _HEARTBEAT, DISCONNECT: _DISCONNECT},
    {
        READY: _READY,
        PARTIAL_2: _PARTIAL,
        FINAL_2: _FINAL,
        HEARTBEAT_2: _HEARTBEAT,
        DISCONNECT_2: _DISCONNECT,
    },
)


# ---- the broker's side: frames of a ROUTER, identity first ----


def parse(frames: Sequence[bytes]) -> FromPeer:
    """What a peer said to the broker; raises PeerError, with ``identity`` if there was such a frame."""
    count = len(frames)
    if count < 3:
        raise PeerError("fewer than two frames after the identity", frames[0] if count else b"")
    first = frames[1]
    if not first:
        header = frames[2]
        if header == CLIENT_1:
            if count < 5 or not frames[3]:
                raise PeerError("client REQUEST without service or body", frames[0])
            return ClientRequest((frames[0],), frames[3], frames[4:], 1)
        if header == WORKER_1:
            return _from_worker(frames, 3, 1)
    elif first == CLIENT_2:
        if count < 5 or frames[2] != CLIENT_REQUEST_2 or not frames[3]:
            raise PeerError("not a REQUEST with service and body", frames[0])
        return ClientRequest((frames[0], MARK_2), frames[3], frames[4:], 2)
    elif first == WORKER_2:
        return _from_worker(frames, 2, 2)
    else:
        return _enveloped(frames)
    raise PeerError("no MDP header", frames[0])


def _from_worker(frames: Sequence[bytes], at: int, version: int) -> FromPeer:
    """The worker command at index ``at``."""
    identity, count = frames[0], len(frames)
    command = _SENT_BY_WORKER[version].get(frames[at]) if at < count else None
    if command is None:
        raise PeerError("not a command of a worker", identity)
    if command in (_FINAL, _PARTIAL):
        if count < at + 4 or frames[at + 2] or not frames[at + 1]:
            raise PeerError("a reply is one address, an empty frame and a body", identity)
        return WorkerReply(identity, frames[at + 1], frames[at + 3 :], command == _FINAL, version)
    if command == _HEARTBEAT:
        if count != at + 1:
            raise PeerError("HEARTBEAT with frames to spare", identity)
        return Heartbeat(identity, version)
    if command == _DISCONNECT:
        return Disconnect(identity, tuple(frames[at + 1 :]), version)
    if count != at + 2 or not frames[at + 1]:
        raise PeerError("READY names exactly one service", identity)
    return WorkerReady(identity, frames[at + 1], version)


def _enveloped(frames: Sequence[bytes]) -> ClientRequest:
    """An 0.1 client behind a further ROUTER, or one that puts its correlation there."""
    identity, count = frames[0], len(frames)
    for at in range(2, min(count, ENVELOPE_MAX_COUNT + 2)):
        if not frames[at]:
            break
    else:
        raise PeerError("no empty frame within the envelope's limit", identity)
    if count < at + 4 or frames[at + 1] != CLIENT_1 or not frames[at + 2]:
        raise PeerError("not a client REQUEST with service and body", identity)
    return ClientRequest(tuple(frames[:at]), frames[at + 2], frames[at + 3 :], 1)


def to_client(
    path: Path, service: bytes, body: Sequence[bytes], *, version: int = 1, final: bool = True
) -> list[bytes]:
    """The answer to the client at ``path``; a path from an 0.2 request makes it 0.2 by itself."""
    if version == 2 or (len(path) == 2 and not path[1]):
        command = CLIENT_FINAL_2 if final else CLIENT_PARTIAL_2
        return [path[0], CLIENT_2, command, service, *(body or _EMPTY)]
    assert final, "MDP/0.1 has no PARTIAL"
    return [*path, b"", CLIENT_1, service, *(body or _EMPTY)]


def to_worker_request(
    identity: bytes, address: bytes, body: Sequence[bytes], *, version: int = 1
) -> list[bytes]:
    """Work for the worker; its reply carries ``address`` back."""
    if version == 1:
        return [identity, b"", WORKER_1, REQUEST, address, b"", *(body or _EMPTY)]
    return [identity, WORKER_2, REQUEST, address, b"", *(body or _EMPTY)]


def to_worker_heartbeat(identity: bytes, *, version: int = 1) -> list[bytes]:
    """The broker is there."""
    return [identity, b"", WORKER_1, HEARTBEAT] if version == 1 else [identity, WORKER_2, HEARTBEAT_2]


def to_worker_disconnect(identity: bytes, *, version: int = 1, reason: bytes = b"") -> list[bytes]:
    """The broker ends the conversation; the worker reconnects on a new socket. ``reason``: ours."""
    said = (reason,) if reason else ()
    if version == 1:
        return [identity, b"", WORKER_1, DISCONNECT, *said]
    return [identity, WORKER_2, DISCONNECT_2, *said]


# ---- the peers' side: frames of a DEALER ----


def client_request(
    service: bytes, body: Sequence[bytes], *, envelope: Path = (), version: int = 1
) -> list[bytes]:
    """A request; the answer brings ``envelope`` back (0.1 only, at most 16 frames, none empty)."""
    if version == 2:
        assert not envelope, "MDP/0.2 has no envelope"
        return [CLIENT_2, CLIENT_REQUEST_2, service, *(body or _EMPTY)]
    assert len(envelope) <= ENVELOPE_MAX_COUNT, "an envelope the broker would refuse"
    assert all(envelope), "an empty frame would end the envelope"
    assert envelope[:1] not in ((CLIENT_2,), (WORKER_2,)), "that would read as MDP/0.2"
    return [*envelope, b"", CLIENT_1, service, *(body or _EMPTY)]


def parse_client_reply(frames: Sequence[bytes]) -> ClientReply:
    """What the broker answered; raises PeerError."""
    count = len(frames)
    if count and frames[0] == CLIENT_2:
        if count < 4 or not frames[2] or frames[1] not in (CLIENT_PARTIAL_2, CLIENT_FINAL_2):
            raise PeerError("not a PARTIAL or FINAL with service and body")
        return ClientReply((), frames[2], frames[3:], frames[1] == CLIENT_FINAL_2)
    for at in range(min(count, ENVELOPE_MAX_COUNT + 1)):
        if not frames[at]:
            break
    else:
        raise PeerError("no empty frame before the header")
    if count < at + 4 or frames[at + 1] != CLIENT_1 or not frames[at + 2]:
        raise PeerError("not a client REPLY with service and body")
    return ClientReply(tuple(frames[:at]), frames[at + 2], frames[at + 3 :])


def worker_ready(service: bytes, *, version: int = 1) -> list[bytes]:
    """Register for ``service``."""
    return [b"", WORKER_1, READY, service] if version == 1 else [WORKER_2, READY, service]


def worker_reply(
    address: bytes, body: Sequence[bytes], *, version: int = 1, final: bool = True
) -> list[bytes]:
    """The reply to the request that carried ``address``; ``final=False`` is a PARTIAL (0.2 only)."""
    if version == 2:
        return [WORKER_2, FINAL_2 if final else PARTIAL_2, address, b"", *(body or _EMPTY)]
    assert final, "MDP/0.1 has no PARTIAL"
    return [b"", WORKER_1, REPLY, address, b"", *(body or _EMPTY)]


def worker_heartbeat(*, version: int = 1) -> list[bytes]:
    """The worker is there."""
    return [b"", WORKER_1, HEARTBEAT] if version == 1 else [WORKER_2, HEARTBEAT_2]


def worker_disconnect(reason: Sequence[bytes] = (), *, version: int = 1) -> list[bytes]:
    """The worker leaves; a busy one may say why it failed (ours, ignored by other brokers)."""
    return [b"", WORKER_1, DISCONNECT, *reason] if version == 1 else [WORKER_2, DISCONNECT_2, *reason]


def parse_for_worker(frames: Sequence[bytes]) -> FromBroker:
    """What the broker said to this worker; raises PeerError. Frames after DISCONNECT are ignored."""
    count = len(frames)
    if count >= 3 and not frames[0] and frames[1] == WORKER_1:
        at, version, heartbeat, disconnect = 2, 1, HEARTBEAT, DISCONNECT
    elif count >= 2 and frames[0] == WORKER_2:
        at, version, heartbeat, disconnect = 1, 2, HEARTBEAT_2, DISCONNECT_2
    else:
        raise PeerError("no MDP/Worker header")
    command = frames[at]
    if command == REQUEST:
        if count < at + 4 or frames[at + 2] or not frames[at + 1]:
            raise PeerError("a REQUEST is one address, an empty frame and a body")
        return WorkerRequest(frames[at + 1], frames[at + 3 :], version)
    if command == heartbeat and count == at + 1:
        return Heartbeat(version=version)
    if command == disconnect:
        return Disconnect(reason=tuple(frames[at + 1 :]), version=version)
    raise PeerError("not a command of a broker to its worker")


# ---- a path as one frame ----


def pack_path(path: Path) -> bytes:
    """The path as the single client-address frame of RFC 7; a lone identity stays itself.

    Otherwise | 00 00 | size u32 | frame | size u32 | frame ... |. An identity libzmq made has five
    bytes; any other that begins like a packed path is packed too, so no peer can forge a path.
    """
    if len(path) == 1 and (not path[0].startswith(_PACKED) or len(path[0]) == _AUTO_IDENTITY_BYTES):
        return path[0]
    parts = [_PACKED]
    for frame in path:
        parts += (len(frame).to_bytes(4, "big"), frame)
    return b"".join(parts)


def unpack_path(packed: bytes) -> Path:
    """What :func:`pack_path` was given; raises PeerError."""
    if not packed.startswith(_PACKED) or len(packed) == _AUTO_IDENTITY_BYTES:
        return (packed,)
    frames, at, end = [], len(_PACKED), len(packed)
    while at < end:
        start = at + 4
        size = int.from_bytes(packed[at:start], "big")
        at = start + size
        if start > end or at > end:
            raise PeerError("a packed path is cut short")
        frames.append(packed[start:at])
    return tuple(frames)


# ---- for people ----

SHOWN_MAX_BYTES: Final = 40
SHOWN_MAX_COUNT: Final = 4

_WORKER: Final = {
    WORKER_1: {1: "READY", 2: "REQUEST", 3: "REPLY", 4: "HEARTBEAT", 5: "DISCONNECT"},
    WORKER_2: {1: "READY", 2: "REQUEST", 3: "PARTIAL", 4: "FINAL", 5: "HEARTBEAT", 6: "DISCONNECT"},
}
_CLIENT_2: Final = {1: "REQUEST", 2: "PARTIAL", 3: "FINAL"}


def explain(frames: Sequence[bytes], *, to_broker: bool | None = None) -> str:
    """The message in one line, sent or received, with or without a ROUTER's identity frame in front.

    An 0.1 client message looks the same both ways; ``to_broker`` says which it is, if the caller knows.
    """
    for at, frame in enumerate(frames[: ENVELOPE_MAX_COUNT + 3]):
        if frame in (CLIENT_1, WORKER_1) and at and not frames[at - 1]:
            break
        if frame in (CLIENT_2, WORKER_2) and at <= 1:
            break
    else:
        return f"not MDP {_body(frames)}"
    old = frame in (CLIENT_1, WORKER_1)
    before = " ".join(show(part) for part in frames[: at - 1 if old else at])
    who = f"{before} " if before else ""
    if frame == CLIENT_1:
        name = {None: "REQUEST|REPLY", True: "REQUEST", False: "REPLY"}[to_broker]
        return f"{who}MDPC01 {name} {_named(frames[at + 1 :])}"
    command = frames[at + 1] if at + 1 < len(frames) else b""
    number = command[0] if len(command) == 1 else 0
    rest = frames[at + 2 :]
    if frame == CLIENT_2:
        return f"{who}MDPC02 {_CLIENT_2.get(number, '?' + show(command))} {_named(rest)}"
    name = _WORKER[frame].get(number, "?" + show(command))
    header = f"{who}{frame.decode('ascii')} {name}"
    if name == "READY":
        return f"{header} {_named(rest)}"
    if name in ("REQUEST", "REPLY", "PARTIAL", "FINAL"):
        address = show(rest[0]) if rest else "?"
        return f"{header} for={address} {_body(rest[2:])}"
    return f"{header} {_body(rest)}" if rest else header


def show(frame: bytes) -> str:
    """One frame: its text if printable ASCII, else hexadecimal; shortened, with its size if cut."""
    head = frame[:SHOWN_MAX_BYTES]
    text = head.decode("ascii", "replace")
    if not (head.isascii() and text.isprintable()):
        text = "0x" + head[: SHOWN_MAX_BYTES // 2].hex()
        cut = len(frame) > SHOWN_MAX_BYTES // 2
    else:
        text, cut = repr(text), len(frame) > SHOWN_MAX_BYTES
    return f"{text}...({len(frame)} B)" if cut else text


def _named(frames: Sequence[bytes]) -> str:
    return f"service={show(frames[0])} {_body(frames[1:])}".rstrip() if frames else "service=?"


def _body(frames: Sequence[bytes]) -> str:
    shown = ", ".join(show(frame) for frame in frames[:SHOWN_MAX_COUNT])
    more = f", {len(frames) - SHOWN_MAX_COUNT} more" if len(frames) > SHOWN_MAX_COUNT else ""
    return f"[{shown}{more}]" if frames else ""
