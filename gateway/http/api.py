"""The FastAPI application: routes, their documentation, and one kind of error for all of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

import gateway.http.contract as doc
from core.errors import PeerError, ServerUnreachableError
from core.pure import tsp
from gateway.errors import ProblemError
from gateway.http import operations
from gateway.http.exchange import as_problem, render
from gateway.http.metrics import CONTENT_TYPE, Metrics
from gateway.http.node import Node
from gateway.http.pages import add_pages
from gateway.http.settings import GatewaySettings
from gateway.http.waiting import Waits
from gateway.pure import negotiate, problems
from gateway.pure.answers import RETRY_SOON, problem_of
from gateway.pure.query import BadParametersError, ParameterFault, no_options
from gateway.pure.target import job_key
from gateway.pure.views import encode_job, rfc3339

PROBE_TIMEOUT_S: Final = 2.0
API_VERSION: Final = "1.0.0"
ANSWERED: Final = "titanic.answered"  # in the scope: the error that Starlette raises on is told already

ServeHot = Callable[[Scope, Receive, Send], Awaitable[bool]]


class HotResponse(Response):
    """An answer that the hot path gives: FastAPI calls a response as the ASGI application it is."""

    def __init__(self, serve: ServeHot) -> None:
        super().__init__()
        self._serve = serve

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request; the route's path is one of the hot path's."""
        if not await self._serve(scope, receive, send):
            raise ProblemError(problems.NO_SUCH_ROUTE, "Nothing is served at this path.")


class TitanicApi(FastAPI):
    """FastAPI whose document has our schemas."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document; made once."""
        if self.openapi_schema is None:
            self.openapi_schema = {**super().openapi(), "components": doc.COMPONENTS}
        return self.openapi_schema


def build_api(
    node: Node, waits: Waits, metrics: Metrics, settings: GatewaySettings, serve_hot: ServeHot
) -> FastAPI:
    """The application with all its routes; no lifespan of its own."""
    api = TitanicApi(
        title=doc.TITLE,
        summary=doc.SUMMARY,
        description=doc.DESCRIPTION,
        version=API_VERSION,
        openapi_tags=doc.TAGS,
        license_info={"name": "MIT", "identifier": "MIT"},
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
    )
    _add_hot_routes(api, serve_hot)
    _add_job_get(api, node, waits, settings)
    _add_operations(api, node, metrics, settings)
    add_pages(api)
    _add_errors(api)
    return api


# -- routes


def _add_hot_routes(api: FastAPI, serve_hot: ServeHot) -> None:
    """Submit, reply and close: documented in operations.py, served by hot.py."""

    async def hot() -> Response:
        return HotResponse(serve_hot)

    api.add_api_route("/v1/services/{service}/jobs", hot, methods=["POST"], **operations.SUBMIT)
    api.add_api_route("/v1/jobs/{id}/reply", hot, methods=["GET"], **operations.REPLY)
    # HEAD is GET without the body (RFC 9110, 9.3.2); it is no operation of its own.
    api.add_api_route("/v1/jobs/{id}/reply", hot, methods=["HEAD"], include_in_schema=False)
    api.add_api_route("/v1/jobs/{id}", hot, methods=["DELETE"], **operations.CLOSE)


