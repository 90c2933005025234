"""uvicorn's HTTP protocol with the limits that uvicorn does not give: size of headers and pace of the sender.

A request has ``request_deadline_s`` from its first byte to its last, and one second more for every
``BODY_PACE_BYTES`` of body that came. One sweep a second looks at all connections; a timer per request would
cost more than the rest of this file.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from gateway.pure import problems
from gateway.pure.problems import ProblemKind

HEAD_MAX_BYTES: Final = 32 * 1024
HEADERS_MAX_COUNT: Final = 100
BODY_PACE_BYTES: Final = 16 * 1024
_NAMED_LIMITS: Final = f"{HEAD_MAX_BYTES} bytes, {HEADERS_MAX_COUNT} headers"


class RefusedError(Exception):
    """The parser shall stop: the request is refused; see ``GatewayProtocol.send_400_response``."""


class GatewayProtocol(HttpToolsProtocol):
    """Answers what is no HTTP, what is too large and what is too slow as RFC 9457 has it."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._in_head = False
        self._in_request = False
        self._head_bytes = 0
        self._body_bytes = 0
        self._host_count = 0
        self._since_s = self.loop.time()
        self._refusal: tuple[ProblemKind, str] | None = None

    # -- uvicorn's callbacks

    def data_received(self, data: bytes) -> None:
        """See asyncio; a head that outgrows the limit is refused before it is complete."""
        if not self._in_head:
            self._head_bytes = 0
        self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > HEAD_MAX_BYTES and not self.transport.is_closing():
            self._refusal = (
                problems.HEADERS_TOO_LARGE,
                f"The headers are over the limit of {_NAMED_LIMITS}.",
            )
            self.send_400_response("")

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._in_head = self._in_request = True
        self._body_bytes = self._host_count = 0
        self._since_s = self.loop.time()

    def on_header(self, name: bytes, value: bytes) -> None:
        """As uvicorn's; hosts are counted, and trailers, which come behind the body, are thrown away."""
        if not self._in_head:
            return
        name = name.lower()
        if name == b"host":
            self._host_count += 1
        elif name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is whole; refused if it is too large or does not name one host (RFC 9112, 3.2)."""
        self._in_head = False
        headers = self.headers
        if len(headers) > HEADERS_MAX_COUNT or (
            self._head_bytes > HEAD_MAX_BYTES
            and len(self.url) + sum(len(name) + len(value) + 4 for name, value in headers) > HEAD_MAX_BYTES
        ):
            self._refuse(problems.HEADERS_TOO_LARGE, f"The headers are over the limit of {_NAMED_LIMITS}.")
        if self._host_count != 1 and (self._host_count or self.parser.get_http_version() != "1.0"):
            self._refuse(problems.MALFORMED_HTTP, f"The request names {self._host_count} hosts, not one.")
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body came."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The last byte of a request."""
        self._in_request = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The connection is idle, or the next request is due."""
        self._since_s = self.loop.time()
        super().on_response_complete()

    def _refuse(self, kind: ProblemKind, detail: str) -> None:
        self._refusal = (kind, detail)
        raise RefusedError(detail)

    # -- refusals

    def send_400_response(self, msg: str) -> None:
        """Send the problem and close: where the next request begins is not known any more.

        If the bytes stand behind a request that is not answered yet, the problem would be taken for its
        answer: then the connection just ends.
        """
        answered = self.cycle is None or self.cycle.response_complete
        if answered or (self._in_request and not self._in_head and not self.cycle.response_started):
            kind, detail = self._refusal or (problems.MALFORMED_HTTP, msg)
            self._write_problem(kind, detail)
        self.transport.close()

    def _write_problem(self, kind: ProblemKind, detail: str) -> None:
        body = problems.encode(kind, detail, "/")
        head = (
            b"HTTP/1.1 %d %b\r\ncontent-type: %b\r\ncontent-length: %d\r\n"
            b"cache-control: no-store\r\nconnection: close\r\n\r\n"
            % (kind.status, kind.title.encode("ascii"), problems.MEDIA_TYPE, len(body))
        )
        self.transport.write(head + body)

    # -- the sweep

    def cut_if_slow(self, now_s: float, deadline_s: float) -> bool:
        """Cut the connection if its sender is too slow, or never sent a request; whether it was cut.

        A request that waits behind the answer of an earlier one is not slow: nobody reads it.
        """
        answered = self.cycle is None or self.cycle.response_complete
        if self.pipeline or not (self._in_request or answered):
            return False
        if now_s - self._since_s <= deadline_s + self._body_bytes / BODY_PACE_BYTES:
            return False
        if self.transport.is_closing():
            self.transport.abort()  # it was told, and does not read either
            return True
        if self._in_request and (answered or not self.cycle.response_started):
            self._write_problem(
                problems.REQUEST_TIMEOUT, f"The request was not whole after {deadline_s:g} s."
            )
        self.transport.close()
        self._since_s = now_s
        return True


def sweep(connections: set[Any], now_s: float, deadline_s: float) -> int:
    """Cut every slow sender; how many there were."""
    protocols = [found for found in connections if isinstance(found, GatewayProtocol)]
    return sum(protocol.cut_if_slow(now_s, deadline_s) for protocol in protocols)
