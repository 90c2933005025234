"""The routes of services, and of the nodes behind this gateway."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from fastapi import FastAPI, Request, Response

from core.errors import ServerUnreachableError
from core.pure import tsp
from gateway.errors import ProblemError
from gateway.http import operations_server as operations
from gateway.http.guard import unbound
from gateway.http.parts import Parts, admitted, service_of
from gateway.pure import problems
from gateway.pure.keys import Caller, Scope
from gateway.pure.node_views import nodes_view
from gateway.pure.query import no_options
from gateway.pure.views import encode_service, rfc3339, service_view

PAGES_MAX: Final = 40
"""Pages of services that one answer gathers: 10,000 services, then ``truncated`` says that there are more."""

NODES_TIMEOUT_S: Final = 2.0
"""A node of a pair that is gone is not waited for longer."""

_NO_STORE: Final = {"cache-control": "no-store"}


class ServiceRoutes:
    """Endpoints over the shared parts; :meth:`add_to` makes routes of them."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._node = parts.node

    def add_to(self, api: FastAPI) -> None:
        """The routes. A service whose name ends like a verb is in the list only."""
        add = api.add_api_route
        add("/v1/services", self.list, methods=["GET"], **operations.SERVICES)
        add("/v1/services/{service}:pause", self.pause, methods=["POST"], **operations.PAUSE)
        add("/v1/services/{service}:resume", self.resume, methods=["POST"], **operations.RESUME)
        add("/v1/services/{service:verbless}", self.get, methods=["GET"], **operations.SERVICE)
        add("/v1/nodes", self.nodes, methods=["GET"], **operations.NODES)

    async def list(self, request: Request) -> Response:
        """``service.list``: sorted by name, those that the caller's key may be used for."""
        caller = admitted(request, Scope.READ)
        no_options(request.scope["query_string"])
        rows: list[tsp.ServiceRow] = []
        after, now_ms = "", 0
        for _ in range(PAGES_MAX):
            head = tsp.ServicesHead(after=after)
            page = await self._node.ask(tsp.SERVICES, head, tsp.decode_services_page)
            rows += [row for row in page.rows if caller.allows_service(row.name)]
            after, now_ms = page.after, page.now_ms
            if not after:
                break
        document = {
            "services": [service_view(row) for row in rows],
            "now": rfc3339(now_ms),
            "truncated": bool(after),
        }
        return _json(document)

    async def get(self, request: Request) -> Response:
        """``service.get``."""
        service = self._service(request)
        admitted(request, Scope.READ, service)
        no_options(request.scope["query_string"])
        page = await self._node.ask(tsp.SERVICES, tsp.ServicesHead(service), tsp.decode_services_page)
        if not page.rows:
            raise ProblemError(problems.NO_SUCH_SERVICE, f"Nothing is known of a service {service!r}.")
        return Response(encode_service(page.rows[0]), media_type="application/json", headers=_NO_STORE)

    async def pause(self, request: Request) -> Response:
        """``service.pause``."""
        return await self._set(request, tsp.PAUSE)

    async def resume(self, request: Request) -> Response:
        """``service.resume``."""
        return await self._set(request, tsp.RESUME)

    async def _set(self, request: Request, what: bytes) -> Response:
        service = self._service(request)
        admitted(request, Scope.ADMIN, service)
        no_options(request.scope["query_string"])
        row = await self._node.ask(what, tsp.PauseHead(service), tsp.decode_service_row)
        return Response(encode_service(row), media_type="application/json", headers=_NO_STORE)

    def _service(self, request: Request) -> str:
        return service_of(self._parts, request).text

    async def nodes(self, request: Request) -> Response:
        """``node.list``: the node that this gateway speaks to, or both of its pair."""
        caller: Caller = admitted(request, Scope.READ)
        unbound(caller)
        no_options(request.scope["query_string"])
        answers = await self._node.nodes(min(NODES_TIMEOUT_S, self._parts.settings.node_timeout_s))
        if all(answer.hello is None for answer in answers):
            raise ServerUnreachableError("; ".join(answer.error for answer in answers))
        if len(answers) == 1 and answers[0].pair is None:
            page = await self._node.ask(tsp.EVENTS, tsp.EventsHead(), tsp.decode_events_page)
            answers = [answers[0]._replace(sequence=page.next)]
        return _json({"nodes": nodes_view(answers)})


def _json(document: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(document), media_type="application/json", headers=_NO_STORE)
