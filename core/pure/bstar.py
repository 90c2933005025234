"""The Binary Star of the ZeroMQ guide, chapter 4, as a table: (state, event) -> state.

Two servers, primary and backup; one is active, one passive, and the clients know both. Each publishes its
state to the other. The passive becomes active only when the active is silent *and* a client asks it: the
client's request is the vote that tells a dead peer from a broken wire between the two.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from core.errors import CoreError

HEARTBEAT_MS: Final = 1_000
PEER_EXPIRY_MS: Final = 2 * HEARTBEAT_MS
"""The guide's: silence for two heartbeats."""


class BothActiveError(CoreError):
    """Both servers believe to be active, or passive, or both have one role: stop, a person must look."""


class State(Enum):
    """What a server is. The value is what it publishes."""

    PRIMARY = b"1"  # waiting for its peer
    BACKUP = b"2"  # waiting for its peer
    ACTIVE = b"3"
    PASSIVE = b"4"


class Event(Enum):
    """What happens to a server."""

    PEER_PRIMARY = b"1"
    PEER_BACKUP = b"2"
    PEER_ACTIVE = b"3"
    PEER_PASSIVE = b"4"
    REQUEST = b"5"  # a client asks while the peer is heard
    REQUEST_IN_SILENCE = b"6"  # a client asks while the peer is silent


S, E = State, Event
TABLE: Final[dict[tuple[State, Event], State]] = {
    (S.PRIMARY, E.PEER_PRIMARY): S.PRIMARY,  # its own echo after a mistake in the configuration harms nobody
    (S.PRIMARY, E.PEER_BACKUP): S.ACTIVE,
    (S.PRIMARY, E.PEER_ACTIVE): S.PASSIVE,
    (S.PRIMARY, E.PEER_PASSIVE): S.PRIMARY,
    (S.PRIMARY, E.REQUEST_IN_SILENCE): S.ACTIVE,  # the guide: the primary may start without its backup
    (S.BACKUP, E.PEER_PRIMARY): S.BACKUP,
    (S.BACKUP, E.PEER_BACKUP): S.BACKUP,
    (S.BACKUP, E.PEER_ACTIVE): S.PASSIVE,
    (S.BACKUP, E.PEER_PASSIVE): S.BACKUP,
    (S.ACTIVE, E.PEER_PRIMARY): S.ACTIVE,
    (S.ACTIVE, E.PEER_BACKUP): S.ACTIVE,
    (S.ACTIVE, E.PEER_PASSIVE): S.ACTIVE,
    (S.ACTIVE, E.REQUEST): S.ACTIVE,
    (S.ACTIVE, E.REQUEST_IN_SILENCE): S.ACTIVE,
    (
        S.PASSIVE,
        E.PEER_PRIMARY,
    ): S.ACTIVE,  # the peer restarts: it lost its state, this server has none to lose
    (S.PASSIVE, E.PEER_BACKUP): S.ACTIVE,
    (S.PASSIVE, E.PEER_ACTIVE): S.PASSIVE,
    (S.PASSIVE, E.REQUEST_IN_SILENCE): S.ACTIVE,  # the vote
}
"""Absent: both active, both passive (the guide's fatal errors). REQUEST elsewhere is refused, not illegal."""


class BinaryStar:
    """One server's view of the pair. Told what arrives and what time it is."""

    def __init__(self, *, primary: bool, now_ms: int, expiry_ms: int = PEER_EXPIRY_MS) -> None:
        self.state = State.PRIMARY if primary else State.BACKUP
        self._expiry_ms = expiry_ms
        self._expires_ms = now_ms + expiry_ms

    def on_peer(self, published: bytes, now_ms: int) -> bool:
        """The peer published its state; whether that changed ours. BothActiveError, ValueError."""
        event = Event(published)
        if event in (Event.REQUEST, Event.REQUEST_IN_SILENCE):
            raise ValueError("no state of a server")
        changed = self._step(event)
        self._expires_ms = now_ms + self._expiry_ms
        return changed

    def on_request(self, now_ms: int) -> tuple[bool, bool]:
        """(whether to answer this client, whether our state changed): the vote."""
        silent = now_ms >= self._expires_ms
        changed = False
        if (self.state, Event.REQUEST_IN_SILENCE) in TABLE and silent:
            changed = self._step(Event.REQUEST_IN_SILENCE)
        return self.state is State.ACTIVE, changed

    def _step(self, event: Event) -> bool:
        after = TABLE.get((self.state, event))
        if after is None:
            raise BothActiveError(f"this server is {self.state.name.lower()}, {event.name.lower()}")
        changed, self.state = after is not self.state, after
        return changed
