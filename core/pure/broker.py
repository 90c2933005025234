"""The Majordomo broker of RFCs 7, 18 and 8, without IO: frames and time in, frames out.

The shell calls :meth:`Broker.receive` for each message of its ROUTER, :meth:`Broker.unreachable` when
a send failed, and :meth:`Broker.on_tick` at :meth:`Broker.next_deadline`; it reads what has arrived
before it lets time pass. Which rule is kept where, and what we chose where the RFCs leave a choice:
``docs/internals/mdp.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from core.errors import PeerError
from core.pure import mmi
from core.pure.allow import Admission
from core.pure.dispatch import Dispatch
from core.pure.express import Express
from core.pure.jobs import Now
from core.pure.limits import BrokerLimits
from core.pure.mdp import CLIENT_1, CLIENT_2, HEARTBEAT, PASSIVE, REPLY, WORKER_1, WORKER_2, parse, to_client
from core.pure.mdp_messages import ClientRequest, Disconnect, Heartbeat, WorkerReady, WorkerReply
from core.pure.ports import Backlog, Forward, Internal, Outbox
from core.pure.services import Request, Worker

__all__ = ["Broker", "BrokerLimits"]

TITANIC: Final = b"titanic."
VERSIONS_2: Final = (CLIENT_2, WORKER_2)


class Broker:
    """Routes requests to workers and replies to clients; never raises on what a peer can send.

    Without ``internal``, names that begin with ``titanic.`` are services like others, for a worker to
    register; with it they are the broker's own. ``mmi.`` always is. ``admission``, asked while the message
    is at hand, says who may ask and work for what; without it everybody may. ``counters`` names everything
    that was ever dropped or ended (:data:`core.pure.dispatch.COUNTERS`).
    """

    def __init__(
        self,
        out: Outbox,
        *,
        internal: Internal | None = None,
        backlog: Backlog | None = None,
        limits: BrokerLimits | None = None,
        admission: Admission | None = None,
        forward: Forward | None = None,
    ) -> None:
        self._admission = admission
        limits = limits or BrokerLimits()
        self._dispatch = dispatch = Dispatch(out, backlog, limits, forward)
        self._express_way = Express(dispatch, limits)
        self.counters = dispatch.counters
        self._workers = dispatch.workers
        self._services = dispatch.services
        self._send = out.send
        self._internal = internal
        self._limits = limits
        self._handlers: dict[type, Callable[[Any, Now], None]] = {
            ClientRequest: self._on_request,
            WorkerReply: self._on_reply,
            Heartbeat: self._on_heartbeat,
            WorkerReady: self._on_ready,
            Disconnect: self._on_disconnect,
        }

    # -- what the shell calls

    def receive(self, frames: Sequence[bytes], now: Now) -> None:
        """One message of the ROUTER, identity first; an invalid one is dropped, counted, ends its worker."""
        self.counters["received"] += 1
        limits = self._limits
        if len(frames) > limits.frames_max_count or sum(map(len, frames)) > limits.message_max_bytes:
            self._invalid(frames[0], now)
        elif not self._express(frames, now):
            self._receive(frames, now)

    def read(self, identity: bytes, data: bytes, now: Now) -> int:
        """Bytes of a peer, from the first of a message on; how many were messages that are done with.

        The rest is for :meth:`receive`. See :mod:`core.pure.express`; nothing is read that needs admission.
        """
        return 0 if self._admission is not None else self._express_way.read(identity, data, now)

    def _express(self, frames: Sequence[bytes], now: Now) -> bool:
        """What nearly every message is, read where it lies; False for all else, which takes the long way.

        The long way would do the same with these: ``tests/core/test_broker_express.py`` compares them.
        """
        count = len(frames)
        if count < 4:
            return False
        if not frames[1]:
            if frames[2] == WORKER_1:
                worker = self._workers.get(frames[0])
                if worker is None or worker.version != 1:
                    return False
                command = frames[3]
                if command == REPLY and count > 6 and not frames[5] and frames[4] == worker.address:
                    worker.seen_ms = now.mono_ms
                    self._dispatch.finish(worker, frames[6:], now)
                    return True
                if command == HEARTBEAT and count == 4:
                    worker.seen_ms = now.mono_ms
                    return True
            elif frames[2] == CLIENT_1 and count > 4 and frames[3] in self._services and not self._admission:
                self.counters["requests"] += 1
                self._dispatch.request(Request((frames[0],), frames[3], frames[4:]), now)
                return True
        elif count > 5 and not frames[2] and frames[3] == CLIENT_1 and not self._admission:
            name = frames[4]
            if self._internal and name.startswith(TITANIC) and frames[1] not in VERSIONS_2:
                self.counters["requests_internal"] += 1
                self._internal.handle(name, (frames[0], frames[1]), frames[5:], now)
                return True
        return False

    def _receive(self, frames: Sequence[bytes], now: Now) -> None:
        """Any message, by the table of commands."""
        try:
            message = parse(frames)
        except PeerError as error:
            self._invalid(error.identity, now)
            return
        self._handlers[type(message)](message, now)

    def unreachable(self, identity: bytes, now: Now) -> None:
        """A send to ``identity`` failed with EHOSTUNREACH: if it was a worker, its work goes to another."""
        self._dispatch.unreachable(identity, now)

    def lost(self, identity: bytes, now: Now) -> None:
        """The connection of ``identity`` has ended for good: the same for a worker, nothing for others."""
        if identity in self._workers:
            self._dispatch.unreachable(identity, now)

    def refuse(self, identity: bytes, now: Now) -> None:
        """A message of this peer was not admitted: if it is a worker, it is told DISCONNECT and is none."""
        worker = self._workers.get(identity)
        if worker is not None:
            self.counters["workers_forbidden"] += 1
            self._dispatch.end(worker, "the worker's key is not allowed any more", now, tell=True)

    def wake(self, service: bytes, now: Now) -> None:
        """The backlog has work for ``service``: idle workers get it, least recently used first."""
        self._dispatch.wake(service, now)

    def abandon(self, address: bytes, now: Now) -> None:
        """The attempt with this address is over: its worker is told DISCONNECT and forgotten.

        The backlog is not told. A reply this worker had on its way is offered to the backlog as late.
        """
        self._dispatch.abandon(address, now)

    def dismiss(self, reason: str, now: Now) -> None:
        """Tell every worker to go elsewhere, and to take along what it is at: this broker stops serving."""
        self._dispatch.dismiss(reason, PASSIVE, now)

    def on_tick(self, now: Now) -> None:
        """Send the heartbeats that are due, end silent workers, expire requests."""
        self._dispatch.on_tick(now)

    def next_deadline(self) -> int | None:
        """Monotonic milliseconds of the next :meth:`on_tick`; None while there is nobody to wait for."""
        return self._dispatch.next_deadline()

    # -- inspection; also mmi.Directory

    def knows(self, identity: bytes) -> bool:
        """Whether this peer is a registered worker."""
        return identity in self._workers

    def workers(self, service: bytes) -> int:
        """How many workers are registered for ``service``."""
        entry = self._services.get(service)
        return entry.workers_count if entry is not None else 0

    def available(self, service: bytes) -> bool:
        """Whether a request for ``service`` finds a worker, or is answered by the broker itself."""
        if service.startswith(TITANIC) and self._internal is not None:
            return True
        return service in mmi.IMPLEMENTED or self.workers(service) > 0

    def row(self, service: bytes) -> mmi.ServiceRow | None:
        """The numbers of ``service``; None if it has neither workers nor waiting requests."""
        return self._dispatch.row(service)

    def names(self) -> Sequence[bytes]:
        """All services that have a row, sorted."""
        return self._dispatch.names()

    def services(self) -> list[mmi.ServiceRow]:
        """The rows of all services, sorted by name."""
        return [row for name in self.names() if (row := self.row(name)) is not None]

    @property
    def gauges(self) -> dict[str, int]:
        """What there is now."""
        return self._dispatch.gauges

    # -- clients

    def _on_request(self, message: ClientRequest, now: Now) -> None:
        name = message.service
        if self._admission is not None and not self._admission.may_ask(name):
            self.counters["requests_forbidden"] += 1
            return
        if name not in self._services:
            if name.startswith(TITANIC) and self._internal is not None:
                self.counters["requests_internal"] += 1
                self._internal.handle(name, message.path, message.body, now)
                return
            if name.startswith(mmi.PREFIX):
                self.counters["requests_mmi"] += 1
                self._send(to_client(message.path, name, mmi.answer(name, message.body, self)))
                return
            if not self._nameable(name):
                self._invalid(message.path[0], now)
                return
        self.counters["requests"] += 1
        self._dispatch.request(Request(message.path, name, message.body), now)

    # -- workers

    def _on_ready(self, message: WorkerReady, now: Now) -> None:
        worker = self._workers.get(message.identity)
        if worker is not None:
            self._unexpected(message.identity, message.version, worker, now)
            return
        name = message.service
        if self._admission is not None and not self._admission.may_work(name):
            self.counters["workers_forbidden"] += 1
            self._dispatch.disconnect(message.identity, message.version)
            return
        own = name.startswith(mmi.PREFIX) or (self._internal is not None and name.startswith(TITANIC))
        if own or len(self._workers) >= self._limits.workers_max_count:
            self.counters["workers_refused"] += 1
            self._dispatch.disconnect(message.identity, message.version)
            return
        if not self._nameable(name):
            self._invalid(message.identity, now)
            return
        self._dispatch.register(message.identity, message.version, name, now)

    def _on_reply(self, message: WorkerReply, now: Now) -> None:
        worker = self._workers.get(message.identity)
        if worker is None or worker.address is None or worker.version != message.version:
            if worker is None and message.final:
                self._dispatch.finish_late(
                    message.identity, message.address, message.body, self._may_work, now
                )
            self._unexpected(message.identity, message.version, worker, now)
        elif message.address != worker.address:
            self._invalid(message.identity, now)
        elif message.final:
            worker.seen_ms = now.mono_ms
            self._dispatch.finish(worker, message.body, now)
        else:
            worker.seen_ms = now.mono_ms
            self._dispatch.progress(worker, message.body, now)

    def _on_heartbeat(self, message: Heartbeat, now: Now) -> None:
        worker = self._workers.get(message.identity)
        if worker is None or worker.version != message.version:
            self._unexpected(message.identity, message.version, worker, now)
        else:
            worker.seen_ms = now.mono_ms

    def _on_disconnect(self, message: Disconnect, now: Now) -> None:
        worker = self._workers.get(message.identity)
        if worker is None:
            return
        self.counters["workers_left"] += 1
        text = b" ".join(message.reason)[: self._limits.reason_max_bytes].decode("utf-8", "replace")
        reason = "".join(char if char.isprintable() else " " for char in text)
        self._dispatch.end(worker, reason or "the worker disconnected", now, tell=False, stated=bool(reason))

    def _unexpected(self, identity: bytes, version: int, worker: Worker | None, now: Now) -> None:
        """A valid command at the wrong time: DISCONNECT, and the registration, if any, is over (RFC 7)."""
        self.counters["unexpected"] += 1
        if worker is not None:
            self._dispatch.end(worker, "the worker sent a command out of turn", now, tell=True)
        else:
            self._dispatch.disconnect(identity, version)

    def _invalid(self, identity: bytes, now: Now) -> None:
        """The message is dropped; a worker that sent it is told DISCONNECT and is one no longer (RFC 7)."""
        self.counters["dropped_invalid"] += 1
        worker = self._workers.get(identity)
        if worker is not None:
            self._dispatch.end(worker, "the worker sent an invalid message", now, tell=True)

    def _may_work(self, service: bytes) -> bool:
        return self._admission is None or self._admission.may_work(service)

    def _nameable(self, name: bytes) -> bool:
        """Whether this can be a service: "printable string" (RFC 7), read as UTF-8, of a bounded size."""
        if len(name) > self._limits.service_max_bytes:
            return False
        try:
            return name.decode("utf-8").isprintable()
        except UnicodeDecodeError:
            return False
