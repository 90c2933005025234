"""What a node of a pair says of itself and of its peer, to operators and clients."""

from __future__ import annotations

from typing import Final

from core.pure.jobs import Now
from core.pure.pair import ACKNOWLEDGES, ACTIVE, IN_SYNC, State
from core.pure.pair_heads import PairChange, PairStatus
from core.pure.replication import Replica
from core.pure.twin_core import TwinCore

WILDCARDS: Final = ("*", "0.0.0.0", "[::]", "::")  # noqa: S104 - compared with, not bound


def reachable_endpoint(broker: str, link: str) -> str:
    """A broker that listens at every address of its machine, as others reach it: by the host of its link."""
    scheme, separator, rest = broker.partition("://")
    host, _, port = rest.rpartition(":")
    if not separator or host not in WILDCARDS:
        return broker
    return f"{scheme}://{link.rpartition('/')[2].rpartition(':')[0]}:{port}"


def peer_broker(twin: TwinCore, link: str) -> str:
    """Where clients find the other node, as it said itself; empty while it has not been heard."""
    return reachable_endpoint(twin.peer.nodes, link) if twin.peer is not None else ""


def active_at(twin: TwinCore, link: str) -> str:
    """Where the active node is if it is the other one and was heard within the failover time; else empty."""
    beat = twin.peer
    if twin.active or beat is None or State(beat.state) not in ACTIVE or twin.state is State.WINDOW:
        return ""
    return peer_broker(twin, link)


def why_not(twin: TwinCore, link: str, now_ms: int) -> str:
    """Why this node answers nobody, in words; empty if it does."""
    if twin.state in ACKNOWLEDGES:
        return ""
    beat = twin.peer
    damage = "records are damaged here and must come from the peer; " if twin.is_holed else ""
    if beat is None:
        return (
            f"{twin.state.value}: {damage}the peer at {link} was not seen since this node started;"
            " 'titanic pair promote --force' is the operator's word"
        )
    where = peer_broker(twin, link) or link
    return (
        f"{twin.state.value}: {damage}the peer at {where} is {beat.state}, epoch {beat.epoch},"
        f" heard {now_ms - twin.watch.heard_ms} ms ago"
    )


def pair_status(
    twin: TwinCore,
    replica: Replica,
    now: Now,
    *,
    backup: bool,
    replication: str,
    broker: str,
    link: str,
    link_up: bool,
    encrypted: bool,
    merged: dict[str, int],
) -> PairStatus:
    """Everything that ``titanic.pair`` answers; ``link`` is where the peer listens for this node."""
    beat = twin.peer
    return PairStatus(
        role="backup" if backup else "primary",
        state=twin.state.value,
        epoch=twin.epoch,
        last_seq=replica.last_seq,
        durable_seq=replica.durable_seq,
        lag=twin.lag_count,
        outdated=twin.outdated,
        why=twin.why,
        replication=replication,
        held=len(twin.held),
        peer=link,
        peer_up=link_up,
        peer_state=beat.state if beat is not None else "",
        peer_heard_ms=now.mono_ms - twin.watch.heard_ms if twin.watch.met() else -1,
        merged=merged,
        changes=tuple(
            PairChange(now.wall_ms - now.mono_ms + at_ms, before, event, after, epoch)
            for at_ms, before, event, after, epoch in twin.changes
        ),
        broker=broker,
        active=twin.active,
        in_sync=twin.active or twin.state in IN_SYNC,
        peer_epoch=beat.epoch if beat is not None else 0,
        peer_seq=beat.last_seq if beat is not None else 0,
        peer_outdated=beat.outdated if beat is not None else False,
        peer_broker=peer_broker(twin, link),
        encrypted=encrypted,
        causes=dict(twin.causes),
        counters=dict(twin.counters),
    )