def _add_job_get(api: FastAPI, node: Node, waits: Waits, settings: GatewaySettings) -> None:
    async def job_get(request: Request) -> Response:
        key = job_key(request.path_params["id"].encode("utf-8"))
        if key is None:
            raise ProblemError(problems.MALFORMED_ID, "A job id is 32 hexadecimal digits.")
        no_options(request.scope["query_string"])
        headers = {"cache-control": "no-cache"}
        wait_s = negotiate.wait_s(value.encode("latin-1") for value in request.headers.getlist("prefer"))
        answer: list[bytes] | None = None
        if wait_s and not waits.draining:
            bounded_s = min(wait_s, settings.wait_max_s)
            headers["preference-applied"] = f"wait={int(bounded_s)}"
            await request.body()  # what follows it is the client's leaving
            answer = await waits.until(node.watch(tsp.STATUS, key, bounded_s), request.receive)
        if answer is None:
            answer = await node.look(tsp.STATUS, key)
        if answer[0] != tsp.OK:
            raise problem_of(answer)
        body = encode_job(tsp.decode_status(answer[1]))
        tag = negotiate.etag(body)
        headers["etag"] = tag.decode("ascii")
        known = (value.encode("latin-1") for value in request.headers.getlist("if-none-match"))
        if negotiate.etag_matches(known, tag):
            return Response(status_code=304, headers=headers)
        return Response(body, media_type="application/json", headers=headers)

    api.add_api_route("/v1/jobs/{id}", job_get, methods=["GET"], **operations.STATUS)
    api.add_api_route("/v1/jobs/{id}", job_get, methods=["HEAD"], include_in_schema=False)


def _add_operations(api: FastAPI, node: Node, metrics: Metrics, settings: GatewaySettings) -> None:
    probe_s = min(PROBE_TIMEOUT_S, settings.node_timeout_s)

    async def livez() -> Response:
        return _json(b'{"status":"ok"}')

    async def readyz() -> Response:
        try:
            hello = await node.greet(probe_s)
        except TimeoutError as error:
            raise ServerUnreachableError(f"no node answered within {probe_s:g} s") from error
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
        }
        return _json(msgspec.json.encode(view))

    async def read_metrics() -> Response:
        stats: tsp.Stats | None
        try:
            stats = await node.stats(probe_s)
        except (ServerUnreachableError, PeerError, ProblemError, msgspec.MsgspecError):
            stats = None  # said by titanic_node_up 0
        return Response(metrics.render(stats), headers={"content-type": CONTENT_TYPE})

    api.add_api_route("/livez", livez, methods=["GET"], **operations.LIVE)
    api.add_api_route("/readyz", readyz, methods=["GET"], **operations.READY)
    api.add_api_route("/metrics", read_metrics, methods=["GET"], **operations.METRICS)


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json", headers={"cache-control": "no-store"})


# -- errors


def _add_errors(api: FastAPI) -> None:
    async def foreseen(request: Request, error: Exception) -> Response:
        return _problem(error, request)

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return _problem(_of_http(api, error, request), request)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        faults = [
            ParameterFault(".".join(str(part) for part in fault["loc"][1:]), fault["msg"])
            for fault in error.errors()
        ]
        return _problem(BadParametersError(faults), request)

    for kind in (ProblemError, BadParametersError, ServerUnreachableError, PeerError, msgspec.MsgspecError):
        api.add_exception_handler(kind, foreseen)
    api.add_exception_handler(RequestValidationError, invalid)
    api.add_exception_handler(HTTPException, http_error)
    api.add_exception_handler(Exception, foreseen)


def _problem(error: Exception, request: Request) -> Response:
    request.scope[ANSWERED] = True
    problem = as_problem(error, request.scope)
    body, headers = render(problem, request.scope)
    response = Response(body, status_code=problem.kind.status)
    response.raw_headers = headers
    return response


def _of_http(api: FastAPI, error: HTTPException, request: Request) -> ProblemError:
    """Starlette's own errors: no route, or no such method on it."""
    if error.status_code == problems.METHOD_NOT_ALLOWED.status:
        allowed = ", ".join(sorted(_methods(api, request.scope)))
        detail = f"{request.method} is not one of {allowed}."
        headers = ((b"allow", allowed.encode("ascii")),)
        return ProblemError(problems.METHOD_NOT_ALLOWED, detail, headers=headers)
    if error.status_code == problems.NO_SUCH_ROUTE.status:
        return ProblemError(problems.NO_SUCH_ROUTE, "Nothing is served at this path.")
    return ProblemError(problems.BAD_HEADER, str(error.detail))


def _methods(api: FastAPI, scope: Scope) -> set[str]:
    found: set[str] = set()
    for route in api.router.routes:
        if route.matches(scope)[0] != Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return found
