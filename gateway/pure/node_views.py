"""``GET /v1/nodes``: the nodes behind a gateway, by what each says of itself and its peer knows of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from core.pure.pair_heads import PairStatus
from core.pure.tsp import Hello
from gateway.pure.views import rfc3339

Row = dict[str, object]
OTHER = {"primary": "backup", "backup": "primary"}
COMPLETE = ("paired", "handing")
"""States of an active node whose peer has every acknowledged job."""


class NodeAnswer(NamedTuple):
    """What the node at ``endpoint`` answered: who it is and how its pair is, or an ``error`` instead."""

    endpoint: str
    hello: Hello | None = None
    pair: PairStatus | None = None
    sequence: int | None = None
    error: str = ""


def nodes_view(answers: Sequence[NodeAnswer]) -> list[Row]:
    """A row for each node, also for one that only its peer knows; the active one knows the lag of both."""
    pairs = [answer.pair for answer in answers if answer.pair is not None]
    active = next((pair for pair in pairs if pair.active), None)
    rows = [
        _row(answer, answer.hello, active) if answer.hello is not None else _silent(answer, pairs)
        for answer in answers
    ]
    if len(answers) == len(pairs) == 1:  # the gateway was given one node of a pair
        rows.append(_silent(NodeAnswer(pairs[0].peer_broker, error="this gateway does not know it"), pairs))
    return rows


def _row(answer: NodeAnswer, hello: Hello, active: PairStatus | None) -> Row:
    pair = answer.pair
    return {
        "name": pair.role if pair is not None else None,
        "endpoint": answer.endpoint,
        "reachable": True,
        "role": hello.role,
        "state": pair.state if pair is not None else None,
        "ready": hello.ready,
        "reason": hello.reason or None,
        "version": hello.version,
        "epoch": hello.epoch,
        "durability": hello.durability,
        "jobs": hello.jobs,
        "started_at": rfc3339(hello.started_ms),
        "sequence": pair.last_seq if pair is not None else answer.sequence,
        "lag": _lag(pair, active),
        "in_sync": pair.in_sync if pair is not None else None,
        "replication": pair.replication if pair is not None else None,
        "link_encrypted": pair.encrypted if pair is not None else None,
        "heard_ms_ago": None,
    }


def _lag(pair: PairStatus | None, active: PairStatus | None) -> int | None:
    if pair is None or active is None:
        return None
    if pair.active:
        return 0
    return active.lag if active.lag >= 0 else max(0, active.last_seq - pair.last_seq)


def _silent(answer: NodeAnswer, pairs: Sequence[PairStatus]) -> Row:
    """A node that did not answer: what its peer heard of it last, if there is one that did answer."""
    peer = pairs[0] if len(pairs) == 1 else None
    heard = peer is not None and bool(peer.peer_state)
    return {
        "name": OTHER.get(peer.role) if peer is not None else None,
        "endpoint": answer.endpoint or None,
        "reachable": False,
        "role": "unknown",
        "state": peer.peer_state if peer is not None and heard else None,
        "ready": False,
        "reason": answer.error,
        "version": None,
        "epoch": peer.peer_epoch if peer is not None and heard else None,
        "durability": None,
        "jobs": None,
        "started_at": None,
        "sequence": peer.peer_seq if peer is not None and heard else None,
        "lag": peer.lag if peer is not None and peer.lag >= 0 else None,
        "in_sync": _silent_sync(peer),
        "replication": peer.replication if peer is not None else None,
        "link_encrypted": peer.encrypted if peer is not None else None,
        "heard_ms_ago": peer.peer_heard_ms if peer is not None and peer.peer_heard_ms >= 0 else None,
    }


def _silent_sync(peer: PairStatus | None) -> bool | None:
    """Whether the silent node has everything; None: its peer cannot know."""
    if peer is None or not peer.active or peer.state in ("suspended", "canvass"):
        return None
    return peer.state in COMPLETE
