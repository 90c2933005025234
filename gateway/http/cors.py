"""Cross-origin requests (Fetch, CORS protocol): off unless origins are configured, then for those only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from starlette.types import Message, Scope, Send

METHODS: Final = b"GET, HEAD, POST, DELETE"
REQUEST_HEADERS: Final = (
    b"Accept, Authorization, Content-Type, Idempotency-Key, If-None-Match, Last-Event-ID, Prefer, "
    b"Titanic-Durability, Traceparent, X-Request-ID"
)
EXPOSED: Final = (
    b"ETag, Idempotent-Replayed, Link, Location, Preference-Applied, RateLimit, RateLimit-Policy, "
    b"Retry-After, "
    b"Titanic-Durability, Titanic-Epoch, X-Request-ID"
)
MAX_AGE_S: Final = 600


class Cors:
    """Answers preflights and marks answers for the allowed origins. No cookies: keys travel in a header."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._origins = frozenset(origin.encode("ascii") for origin in origins)

    def _origin(self, scope: Scope) -> bytes | None:
        origin = next((value for name, value in scope["headers"] if name == b"origin"), None)
        return origin if origin in self._origins else None

    def allowing(self, scope: Scope, send: Send) -> Send:
        """``send`` whose answers the request's origin may read, if it is allowed."""
        origin = self._origin(scope)
        added = [(b"vary", b"origin")]
        if origin is not None:
            added += [(b"access-control-allow-origin", origin), (b"access-control-expose-headers", EXPOSED)]

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *added]}
            await send(message)

        return marked

    async def preflight(self, scope: Scope, send: Send) -> bool:
        """Answer a preflight of an allowed origin with 204; False if the request is none."""
        if scope["method"] != "OPTIONS" or self._origin(scope) is None:
            return False
        if not any(name == b"access-control-request-method" for name, _ in scope["headers"]):
            return False
        headers = [
            (b"access-control-allow-methods", METHODS),
            (b"access-control-allow-headers", REQUEST_HEADERS),
            (b"access-control-max-age", b"%d" % MAX_AGE_S),
        ]
        await send({"type": "http.response.start", "status": 204, "headers": headers})
        await send({"type": "http.response.body"})
        return True
