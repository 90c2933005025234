"""The fast path: plain submits, replies and closes, served straight from the protocol.

Between a socket and ``hot.py`` lie uvicorn's request cycle, a task, two dicts and four coroutines per
request: half of what a submit costs the gateway. A request whose head was read before (gateway/pure/heads.py)
and asks for nothing unusual goes around them. Everything it is answered is made by the functions that make
the other path's answers; decision 0052 says what may come here, and tests hold both to one contract.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HEADER_VALUE_RE, STATUS_LINE

from core.errors import PeerError, ServerUnreachableError
from core.pure import tsp
from gateway.http.coalescer import FRAME_MAX_BYTES
from gateway.http.exchange import as_problem, render
from gateway.http.guard import Guard
from gateway.http.hot import HotPath, applied, receipt_head, receipt_tail
from gateway.http.metrics import Metrics
from gateway.http.node import WAIT_SLICE_S, Node
from gateway.http.waiting import Waits
from gateway.pure import heads, target
from gateway.pure.heads import Known
from gateway.pure.keys import NOBODY, Caller
from gateway.pure.keys import Scope as KeyScope
from gateway.pure.packing import Stored
from gateway.pure.submission import plain_meta
from gateway.pure.views import AcceptedView

TEMPLATES: Final = {
    target.SUBMIT: "/v1/services/{service}/jobs",
    target.REPLY: "/v1/jobs/{id}/reply",
    target.CLOSE: "/v1/jobs/{id}",
}
NO_CONTENT: Final = 204
CLIENT_GONE: Final = 499  # for the metrics only: nobody is there to receive it

_Headers = Sequence[tuple[bytes, bytes]]


class Exchange(Protocol):
    """One connection with one request on it, as the fast path sees it."""

    @property
    def default_headers(self) -> list[tuple[bytes, bytes]]:
        """What every answer begins with; another object once it has changed."""
        ...

    def answer(self, status: int, raw: bytes) -> None:
        """These bytes are the whole answer."""
        ...

    def accepted(self, key: bytes, stored: Stored) -> None:
        """See Submitter."""
        ...

    def refused(self, error: Exception) -> None:
        """See Submitter."""
        ...


class Pursuit(Protocol):
    """What goes on for a request until it is answered."""

    def cancel(self) -> object:
        """Nobody is there to be answered any more."""
        ...


class FastPath:
    """Begins requests and makes the bytes of their answers; one per gateway process."""

    def __init__(self, node: Node, hot: HotPath, guard: Guard, waits: Waits, metrics: Metrics) -> None:
        self.node, self.hot, self.waits, self._guard = node, hot, waits, guard
        self._view = AcceptedView()
        self._known = heads.KnownHeads()
        self._no_content = b""
        self._no_content_date: _Headers | None = None
        self.metrics = metrics
        self.find = self._known.find

    def learn(self, head: bytes, found: heads.Cut, method: bytes, url: bytes, headers: _Headers) -> None:
        """The parser has read ``head``: the next one like it may come here."""
        known = heads.understand(head, found, method, url, headers, self.hot.service_names)
        if known is not None:
            self._known.learn(found.key, known)

    # -- requests; False: not here, and nothing has happened

    def submit(self, known: Known, body: bytes, exchange: Exchange) -> bool:
        """Have ``body`` stored; ``accepted`` or ``refused`` of the exchange is called once."""
        assert known.service is not None, "whoever submits names a service"
        if len(body) > FRAME_MAX_BYTES or len(body) > self.hot.body_max_bytes:
            return False
        caller = NOBODY
        if self._guard.closed:
            found = self._guard.plain(known.headers, KeyScope.SUBMIT, known.service.text)
            if found is None or found.jobs_max or found.bytes_max:
                return False
            caller = found
        meta = known.meta
        if meta is None or meta.owner != caller.owner:
            meta = known.meta = plain_meta(known.service.name, known.content_type, caller)
        self.node.coalescer.add(meta, body, exchange)
        return True

    def stay(self, known: Known, key: bytes, stored: Stored, exchange: Exchange) -> Pursuit | None:
        """A stored job whose submitter prefers to wait: answer with the reply, or the receipt after all.

        None: no wait is granted, so it was answered.
        """
        waiting = Waiting(self, known, key, NOBODY, exchange, stored)
        if not waiting.wait_s:
            waiting.give_up()
            return None
        return waiting.begin()

    def look(self, known: Known, key: bytes, exchange: Exchange) -> Pursuit | None:
        """Fetch a reply, or close a job; what comes back may be cancelled. None: not here."""
        caller = NOBODY
        is_reply = known.operation == target.REPLY
        if self._guard.closed:
            found = self._guard.plain(known.headers, KeyScope.READ if is_reply else KeyScope.SUBMIT)
            if found is None:
                return None
            caller = found
        if not is_reply:
            closing = Closing(self, exchange)
            self.node.closer.add(key, caller.sees, closing)
            return closing
        waiting = Waiting(self, known, key, caller, exchange)
        return waiting.begin() if waiting.wait_s else waiting.ask()

    # -- answers

    def count_stored(self, size_bytes: int) -> None:
        """So many bytes of a body are stored."""
        self.hot.submitted_bytes += size_bytes

    def receipt(self, known: Known, stored: Stored, default: _Headers) -> list[bytes]:
        """The 202 of a submit, whole: the bytes before, between and behind the job's id."""
        if known.stored is stored and known.date is default:
            return known.receipt
        assert known.service is not None, "whoever submits names a service"
        parts = self._view.parts(known.service.json, stored.state, stored.created_ms)
        size = sum(map(len, parts)) + (len(parts) - 1) * heads.ID_CHARS
        tail = receipt_tail(size, self.node.retry_after_s(known.service.text))
        receipt = receipt_head(_MARK, stored.durability, stored.epoch, replayed=stored.replayed)
        before, behind = head_bytes(202, default, (*receipt, *tail)).split(_MARK)
        known.receipt = [before, behind + parts[0], *parts[1:]]
        known.stored, known.date = stored, default
        return known.receipt

    def no_content(self, default: _Headers) -> bytes:
        """The 204 of a close, whole."""
        if self._no_content_date is not default:
            self._no_content, self._no_content_date = head_bytes(NO_CONTENT, default, ()), default
        return self._no_content

    def problem(self, known: Known, varies: bytes, error: Exception, default: _Headers) -> tuple[int, bytes]:
        """(status, bytes) of the problem document that ``error`` stands for."""
        scope: Scope = {
            "method": known.method,
            "path": known.path(varies),
            "headers": list(known.headers.items()),
        }
        problem = as_problem(error, scope)
        body, headers = render(problem, scope)
        return problem.kind.status, head_bytes(problem.kind.status, default, headers) + body

    def observe(self, known: Known, status: int, seconds: float) -> None:
        """Count a request that has ended."""
        metrics = self.metrics
        metrics.underway_count -= 1
        metrics.observe(known.method, TEMPLATES[known.operation], status, seconds)


