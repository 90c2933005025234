"""The ASGI application: a prefix check for the hot path, and FastAPI for everything else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from time import perf_counter
from typing import TYPE_CHECKING, Final

from fastapi import FastAPI
from starlette.types import Message, Receive, Scope, Send

from core.shell.dealer import NodeDealer
from gateway.errors import ClientGoneError, ProblemError
from gateway.http.api import ANSWERED, build_api
from gateway.http.callbacks import Deliverer
from gateway.http.cors import Cors
from gateway.http.exchange import REQUEST_ID, echoed, instance_of, send_problem
from gateway.http.fast import CLIENT_GONE, TEMPLATES, FastPath
from gateway.http.guard import CALLER, Guard
from gateway.http.hot import HotPath
from gateway.http.meter import Meter
from gateway.http.metrics import UNMATCHED, Metrics
from gateway.http.node import Node
from gateway.http.parts import Parts
from gateway.http.settings import GatewaySettings
from gateway.http.waiting import Waits
from gateway.pure import target
from gateway.pure.keys import ID_CHARS, NOBODY, Caller
from gateway.pure.ports import NodeLink

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

    from gateway.http.tracing import HttpSpans

PROTECTED: Final = ("/v1/", "/metrics")
"""What needs a key on a server that has keys: all data. Pages, health and the API's document need none."""

_ACCESS: Final = logging.getLogger("titanic.access")

Endpoint = Callable[[Scope, Receive, Send, bytes, Caller], Awaitable[int]]


