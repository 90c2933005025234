"""What the routes of one gateway process share."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request

from gateway.errors import ProblemError
from gateway.http.guard import Guard, caller_of, need
from gateway.http.hot import HotPath
from gateway.http.metrics import Metrics
from gateway.http.node import Node
from gateway.http.settings import GatewaySettings
from gateway.http.waiting import Waits
from gateway.pure import problems
from gateway.pure.keys import Caller, Scope
from gateway.pure.target import Service, job_key


@dataclass(frozen=True, slots=True)
class Parts:
    """The node, the limits, the counts and the keys."""

    node: Node
    waits: Waits
    metrics: Metrics
    settings: GatewaySettings
    guard: Guard
    hot: HotPath


def admitted(request: Request, scope: Scope, service: str | None = None) -> Caller:
    """The caller, who has ``scope`` and may use ``service``. Raises ProblemError (403)."""
    caller = caller_of(request.scope)
    need(caller, scope, service)
    return caller


def key_of(request: Request) -> bytes:
    """The job id in the path. Raises ProblemError (400)."""
    key = job_key(request.path_params["id"].encode("utf-8"))
    if key is None:
        raise ProblemError(problems.MALFORMED_ID, "A job id is 32 hexadecimal digits.")
    return key


def service_of(parts: Parts, request: Request) -> Service:
    """The service in the path, which the framework has percent-decoded. Raises ProblemError (400)."""
    segment: str = request.path_params["service"]
    return parts.hot.service(segment.encode("utf-8").replace(b"%", b"%25"))


def header_values(request: Request, name: str) -> list[bytes]:
    """All values of a header, as bytes."""
    return [value.encode("latin-1") for value in request.headers.getlist(name)]
