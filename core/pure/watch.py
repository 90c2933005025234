"""What a node of a pair knows about time: when its peer was heard, and what the peer can still do.

Two clocks that need not agree, messages of any age, processes that sleep: the only safe statement about the
other side is an echo. *I received your beat number n* was true at some moment after n was sent.

- The **passive** may open its window a failover time after it *heard* anything (late is harmless), and
  must close it counted from the *sending* of its own last beat that the active echoed.
- The **active** may acknowledge until a failover time after the *sending* of its own last beat that the
  passive echoed, since the passive heard it later than that; and may go on alone once the passive's window,
  counted from the *arrival* of the passive's last beat, is over: the passive counts from its sending.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import msgspec

from core.pure.peer import Beat


class Times(msgspec.Struct, frozen=True):
    """All times of a pair, in ms; both nodes must have the same. Raises ValueError if they contradict."""

    heartbeat_ms: int = 250
    failover_ms: int = 2_000
    window_ms: int = 4_000  # from the begin of the silence; a vote counts until then (P3)
    margin_ms: int = 1_000  # clocks that run apart, and a poll of the clients (P4)
    drift_ms: int = 100
    handover_ms: int = 5_000
    stuck_ms: int = 5_000  # a sync that takes longer ends the node's reign (P8)

    def __post_init__(self) -> None:
        if not 2 * self.heartbeat_ms < self.failover_ms < self.window_ms:
            raise ValueError("heartbeat x 2 < failover < window: one late beat is not a death")
        if not self.drift_ms < self.failover_ms - 2 * self.heartbeat_ms or self.drift_ms >= self.margin_ms:
            raise ValueError("the drift must leave room in failover time and margin")

    @property
    def pause_ms(self) -> int:
        """Between two ticks: more means that this process was stopped."""
        return 3 * self.heartbeat_ms

    @property
    def settle_ms(self) -> int:
        """After a takeover: a peer that went on alone would have been heard of by then."""
        return 2 * self.window_ms + self.margin_ms


class Watch:
    """Beats out, beats in. ``session`` tells this run of this process from every other."""

    def __init__(self, times: Times, session: int, now_ms: int) -> None:
        self.times: Final = times
        self.session: Final = session
        self.number = 0
        self.peer_session = 0  # of the last fresh beat
        self.echo_session = self.echo_number = 0  # what our next beat echoes
        self.heard_ms = now_ms  # anything of the peer arrived
        self.peer_sent_ms = now_ms  # our own beat that the peer echoed last was sent
        self.peer_heard_ms = now_ms  # the peer's beat that we shall echo next arrived
        self.echoed = 0
        self._peer_number = 0
        self._sent: deque[tuple[int, int]] = deque()

    def next_number(self, now_ms: int) -> int:
        """Number of the beat that is sent now."""
        self.number += 1
        self._sent.append((self.number, now_ms))
        if len(self._sent) > 10_000:  # nobody echoes: the oldest are the least useful
            self._sent.popleft()
        return self.number

    def receive(self, beat: Beat, now_ms: int) -> bool:
        """Take a beat in; whether it is fresh: newer than all, of a sender that heard this process."""
        known = beat.session == self.echo_session
        if not known or beat.number > self.echo_number:
            self.echo_session, self.echo_number = beat.session, beat.number
            self.heard_ms = self.peer_heard_ms = now_ms
        if beat.echo_session != self.session or not self._sent or beat.echo_number > self.number:
            return False
        if beat.session == self.peer_session:
            if beat.number <= self._peer_number:
                return False
        elif beat.echo_number <= self.echoed:
            return False  # of a process that was before the one we know
        self.peer_session, self._peer_number = beat.session, beat.number
        if beat.echo_number > self.echoed:
            self.echoed = beat.echo_number
            while len(self._sent) > 1 and self._sent[0][0] < beat.echo_number:
                self._sent.popleft()
            if self._sent[0][0] == beat.echo_number:  # else it was forgotten: older is the safe side
                self.peer_sent_ms = self._sent[0][1]
        return True

    def met(self) -> bool:
        """Whether a fresh beat ever arrived."""
        return self.peer_session != 0

    # -- as passive

    def opens_ms(self) -> int:
        """When the silence has lasted for the failover time."""
        return self.heard_ms + self.times.failover_ms

    def closes_ms(self) -> int:
        """When this node may no longer promote itself."""
        return self.peer_sent_ms + self.times.window_ms

    # -- as active

    def lease_ms(self) -> int:
        """Until when the peer cannot have promoted itself."""
        return self.peer_sent_ms + self.times.failover_ms - self.times.drift_ms

    def over_ms(self) -> int:
        """When the peer's window is over for certain."""
        return self.peer_heard_ms + self.times.window_ms + self.times.margin_ms
