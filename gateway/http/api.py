"""The FastAPI application: routes, their documentation, and one kind of error for all of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from core.errors import PeerError, ServerUnreachableError
from gateway.errors import ProblemError
from gateway.http import operations, words
from gateway.http.dashboard import add_dashboard
from gateway.http.exchange import as_problem, render
from gateway.http.pages import add_pages
from gateway.http.parts import Parts
from gateway.http.routes_events import EventRoutes
from gateway.http.routes_health import HealthRoutes
from gateway.http.routes_jobs import JobRoutes
from gateway.http.routes_services import ServiceRoutes
from gateway.http.routes_store import StoreRoutes
from gateway.http.schemas import COMPONENTS
from gateway.pure import problems
from gateway.pure.query import BadParametersError, ParameterFault

API_VERSION: Final = "1.0.0"
ANSWERED: Final = "titanic.answered"  # in the scope: the error that Starlette raises on is told already

ServeHot = Callable[[Scope, Receive, Send], Awaitable[bool]]


class PlainSegment(StringConvertor):
    """A path segment without a colon: what stands before a verb."""

    regex = "[^/:]+"


class VerblessSegment(StringConvertor):
    """A path segment that does not end with a verb."""

    regex = "[^/]+(?<!:pause)(?<!:resume)"


register_url_convertor("plain", PlainSegment())
register_url_convertor("verbless", VerblessSegment())


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
            self.openapi_schema = {**super().openapi(), "components": COMPONENTS, "security": words.SECURITY}
        return self.openapi_schema


def build_api(parts: Parts, serve_hot: ServeHot) -> FastAPI:
    """The application with all its routes; no lifespan of its own."""
    api = TitanicApi(
        title=words.TITLE,
        summary=words.SUMMARY,
        description=words.DESCRIPTION,
        version=API_VERSION,
        openapi_tags=words.TAGS,
        license_info={"name": "MIT", "identifier": "MIT"},
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
    )
    _add_hot_routes(api, serve_hot)
    JobRoutes(parts).add_to(api)
    ServiceRoutes(parts).add_to(api)
    EventRoutes(parts).add_to(api)
    StoreRoutes(parts).add_to(api)
    HealthRoutes(parts).add_to(api)
    add_pages(api)
    add_dashboard(api)
    _add_errors(api)
    return api


def _add_hot_routes(api: FastAPI, serve_hot: ServeHot) -> None:
    """Submit, reply and close: documented in operations.py, served by hot.py."""

    async def hot() -> Response:
        return HotResponse(serve_hot)

    api.add_api_route("/v1/services/{service}/jobs", hot, methods=["POST"], **operations.SUBMIT)
    api.add_api_route("/v1/jobs/{id}/reply", hot, methods=["GET"], **operations.REPLY)
    # HEAD is GET without the body (RFC 9110, 9.3.2); it is no operation of its own.
    api.add_api_route("/v1/jobs/{id}/reply", hot, methods=["HEAD"], include_in_schema=False)
    api.add_api_route("/v1/jobs/{id:plain}", hot, methods=["DELETE"], **operations.CLOSE)


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