class Gateway:
    """One gateway process as an ASGI application.

    ``api`` is the FastAPI application behind the hot path; it answers the hot routes too, so that it can
    be mounted or inspected alone. ``drain`` ends all long-polls, for a quick and clean stop.
    """

    def __init__(
        self, settings: GatewaySettings, link: NodeLink | None = None, tracer: Tracer | None = None
    ) -> None:
        self.settings = settings
        self.node = Node(timeout_s=settings.node_timeout_s, patience_s=settings.patience_s)
        self.waits = Waits(settings.waits_max)
        self.guard = Guard(settings.keys, Meter(settings.metrics_dir) if settings.metrics_dir else None)
        self._link = link
        self._spans = _spans_of(tracer, self.node) if tracer is not None else None
        self._cors = Cors(settings.cors_origins) if settings.cors_origins else None
        hot = HotPath(self.node, settings, self.waits)
        self.metrics = Metrics(self.node, hot, self.waits, self.guard, settings)
        self.fast: FastPath | None = None
        if not (settings.cors_origins or settings.access_log or tracer):  # what marks or tells every answer
            self.fast = FastPath(self.node, hot, self.guard, self.waits, self.metrics)
        self._endpoints: dict[str, tuple[Endpoint, str]] = {
            target.SUBMIT: (hot.submit, TEMPLATES[target.SUBMIT]),
            target.REPLY: (hot.reply, TEMPLATES[target.REPLY]),
            target.CLOSE: (hot.close, TEMPLATES[target.CLOSE]),
        }
        parts = Parts(self.node, self.waits, self.metrics, settings, self.guard, hot)
        self.api: FastAPI = build_api(parts, self.serve_hot)
        self.api.router.lifespan_context = self._lifespan

    def drain(self) -> None:
        """The server stops: long-polls end now. Call it on the loop."""
        self.waits.drain()
        self.node.watcher.drain()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event (ASGI 3)."""
        if scope["type"] != "http":
            await self.api(scope, receive, send)
            return
        if self._cors is not None:
            send = self._cors.allowing(scope, send)
            if await self._cors.preflight(scope, send):
                return
        started = perf_counter()
        span = self._spans.begin(scope) if self._spans is not None else None
        if span is not None:
            send = span.watching(send)
        self.metrics.underway_count += 1
        try:
            found = target.classify(scope["method"], scope["raw_path"])
            if found is None:
                route, status = await self._framework(scope, receive, send)
            else:
                route, status = await self._hot(found, scope, receive, send)
        finally:
            self.metrics.underway_count -= 1
        seconds = perf_counter() - started
        self.metrics.observe(scope["method"], route, status, seconds)
        if self.settings.access_log:
            _log_access(scope, route, status, seconds)
        if span is not None:
            await span.end(scope, found[0] if found is not None else "", route, status)

    async def serve_hot(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """Serve a request of the hot path; False if this is none."""
        found = target.classify(scope["method"], scope["raw_path"])
        if found is None:
            return False
        await self._hot(found, scope, receive, send)
        return True

    async def _hot(
        self, found: tuple[str, bytes], scope: Scope, receive: Receive, send: Send
    ) -> tuple[str, int]:
        endpoint, route = self._endpoints[found[0]]
        try:
            caller = NOBODY
            if self.guard.closed:
                caller = self.guard.identify(dict(scope["headers"]))
                send = self.guard.announcing(caller, send)
            return route, await endpoint(scope, receive, send, found[1], caller)
        except ClientGoneError:
            return route, CLIENT_GONE
        except Exception as error:
            return route, await send_problem(error, scope, receive, send)

    async def _framework(self, scope: Scope, receive: Receive, send: Send) -> tuple[str, int]:
        status = CLIENT_GONE
        headers = dict(scope["headers"])
        request_id = echoed(headers.get(REQUEST_ID))
        if scope["path"].startswith(PROTECTED):
            try:
                scope[CALLER] = caller = self.guard.identify(headers)
            except ProblemError as error:
                return UNMATCHED, await send_problem(error, scope, receive, send)
            send = self.guard.announcing(caller, send)

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), *request_id]}
            await send(message)

        try:
            await self.api(scope, receive, counted)
        except ClientGoneError:
            status = CLIENT_GONE
        except Exception:
            if ANSWERED not in scope:
                raise
        route = getattr(scope.get("route"), "path", UNMATCHED)
        return route, status

    @asynccontextmanager
    async def _lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        dealer: NodeDealer | None = None
        if self._link is None:
            self._link = dealer = NodeDealer(self.settings.nodes)
            dealer.start()
        self.node.link = self._link
        self._link.told = self.node.watcher.told
        background = [asyncio.create_task(self.guard.follow())]
        if self.metrics.shelf is not None:
            background.append(asyncio.create_task(self.metrics.shelf.keep(self.metrics.counts)))
        if self.settings.callbacks:
            background.append(asyncio.create_task(self._deliverer().run()))
        try:
            yield
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            await self.node.stop()
            if dealer is not None:
                dealer.close()

    def _deliverer(self) -> Deliverer:
        settings = self.settings
        return Deliverer(
            self.node,
            self.guard.signing,
            allowed=settings.callback_allow,
            secret=settings.callback_secret,
            timeout_s=settings.callback_timeout_s,
            agent=f"titanic-jobs/{version('titanic-jobs')}",
            ca=settings.callback_ca,
        )


def _log_access(scope: Scope, route: str, status: int, seconds: float) -> None:
    """One line: no body, no query, and of a key only its public half."""
    headers = dict(scope["headers"])
    given = echoed(headers.get(REQUEST_ID))
    token = headers.get(b"authorization", b"").partition(b" ")[2]
    _ACCESS.info(
        "%s %s %d",
        scope["method"],
        instance_of(scope),
        status,
        extra={
            "request_id": given[0][1].decode("ascii") if given else None,
            "method": scope["method"],
            "path": instance_of(scope),
            "route": route,
            "status": status,
            "ms": round(seconds * 1000, 3),
            "key": token.partition(b".")[0][:ID_CHARS].decode("ascii", "replace") if b"." in token else None,
        },
    )


def _spans_of(tracer: Tracer, node: Node) -> HttpSpans:
    """Imported with the first tracer: without one, nothing of OpenTelemetry is."""
    from gateway.http.tracing import HttpSpans

    return HttpSpans(tracer, node)


def create_app(
    settings: GatewaySettings, link: NodeLink | None = None, tracer: Tracer | None = None
) -> Gateway:
    """The gateway over the caller's ``link``, or else over its own to ``settings.nodes``."""
    return Gateway(settings, link, tracer)
