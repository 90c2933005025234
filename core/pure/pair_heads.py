"""``titanic.pair`` and the vote: what operators and clients say to the nodes of a pair, as frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

PAIR: Final = b"titanic.pair"
VOTE_BYTES: Final = 8


def encode_vote(epoch: int) -> bytes:
    """The body frame of a ``titanic.hello``: the highest epoch that this client ever met, 0 if none."""
    return epoch.to_bytes(VOTE_BYTES, "big")


def epoch_of_vote(body: Sequence[bytes]) -> int:
    """The epoch in the body of a ``titanic.hello``; -1 if it is no vote."""
    if len(body) != 1 or len(body[0]) != VOTE_BYTES:
        return -1
    return int.from_bytes(body[0], "big")


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
