"""When a separate Titanic process may hand work to somebody else's broker.

The guide's rule: ask ``mmi.service`` first, send only when a worker is there (RFC 8, RFC 9). A foreign
broker tells whether it has a worker, not how many, so up to ``window`` requests of a service are in
flight at once and the broker queues what its workers cannot take yet.
"""

from __future__ import annotations

from typing import Final

from core.pure.jobs import Now
from core.pure.timers import Timers

POLL_MS: Final = 1_000
WINDOW_COUNT: Final = 8


class Route:
    """What is known of one service at the broker."""

    __slots__ = ("asking", "available", "in_flight_count", "polling")

    def __init__(self) -> None:
        self.asking = False
        self.available = False
        self.polling = False
        self.in_flight_count = 0


class Courier:
    """Told what happened; says when to ask and how many jobs to take."""

    def __init__(self, *, window: int = WINDOW_COUNT, poll_ms: int = POLL_MS) -> None:
        self._window = window
        self._poll_ms = poll_ms
        self._routes: dict[bytes, Route] = {}
        self._polls: Timers[bytes] = Timers()

    def should_ask(self, service: bytes) -> bool:
        """There is work for ``service``: True if ``mmi.service`` must be asked now; answered() follows."""
        route = self._routes.setdefault(service, Route())
        if route.asking or route.polling or route.available:
            return False
        route.asking = True
        return True

    def answered(self, service: bytes, now: Now, *, available: bool) -> None:
        """The broker said whether it has a worker; if not, it is asked again after ``poll_ms``."""
        route = self._routes[service]
        route.asking = False
        route.available = available
        if not available:
            route.polling = True
            self._polls.arm(now.mono_ms + self._poll_ms, service)

    def room(self, service: bytes) -> int:
        """How many jobs may be taken and sent now; each is followed by sent()."""
        route = self._routes.get(service)
        return self._window - route.in_flight_count if route is not None and route.available else 0

    def sent(self, service: bytes) -> None:
        """One request is on its way."""
        self._routes[service].in_flight_count += 1

    def returned(self, service: bytes, *, replied: bool) -> None:
        """One request was replied to, or given up: then the broker is asked before it gets more."""
        route = self._routes[service]
        route.in_flight_count -= 1
        if not replied:
            route.available = False

    def exhausted(self, service: bytes) -> None:
        """No job waits: the next one asks again. A service without anything in flight is forgotten."""
        route = self._routes[service]
        route.available = False
        if not route.in_flight_count and not route.asking and not route.polling:
            del self._routes[service]

    def due(self, now: Now) -> bytes | None:
        """A service to look at again, or None; call until None."""
        service = self._polls.pop_due(now.mono_ms)
        if service is not None:
            route = self._routes[service]
            route.polling = False
            if not route.in_flight_count and not route.asking:
                del self._routes[service]  # should_ask() makes it again if there still is work
        return service

    def next_deadline(self) -> int | None:
        """Monotonic milliseconds when due() has something, or None."""
        return self._polls.next_deadline()
