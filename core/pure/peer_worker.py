"""The worker's side of MDP (RFC 7, RFC 18): one service, one request at a time, as a table.

One :class:`WorkerPeer` is one registration at one broker. Feed it :meth:`~WorkerPeer.open` first, then
:meth:`~WorkerPeer.receive` for every message, :meth:`~WorkerPeer.on_tick` not later than
:meth:`~WorkerPeer.next_deadline`, and :meth:`~WorkerPeer.finished` once for every ``Run``; perform what
comes back, in order, before the next call.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from typing import Final

import msgspec

from core.errors import PeerError
from core.pure import mdp
from core.pure.mdp_messages import Disconnect, WorkerRequest
from core.pure.worker_job import is_job_address

HEARTBEAT_MS: Final = 2_500
LIVENESS: Final = 3
BACKOFF_MIN_MS: Final = 250
BACKOFF_MAX_MS: Final = 1_000  # a node that comes back is noticed soon; a fresh socket costs little
REASON_MAX_BYTES: Final = 1_000
assert LIVENESS >= 2, "one late heartbeat is not a death"


class Connect(msgspec.Struct, frozen=True):
    """Open a fresh socket; ``number`` counts them from 0, for who has several brokers to try in turn."""

    number: int


class Send(msgspec.Struct, frozen=True):
    """Send this on the open socket."""

    frames: list[bytes]


class Run(msgspec.Struct, frozen=True):
    """Do the work and call :meth:`WorkerPeer.finished`; ``address`` may carry the job's id."""

    address: bytes
    body: Sequence[bytes]


class Close(msgspec.Struct, frozen=True):
    """Close the socket; deliver what it holds if ``deliver``, else at once."""

    deliver: bool


class Abandon(msgspec.Struct, frozen=True):
    """The broker gave the attempt up: stop the work if possible; ``finished`` still follows."""


class Silent(msgspec.Struct, frozen=True):
    """Tell the user, once per silence: no broker answers."""


class Heard(msgspec.Struct, frozen=True):
    """Tell the user: the broker is there (again)."""


Action = Connect | Send | Run | Close | Abandon | Silent | Heard


class State(Enum):
    """Where the registration stands."""

    __hash__ = object.__hash__  # an Enum's own is a call in Python, and each message looks into the table

    NEW = auto()
    WAITING = auto()  # no socket until the back-off is over
    UNHEARD = auto()  # READY is sent, nothing has come back yet
    IDLE = auto()
    BUSY = auto()
    ORPHAN = auto()  # the handler runs, its session is over
    HANDING = auto()  # a durable job's reply is sent to a node that may not know us; its answer is awaited
    BUSY_LAST = auto()  # draining: the job at hand, then the end
    ORPHAN_LAST = auto()
    HANDING_LAST = auto()
    WAITING_LAST = auto()  # between two nodes that were both passive
    STOPPED = auto()


class Event(Enum):
    """What can happen to it."""

    __hash__ = object.__hash__

    OPEN = auto()
    HEARTBEAT = auto()
    REQUEST = auto()
    DISCONNECT = auto()
    STRANGER = auto()  # DISCONNECT behind a cut: whoever is there now does not know what we are at
    PASSIVE = auto()  # DISCONNECT of a node of a pair to what was handed in: the other one is to have it
    SILENCE = auto()
    LOST = auto()
    RETRY = auto()
    SUCCEEDED = auto()
    OWED = auto()  # a durable job succeeded, but the session it came from is over or was cut
    FAILED = auto()
    DRAIN = auto()
    DRAIN_OWING = auto()


class _Do(Enum):
    CONNECT = auto()  # fresh socket and READY
    READY = auto()  # READY on the same socket
    HAND_IN = auto()  # fresh socket and the reply that is owed
    RUN = auto()
    REPLY = auto()
    GIVE_UP = auto()  # DISCONNECT with the reason of the failure (ours; other brokers ignore it)
    LEAVE = auto()  # DISCONNECT that says: nothing that crosses it was started (ours as well)
    CLOSE = auto()  # keep nothing: a READY delivered later would register a ghost
    CLOSE_LAST = auto()  # deliver the last words
    ABANDON = auto()
    BACK_OFF = auto()
    COMPLAIN = auto()


_S, _E, _D = State, Event, _Do
_Row = tuple[State, tuple[_Do, ...]]