class Closing:
    """A close under way; it goes on when its client leaves."""

    __slots__ = ("_exchange", "_fast")

    def __init__(self, fast: FastPath, exchange: Exchange) -> None:
        self._fast, self._exchange = fast, exchange

    def closed(self) -> None:
        """See closer.Closing."""
        self._exchange.answer(NO_CONTENT, self._fast.no_content(self._exchange.default_headers))

    def refused(self, error: Exception) -> None:
        """See closer.Closing."""
        self._exchange.refused(error)

    def cancel(self) -> None:
        """See Pursuit."""


class Waiting:
    """A request for a reply; ``stored``: of a submit, whose answer is a receipt as well.

    With others it waits for the reply to be told (watcher.py); what is not told is asked for.
    """

    __slots__ = (
        "_ends_s", "_exchange", "_fast", "_key", "_known", "_owner", "_stored", "_task", "wait_s",
    )  # fmt: skip

    def __init__(
        self,
        fast: FastPath,
        known: Known,
        key: bytes,
        caller: Caller,
        exchange: Exchange,
        stored: Stored | None = None,
    ) -> None:
        self._fast, self._known, self._key, self._owner = fast, known, key, caller.sees
        self._exchange, self._stored = exchange, stored
        self.wait_s = fast.hot.granted(known.wait_s) if known.wait_s else 0.0
        self._ends_s = 0.0
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> Waiting:
        """Wait with others."""
        self._ends_s = asyncio.get_running_loop().time() + self.wait_s
        self._fast.waits.count += 1
        self._fast.node.watcher.add(self._key, min(self.wait_s, WAIT_SLICE_S), self._owner, self)
        return self

    def ask(self) -> Waiting:
        """Ask for the reply, waiting for as long as is left."""
        self._task = asyncio.get_running_loop().create_task(self._ask())
        return self

    def cancel(self) -> None:
        """See Pursuit."""
        if self._task is not None:
            self._task.cancel()
        else:
            self._fast.waits.count -= 1
            self._fast.node.watcher.leave(self._key, self)

    def told(self, answer: list[bytes] | None) -> None:
        """See watcher.Watched."""
        self._fast.waits.count -= 1
        if answer is None:
            self.ask()
        else:
            self._answer(answer)

    def give_up(self) -> None:
        """The receipt alone is the answer to a submit."""
        self._answer(None)

    async def _ask(self) -> None:
        fast, answer = self._fast, None
        try:
            if self.wait_s:
                left_s = 0.0 if fast.waits.draining else self._ends_s - asyncio.get_running_loop().time()
                watch = fast.node.watch(tsp.FETCH, self._key, max(0.0, left_s), self._owner)
                answer = await fast.waits.while_serving(watch)
            if answer is None and self._stored is None:
                answer = await fast.node.look(tsp.FETCH, self._key, self._owner)
        except (ServerUnreachableError, PeerError) as error:
            if self._stored is None:
                self._exchange.refused(error)
                return
        except Exception as error:
            self._exchange.refused(error)
            return
        self._answer(answer)

    def _answer(self, answer: list[bytes] | None) -> None:
        hot, exchange = self._fast.hot, self._exchange
        headers: list[tuple[bytes, bytes]] = []
        try:
            if self._stored is not None:
                ack = self._stored.ack(self._key)
                receipt = receipt_head(
                    self._key.hex().encode(), ack.durability, ack.epoch, replayed=ack.replayed
                )
                headers += receipt
                if self.wait_s:
                    headers.append(applied(self.wait_s))
                assert self._known.service is not None, "whoever submits names a service"
                reply = hot.maybe_reply(answer, self._known.accept, headers)
                status, headers, body = reply or hot.accepted(ack, self._known.service, headers)
            else:
                assert answer is not None, "whoever only asks has an answer"
                if self.wait_s:
                    headers.append(applied(self.wait_s))
                status, headers, body = hot.reply_answer(answer, self._known.accept, headers)
            raw = head_bytes(status, exchange.default_headers, headers) + body
        except Exception as error:
            exchange.refused(error)
            return
        exchange.answer(status, raw)


_MARK: Final = b"<id>"


def head_bytes(status: int, default: _Headers, headers: _Headers) -> bytes:
    """Status line and headers as uvicorn writes them. Raises RuntimeError for a value that is none."""
    parts = [STATUS_LINE[status]]
    for name, value in (*default, *headers):
        if HEADER_VALUE_RE.search(value):
            raise RuntimeError("Invalid HTTP header value.")
        parts += (name, b": ", value, b"\r\n")
    parts.append(b"\r\n")
    return b"".join(parts)


__all__ = ["Exchange", "FastPath", "Pursuit", "head_bytes"]
