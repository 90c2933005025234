"""``titanic.pair`` and the vote: what operators and clients say to the nodes of a pair, as frames."""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Final, NamedTuple

import msgspec

PAIR: Final = b"titanic.pair"
_VOTE: Final = Struct(">QQ")
_EPOCH_BYTES: Final = 8


class Vote(NamedTuple):
    """What a client brings with its greeting: the highest epoch that it ever met, 0 if none.

    ``stamp_ms`` is that of the last answer this node gave to a greeting of this client, 0 if none: whatever
    the client did not know then it may know now, and nothing older is evidence (P4).
    """

    epoch: int
    stamp_ms: int = 0


def encode_vote(epoch: int, stamp_ms: int) -> bytes:
    """The body frame of a ``titanic.hello`` with a :class:`Vote`."""
    return _VOTE.pack(epoch, stamp_ms)


def maybe_vote(body: Sequence[bytes]) -> Vote | None:
    """The vote in the body of a ``titanic.hello``, of 8 bytes without a stamp; None if it is no vote."""
    if len(body) != 1:
        return None
    if len(body[0]) == _EPOCH_BYTES:
        return Vote(int.from_bytes(body[0], "big"))
    return Vote._make(_VOTE.unpack(body[0])) if len(body[0]) == _VOTE.size else None


class PairCommand(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """``titanic.pair``: ``status``, ``handover`` or ``promote`` (with ``force``)."""

    action: str = "status"
    force: bool = False


class PairChange(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One step of a node: when, from, why, to, under which epoch."""

    at_ms: int
    before: str
    event: str
    after: str
    epoch: int


class PairStatus(msgspec.Struct, frozen=True, array_like=True):
    """The answer to ``titanic.pair``: 200, or 409 if the command cannot be done in this state."""

    role: str
    state: str
    epoch: int
    last_seq: int
    durable_seq: int
    lag: int  # records the follower does not have; -1: no follower that counts
    outdated: bool
    why: str
    replication: str
    held: int
    peer: str
    peer_up: bool
    peer_state: str
    peer_heard_ms: int  # ago; -1: never
    merged: dict[str, int]
    changes: tuple[PairChange, ...]
    broker: str = ""  # where clients and workers find this node
    active: bool = False
    in_sync: bool = False  # holds every acknowledged job, as far as this node can know
    peer_epoch: int = 0
    peer_seq: int = 0
    peer_outdated: bool = False
    peer_broker: str = ""  # where clients and workers find the other node; empty: not heard yet
    encrypted: bool = False  # the link
    causes: dict[str, int] = {}  # changes of state since the start, by cause; msgspec copies the default
    counters: dict[str, int] = {}


decode_command = msgspec.msgpack.Decoder(PairCommand).decode
decode_pair_status = msgspec.msgpack.Decoder(PairStatus).decode
