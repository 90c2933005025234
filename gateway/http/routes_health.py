"""The routes of health, readiness and metrics."""

from __future__ import annotations

from typing import Final

import msgspec
from fastapi import FastAPI, Request, Response

from core.errors import PeerError, ServerUnreachableError
from core.pure import tsp
from gateway.errors import ProblemError
from gateway.http import operations_server as operations
from gateway.http.guard import unbound
from gateway.http.metrics import CONTENT_TYPE
from gateway.http.parts import Parts, admitted
from gateway.pure import problems
from gateway.pure.answers import RETRY_SOON
from gateway.pure.keys import Scope
from gateway.pure.views import rfc3339

PROBE_TIMEOUT_S: Final = 2.0


class HealthRoutes:
    """Endpoints over the shared parts; :meth:`add_to` makes routes of them."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._probe_s = min(PROBE_TIMEOUT_S, parts.settings.node_timeout_s)

    def add_to(self, api: FastAPI) -> None:
        """The routes."""
        api.add_api_route("/livez", self.livez, methods=["GET"], **operations.LIVE)
        api.add_api_route("/readyz", self.readyz, methods=["GET"], **operations.READY)
        api.add_api_route("/metrics", self.metrics, methods=["GET"], **operations.METRICS)

    async def livez(self) -> Response:
        """The process answers."""
        return _json(b'{"status":"ok"}')

    async def readyz(self) -> Response:
        """The node takes work; otherwise a problem that says why not."""
        try:
            hello = await self._parts.node.greet(self._probe_s)
        except TimeoutError as error:
            raise ServerUnreachableError(f"no node answered within {self._probe_s:g} s") from error
        if not hello.ready:
            detail = hello.reason or f"the node is {hello.role}"
            raise ProblemError(problems.NODE_NOT_READY, detail, headers=RETRY_SOON)
        view = {
            "status": "ready",
            "version": hello.version,
            "role": hello.role,
            "epoch": hello.epoch,
            "durability": hello.durability,
            "jobs": hello.jobs,
            "started_at": rfc3339(hello.started_ms),
            "idempotency_key_lifetime_s": hello.key_lifetime_ms // 1000,
        }
        return _json(msgspec.json.encode(view))

    async def metrics(self, request: Request) -> Response:
        """Counters of this port's processes and of the node; on a server with keys they need one."""
        caller = admitted(request, Scope.READ)
        unbound(caller)
        stats: tsp.Stats | None
        try:
            stats = await self._parts.node.stats(self._probe_s)
        except (ServerUnreachableError, PeerError, ProblemError, msgspec.MsgspecError):
            stats = None  # said by titanic_node_up 0
        return Response(self._parts.metrics.render(stats), headers={"content-type": CONTENT_TYPE})


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json", headers={"cache-control": "no-store"})
