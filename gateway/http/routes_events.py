"""``GET /v1/events``: what happens to jobs, as server-sent events (WHATWG HTML, 9.2).

A stream is a loop of long-polls at the node, so it misses nothing while it is slow: the node keeps a window
of events, and what fell out of it is named by a ``gap`` event. ``id`` is the journal sequence, so that
``Last-Event-ID`` resumes at any gateway, and after a restart of everything.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

import msgspec
from fastapi import FastAPI, Request, Response
from starlette.types import Receive, Scope, Send

from core.errors import PeerError, ServerUnreachableError
from core.pure import tsp
from gateway.errors import ClientGoneError, ProblemError
from gateway.http import operations_server as operations
from gateway.http.parts import Parts, admitted, header_values
from gateway.pure import problems
from gateway.pure.answers import RETRY_FULL
from gateway.pure.keys import Scope as KeyScope
from gateway.pure.query import events_service
from gateway.pure.views import encode_event, encode_gap

BEAT_S: Final = 15.0
"""Something is sent at least this often, so that proxies and clients know that the stream lives."""
LIFE_MAX_S: Final = 3_600.0
"""A stream ends after this; the client comes back by itself, with a key that is checked anew."""
STALL_S: Final = 30.0
"""A client that takes nothing for so long is let go."""
PAGE: Final = 200
PAUSE_S: Final = 1.0
RECONNECT_MS: Final = 1_000
SEQUENCE_MAX: Final = (1 << 63) - 1

_HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
)


class EventRoutes:
    """The endpoint over the shared parts; :meth:`add_to` makes a route of it."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def add_to(self, api: FastAPI) -> None:
        """The route."""
        api.add_api_route("/v1/events", self.events, methods=["GET"], **operations.EVENTS)

    async def events(self, request: Request) -> Response:
        """The first question is asked here, so that what is wrong is a problem document and no stream."""
        service = events_service(request.scope["query_string"])
        caller = admitted(request, KeyScope.READ, service or None)
        since = _since(header_values(request, "last-event-id"))
        waits = self._parts.waits
        if waits.streams_count >= self._parts.settings.streams_max:
            detail = f"{waits.streams_count} event streams are open, as many as there may be."
            raise ProblemError(problems.TOO_MANY_STREAMS, detail, headers=RETRY_FULL)
        head = tsp.EventsHead(since, 0, PAGE, service, caller.sees)
        page = await self._parts.node.ask(tsp.EVENTS, head, tsp.decode_events_page)
        await request.body()
        return EventStream(self._parts, head, page)


class EventStream(Response):
    """An answer that lasts: FastAPI calls a response as the ASGI application it is."""

    def __init__(self, parts: Parts, head: tsp.EventsHead, page: tsp.EventsPage) -> None:
        super().__init__()
        self._parts = parts
        self._head, self._page = head, page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until the client leaves, the stream's life is over or the server stops."""
        waits = self._parts.waits
        waits.streams_count += 1
        try:
            await send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})
            await _send(send, b"retry: %d\n\n" % RECONNECT_MS + _encode(self._head.since, self._page))
            await self._go_on(receive, send)
            await send({"type": "http.response.body", "body": b""})
        except (ClientGoneError, TimeoutError):
            return  # nobody is there any more, or nobody reads
        finally:
            waits.streams_count -= 1

    async def _go_on(self, receive: Receive, send: Send) -> None:
        waits, since = self._parts.waits, self._page.next
        ends_s = time.monotonic() + LIFE_MAX_S
        while time.monotonic() < ends_s:
            page = await waits.until(self._next(since), receive, stream=True)
            if page is None:
                if waits.draining:
                    return
                continue
            await _send(send, _encode(since, page) or b": \n\n")
            since = page.next

    async def _next(self, since: int) -> tsp.EventsPage:
        """The next page, which is empty after ``BEAT_S``, or when the node cannot be asked."""
        head = msgspec.structs.replace(self._head, since=since, wait_ms=int(BEAT_S * 1000))
        try:
            return await self._parts.node.ask(tsp.EVENTS, head, tsp.decode_events_page, BEAT_S)
        except (ServerUnreachableError, PeerError, ProblemError, msgspec.MsgspecError):
            await asyncio.sleep(PAUSE_S)  # the stream outlives the node: it resumes when there is one
            return tsp.EventsPage((), since)


async def _send(send: Send, body: bytes) -> None:
    async with asyncio.timeout(STALL_S):
        await send({"type": "http.response.body", "body": body, "more_body": True})


def _encode(since: int, page: tsp.EventsPage) -> bytes:
    """The page as events; one without events, but further on, moves the client's Last-Event-ID only."""
    gap = encode_gap(since, page.gap_to) if page.gap_to >= 0 else b""
    events = b"".join(map(encode_event, page.events))
    if not page.events and page.next > max(since, page.gap_to):
        return gap + b"id: %d\n\n" % page.next
    return gap + events


def _since(values: list[bytes]) -> int:
    """The sequence in Last-Event-ID, -1 if there is none. Raises ProblemError (400)."""
    if not values or not values[-1].strip():
        return -1
    text = values[-1].strip()
    if not text.isdigit() or len(text) > 19 or int(text) > SEQUENCE_MAX:
        raise ProblemError(problems.BAD_HEADER, "Last-Event-ID is not an id that an event had.")
    return int(text)