# What is absent cannot happen, except commands of the broker, which are then answered by a fresh start.
TABLE: Final[dict[tuple[State, Event], _Row]] = {
    (_S.NEW, _E.OPEN): (_S.UNHEARD, (_D.CONNECT,)),
    (_S.NEW, _E.DRAIN): (_S.STOPPED, ()),
    (_S.WAITING, _E.RETRY): (_S.UNHEARD, (_D.CONNECT,)),
    (_S.WAITING, _E.OWED): (_S.HANDING, (_D.HAND_IN,)),
    (_S.WAITING, _E.DRAIN): (_S.STOPPED, ()),
    (_S.WAITING, _E.DRAIN_OWING): (_S.WAITING_LAST, ()),
    (_S.UNHEARD, _E.HEARTBEAT): (_S.IDLE, ()),
    (_S.UNHEARD, _E.REQUEST): (_S.BUSY, (_D.RUN,)),
    (_S.UNHEARD, _E.DISCONNECT): (_S.WAITING, (_D.CLOSE, _D.BACK_OFF)),
    (_S.UNHEARD, _E.SILENCE): (_S.WAITING, (_D.CLOSE, _D.BACK_OFF, _D.COMPLAIN)),
    (_S.UNHEARD, _E.LOST): (_S.WAITING, (_D.CLOSE, _D.BACK_OFF, _D.COMPLAIN)),
    (_S.UNHEARD, _E.DRAIN): (_S.STOPPED, (_D.LEAVE, _D.CLOSE_LAST)),
    (_S.IDLE, _E.HEARTBEAT): (_S.IDLE, ()),
    (_S.IDLE, _E.REQUEST): (_S.BUSY, (_D.RUN,)),
    (_S.IDLE, _E.DISCONNECT): (_S.UNHEARD, (_D.CLOSE, _D.CONNECT)),
    (_S.IDLE, _E.SILENCE): (_S.WAITING, (_D.CLOSE, _D.BACK_OFF, _D.COMPLAIN)),
    # Fresh socket at once: its READY is the first thing a restarted broker hears when it listens again.
    (_S.IDLE, _E.LOST): (_S.UNHEARD, (_D.CLOSE, _D.CONNECT)),
    (_S.IDLE, _E.DRAIN): (_S.STOPPED, (_D.LEAVE, _D.CLOSE_LAST)),
    # A broker may be silent while we work and come back: the reply goes out on the same session.
    (_S.BUSY, _E.HEARTBEAT): (_S.BUSY, ()),
    (_S.BUSY, _E.SILENCE): (_S.BUSY, (_D.COMPLAIN,)),
    (_S.BUSY, _E.LOST): (_S.BUSY, ()),
    (_S.BUSY, _E.DISCONNECT): (_S.ORPHAN, (_D.CLOSE, _D.ABANDON)),
    (_S.BUSY, _E.STRANGER): (_S.ORPHAN, (_D.CLOSE,)),
    (_S.BUSY, _E.REQUEST): (
        _S.ORPHAN,
        (_D.CLOSE, _D.ABANDON),
    ),  # against RFC 7: a worker has one request at a time
    (_S.BUSY, _E.SUCCEEDED): (_S.IDLE, (_D.REPLY,)),
    (_S.BUSY, _E.OWED): (_S.HANDING, (_D.CLOSE, _D.HAND_IN)),
    (_S.BUSY, _E.FAILED): (_S.UNHEARD, (_D.GIVE_UP, _D.READY)),
    (_S.BUSY, _E.DRAIN): (_S.BUSY_LAST, ()),
    (_S.ORPHAN, _E.SUCCEEDED): (_S.UNHEARD, (_D.CONNECT,)),
    (_S.ORPHAN, _E.OWED): (_S.HANDING, (_D.HAND_IN,)),
    (_S.ORPHAN, _E.FAILED): (_S.UNHEARD, (_D.CONNECT,)),
    (_S.ORPHAN, _E.DRAIN): (_S.ORPHAN_LAST, ()),
    # A broker answers the REPLY of a worker it does not know by DISCONNECT (RFC 7): then it has seen it.
    (_S.HANDING, _E.DISCONNECT): (_S.UNHEARD, (_D.CLOSE, _D.CONNECT)),
    (_S.HANDING, _E.HEARTBEAT): (_S.IDLE, ()),  # it knows us by our name
    (_S.HANDING, _E.REQUEST): (_S.BUSY, (_D.RUN,)),
    (_S.HANDING, _E.SILENCE): (_S.WAITING, (_D.CLOSE, _D.BACK_OFF, _D.COMPLAIN)),
    (_S.HANDING, _E.LOST): (_S.WAITING, (_D.CLOSE, _D.BACK_OFF, _D.COMPLAIN)),
    # Not seen by anybody who could keep it: neither the reply nor the worker is lost to a failover.
    (_S.HANDING, _E.PASSIVE): (_S.WAITING, (_D.CLOSE, _D.BACK_OFF)),
    (_S.HANDING, _E.DRAIN): (_S.HANDING_LAST, ()),
    (_S.HANDING_LAST, _E.PASSIVE): (_S.WAITING_LAST, (_D.CLOSE, _D.BACK_OFF)),
    (_S.WAITING_LAST, _E.OWED): (_S.HANDING_LAST, (_D.HAND_IN,)),
    (_S.WAITING_LAST, _E.DRAIN): (_S.WAITING_LAST, ()),
    (_S.WAITING_LAST, _E.DRAIN_OWING): (_S.WAITING_LAST, ()),
    (_S.HANDING_LAST, _E.DISCONNECT): (_S.STOPPED, (_D.CLOSE,)),
    (_S.HANDING_LAST, _E.HEARTBEAT): (_S.STOPPED, (_D.LEAVE, _D.CLOSE_LAST)),
    (_S.HANDING_LAST, _E.REQUEST): (_S.STOPPED, (_D.LEAVE, _D.CLOSE_LAST)),
    (_S.HANDING_LAST, _E.SILENCE): (_S.STOPPED, (_D.CLOSE,)),
    (_S.HANDING_LAST, _E.LOST): (_S.HANDING_LAST, (_D.CLOSE, _D.HAND_IN)),
    (_S.HANDING_LAST, _E.DRAIN): (_S.HANDING_LAST, ()),
    (_S.BUSY_LAST, _E.HEARTBEAT): (_S.BUSY_LAST, ()),
    (_S.BUSY_LAST, _E.SILENCE): (_S.BUSY_LAST, (_D.COMPLAIN,)),
    (_S.BUSY_LAST, _E.LOST): (_S.BUSY_LAST, ()),
    (_S.BUSY_LAST, _E.DISCONNECT): (_S.ORPHAN_LAST, (_D.CLOSE, _D.ABANDON)),
    (_S.BUSY_LAST, _E.STRANGER): (_S.ORPHAN_LAST, (_D.CLOSE,)),
    (_S.BUSY_LAST, _E.REQUEST): (_S.ORPHAN_LAST, (_D.CLOSE, _D.ABANDON)),
    (_S.BUSY_LAST, _E.SUCCEEDED): (_S.STOPPED, (_D.REPLY, _D.LEAVE, _D.CLOSE_LAST)),
    (_S.BUSY_LAST, _E.OWED): (_S.HANDING_LAST, (_D.CLOSE, _D.HAND_IN)),
    (_S.BUSY_LAST, _E.FAILED): (_S.STOPPED, (_D.GIVE_UP, _D.CLOSE_LAST)),
    (_S.BUSY_LAST, _E.DRAIN): (_S.BUSY_LAST, ()),
    (_S.ORPHAN_LAST, _E.SUCCEEDED): (_S.STOPPED, ()),
    (_S.ORPHAN_LAST, _E.OWED): (_S.HANDING_LAST, (_D.HAND_IN,)),
    (_S.ORPHAN_LAST, _E.FAILED): (_S.STOPPED, ()),
    (_S.ORPHAN_LAST, _E.DRAIN): (_S.ORPHAN_LAST, ()),
    (_S.STOPPED, _E.DRAIN): (_S.STOPPED, ()),
}
CONNECTED: Final = frozenset(
    {State.UNHEARD, State.IDLE, State.BUSY, State.BUSY_LAST, State.HANDING, State.HANDING_LAST}
)
_BUSY: Final = frozenset({State.BUSY, State.BUSY_LAST})
_HANDING: Final = frozenset({State.HANDING, State.HANDING_LAST})
_WAITING: Final = frozenset({State.WAITING, State.WAITING_LAST})
_ORPHANED: Final = frozenset({State.ORPHAN, State.ORPHAN_LAST})
_WORKING: Final = frozenset({State.BUSY, State.BUSY_LAST, State.ORPHAN, State.ORPHAN_LAST})


