"""The steps of a node of a pair in words, for the person who reads its log at night."""

from __future__ import annotations

from typing import Final

from core.pure.pair import Event, State
from core.pure.pair_view import peer_broker
from core.pure.twin_core import TwinCore

WHY: Final[dict[Event, str]] = {
    Event.PROVEN: "the peer is not there, and this node's disk proves that it may serve without it",
    Event.PEER_ACTIVE: "the peer is active",
    Event.PEER_BETTER: "both are here and idle, and the peer has the further journal",
    Event.PEER_WORSE: "both are here and idle, and this node has the further journal",
    Event.PEER_YIELDS: "the peer promised not to lead",
    Event.PEER_AHEAD: "the peer has seen a higher epoch, and is not active",
    Event.PEER_OUT: "the peer says that it is not in sync any more",
    Event.PEER_GONE: "the peer's process has ended: nobody listens on its port, or it said goodbye",
    Event.SILENCE: "nothing heard of the peer for the failover time",
    Event.WINDOW_ENDS: "no client asked in time, and the peer may have gone on alone",
    Event.LEASE_ENDS: "the peer does not answer",
    Event.LEASE_BACK: "the peer answers again",
    Event.WAIT_ENDS: "the peer cannot take over any more",
    Event.SETTLED: "a peer that went on alone would have been heard by now",
    Event.PAUSED: "this process was stopped for a while and woke up",
    Event.VOTE: "a client asks, and knows of no newer epoch",
    Event.NEWER: "a client met a higher epoch: the other node serves",
    Event.STORED: "that is on the disk",
    Event.CAUGHT_UP: "the peer has every record, and both agree on the jobs",
    Event.FOLLOWER_LOST: "the peer was started anew",
    Event.OFFERED: "the active counts this disk in",
    Event.LEFT_BEHIND: "the active does not count this disk any more",
    Event.REFUSE: "there is no peer, and --alone refuse",
    Event.HANDOVER: "a planned switch was asked for",
    Event.DRAINED: "nothing is waiting, and the peer has everything",
    Event.GIVE_UP: "the planned switch took too long",
    Event.PROMOTE: "the operator's word",
    Event.STUCK: "the disk failed, or does not sync",
}
NOW: Final[dict[State, str]] = {
    State.WAITING: "serves nobody; waits for its peer, or for 'titanic pair promote --force'",
    State.YIELDING: "serves nobody; the peer is to lead",
    State.JOINING: "serves nobody; catches up with {peer}",
    State.ENTERING: "has everything; notes that on its disk",
    State.PASSIVE: "IN SYNC, passive behind {peer}",
    State.WINDOW: "in sync; the next client that asks makes it active",
    State.OUTDATED: "serves nobody: may lack acknowledged jobs until it has met its peer",
    State.CLAIMING: "takes over: writes a new epoch to its disk",
    State.LEADING: "leads: writes a new epoch to its disk",
    State.TAKEN: "ACTIVE since now; answers are on this disk only",
    State.ALONE: "ACTIVE, ALONE: answers are on this disk only, and {peer} must catch up before it may serve",
    State.ADMITTING: "active; holds its answers while it notes on its disk that the peer counts again",
    State.PAIRED: "ACTIVE, PAIRED: every answer is on both disks",
    State.SUSPENDED: "active but SILENT: holds its answers until the peer cannot have taken over",
    State.CANVASS: "active but SILENT: goes on alone as soon as a gateway asks that met no other active node;"
    " without one 'titanic pair promote --force' is the operator's word",
    State.CONDEMNING: "writes a new epoch, and that the peer is outdated, to its disk",
    State.REFUSING: "active but SILENT until its peer is back (--alone refuse)",
    State.HANDING: "finishes what it has, takes nothing new",
    State.STOPPED: "STOPPED",
}
assert set(WHY) | {Event.PEER_STALE} == set(Event), "a reason for each event that can change a state"
assert set(NOW) == set(State), "words for each state"


def first_words(twin: TwinCore) -> str:
    """Of a node that has not moved since it started: why, and what would help."""
    role = "backup" if twin.is_backup else "primary"
    beat = twin.peer
    peer = "was not heard since this node started" if beat is None else f"is {beat.state}, epoch {beat.epoch}"
    damage = "records are damaged here and must come from the peer; " if twin.is_holed else ""
    return f"{role}, epoch {twin.epoch}: waiting: {damage}the peer {peer}; {NOW[State.WAITING]}"


def story(twin: TwinCore, before: State, event: Event, after: State, link: str) -> str:
    """One line: who, from where to where, why, and what it is now."""
    role = "backup" if twin.is_backup else "primary"
    peer = peer_broker(twin, link) or f"the peer at {link}"
    why = WHY.get(event, event.value)
    now = NOW[after].format(peer=peer, epoch=twin.epoch)
    if after is State.PAIRED and not twin.shares:
        now = "ACTIVE, PAIRED: answers are on this disk, and the peer follows (--replication local)"
    return f"{role}, epoch {twin.epoch}: {before.value} -> {after.value}: {why}; {now}"
