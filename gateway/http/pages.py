"""The documentation pages, and every byte they load: nothing comes from another host.

Swagger UI and ReDoc are the files of the fastapi-offline package; our own small files lie in ``static``.
Scripts are separate files, so that the Content-Security-Policy forbids inline script.
"""

from __future__ import annotations

from functools import cache
from hashlib import blake2s
from importlib.resources import files
from typing import Final, NamedTuple

from fastapi import FastAPI, Request, Response

from gateway.errors import ProblemError
from gateway.pure import negotiate, problems

_JS: Final = "text/javascript; charset=utf-8"
_CSS: Final = "text/css; charset=utf-8"
_SVG: Final = "image/svg+xml"

ASSETS: Final = {
    "swagger-ui-bundle.js": ("fastapi_offline", _JS),
    "swagger-ui.css": ("fastapi_offline", _CSS),
    "redoc.standalone.js": ("fastapi_offline", _JS),
    "docs.js": ("gateway.http", _JS),
    "docs.css": ("gateway.http", _CSS),
    "redoc.js": ("gateway.http", _JS),
    "page.css": ("gateway.http", _CSS),
    "favicon.svg": ("gateway.http", _SVG),
}
# ReDoc's bundle would fetch its maker's logo from that maker's host; ours is at hand.
_REPLACED: Final = {
    "redoc.standalone.js": (b"https://cdn.redoc.ly/redoc/logo-mini.svg", b"/assets/favicon.svg")
}

_COMMON: Final = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; img-src 'self' data:; font-src 'self'"
)
# Swagger UI and ReDoc write style elements while they run; style can neither send nor run anything here.
POLICY_TOOLS: Final = _COMMON + "; style-src 'self' 'unsafe-inline'"
POLICY_PLAIN: Final = _COMMON + "; style-src 'self'"


class Asset(NamedTuple):
    """A file as it is served."""

    body: bytes
    media_type: str
    etag: str


@cache
def asset(name: str) -> Asset:
    """One of :data:`ASSETS`, read once. Raises KeyError for any other name."""
    package, media_type = ASSETS[name]
    body = files(package).joinpath("static", name).read_bytes()
    if name in _REPLACED:
        body = body.replace(*_REPLACED[name])
    return Asset(body, media_type, f'"{blake2s(body, digest_size=8).hexdigest()}"')


@cache
def page(name: str) -> bytes:
    """One of our own HTML pages."""
    html = files("gateway.http").joinpath("static", name).read_text("utf-8")
    return html.replace("<!-- sections -->", problems.sections()).encode()


def _html(name: str, policy: str) -> Response:
    headers = {
        "content-security-policy": policy,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cache-control": "no-cache",
    }
    return Response(page(name), media_type="text/html", headers=headers)


async def docs() -> Response:
    """Swagger UI."""
    return _html("docs.html", POLICY_TOOLS)


async def redoc() -> Response:
    """ReDoc."""
    return _html("redoc.html", POLICY_TOOLS)


async def problem_page() -> Response:
    """Where the ``type`` of every problem document leads."""
    return _html("problems.html", POLICY_PLAIN)


async def serve_asset(name: str, request: Request) -> Response:
    """A script, a style or an image of the pages."""
    if name not in ASSETS:
        raise ProblemError(problems.NO_SUCH_ROUTE, "There is no such asset.")
    found = asset(name)
    headers = {"etag": found.etag, "cache-control": "no-cache", "x-content-type-options": "nosniff"}
    known = [value.encode("latin-1") for value in request.headers.getlist("if-none-match")]
    if negotiate.etag_matches(known, found.etag.encode()):
        return Response(status_code=304, headers=headers)
    return Response(found.body, headers={**headers, "content-type": found.media_type})


def add_pages(api: FastAPI) -> None:
    """The pages and their assets are routes of ``api``, outside its OpenAPI document."""
    for path, endpoint in (
        ("/docs", docs),
        ("/redoc", redoc),
        (problems.PAGE, problem_page),
        ("/assets/{name}", serve_asset),
    ):
        api.add_api_route(path, endpoint, methods=["GET"], include_in_schema=False)
