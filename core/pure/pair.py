"""The life of one node of a pair, as a table: (state, event) -> (state, actions). Rules P1 to P9.

What is absent is illegal. Time, evidence and comparisons are turned into events by
:class:`core.pure.twin.Twin`; the actions are performed by it and by the shell around it. The diagram in
``docs/internals/pair.md`` is written by :func:`diagram`.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from core.errors import CoreError


class IllegalStepError(CoreError):
    """An event that cannot happen in this state: our own mistake, and the node stops rather than guess."""

    def __init__(self, state: State, event: Event) -> None:
        super().__init__(f"{event.value} in state {state.value}")
        self.state, self.event = state, event


class State(Enum):
    """What a node of a pair is to its peer and to clients."""

    WAITING = "waiting"  # nothing proves that it may serve: it waits for its peer or for the operator (P5)
    YIELDING = "yielding"  # promised its peer not to lead
    JOINING = "joining"  # catches up with the active peer; recorded as outdated
    ENTERING = "entering"  # holds everything; its record of being outdated is being erased
    PASSIVE = "passive"  # in sync
    WINDOW = "window"  # in sync, the peer is silent: a vote promotes (P3)
    OUTDATED = "outdated"  # may lack acknowledged jobs
    CLAIMING = "claiming"  # voted for: the new epoch is on its way to the disk (P1)
    LEADING = "leading"  # the same, with the peer's promise not to lead
    TAKEN = "taken"  # active; the peer may not know yet
    ALONE = "alone"  # active; "peer outdated" is on the disk (P4)
    ADMITTING = "admitting"  # active; the peer has caught up, that record is being erased: answers wait
    PAIRED = "paired"  # active; every acknowledgement is on both disks
    SUSPENDED = "suspended"  # active, peer lost: acknowledges nothing until the peer's window is over
    CANVASS = "canvass"  # the window is over: a client that saw no higher epoch decides
    CONDEMNING = "condemning"  # new epoch and "peer outdated" are on their way to the disk
    REFUSING = "refusing"  # --alone refuse: acknowledges nothing without its peer
    HANDING = "handing"  # planned switch: takes nothing new until the peer has everything (P9)
    STOPPED = "stopped"


class Event(Enum):
    """What can happen to a node."""

    PROVEN = "proven"  # at the start: the superblock proves that it may serve
    PEER_ACTIVE = "peer-active"  # the peer is active under an epoch at least as high
    PEER_STALE = "peer-stale"  # the peer believes to be active under a lower epoch
    PEER_BETTER = "peer-better"  # neither is active, and the peer should lead
    PEER_WORSE = "peer-worse"  # neither is active, and this node should lead
    PEER_YIELDS = "peer-yields"  # the peer promised this very process not to lead
    PEER_AHEAD = "peer-ahead"  # the peer is not active, but has seen a higher epoch
    PEER_OUT = "peer-out"  # the peer says itself that it is not in sync
    PEER_GONE = "peer-gone"  # proof, while the lease held, that the peer's process is gone
    SILENCE = "silence"  # nothing heard for the failover time
    WINDOW_ENDS = "window-ends"
    LEASE_ENDS = "lease-ends"
    LEASE_BACK = "lease-back"
    WAIT_ENDS = "wait-ends"  # the peer's window and the margin are over
    SETTLED = "settled"  # a peer that went on alone would have been heard of by now
    PAUSED = "paused"  # this process was stopped for a while and woke up (P8)
    VOTE = "vote"  # a client asks, and knows nothing newer than this node
    NEWER = "newer"  # a client saw a higher epoch
    STORED = "stored"  # the superblock asked for last is synced
    CAUGHT_UP = "caught-up"  # the follower has every record, and its digest agrees
    FOLLOWER_LOST = "follower-lost"  # the follower's session ended
    OFFERED = "offered"  # the active says: in sync from here on
    LEFT_BEHIND = "left-behind"  # the active says: no longer in sync
    REFUSE = "refuse"  # --alone refuse, where it would go on alone otherwise
    HANDOVER = "handover"
    DRAINED = "drained"  # nothing is held, and the peer has every record
    GIVE_UP = "give-up"  # the planned switch takes too long
    PROMOTE = "promote"  # the operator's word
    STUCK = "stuck"  # a sync does not return, or the journal failed


class Action(Enum):
    """What a step asks for, in order."""

    CLAIM = "claim"  # a new epoch of this node, synced; answered by STORED
    CONDEMN = "condemn"  # the same, with "peer outdated"
    SEAL = "seal"  # record "peer outdated"; nobody waits
    PARDON = "pardon"  # erase "peer outdated", synced; answered by STORED
    CONFESS = "confess"  # record "outdated"; nobody waits
    CLEAR = "clear"  # erase "outdated", synced; answered by STORED
    SERVE = "serve"  # write a mark of the new epoch; answer clients and workers if not done already
    RETIRE = "retire"  # stop being active: forget all that is not on the disk
    FOLLOW = "follow"  # ask the active for its records
    OFFER = "offer"  # tell the follower that it counts
    CONFIRM = "confirm"  # tell the active that this is recorded
    HALT = "halt"


S, E, A = State, Event, Action
Row = tuple[State, tuple[Action, ...]]

ACTIVE: Final = frozenset(
    (S.TAKEN, S.ALONE, S.ADMITTING, S.PAIRED, S.SUSPENDED, S.CANVASS, S.CONDEMNING, S.REFUSING, S.HANDING)
)
"""Serves clients and workers."""
ACKNOWLEDGES: Final = frozenset((S.TAKEN, S.ALONE, S.PAIRED, S.HANDING))
"""Lets answers go: at once, or (PAIRED, HANDING) when the peer has the records they depend on."""
IN_SYNC: Final = frozenset((S.PASSIVE, S.WINDOW))
"""May be promoted by a vote sooner or later."""

_FENCED: Final = (A.RETIRE, A.CONFESS)

TABLE: Final[dict[tuple[State, Event], Row]] = {
    # -- nobody knows who leads
    (S.WAITING, E.PROVEN): (S.CONDEMNING, (A.CONDEMN,)),
    (S.WAITING, E.PEER_ACTIVE): (S.JOINING, (A.CONFESS, A.FOLLOW)),
    (S.WAITING, E.PEER_BETTER): (S.YIELDING, ()),
    (S.WAITING, E.PEER_WORSE): (S.WAITING, ()),
    (S.WAITING, E.PEER_YIELDS): (S.LEADING, (A.CLAIM,)),
    (S.WAITING, E.PROMOTE): (S.CONDEMNING, (A.CONDEMN,)),
    (S.YIELDING, E.PEER_ACTIVE): (S.JOINING, (A.CONFESS, A.FOLLOW)),
    (S.YIELDING, E.PEER_BETTER): (S.YIELDING, ()),
    (S.YIELDING, E.PEER_WORSE): (S.WAITING, ()),
    (S.YIELDING, E.PEER_YIELDS): (S.WAITING, ()),
    (S.YIELDING, E.SILENCE): (S.WAITING, ()),
    (S.YIELDING, E.PROMOTE): (S.CONDEMNING, (A.CONDEMN,)),
    # -- following
    (S.JOINING, E.PEER_ACTIVE): (S.JOINING, ()),
    (S.JOINING, E.PEER_BETTER): (S.YIELDING, ()),
    (S.JOINING, E.PEER_WORSE): (S.WAITING, ()),
    (S.JOINING, E.PEER_YIELDS): (S.WAITING, ()),
    (S.JOINING, E.SILENCE): (S.OUTDATED, ()),
    (S.JOINING, E.OFFERED): (S.ENTERING, (A.CLEAR,)),
    (S.ENTERING, E.PEER_ACTIVE): (S.ENTERING, ()),
    (S.ENTERING, E.OFFERED): (S.ENTERING, ()),
    (S.ENTERING, E.STORED): (S.PASSIVE, (A.CONFIRM,)),
    (S.ENTERING, E.LEFT_BEHIND): (S.JOINING, (A.CONFESS, A.FOLLOW)),
    (S.ENTERING, E.SILENCE): (S.OUTDATED, (A.CONFESS,)),
    (S.ENTERING, E.PEER_BETTER): (S.YIELDING, ()),
    (S.ENTERING, E.PEER_WORSE): (S.WAITING, ()),
    (S.ENTERING, E.PEER_YIELDS): (S.WAITING, ()),
    (S.PASSIVE, E.PEER_ACTIVE): (S.PASSIVE, ()),
    (S.PASSIVE, E.OFFERED): (S.PASSIVE, (A.CONFIRM,)),
    (S.PASSIVE, E.LEFT_BEHIND): (S.JOINING, (A.CONFESS, A.FOLLOW)),
    (S.PASSIVE, E.SILENCE): (S.WINDOW, ()),
    (S.PASSIVE, E.VOTE): (S.PASSIVE, ()),
    (S.PASSIVE, E.NEWER): (S.OUTDATED, (A.CONFESS,)),
    (S.PASSIVE, E.PEER_BETTER): (S.YIELDING, ()),
    (S.PASSIVE, E.PEER_WORSE): (S.PASSIVE, ()),
    (S.PASSIVE, E.PEER_YIELDS): (S.LEADING, (A.CLAIM,)),
    # -- the vote (P3)
    (S.WINDOW, E.VOTE): (S.CLAIMING, (A.CLAIM,)),
    (S.WINDOW, E.NEWER): (S.OUTDATED, (A.CONFESS,)),
    (S.WINDOW, E.WINDOW_ENDS): (S.OUTDATED, (A.CONFESS,)),
    (S.WINDOW, E.PEER_ACTIVE): (S.PASSIVE, ()),
    (S.WINDOW, E.OFFERED): (S.PASSIVE, (A.CONFIRM,)),
    (S.WINDOW, E.LEFT_BEHIND): (S.JOINING, (A.CONFESS, A.FOLLOW)),
    (S.WINDOW, E.PEER_BETTER): (S.YIELDING, ()),
    (S.WINDOW, E.PEER_WORSE): (S.PASSIVE, ()),
    (S.WINDOW, E.PEER_YIELDS): (S.LEADING, (A.CLAIM,)),
    (S.CLAIMING, E.STORED): (S.TAKEN, (A.SERVE,)),
    (S.CLAIMING, E.WINDOW_ENDS): (S.OUTDATED, (A.CONFESS,)),
    (S.CLAIMING, E.NEWER): (S.OUTDATED, (A.CONFESS,)),
    (S.CLAIMING, E.PEER_ACTIVE): (S.JOINING, (A.CONFESS, A.FOLLOW)),
    (S.CLAIMING, E.PEER_STALE): (S.CLAIMING, ()),
    (S.LEADING, E.STORED): (S.TAKEN, (A.SERVE,)),
    (S.LEADING, E.NEWER): (S.OUTDATED, (A.CONFESS,)),
    (S.LEADING, E.PEER_ACTIVE): (S.JOINING, (A.CONFESS, A.FOLLOW)),
    (S.LEADING, E.PEER_STALE): (S.LEADING, ()),
    (S.OUTDATED, E.PEER_ACTIVE): (S.JOINING, (A.FOLLOW,)),
    (S.OUTDATED, E.PEER_BETTER): (S.YIELDING, ()),
    (S.OUTDATED, E.PEER_WORSE): (S.WAITING, ()),
    (S.OUTDATED, E.PEER_YIELDS): (S.WAITING, ()),
    (S.OUTDATED, E.PROMOTE): (S.CONDEMNING, (A.CONDEMN,)),
    # -- active
    (S.TAKEN, E.SETTLED): (S.ALONE, (A.SEAL,)),
    (S.TAKEN, E.PAUSED): (S.SUSPENDED, ()),
    (S.TAKEN, E.CAUGHT_UP): (S.ADMITTING, (A.PARDON,)),
    (S.TAKEN, E.FOLLOWER_LOST): (S.TAKEN, ()),
    (S.TAKEN, E.PEER_AHEAD): (S.CONDEMNING, (A.CONDEMN,)),
    (S.ALONE, E.PEER_AHEAD): (S.CONDEMNING, (A.CONDEMN,)),
    (S.ALONE, E.CAUGHT_UP): (S.ADMITTING, (A.PARDON,)),
    (S.ALONE, E.FOLLOWER_LOST): (S.ALONE, ()),
    (S.ADMITTING, E.STORED): (S.PAIRED, (A.OFFER,)),
    (S.ADMITTING, E.CAUGHT_UP): (S.ADMITTING, ()),
    (S.ADMITTING, E.FOLLOWER_LOST): (S.CONDEMNING, (A.CONDEMN,)),
    (S.ADMITTING, E.REFUSE): (S.REFUSING, ()),
    (S.PAIRED, E.LEASE_ENDS): (S.SUSPENDED, ()),
    (S.PAIRED, E.PEER_OUT): (S.CONDEMNING, (A.CONDEMN,)),
    (S.PAIRED, E.PEER_GONE): (S.CONDEMNING, (A.CONDEMN,)),
    (S.PAIRED, E.REFUSE): (S.REFUSING, ()),
    (S.PAIRED, E.CAUGHT_UP): (S.PAIRED, (A.OFFER,)),
    (S.PAIRED, E.HANDOVER): (S.HANDING, ()),
    (S.HANDING, E.DRAINED): (S.YIELDING, (A.RETIRE,)),
    (S.HANDING, E.GIVE_UP): (S.PAIRED, ()),
    (S.HANDING, E.LEASE_ENDS): (S.SUSPENDED, ()),
    (S.HANDING, E.PEER_OUT): (S.CONDEMNING, (A.CONDEMN,)),
    (S.HANDING, E.PEER_GONE): (S.CONDEMNING, (A.CONDEMN,)),
    (S.HANDING, E.REFUSE): (S.REFUSING, ()),
    (S.HANDING, E.CAUGHT_UP): (S.HANDING, ()),
    # -- alone (P4)
    (S.SUSPENDED, E.LEASE_BACK): (S.PAIRED, ()),
    (S.SUSPENDED, E.PEER_OUT): (S.CONDEMNING, (A.CONDEMN,)),
    (S.SUSPENDED, E.WAIT_ENDS): (S.CANVASS, ()),
    (S.SUSPENDED, E.REFUSE): (S.REFUSING, ()),
    (S.SUSPENDED, E.PAUSED): (S.SUSPENDED, ()),
    (S.SUSPENDED, E.VOTE): (S.SUSPENDED, ()),
    (S.SUSPENDED, E.CAUGHT_UP): (S.SUSPENDED, ()),
    (S.CANVASS, E.VOTE): (S.CONDEMNING, (A.CONDEMN,)),
    (S.SUSPENDED, E.PROMOTE): (S.CONDEMNING, (A.CONDEMN,)),
    (S.CANVASS, E.PROMOTE): (S.CONDEMNING, (A.CONDEMN,)),
    (S.CANVASS, E.PAUSED): (S.SUSPENDED, ()),
    (S.CANVASS, E.LEASE_BACK): (S.PAIRED, ()),
    (S.CANVASS, E.PEER_OUT): (S.CONDEMNING, (A.CONDEMN,)),
    (S.CANVASS, E.CAUGHT_UP): (S.CANVASS, ()),
    (S.CONDEMNING, E.STORED): (S.ALONE, (A.SERVE,)),
    (S.REFUSING, E.LEASE_BACK): (S.PAIRED, ()),
    (S.REFUSING, E.CAUGHT_UP): (S.ADMITTING, (A.PARDON,)),
    (S.REFUSING, E.PROMOTE): (S.CONDEMNING, (A.CONDEMN,)),
    # it took over, died and came back: which of the two logs goes further is asked as at a cold start (P5)
    (S.REFUSING, E.PEER_AHEAD): (S.WAITING, (A.RETIRE,)),
    (S.REFUSING, E.REFUSE): (S.REFUSING, ()),
}

# A higher epoch ends every reign (P1); with the peer in sight it is followed, otherwise waited for.
for _state in ACTIVE:
    TABLE[_state, E.PEER_ACTIVE] = (S.JOINING, (*_FENCED, A.FOLLOW))
    TABLE[_state, E.NEWER] = (S.OUTDATED, _FENCED)
    TABLE[_state, E.PEER_STALE] = (_state, ())

# What changes nothing where it can happen without being waited for.
IDLE: Final[dict[Event, tuple[State, ...]]] = {
    E.VOTE: (
        *(S.WAITING, S.YIELDING, S.JOINING, S.ENTERING, S.OUTDATED, S.CLAIMING, S.LEADING, S.TAKEN, S.ALONE),
        *(S.ADMITTING, S.PAIRED, S.CONDEMNING, S.REFUSING, S.HANDING),
    ),
    E.NEWER: (S.WAITING, S.YIELDING, S.JOINING, S.ENTERING, S.OUTDATED),
    E.PAUSED: (
        *(S.WAITING, S.YIELDING, S.JOINING, S.ENTERING, S.PASSIVE, S.WINDOW, S.OUTDATED, S.CLAIMING),
        *(S.LEADING, S.ALONE, S.ADMITTING, S.PAIRED, S.CONDEMNING, S.REFUSING, S.HANDING),
    ),
    E.PEER_OUT: (S.TAKEN, S.ALONE, S.ADMITTING, S.CONDEMNING, S.REFUSING),
    E.PEER_GONE: (*(S.TAKEN, S.ALONE, S.ADMITTING, S.CONDEMNING, S.REFUSING, S.SUSPENDED, S.CANVASS),),
    E.PEER_STALE: (S.WAITING, S.YIELDING, S.JOINING, S.ENTERING, S.PASSIVE, S.WINDOW, S.OUTDATED),
    E.PEER_WORSE: (S.CLAIMING, S.LEADING),
    E.PEER_BETTER: (S.CLAIMING, S.LEADING),
    E.PEER_YIELDS: (S.CLAIMING, S.LEADING),
    E.FOLLOWER_LOST: (*(S.PAIRED, S.SUSPENDED, S.CANVASS, S.CONDEMNING, S.REFUSING, S.HANDING),),
    E.CAUGHT_UP: (S.CONDEMNING,),
    E.LEFT_BEHIND: (S.JOINING, S.OUTDATED, S.WAITING, S.YIELDING),
    E.OFFERED: (S.OUTDATED, S.WAITING, S.YIELDING, S.CLAIMING, S.LEADING),
    E.REFUSE: (S.TAKEN, S.ALONE, S.CONDEMNING, S.CANVASS),
    E.STORED: (S.JOINING, S.OUTDATED, S.WAITING, S.YIELDING),
}
for _event, _states in IDLE.items():
    for _state in _states:
        assert (_state, _event) not in TABLE, "said once"
        TABLE[_state, _event] = (_state, ())
for _state in State:
    TABLE[_state, E.STUCK] = (S.STOPPED, () if _state is S.STOPPED else (A.HALT,))


def step(state: State, event: Event) -> Row:
    """The next state and what to do. Raises IllegalStepError for a pair the table does not have."""
    row = TABLE.get((state, event))
    if row is None:
        raise IllegalStepError(state, event)
    return row


def diagram() -> str:
    """The table as a Mermaid state diagram; steps that change nothing and STUCK are left out."""
    lines = ["stateDiagram-v2", "    [*] --> waiting"]
    edges: dict[tuple[str, str], list[str]] = {}
    for (state, event), (target, actions) in TABLE.items():
        if event is E.STUCK or (state is target and not actions):
            continue
        label = event.value + (" / " + ", ".join(action.value for action in actions) if actions else "")
        edges.setdefault((state.value, target.value), []).append(label)
    for (source, goal), labels in sorted(edges.items()):
        lines.append(f"    {source} --> {goal}: " + "; ".join(sorted(labels)).replace(";", "<br/>"))
    return "\n".join(lines)