class WorkerPeer:
    """One worker as its broker sees it. Times are milliseconds of a monotonic clock the caller reads.

    ``spread`` (0.5 to 1.5, drawn by the caller) stretches this worker's back-off, so that a thousand
    workers that lost one broker do not come back in the same instant.
    """

    def __init__(
        self,
        service: bytes,
        *,
        heartbeat_ms: int = HEARTBEAT_MS,
        liveness: int = LIVENESS,
        version: int = 1,
        spread: float = 1.0,
    ) -> None:
        assert 0.5 <= spread <= 1.5, "a spread is a factor around one"
        self.state = State.NEW
        self.invalid_count = 0
        self._service = service
        self._version = version
        self._heartbeat_ms = heartbeat_ms
        self._silence_ms = heartbeat_ms * liveness
        self._spread = spread
        self._address = b""
        self._cut = False  # the connection was lost, or silent for long, since the REQUEST came
        self._passive_since_ms = 0  # a passive node was the last that answered to what we owe
        self._owed: Sequence[bytes] | None = None  # the reply to ``_address``, until it was seen
        self._beat_at_ms = 0
        self._silent_at_ms = 0
        self._retry_at_ms = 0
        self._socket_count = 0
        self._failure_count = 0  # sessions in a row in which nothing was heard
        self._complained = False

    @property
    def stopped(self) -> bool:
        """Nothing will happen any more."""
        return self.state is State.STOPPED

    @property
    def working(self) -> bool:
        """A ``Run`` waits for its :meth:`finished`."""
        return self.state in _WORKING

    def open(self, now_ms: int) -> list[Action]:
        """Connect and register."""
        return self._step(Event.OPEN, now_ms)

    def drain(self, now_ms: int) -> list[Action]:
        """Finish the job at hand, take no other, leave; done when :attr:`stopped`."""
        owing = self.state is State.WAITING and self._owed is not None
        return self._step(Event.DRAIN_OWING if owing else Event.DRAIN, now_ms)

    def receive(self, frames: Sequence[bytes], now_ms: int) -> list[Action]:
        """A message of the broker; anything else is counted in ``invalid_count`` and changes nothing."""
        if self.state not in CONNECTED:
            return []  # read from a socket that was closed in the same turn
        try:
            message = mdp.parse_for_worker(frames)
        except PeerError:
            self.invalid_count += 1
            return []
        if message.version != self._version:
            self.invalid_count += 1
            return []
        self._silent_at_ms = now_ms + self._silence_ms
        self._failure_count = 0
        actions: list[Action] = [Heard()] if self._complained else []
        self._complained = False
        if isinstance(message, WorkerRequest):
            if self.state in (State.UNHEARD, State.IDLE, State.HANDING):
                self._address, self._cut, self._owed = message.address, False, None
            return actions + self._step(Event.REQUEST, now_ms, body=message.body)
        if isinstance(message, Disconnect):
            if self.state is State.UNHEARD:
                self._failure_count = 1  # it refuses us: not again at once
            passive = message.reason[:1] == (mdp.PASSIVE,)
            if passive and self.state in _HANDING:
                return actions + self._turned_away(now_ms)
            stranger = (self._cut or passive) and self.state in _BUSY
            self._owed = None
            return actions + self._step(Event.STRANGER if stranger else Event.DISCONNECT, now_ms)
        self._cut, self._owed = False, None
        return actions + self._step(Event.HEARTBEAT, now_ms)

    def _turned_away(self, now_ms: int) -> list[Action]:
        """A passive node has seen what we owe. Whoever is to leave does not look for another for ever."""
        self._passive_since_ms = self._passive_since_ms or now_ms
        over = now_ms >= self._passive_since_ms + self._silence_ms
        last = self.state is State.HANDING_LAST and over
        return self._step(Event.SILENCE if last else Event.PASSIVE, now_ms)

    def lost(self, now_ms: int) -> list[Action]:
        """The connection under the open socket is gone, and with it what was on its way.

        Optional: who does not see connections end relies on heartbeats.
        """
        self._cut = True
        return self._step(Event.LOST, now_ms) if self.state in CONNECTED else []

    def finished(
        self, body: Sequence[bytes] | None, now_ms: int, *, reason: str = "", owed: bool = True
    ) -> list[Action]:
        """The handler is done: ``body`` is the reply, None a failed attempt and ``reason`` why.

        The reply to a durable job whose session is over, or was cut, is handed in before anything else: the
        node takes it if the job still waits (ours; a node that restarted does not know who has what). Not
        ``owed`` is what a later attempt brings as well.
        """
        assert self.working, "finished() without a Run"
        if body is None:
            return self._step(Event.FAILED, now_ms, reason=reason)
        if owed and (self._cut or self.state in _ORPHANED) and is_job_address(self._address):
            self._owed, self._passive_since_ms = body, 0
            self._silent_at_ms = now_ms + self._silence_ms
            return self._step(Event.OWED, now_ms)
        return self._step(Event.SUCCEEDED, now_ms, body=body)

    def progress(self, body: Sequence[bytes], now_ms: int) -> list[Action]:
        """A PARTIAL of the job at hand; nothing if there is none, or in MDP/0.1, which has none."""
        if self._version == 1 or self.state not in (State.BUSY, State.BUSY_LAST):
            return []
        return [self._send(mdp.worker_reply(self._address, body, version=self._version, final=False), now_ms)]

    def on_tick(self, now_ms: int) -> list[Action]:
        """Heartbeats, silence and the end of a back-off."""
        if self.state in _WAITING:
            if now_ms < self._retry_at_ms:
                return []
            if self._owed is None:
                return self._step(Event.RETRY, now_ms)
            self._silent_at_ms = now_ms + self._silence_ms
            return self._step(Event.OWED, now_ms)
        if self.state not in CONNECTED:
            return []
        if now_ms >= self._silent_at_ms:
            self._silent_at_ms = now_ms + self._silence_ms
            self._cut = True
            actions = self._step(Event.SILENCE, now_ms)
            if self.state not in CONNECTED:
                return actions
        else:
            actions = []
        if now_ms >= self._beat_at_ms:
            actions.append(self._send(mdp.worker_heartbeat(version=self._version), now_ms))
        return actions

    def next_deadline(self) -> int | None:
        """When :meth:`on_tick` is due; None: not before something else happens."""
        if self.state in _WAITING:
            return self._retry_at_ms
        if self.state in CONNECTED:
            return min(self._beat_at_ms, self._silent_at_ms)
        return None

    def _step(
        self, event: Event, now_ms: int, *, body: Sequence[bytes] = (), reason: str = ""
    ) -> list[Action]:
        self.state, todo = TABLE[self.state, event]
        actions: list[Action] = []
        for do in todo:
            self._perform(do, now_ms, body, reason, actions)
        return actions

    def _perform(
        self, do: _Do, now_ms: int, body: Sequence[bytes], reason: str, actions: list[Action]
    ) -> None:
        version = self._version
        if do in (_Do.CONNECT, _Do.HAND_IN):
            actions.append(Connect(self._socket_count))
            self._socket_count += 1
        if do in (_Do.CONNECT, _Do.READY):
            self._silent_at_ms = now_ms + self._silence_ms
            actions.append(self._send(mdp.worker_ready(self._service, version=version), now_ms))
        elif do is _Do.HAND_IN:
            assert self._owed is not None, "nothing is owed"
            actions.append(self._send(mdp.worker_reply(self._address, self._owed, version=version), now_ms))
        elif do is _Do.RUN:
            actions.append(Run(self._address, body))
        elif do is _Do.REPLY:
            self._silent_at_ms = max(self._silent_at_ms, now_ms + self._heartbeat_ms)
            actions.append(self._send(mdp.worker_reply(self._address, body, version=version), now_ms))
        elif do in (_Do.GIVE_UP, _Do.LEAVE):
            said = reason if do is _Do.GIVE_UP else mdp.NOT_STARTED
            text = said.encode("utf-8", "replace")[:REASON_MAX_BYTES]
            actions.append(
                self._send(mdp.worker_disconnect((text,) if text else (), version=version), now_ms)
            )
        elif do in (_Do.CLOSE, _Do.CLOSE_LAST):
            actions.append(Close(deliver=do is _Do.CLOSE_LAST))
        elif do is _Do.ABANDON:
            actions.append(Abandon())
        elif do is _Do.BACK_OFF:
            delay_ms = min(BACKOFF_MIN_MS << min(self._failure_count, 10), BACKOFF_MAX_MS)
            self._failure_count += 1
            self._retry_at_ms = now_ms + int(delay_ms * self._spread)
        elif do is _Do.COMPLAIN and not self._complained:
            self._complained = True
            actions.append(Silent())

    def _send(self, frames: list[bytes], now_ms: int) -> Send:
        self._beat_at_ms = now_ms + self._heartbeat_ms
        return Send(frames)
