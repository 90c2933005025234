"""What a broker knows: workers, services, transient requests, and when to look at whom again."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence

from core.pure.mdp import CLIENT_1, REPLY, REQUEST, WORKER_1, pack_path
from core.pure.ports import Path
from core.pure.zmtp import decoded, encoded


class Lane:
    """What is in front of the bodies that one client of MDP/0.1 sends and is sent, on the wire."""

    __slots__ = ("address", "path", "reply", "request")

    def __init__(self, identity: bytes) -> None:
        self.path: Path = (identity,)
        self.address = pack_path(self.path)
        self.request = _head(WORKER_1, REQUEST, self.address, b"")
        self.reply = _head(WORKER_1, REPLY, self.address, b"")


def _head(*frames: bytes) -> bytes:
    """An empty frame and these, with more to follow."""
    return encoded((b"", *frames, b""))[:-2]


class Request:
    """A client's transient request: with a worker, or waiting in its service's queue.

    ``body`` is frames; or it is empty, and ``raw`` has them as they lie on the wire (``core.pure.express``).
    """

    __slots__ = (
        *("attempt_count", "body", "expires_ms", "lane", "path", "queued", "raw", "service", "size_bytes"),
    )

    def __init__(
        self,
        path: Path,
        service: bytes,
        body: Sequence[bytes],
        raw: bytes = b"",
        lane: Lane | None = None,
    ) -> None:
        self.path = path
        self.service = service
        self.body = body
        self.raw = raw
        self.lane = lane
        self.attempt_count = 0
        self.queued = False
        self.size_bytes = 0  # counted when it first has to wait
        self.expires_ms = 0

    @property
    def frames(self) -> Sequence[bytes]:
        """The body as frames."""
        return decoded(self.raw) if self.raw else self.body

    def measure(self) -> int:
        """How many bytes the body has, heads of frames included where they are there."""
        self.size_bytes = size = len(self.raw) or sum(map(len, self.body))
        return size


class RequestQueue:
    """Waiting requests of one service: clients take turns, each client's own requests stay in order.

    One busy client therefore delays another by one request, not by all it sent (RFC 7: "The broker
    SHOULD serve clients on a fair basis"). A request that was discarded inside a lane is skipped later.
    """

    __slots__ = ("_lanes", "count")

    def __init__(self) -> None:
        self._lanes: OrderedDict[bytes, deque[Request]] = OrderedDict()
        self.count = 0

    def lane_count(self, client: bytes) -> int:
        """How many entries the client's lane has."""
        lane = self._lanes.get(client)
        return len(lane) if lane is not None else 0

    def push(self, request: Request) -> None:
        """The request is last of its client's."""
        lane = self._lanes.get(request.path[0])
        if lane is None:
            self._lanes[request.path[0]] = deque((request,))
        else:
            lane.append(request)
        request.queued = True
        self.count += 1

    def push_front(self, request: Request) -> None:
        """The request is first of all: it had a worker already."""
        client = request.path[0]
        self._lanes.setdefault(client, deque()).appendleft(request)
        self._lanes.move_to_end(client, last=False)
        request.queued = True
        self.count += 1

    def pop(self) -> Request | None:
        """Take the next request, or None; its client's turn is over."""
        lanes = self._lanes
        while lanes:
            client, lane = next(iter(lanes.items()))
            request = lane.popleft()
            if lane:
                lanes.move_to_end(client)
            else:
                del lanes[client]
            if request.queued:
                request.queued = False
                self.count -= 1
                return request
        return None

    def discard(self, request: Request) -> None:
        """A waiting request will not run."""
        request.queued = False
        request.body, request.raw = (), b""
        self.count -= 1
        client = request.path[0]
        lane = self._lanes[client]
        while lane and not lane[0].queued:
            lane.popleft()
        if not lane:
            del self._lanes[client]

    def __iter__(self) -> Iterator[Request]:
        return (request for lane in self._lanes.values() for request in lane if request.queued)


class Service:
    """One name: its workers, those of them that are idle (least recently used first), its queue."""

    __slots__ = ("client_head", "durable_turn", "idle", "name", "queue", "workers_count")

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.workers_count = 0
        self.idle: OrderedDict[bytes, Worker] = OrderedDict()
        self.queue = RequestQueue()
        self.client_head = _head(CLIENT_1, name)  # of a client's request and reply on the wire
        self.durable_turn = False  # whether durable work goes first next time both kinds wait


class Worker:
    """A registered worker. It is idle if ``address`` is None, else busy with what has that address."""

    __slots__ = ("address", "identity", "request", "seen_ms", "sent_ms", "service", "slot", "version")

    def __init__(self, identity: bytes, service: Service, version: int, now_ms: int) -> None:
        self.identity = identity
        self.service = service
        self.version = version
        self.address: bytes | None = None
        self.request: Request | None = None  # None while busy: durable work
        self.seen_ms = now_ms
        self.sent_ms = now_ms
        self.slot = 0


class Wheel:
    """When to look at each worker again, in slots of ``slot_ms``; every worker is in exactly one.

    Entries are not moved when a worker speaks or is spoken to: whoever looks puts the worker back if
    it is too early. So a message costs nothing here, a worker one look per heartbeat, and workers that
    came at different moments are looked at together: a process wakes at most eight times an interval.
    """

    def __init__(self, slot_ms: int) -> None:
        self._slot_ms = slot_ms
        self._slots: dict[int, dict[bytes, Worker]] = {}

    def put(self, worker: Worker, due_ms: int) -> None:
        """Look at the worker at ``due_ms``, or up to one slot later."""
        slot = -(-due_ms // self._slot_ms)
        worker.slot = slot
        bucket = self._slots.get(slot)
        if bucket is None:
            bucket = self._slots[slot] = {}
        bucket[worker.identity] = worker

    def remove(self, worker: Worker) -> None:
        """Never look at the worker again; harmless if it is being looked at."""
        bucket = self._slots.get(worker.slot)
        if bucket is not None and bucket.pop(worker.identity, None) is not None and not bucket:
            del self._slots[worker.slot]

    def pop_due(self, now_ms: int) -> list[Worker]:
        """Take out all that are due; each is put back or gone."""
        due: list[Worker] = []
        last = now_ms // self._slot_ms
        for slot in sorted(slot for slot in self._slots if slot <= last):
            due.extend(self._slots.pop(slot).values())
        return due

    def next_deadline(self) -> int | None:
        """When the first look is due; the number of slots is small, whatever the number of workers."""
        return min(self._slots) * self._slot_ms if self._slots else None
