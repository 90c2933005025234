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
from gateway.pure.node_views import NodeAnswer
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
        except (TimeoutError, ServerUnreachableError) as error:
            raise await self._nobody() from error
        if not hello.ready:
            raise _not_ready([NodeAnswer("", hello)])
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

    async def _nobody(self) -> Exception:
        """No node serves: what each of them says instead, if any says something."""
        answers = await self._parts.node.nodes(self._probe_s / 2)
        if any(answer.hello is not None for answer in answers):
            return _not_ready(answers)
        why = "; ".join(answer.error for answer in answers)
        return ServerUnreachableError(f"no node answered within {self._probe_s:g} s: {why}")

    async def metrics(self, request: Request) -> Response:
        """Counters of this port's processes and of the node; on a server with keys they need one."""
        caller = admitted(request, Scope.READ)
        unbound(caller)
        stats: tsp.Stats | None
        try:
            stats = await self._parts.node.stats(self._probe_s)
        except (ServerUnreachableError, PeerError, ProblemError, msgspec.MsgspecError):
            stats = None  # said by titanic_node_up 0
        pairs = await self._pairs()
        return Response(self._parts.metrics.render(stats, pairs), headers={"content-type": CONTENT_TYPE})

    async def _pairs(self) -> list[NodeAnswer]:
        """What both nodes of a pair say; nothing for a single node, which is not asked again."""
        hello = self._parts.node.hello
        if hello is not None and hello.role == "single":
            return []
        try:
            return await self._parts.node.nodes(self._probe_s / 2)
        except (ServerUnreachableError, PeerError, ProblemError, msgspec.MsgspecError):
            return []  # said by titanic_node_up 0


def _not_ready(answers: list[NodeAnswer]) -> ProblemError:
    """503 with the role, and where the active node is (P5), of the node or of both."""
    met = [answer.hello for answer in answers if answer.hello is not None]
    said = [
        _said_by(answer.endpoint, answer.error)
        if answer.hello is None
        else _reason(answer.endpoint, answer.hello)
        for answer in answers
    ]
    extra = {
        "role": met[0].role,
        "state": met[0].state or None,
        "epoch": max(hello.epoch for hello in met),
        "active_at": next((hello.active_at for hello in met if hello.active_at), None),
    }
    return ProblemError(problems.NODE_NOT_READY, "; ".join(said), extra=extra, headers=RETRY_SOON)


def _reason(endpoint: str, hello: tsp.Hello) -> str:
    words = hello.reason or f"the node is {hello.role}"
    if hello.role == "passive":
        words = f"this node is passive ({words})"
    return _said_by(endpoint, words)


def _said_by(endpoint: str, words: str) -> str:
    return words if not endpoint or words.startswith(endpoint) else f"{endpoint}: {words}"


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json", headers={"cache-control": "no-store"})
