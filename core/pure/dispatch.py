"""Who works on what: registered workers, waiting requests, durable work, and the heartbeats between.

The deciding half of the broker; :mod:`core.pure.broker` is the speaking half, which knows the
commands. Messages go to the Outbox, durable work is pulled from the Backlog whenever a worker is free.

State is consistent before every call of the Backlog, which may call back (a finished job may wake the
service it belongs to).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from core.pure import mmi
from core.pure.jobs import Now
from core.pure.limits import BrokerLimits
from core.pure.mdp import (
    pack_path,
    to_client,
    to_worker_disconnect,
    to_worker_heartbeat,
    to_worker_request,
)
from core.pure.ports import ADDRESS_BYTES, Backlog, Forward, Outbox
from core.pure.services import Request, Service, Wheel, Worker
from core.pure.zmtp import decoded, encoded

EXPIRIES_MAX_COUNT: Final = 1_000
BEAT: Final = encoded(to_worker_heartbeat(b"")[1:])

COUNTERS: Final = (
    "received",  # messages, whatever they were
    "dropped_invalid",  # messages that are not MDP, or break a limit
    "unexpected",  # valid commands at the wrong time; each was answered with DISCONNECT
    "disconnected",  # DISCONNECTs sent
    "heartbeats_sent",
    "requests",  # for workers; each ends as a reply, or refused, expired, given up
    "requests_internal",  # for titanic.* here
    "requests_mmi",  # for mmi.*
    "requests_refused",  # the queue was full
    "requests_forbidden",  # by the allow-list
    "requests_expired",  # no worker came in time
    "requests_requeued",  # lost their worker, were tried again
    "requests_given_up",  # lost their last worker
    "replies",  # of workers to transient requests
    "partials",  # passed on to MDP/0.2 clients
    "partials_dropped",  # for MDP/0.1 clients
    "durable_dispatched",
    "durable_done",
    "durable_lost",
    "durable_abandoned",
    "durable_late",  # replies after the attempt was over, offered to the backlog
    "durable_partials",
    "workers_registered",
    "workers_refused",  # READY for a reserved name, or one worker too many
    "workers_forbidden",  # READY for a service the allow-list does not give them
    "workers_left",  # said DISCONNECT
    "workers_expired",  # were idle and silent
    "workers_unreachable",
    "peers_unreachable",  # clients, and strangers that were told DISCONNECT
)


class Dispatch:
    """Workers, services and the work between them, told by the broker what peers said."""

    def __init__(
        self, out: Outbox, backlog: Backlog | None, limits: BrokerLimits, forward: Forward | None = None
    ) -> None:
        self.counters = dict.fromkeys(COUNTERS, 0)
        self.workers: dict[bytes, Worker] = {}
        self.services: dict[bytes, Service] = {}
        self._send = out.send
        self._forward = forward or self._send_frames
        self._backlog = backlog
        self._limits = limits
        self._durable: dict[bytes, Worker] = {}  # by the part of the address that names the attempt
        self._late: OrderedDict[bytes, bytes] = OrderedDict()  # identity -> address, oldest first
        self._waiting: OrderedDict[Request, None] = OrderedDict()  # by expiry, all services
        self._waiting_bytes = 0
        self._wheel = Wheel(limits.slot_ms)
        self._sorted_names: list[bytes] | None = None

    # -- requests

    def request(self, request: Request, now: Now) -> None:
        """A client's request goes to the least recently used idle worker, or waits."""
        entry = self.services.get(request.service)
        if entry is not None and entry.idle:
            self._give(entry.idle.popitem(last=False)[1], request, now)
        else:
            self._enqueue(request, now)

    def _enqueue(self, request: Request, now: Now) -> None:
        """Nobody is free: the request waits if there is room, else it is refused and counted."""
        limits = self._limits
        size = request.measure()
        entry = self.services.get(request.service)
        if (
            len(self._waiting) >= limits.queued_max_count
            or self._waiting_bytes + size > limits.queued_max_bytes
            or (
                entry is not None
                and entry.queue.lane_count(request.path[0]) >= limits.queued_per_client_max_count
            )
        ):
            self.counters["requests_refused"] += 1
            return
        self._service(request.service).queue.push(request)
        self._await_expiry(request, now)

    def _await_expiry(self, request: Request, now: Now) -> None:
        request.expires_ms = now.mono_ms + self._limits.request_expiry_ms
        self._waiting[request] = None
        self._waiting_bytes += request.size_bytes

    def _expire_requests(self, now_ms: int) -> None:
        """Drop what waited its time for a service nobody offers; with workers, waiting goes on (RFC 7).

        At most 1,000 at a time: what is left keeps the deadline in the past, and messages come between.
        """
        waiting = self._waiting
        for _ in range(EXPIRIES_MAX_COUNT):
            if not waiting:
                return
            request = next(iter(waiting))
            if request.expires_ms > now_ms:
                return
            entry = self.services[request.service]
            if entry.workers_count:
                request.expires_ms = now_ms + self._limits.request_expiry_ms
                waiting.move_to_end(request)
                continue
            del waiting[request]
            self._waiting_bytes -= request.size_bytes
            entry.queue.discard(request)
            self.counters["requests_expired"] += 1
            self._forget_if_empty(entry)

    # -- workers

    def register(self, identity: bytes, version: int, name: bytes, now: Now) -> None:
        """A worker offers ``name``; it may have work at once."""
        entry = self._service(name)
        entry.workers_count += 1
        worker = Worker(identity, entry, version, now.mono_ms)
        self.workers[identity] = worker
        self._late.pop(identity, None)
        self._wheel.put(worker, now.mono_ms + self._limits.heartbeat_ms - self._limits.slot_ms)
        self.counters["workers_registered"] += 1
        self._serve(worker, now)

    def finish(self, worker: Worker, body: Sequence[bytes], now: Now) -> None:
        """A busy worker brought the reply to what it has; it is free for more."""
        address, request = worker.address, worker.request
        assert address is not None, "an idle worker has nothing to finish"
        worker.address = worker.request = None
        if request is not None:
            self.counters["replies"] += 1
            self._send(to_client(request.path, request.service, body))
        else:
            self.counters["durable_done"] += 1
            del self._durable[address[:ADDRESS_BYTES]]
            assert self._backlog is not None, "durable work without a backlog"
            self._backlog.done(address, body, now)
        self._serve(worker, now)

    def finish_raw(self, worker: Worker, request: Request, raw: bytes, now: Now) -> None:
        """The same for the plain ``request`` it has; the reply is ``raw``, as it came over the wire."""
        worker.address = worker.request = None
        self.counters["replies"] += 1
        self._forward(request.path[0], worker.service.client_head + raw)
        self._serve(worker, now)

    def progress(self, worker: Worker, body: Sequence[bytes], now: Now) -> None:
        """A PARTIAL: passed on if its client knows the command; of durable work it is counted."""
        request = worker.request
        if request is None:
            self.counters["durable_partials"] += 1
            assert self._backlog is not None, "durable work without a backlog"
            if worker.address is not None:
                self._backlog.progress(worker.address, body, now)
        elif len(request.path) == 2 and not request.path[1]:
            self.counters["partials"] += 1
            self._send(to_client(request.path, request.service, body, final=False))
        else:
            self.counters["partials_dropped"] += 1

    def finish_late(
        self,
        identity: bytes,
        address: bytes,
        body: Sequence[bytes],
        may_work: Callable[[bytes], bool],
        now: Now,
    ) -> None:
        """A reply of no registered worker: the backlog's, if this attempt was taken from this worker.

        Or if it is handed in for a job that waits, by somebody who may work for its service: workers outlive
        nodes and connections, and then come under another identity.
        """
        if self._late.get(identity) == address:
            del self._late[identity]
        elif self._backlog is None:
            return
        else:
            service = self._backlog.orphan(address)
            if service is None or not may_work(service):
                return
        self.counters["durable_late"] += 1
        assert self._backlog is not None, "durable work without a backlog"
        self._backlog.done(address, body, now)

    def unreachable(self, identity: bytes, now: Now) -> None:
        """A send failed with EHOSTUNREACH."""
        worker = self.workers.get(identity)
        if worker is None:
            self.counters["peers_unreachable"] += 1
            return
        self.counters["workers_unreachable"] += 1
        self._remember_late(worker)
        self.end(worker, "the worker is gone", now, tell=False)

    def disconnect(self, identity: bytes, version: int, said: bytes = b"") -> None:
        """Tell a peer, registered or not, that the conversation is over."""
        self.counters["disconnected"] += 1
        self._send(to_worker_disconnect(identity, version=version, reason=said))

    # -- work

    def _serve(self, worker: Worker, now: Now) -> None:
        """The worker is free: it gets the next work, transient and durable in turn, or is idle."""
        entry = worker.service
        backlog = self._backlog
        first = entry.durable_turn or not entry.queue.count
        if first and backlog is not None and self._take(worker, backlog, now):
            return
        request = entry.queue.pop()
        if request is not None:
            del self._waiting[request]
            self._waiting_bytes -= request.size_bytes
            self._give(worker, request, now)
        else:
            entry.idle[worker.identity] = worker

    def _take(self, worker: Worker, backlog: Backlog, now: Now) -> bool:
        work = backlog.take(worker.service.name, worker.identity, now)
        if work is None:
            return False
        self._give_durable(worker, work.address, work.frames, now)
        return True

    def _give(self, worker: Worker, request: Request, now: Now) -> None:
        request.attempt_count += 1
        worker.request = request
        worker.sent_ms = now.mono_ms
        worker.service.durable_turn = True
        lane = request.lane
        if lane is not None and worker.version == 1:
            worker.address = lane.address
            self._forward(worker.identity, lane.request + request.raw)
            return
        worker.address = pack_path(request.path)
        self._send(to_worker_request(worker.identity, worker.address, request.frames, version=worker.version))

    def _give_durable(self, worker: Worker, address: bytes, frames: Sequence[bytes], now: Now) -> None:
        self.counters["durable_dispatched"] += 1
        worker.address = address
        worker.sent_ms = now.mono_ms
        worker.service.durable_turn = False
        self._durable[address[:ADDRESS_BYTES]] = worker
        self._send(to_worker_request(worker.identity, address, frames, version=worker.version))

    def wake(self, service: bytes, now: Now) -> None:
        """The backlog has work for ``service``: idle workers get it, least recently used first."""
        entry = self.services.get(service)
        if entry is None or self._backlog is None:
            return
        while entry.idle:
            identity, worker = entry.idle.popitem(last=False)
            work = self._backlog.take(service, identity, now)
            if work is None:
                entry.idle[identity] = worker
                entry.idle.move_to_end(identity, last=False)
                return
            self._give_durable(worker, work.address, work.frames, now)

    def abandon(self, address: bytes, now: Now) -> None:
        """The attempt that these ADDRESS_BYTES name is over: its worker is told DISCONNECT and forgotten.

        The backlog is not told. A reply this worker had on its way is offered to the backlog as late.
        """
        worker = self._durable.get(address)
        if worker is None:
            return
        self._remember_late(worker)
        del self._durable[address]
        worker.address = None
        self.counters["durable_abandoned"] += 1
        self.end(worker, "", now, tell=True)

    # -- time and the end of workers

    def dismiss(self, reason: str, said: bytes, now: Now) -> None:
        """End every worker with a DISCONNECT that says this; they may come again."""
        for worker in list(self.workers.values()):
            self.end(worker, reason, now, tell=True, said=said)

    def on_tick(self, now: Now) -> None:
        """Send the heartbeats that are due, end silent workers, expire requests. Cost: what is due."""
        self._expire_requests(now.mono_ms)
        for worker in self._wheel.pop_due(now.mono_ms):
            self._look(worker, now)

    def next_deadline(self) -> int | None:
        """Monotonic milliseconds of the next :meth:`on_tick`; None while there is nobody to wait for."""
        look_ms = self._wheel.next_deadline()
        if not self._waiting:
            return look_ms
        expires_ms = next(iter(self._waiting)).expires_ms
        return expires_ms if look_ms is None else min(look_ms, expires_ms)

    def _look(self, worker: Worker, now: Now) -> None:
        """A worker's slot has come: end it if it is idle and silent, else send the heartbeat that is due.

        A busy worker is not ended by silence: workers written like the guide's do not heartbeat while
        they work. Their end shows as EHOSTUNREACH to our heartbeats, or as the attempt's timeout.
        """
        limits, now_ms = self._limits, now.mono_ms
        idle = worker.address is None
        if idle and worker.seen_ms + limits.expiry_ms <= now_ms:
            self.counters["workers_expired"] += 1
            self.end(worker, "the worker is silent", now, tell=False)
            return
        lead_ms = limits.heartbeat_ms - limits.slot_ms
        if worker.sent_ms + lead_ms <= now_ms:
            worker.sent_ms = now_ms
            self.counters["heartbeats_sent"] += 1
            if worker.version == 1:
                self._forward(worker.identity, BEAT)
            else:
                self._send(to_worker_heartbeat(worker.identity, version=2))
        due_ms = worker.sent_ms + lead_ms
        self._wheel.put(worker, min(due_ms, worker.seen_ms + limits.expiry_ms) if idle else due_ms)

    def end(
        self, worker: Worker, reason: str, now: Now, *, tell: bool, stated: bool = False, said: bytes = b""
    ) -> None:
        """The registration is over; what the worker had in hand goes on without it. ``said``: if told."""
        entry, address, request = worker.service, worker.address, worker.request
        del self.workers[worker.identity]
        entry.workers_count -= 1
        entry.idle.pop(worker.identity, None)
        self._wheel.remove(worker)
        worker.address = worker.request = None
        if tell:
            self.disconnect(worker.identity, worker.version, said)
        if request is not None:
            self._retry(request, now)
        elif address is not None:
            self.counters["durable_lost"] += 1
            del self._durable[address[:ADDRESS_BYTES]]
            assert self._backlog is not None, "durable work without a backlog"
            self._backlog.lost(address, reason, now, stated=stated)
        self._forget_if_empty(entry)

    def _send_frames(self, identity: bytes, message: bytes) -> None:
        """For an Outbox that takes frames only."""
        self._send([identity, *decoded(message)])

    def _retry(self, request: Request, now: Now) -> None:
        """A transient request lost its worker: it is first again, unless it has cost too many."""
        if request.attempt_count >= self._limits.attempts_max_count:
            self.counters["requests_given_up"] += 1
            return
        self.counters["requests_requeued"] += 1
        entry = self._service(request.service)
        if entry.idle:
            self._give(entry.idle.popitem(last=False)[1], request, now)
            return
        request.measure()
        entry.queue.push_front(request)
        self._await_expiry(request, now)

    def _remember_late(self, worker: Worker) -> None:
        """Only the worker that was given the attempt may still bring its reply."""
        if worker.address is None or worker.request is not None:
            return
        self._late[worker.identity] = worker.address
        if len(self._late) > self._limits.late_max_count:
            self._late.popitem(last=False)

    # -- names

    def row(self, service: bytes) -> mmi.ServiceRow | None:
        """The numbers of ``service``; None if it has neither workers nor waiting requests."""
        entry = self.services.get(service)
        if entry is None:
            return None
        jobs = self._backlog.waiting(service) if self._backlog is not None else 0
        return mmi.ServiceRow(service, entry.workers_count, len(entry.idle), entry.queue.count, jobs)

    def names(self) -> Sequence[bytes]:
        """All services that have a row, sorted."""
        if self._sorted_names is None:
            self._sorted_names = sorted(self.services)
        return self._sorted_names

    @property
    def gauges(self) -> dict[str, int]:
        """What there is now."""
        return {
            "services": len(self.services),
            "workers": len(self.workers),
            "workers_idle": sum(len(entry.idle) for entry in self.services.values()),
            "requests_waiting": len(self._waiting),
            "requests_waiting_bytes": self._waiting_bytes,
        }

    def _service(self, name: bytes) -> Service:
        entry = self.services.get(name)
        if entry is None:
            entry = self.services[name] = Service(name)
            self._sorted_names = None
        return entry

    def _forget_if_empty(self, entry: Service) -> None:
        """A name without workers and waiting requests is forgotten, so strangers cannot fill memory."""
        if not entry.workers_count and not entry.queue.count and self.services.get(entry.name) is entry:
            del self.services[entry.name]
            self._sorted_names = None
