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

from core.pure import tsp
from gateway.http.coalescer import FRAME_MAX_BYTES
from gateway.http.exchange import as_problem, render
from gateway.http.guard import Guard
from gateway.http.hot import HotPath, Reply, applied, receipt_head, receipt_tail
from gateway.http.metrics import Metrics
from gateway.http.node import Node
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


class FastPath:
    """Begins requests and makes the bytes of their answers; one per gateway process."""

    def __init__(self, node: Node, hot: HotPath, guard: Guard, waits: Waits, metrics: Metrics) -> None:
        self._node, self._hot, self._guard, self._waits = node, hot, guard, waits
        self._view = AcceptedView()
        self._known = heads.KnownHeads()
        self.metrics = metrics
        self.find = self._known.find

    def learn(self, head: bytes, found: heads.Cut, method: bytes, url: bytes, headers: _Headers) -> None:
        """The parser has read ``head``: the next one like it may come here."""
        known = heads.understand(head, found, method, url, headers, self._hot.service_names)
        if known is not None:
            self._known.learn(found.key, known)

    # -- requests; False: not here, and nothing has happened

    def submit(self, known: Known, body: bytes, exchange: Exchange) -> bool:
        """Have ``body`` stored; ``accepted`` or ``refused`` of the exchange is called once."""
        assert known.service is not None, "whoever submits names a service"
        if len(body) > FRAME_MAX_BYTES or len(body) > self._hot.body_max_bytes:
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
        self._node.coalescer.add(meta, body, exchange)
        return True

    def stay(self, known: Known, key: bytes, stored: Stored, exchange: Exchange) -> asyncio.Task[None]:
        """A stored job whose submitter prefers to wait: answer with the reply, or the receipt after all."""
        return asyncio.get_running_loop().create_task(self._stay(known, key, stored, exchange))

    async def _stay(self, known: Known, key: bytes, stored: Stored, exchange: Exchange) -> None:
        assert known.service is not None, "whoever submits names a service"
        try:
            ack = stored.ack(key)
            receipt = receipt_head(key.hex().encode(), ack.durability, ack.epoch, replayed=ack.replayed)
            status, headers, body = await self._hot.answer_submit(
                ack,
                known.service,
                receipt,
                self._hot.granted(known.wait_s),
                known.accept,
                self._waits.while_serving,
            )
            raw = head_bytes(status, exchange.default_headers, headers) + body
        except Exception as error:
            exchange.refused(error)
            return
        exchange.answer(status, raw)

    def look(self, known: Known, key: bytes, exchange: Exchange) -> asyncio.Task[None] | None:
        """Fetch a reply, or close a job; the task may be cancelled. None: not here."""
        caller = NOBODY
        is_reply = known.operation == target.REPLY
        if self._guard.closed:
            found = self._guard.plain(known.headers, KeyScope.READ if is_reply else KeyScope.SUBMIT)
            if found is None:
                return None
            caller = found
        work = self._reply(known, key, caller, exchange) if is_reply else self._close(key, caller, exchange)
        return asyncio.get_running_loop().create_task(work)

    async def _reply(self, known: Known, key: bytes, caller: Caller, exchange: Exchange) -> None:
        try:
            headers: list[tuple[bytes, bytes]] = []
            answer: list[bytes] | None = None
            if known.wait_s and (wait_s := self._hot.granted(known.wait_s)):
                headers.append(applied(wait_s))
                watch = self._node.watch(tsp.FETCH, key, wait_s, caller.sees)
                answer = await self._waits.while_serving(watch)
            if answer is None:
                answer = await self._node.look(tsp.FETCH, key, caller.sees)
            status, headers, body = self._hot.reply_answer(answer, known.accept, headers)
            raw = head_bytes(status, exchange.default_headers, headers) + body
        except Exception as error:
            exchange.refused(error)
            return
        exchange.answer(status, raw)

    async def _close(self, key: bytes, caller: Caller, exchange: Exchange) -> None:
        try:
            await self._node.close(key, caller.sees)
        except Exception as error:
            exchange.refused(error)
            return
        exchange.answer(NO_CONTENT, head_bytes(NO_CONTENT, exchange.default_headers, ()))

    # -- answers

    def count_stored(self, size_bytes: int) -> None:
        """So many bytes of a body are stored."""
        self._hot.submitted_bytes += size_bytes

    def receipt(self, known: Known, stored: Stored, default: _Headers) -> list[bytes]:
        """The 202 of a submit, whole: the bytes before, between and behind the job's id."""
        if known.stored is stored and known.date is default:
            return known.receipt
        assert known.service is not None, "whoever submits names a service"
        parts = self._view.parts(known.service.json, stored.state, stored.created_ms)
        size = sum(map(len, parts)) + (len(parts) - 1) * heads.ID_CHARS
        tail = receipt_tail(size, self._node.retry_after_s(known.service.text))
        receipt = receipt_head(_MARK, stored.durability, stored.epoch, replayed=stored.replayed)
        before, behind = head_bytes(202, default, (*receipt, *tail)).split(_MARK)
        known.receipt = [before, behind + parts[0], *parts[1:]]
        known.stored, known.date = stored, default
        return known.receipt

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


__all__ = ["Exchange", "FastPath", "Reply", "head_bytes"]
