"""uvicorn's HTTP protocol with the limits that uvicorn does not give: size of headers and pace of the sender.

A request has ``request_deadline_s`` from its first byte to its last, and one second more for every
``BODY_PACE_BYTES`` of body that came. One sweep a second looks at all connections; a timer per request would
cost more than the rest of this file.

Plain requests whose head was read before take the fast path (fast.py) from here, if they come alone: whole,
in one piece or two, with nothing of an earlier request left. What comes while one is served waits, and no
more is read then.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Any, Final

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from gateway.http.fast import CLIENT_GONE, FastPath, Pursuit
from gateway.pure import problems
from gateway.pure.heads import Cut, Known, cut, job_key, size_of
from gateway.pure.packing import Stored
from gateway.pure.problems import ProblemKind
from gateway.pure.target import CLOSE, SUBMIT

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
        *,
        fast: FastPath | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._fast = fast
        self._known: Known | None = None  # a request on the fast path waits for its answer
        self._varies = b""
        self._size = 0
        self._began_s = 0.0
        self._task: Pursuit | None = None
        self._held = b""
        self._partial = b""  # a head whose body comes in another piece
        self._candidate: tuple[bytes, Cut] | None = None
        self._leaving = self._gone = False
        self._idle_s = 0.0  # since when, on the fast path; 0: uvicorn's own timer runs
        self._in_head = False
        self._in_request = False
        self._head_bytes = 0
        self._body_bytes = 0
        self._host_count = self._begun_count = 0
        self._since_s = self.loop.time()
        self._refusal: tuple[ProblemKind, str] | None = None

    # -- uvicorn's callbacks

    def data_received(self, data: bytes) -> None:
        """See asyncio; a head that outgrows the limit is refused before it is complete."""
        if self._known is not None:
            self._held += data
            self.flow.pause_reading()
            return
        if self._fast is not None and self._take(self._fast, self._partial + data):
            return
        if self._partial:
            self._give_up_partial()
        if not self._in_head:
            self._head_bytes = 0
        self._head_bytes += len(data)
        self._begun_count = int(self._in_request)
        super().data_received(data)
        self._candidate = None
        if self._in_head and self._begun_count > 1:  # it stands behind other requests: they are not its bytes
            self._head_bytes = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
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
        self._begun_count += 1
        self._idle_s = 0.0
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
        if self._candidate is not None and self._fast is not None:
            (head, found), self._candidate = self._candidate, None
            self._fast.learn(head, found, self.parser.get_method(), self.url, headers)
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

    # -- the fast path

    def _take(self, fast: FastPath, data: bytes) -> bool:
        """Serve ``data`` if it is one whole request that the fast path knows; False: nothing has happened."""
        if self._in_request or self.flow.write_paused or self.pipeline or self.transport.is_closing():
            return False
        if self.cycle is not None and not self.cycle.response_complete:
            return False
        found = cut(data)
        if found is None:
            return False
        known = fast.find(found.key)
        if known is None:
            self._candidate = (data[: found.end], found)
            return False
        return self._begin(fast, known, found, data)

    def _begin(self, fast: FastPath, known: Known, found: Cut, data: bytes) -> bool:
        size = len(data) - found.end
        self._began_s = perf_counter()
        if known.operation == SUBMIT:
            if not size and not self._partial and size_of(found.varies) > 0:
                return self._await_body(data)
            if size_of(found.varies) != size or not fast.submit(known, data[found.end :], self):
                return False
        else:
            key = job_key(found.varies) if not size else None
            self._task = fast.look(known, key, self) if key is not None else None
            if self._task is None:
                return False
        self._known, self._varies, self._size = known, found.varies, size
        self._partial = b""
        fast.metrics.underway_count += 1
        fast.metrics.fast_count += 1
        self._idle_s = 0.0
        self._unset_keepalive_if_required()
        return True

    def _await_body(self, head: bytes) -> bool:
        """Many clients send head and body in two pieces; what comes next is the rest, or the parser's."""
        self._partial = head
        self._since_s, self._idle_s = self.loop.time(), 0.0
        self._unset_keepalive_if_required()
        return True

    def _give_up_partial(self) -> None:
        """The parser gets the head, as if it had come just when it came."""
        head, since_s, self._partial = self._partial, self._since_s, b""
        self._head_bytes = len(head)
        super().data_received(head)
        self._since_s = since_s

    @property
    def default_headers(self) -> list[tuple[bytes, bytes]]:
        """See Exchange; uvicorn makes a new list when the date has changed."""
        return self.server_state.default_headers

    def accepted(self, key: bytes, stored: Stored) -> None:
        """See Submitter: 202, now that the job is durable (D1)."""
        known, fast = self._known, self._fast
        assert known is not None and fast is not None, "only who asked is answered"  # noqa: PT018
        fast.count_stored(self._size)
        if known.wait_s:
            if self._gone:
                self._leave(known, fast)
            else:
                waits = fast.stay(known, key, stored, self)
                if waits is not None:  # else it was answered, and the next request may be under way
                    self._task = waits
            return
        try:
            receipt = fast.receipt(known, stored, self.default_headers)
        except Exception as error:
            self.refused(error)
            return
        self.answer(202, key.hex().encode().join(receipt))

    def refused(self, error: Exception) -> None:
        """See Submitter: the problem document."""
        assert self._known is not None and self._fast is not None, "only who asked is answered"  # noqa: PT018
        self.answer(*self._fast.problem(self._known, self._varies, error, self.default_headers))

    def answer(self, status: int, raw: bytes) -> None:
        """See Exchange: the answer goes out, and the connection is ready for the next request."""
        known, fast = self._known, self._fast
        assert known is not None and fast is not None, "one answer to one request"  # noqa: PT018
        self._known = self._task = None
        fast.observe(known, status, perf_counter() - self._began_s)
        self.server_state.total_requests += 1
        if self._gone or self.transport.is_closing():
            return
        closes = self._leaving or b"\r\nconnection: close\r\n" in raw[: raw.find(b"\r\n\r\n") + 2]
        if self._leaving:
            raw = raw.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n", 1)
        self.transport.write(raw)
        if closes:
            self.transport.close()
            return
        self._since_s = self._idle_s = self.loop.time()
        if self._held:
            data, self._held = self._held, b""
            self.flow.resume_reading()
            self.data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio; who waited for a reply waits no longer, but what is being stored is stored."""
        self._gone = True
        self._held = self._partial = b""
        known, fast = self._known, self._fast
        if known is not None and fast is not None and self._task is not None and known.operation != CLOSE:
            self._task.cancel()
            self._leave(known, fast)
        super().connection_lost(exc)

    def _leave(self, known: Known, fast: FastPath) -> None:
        """Nobody waits for this answer any more."""
        self._known = self._task = None
        fast.observe(known, CLIENT_GONE, perf_counter() - self._began_s)

    def shutdown(self) -> None:
        """See uvicorn: the request at hand is the last of this connection."""
        if self._known is not None:
            self._leaving = True
            return
        if self._partial:
            self._give_up_partial()
        super().shutdown()

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
        if self._known is not None:
            return False  # it sent its request, and waits for us
        if self._partial and now_s - self._since_s > deadline_s:
            self._give_up_partial()
        if self._idle_s and now_s - self._idle_s > self.timeout_keep_alive:
            self.timeout_keep_alive_handler()
            return False
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
