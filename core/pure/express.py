"""From wire to wire: what a busy broker reads and writes most, without taking it apart.

A client's REQUEST and a worker's REPLY are a head that the broker knows and a body that is none of its
business, and the body goes on as it came: ZMTP has the same bytes for it in both directions. So of a message
only the head is compared and the end is looked for; the frames of a body are never made::

    in    01 00 | 01 06 MDPC01 | 01 n SERVICE |                                     body
    out   01 00 | 01 06 MDPW01 | 01 01 02     | 01 n CLIENT | 01 00 |               the same body

Whatever is not exactly that goes the way of :meth:`core.pure.broker.Broker.receive`, and what both do is the
same: ``tests/core/test_broker_express.py`` compares them.
"""

from __future__ import annotations

from typing import Final

from core.pure.dispatch import Dispatch
from core.pure.jobs import Now
from core.pure.limits import BrokerLimits
from core.pure.mdp import CLIENT_1, HEARTBEAT, WORKER_1, worker_heartbeat
from core.pure.services import Lane, Request
from core.pure.zmtp import MORE, encoded, message_end

BEAT: Final = encoded(worker_heartbeat())
CLIENT: Final = encoded((b"", CLIENT_1, b""))[:-2] + bytes((MORE,))
LANES_MAX_COUNT: Final = 4_096  # of clients whose heads are kept; then all are made anew
HEAD_MAX_COUNT: Final = 6  # frames that are no body, identity included

assert WORKER_1 + b"\0\1" + HEARTBEAT in BEAT, "one command of one byte"


class Express:
    """Reads what a connection brought, from the first byte of a message on."""

    def __init__(self, dispatch: Dispatch, limits: BrokerLimits) -> None:
        self._dispatch = dispatch
        self._counters = dispatch.counters
        self._workers = dispatch.workers
        self._services = dispatch.services
        self._lanes: dict[bytes, Lane] = {}
        self._body_frames_max = limits.frames_max_count - HEAD_MAX_COUNT
        self._size_max = limits.message_max_bytes

    def read(self, identity: bytes, data: bytes, now: Now) -> int:
        """How much of ``data`` was whole messages of this kind, and is done; the rest goes the long way."""
        if len(data) > self._size_max:
            return 0
        worker = self._workers.get(identity)
        if worker is None:
            return self._requests(identity, data, now)
        if worker.version != 1:
            return 0
        if data == BEAT:
            self._counters["received"] += 1
            worker.seen_ms = now.mono_ms
            return len(data)
        request = worker.request
        if request is None or request.lane is None or not data.startswith(request.lane.reply):
            return 0
        start = len(request.lane.reply)
        end = message_end(data, start, self._body_frames_max)
        if end:
            self._counters["received"] += 1
            worker.seen_ms = now.mono_ms
            self._dispatch.finish_raw(worker, request, data[start:end], now)
        return end

    def _requests(self, identity: bytes, data: bytes, now: Now) -> int:
        """Requests of a client for services that are known."""
        services, request = self._services, self._dispatch.request
        at, count, name_at = 0, 0, len(CLIENT) + 1
        lane = self._lanes.get(identity)
        while data.startswith(CLIENT, at) and len(data) > at + name_at:
            start = at + name_at + data[at + name_at - 1]
            name = data[at + name_at : start]
            end = message_end(data, start, self._body_frames_max) if name in services else 0
            if not end:
                break
            if lane is None:
                lane = self._new_lane(identity)
            request(Request(lane.path, name, (), data[start:end], lane), now)
            count += 1
            at = end
        self._counters["received"] += count
        self._counters["requests"] += count
        return at

    def _new_lane(self, identity: bytes) -> Lane:
        lanes = self._lanes
        if len(lanes) >= LANES_MAX_COUNT:
            lanes.clear()
        lane = lanes[identity] = Lane(identity)
        return lane
