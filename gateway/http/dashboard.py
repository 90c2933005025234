"""The dashboard at ``/``: static files that consume the API as any other client does.

No build step and no framework: what lies in ``static/dashboard`` is what is served, and every name in it is
listed when the module is loaded. The policy forbids inline script and style, other hosts, and (with trusted
types) every way of the browser's to turn text into markup, so that job data can only be text.
"""

from __future__ import annotations

from functools import cache
from hashlib import blake2s
from importlib.resources import files
from typing import Final

from fastapi import FastAPI, Request, Response

from gateway.errors import ProblemError
from gateway.http.pages import POLICY_PLAIN, Asset
from gateway.pure import negotiate, problems

POLICY: Final = POLICY_PLAIN + "; require-trusted-types-for 'script'; trusted-types 'none'"

_FOLDER: Final = files("gateway.http").joinpath("static", "dashboard")
_TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
}
NAMES: Final = frozenset(
    entry.name for entry in _FOLDER.iterdir() if entry.name.rpartition(".")[2] in _TYPES and entry.is_file()
)
_HEADERS: Final = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


@cache
def asset(name: str) -> Asset:
    """One of :data:`NAMES`, read once. Raises KeyError for any other name."""
    if name not in NAMES:
        raise KeyError(name)
    body = _FOLDER.joinpath(name).read_bytes()
    return Asset(body, _TYPES[name.rpartition(".")[2]], f'"{blake2s(body, digest_size=8).hexdigest()}"')


async def first_page(request: Request) -> Response:
    """The page itself; its scripts do the rest."""
    return _serve("index.html", request)


async def serve_asset(name: str, request: Request) -> Response:
    """A module or a style sheet of the page."""
    if name not in NAMES:
        raise ProblemError(problems.NO_SUCH_ROUTE, "The dashboard has no such file.")
    return _serve(name, request)


def _serve(name: str, request: Request) -> Response:
    found = asset(name)
    headers = {**_HEADERS, "etag": found.etag}
    known = [value.encode("latin-1") for value in request.headers.getlist("if-none-match")]
    if negotiate.etag_matches(known, found.etag.encode()):
        return Response(status_code=304, headers=headers)
    return Response(found.body, headers={**headers, "content-type": found.media_type})


def add_dashboard(api: FastAPI) -> None:
    """``/`` and the files of the page are routes of ``api``, outside its OpenAPI document."""
    api.add_api_route("/", first_page, methods=["GET"], include_in_schema=False)
    api.add_api_route("/dashboard/{name}", serve_asset, methods=["GET"], include_in_schema=False)
