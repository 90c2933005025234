"""The hot path: submit, reply and close as bare ASGI endpoints.

Why they are not FastAPI functions: FastAPI's routing, dependencies, Request and Response objects and its
middleware stack cost several times what the rest of a submit costs (architecture, "Hot path"). These three
are reached by a prefix check in front of the framework, read the ASGI scope as it is, and write JSON by
formatting bytes. What they share with the other routes: the OpenAPI document (contract.py), problem
documents, body limit, X-Request-ID, metrics.

Rules of this file: no object per request that is not needed, no header parsed that is not there, errors
are exceptions because they are rare.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final

from starlette.types import Receive, Scope, Send

from core.errors import PeerError, ServerUnreachableError
from core.pure import tsp
from gateway.errors import Headers, ProblemError
from gateway.http.exchange import REQUEST_ID, echoed, read_body
from gateway.http.guard import need
from gateway.http.node import Node, wall_ms
from gateway.http.settings import GatewaySettings
from gateway.http.waiting import Waits
from gateway.pure import frames as frames_json
from gateway.pure import negotiate, problems
from gateway.pure.answers import RETRY_FULL, problem_of
from gateway.pure.idempotency import fingerprint as print_of
from gateway.pure.keys import NOBODY, Caller
from gateway.pure.keys import Scope as KeyScope
from gateway.pure.query import DEFAULTS, SubmitOptions, check_callback, no_options, submit_options
from gateway.pure.quotas import Open
from gateway.pure.submission import binding_of, content_type_of, request_meta
from gateway.pure.target import BadServiceError, Service, ServiceNames, job_key
from gateway.pure.views import AcceptedView, encode_job

Reply = tuple[int, list[tuple[bytes, bytes]], bytes]
"""Status, headers and body of an answer."""
Until = Callable[[Coroutine[Any, Any, list[bytes]]], Awaitable[list[bytes] | None]]
"""Waits for a call to the node as long as it makes sense; None when the server stops."""

_JSON: Final = (b"content-type", b"application/json")
_FRAMES: Final = (b"content-type", negotiate.FRAMES_TYPE)
_NO_STORE: Final = (b"cache-control", b"no-store")
REPLAYED: Final = (b"idempotent-replayed", b"true")
_END: Final = {"type": "http.response.body"}
_NO_CONTENT: Final = {"type": "http.response.start", "status": 204, "headers": []}
# A reply is a stranger's bytes under a stranger's type: a browser must neither guess a type nor run it here.
_OPAQUE: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; sandbox"),
    (b"cache-control", b"no-cache"),
    (b"vary", b"accept"),
)


class HotPath:
    """The three endpoints; each takes its still encoded path argument and returns the status it sent."""

    def __init__(self, node: Node, settings: GatewaySettings, waits: Waits) -> None:
        self._node = node
        self._waits = waits
        self._max_body_bytes = settings.max_body_bytes
        self._wait_max_s = settings.wait_max_s
        self._callback_allow = settings.callback_allow
        self.service_names = ServiceNames()
        self._accepted = AcceptedView()
        self.submitted_bytes = 0

    # -- POST /v1/services/{service}/jobs

    async def submit(
        self, scope: Scope, receive: Receive, send: Send, argument: bytes, caller: Caller
    ) -> int:
        """202 once the job is stored; with ``Prefer: wait`` 200 and the reply, if it comes in time."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        service = self.service(argument)
        if caller is not NOBODY:
            await self.admit(caller, service.text, 1)
        query = scope["query_string"]
        options = self.options(query) if query else DEFAULTS
        node = self._node
        body = await read_body(receive, headers.get(b"content-length"), self.body_max_bytes)
        frames, content_type = _content(content_type_of(headers), body)
        binding = fingerprint = b""
        if b"idempotency-key" in headers:
            binding = binding_of(headers, caller, service.name)
            fingerprint = print_of(query, headers.get(b"content-type", b""), frames)
        demanded = headers.get(b"titanic-durability")
        if demanded is not None:
            demand(demanded, await node.offers(demanded.decode("latin-1")))
        meta = request_meta(
            service.name,
            content_type,
            options,
            caller,
            headers,
            now_ms=wall_ms(),
            binding=binding,
            fingerprint=fingerprint,
        )
        if caller.bytes_max:
            await self.admit_bytes(caller, len(body))
        ack = await node.submit(meta, frames)
        self.submitted_bytes += len(body)
        if demanded is not None:
            await self._keep_demand(demanded, ack)
        receipt = receipt_head(ack.key.hex().encode(), ack.durability, ack.epoch, replayed=ack.replayed)
        if REQUEST_ID in headers:
            receipt.extend(echoed(headers[REQUEST_ID]))
        wait_s = self._wait(scope) if b"prefer" in headers else 0
        if not wait_s and b"prefer" in headers and negotiate.responds_async(_values(scope, b"prefer")):
            receipt.append((b"preference-applied", b"respond-async"))
        accept = _values(scope, b"accept")
        until = partial(self._waits.until, receive=receive)
        return await _send(send, await self.answer_submit(ack, service, receipt, wait_s, accept, until))

    async def answer_submit(
        self,
        ack: tsp.SubmitAck,
        service: Service,
        receipt: list[tuple[bytes, bytes]],
        wait_s: float,
        accept: Sequence[bytes],
        until: Until,
    ) -> Reply:
        """The reply if it is there within ``wait_s`` seconds, else 202. Raises ProblemError, ClientGoneError.

        ``receipt`` are the first headers of either; ``until`` waits for as long as the client does.
        """
        if wait_s:
            receipt.append(applied(wait_s))
            try:
                answer = await until(self._node.watch(tsp.FETCH, ack.key, wait_s))
            except (ServerUnreachableError, PeerError):
                answer = (
                    None  # the job is stored: 202 says so, and asking for the reply will meet the node again
                )
            reply = self.maybe_reply(answer, accept, receipt)
            if reply is not None:
                return reply
        return self.accepted(ack, service, receipt)

    def accepted(self, ack: tsp.SubmitAck, service: Service, receipt: list[tuple[bytes, bytes]]) -> Reply:
        """202, behind ``receipt``."""
        answer = self._accepted.encode(ack.key.hex().encode(), service.json, ack.state, ack.created_ms)
        receipt += receipt_tail(len(answer), self._node.retry_after_s(service.text))
        return 202, receipt, answer

    @property
    def body_max_bytes(self) -> int:
        """The largest body that gateway and node both take."""
        hello = self._node.hello
        limit = self._max_body_bytes
        if hello is not None and 0 < hello.max_body_bytes < limit:
            return hello.max_body_bytes
        return limit

    def service(self, argument: bytes) -> Service:
        """The service at a percent-encoded path segment. Raises ProblemError (400)."""
        try:
            return self.service_names.find(argument)
        except BadServiceError as error:
            raise ProblemError(problems.BAD_SERVICE, str(error)) from error

    def options(self, query: bytes) -> SubmitOptions:
        """What a submit asks for. Raises BadParametersError, also for a callback that may not be made."""
        options = submit_options(query)
        if options.callback:
            check_callback(options, self._callback_allow)
        return options

    async def admit(self, caller: Caller, service: str, count: int, size_bytes: int = 0) -> None:
        """Raises ProblemError (403, 429) if the caller may not submit ``count`` jobs to ``service`` now.

        ``size_bytes`` is what their requests have together; 0: :meth:`admit_bytes` follows.
        """
        need(caller, KeyScope.SUBMIT, service)
        if caller.jobs_max or (caller.bytes_max and size_bytes):
            await self._admit(caller, Open(count, size_bytes))

    async def admit_bytes(self, caller: Caller, size_bytes: int) -> None:
        """The same for the body of a job that was admitted already."""
        if caller.bytes_max:
            await self._admit(caller, Open(0, size_bytes))

    async def _admit(self, caller: Caller, more: Open) -> None:
        """What is admitted counts at once, whether it is stored or not, until the node is asked again."""
        quotas = self._node.quotas
        if caller.bytes_max and more.size_bytes > caller.bytes_max:
            detail = (
                f"The key may have {caller.bytes_max} bytes open; the request alone has {more.size_bytes}."
            )
            raise ProblemError(problems.FORBIDDEN, detail)
        if not await self._node.within_quota(caller.owner, Open(caller.jobs_max, caller.bytes_max), more):
            has = quotas.open(caller.owner)
            limits = [(has.jobs, caller.jobs_max, "jobs"), (has.size_bytes, caller.bytes_max, "bytes")]
            said = " and ".join(f"{open_} of {most} {what}" for open_, most, what in limits if most)
            raise ProblemError(problems.QUOTA_EXCEEDED, f"The key has {said} open.", headers=RETRY_FULL)
        quotas.accepted(caller.owner, more.jobs, more.size_bytes)

    def maybe_reply(
        self, answer: list[bytes] | None, accept: Sequence[bytes], receipt: list[tuple[bytes, bytes]]
    ) -> Reply | None:
        """The reply to who submitted and waited; None if it is not there: the job is accepted all the same.

        Raises ProblemError for a job that has ended otherwise.
        """
        if answer is None or answer[0] not in (tsp.OK, tsp.CONFLICT, tsp.GONE):
            return None
        if answer[0] != tsp.OK:
            problem = problem_of(answer)
            problem.headers = (*problem.headers, *receipt)
            raise problem
        return _reply(accept, answer, receipt)

    async def _keep_demand(self, demanded: bytes, ack: tsp.SubmitAck) -> None:
        """The node may have become another one since its hello: what is worth less is not kept."""
        try:
            demand(demanded, ack.durability)
        except ProblemError:
            if not ack.replayed:
                await self._node.close(ack.key)
            raise

    # -- GET /v1/jobs/{id}/reply

    async def reply(self, scope: Scope, receive: Receive, send: Send, argument: bytes, caller: Caller) -> int:
        """200 with the reply's bytes, 202 while there is none."""
        if caller is not NOBODY:
            need(caller, KeyScope.READ)
        key = _key(argument)
        no_options(scope["query_string"])
        headers: dict[bytes, bytes] = dict(scope["headers"])
        extra: list[tuple[bytes, bytes]] = []
        if REQUEST_ID in headers:
            extra.extend(echoed(headers[REQUEST_ID]))
        answer: list[bytes] | None = None
        if b"prefer" in headers and (wait_s := self._wait(scope)):
            extra.append(applied(wait_s))
            answer = await self._waits.until(self._node.watch(tsp.FETCH, key, wait_s, caller.sees), receive)
        if answer is None:
            answer = await self._node.look(tsp.FETCH, key, caller.sees)
        return await _send(send, self.reply_answer(answer, _values(scope, b"accept"), extra))

    def reply_answer(
        self, answer: list[bytes], accept: Sequence[bytes], headers: list[tuple[bytes, bytes]]
    ) -> Reply:
        """What the node's answer to a fetch is over HTTP, behind ``headers``. Raises ProblemError."""
        if answer[0] == tsp.OK:
            return _reply(accept, answer, headers)
        if answer[0] != tsp.PENDING:
            raise problem_of(answer)
        status = tsp.decode_status(answer[1])
        body = encode_job(status)
        retry_after_s = self._node.retry_after_s(status.service, status.queued_before)
        headers += (
            _JSON,
            (b"content-length", b"%d" % len(body)),
            (b"retry-after", b"%d" % retry_after_s),
            _NO_STORE,
        )
        return 202, headers, body

    # -- DELETE /v1/jobs/{id}

    async def close(self, scope: Scope, receive: Receive, send: Send, argument: bytes, caller: Caller) -> int:
        """204 once the job is gone durably, also for an id nobody knows."""
        del receive
        if caller is not NOBODY:
            need(caller, KeyScope.SUBMIT)
        key = _key(argument)
        no_options(scope["query_string"])
        await self._node.close(key, caller.sees)
        start = _NO_CONTENT
        request_id = dict(scope["headers"]).get(REQUEST_ID)
        if request_id is not None:
            start = {**_NO_CONTENT, "headers": list(echoed(request_id))}
        await send(start)
        await send(_END)
        return 204

    def _wait(self, scope: Scope) -> float:
        """The seconds this request prefers to wait, bounded; 0 for none, or when the server stops."""
        preferred = negotiate.wait_s(_values(scope, b"prefer"))
        return 0 if preferred is None else self.granted(preferred)

    def granted(self, preferred_s: float) -> float:
        """How long a request that would like to wait so many seconds may wait now; 0: not at all."""
        return 0 if self._waits.full else min(preferred_s, self._wait_max_s)


def receipt_head(hex_id: bytes, durability: str, epoch: int, *, replayed: bool) -> list[tuple[bytes, bytes]]:
    """The first headers of every answer to a submit."""
    receipt = [
        (b"location", b"/v1/jobs/" + hex_id),
        (b"titanic-durability", durability.encode("latin-1")),
        (b"titanic-epoch", b"%d" % epoch),
    ]
    if replayed:
        receipt.append(REPLAYED)
    return receipt


def receipt_tail(size_bytes: int, retry_after_s: int) -> tuple[tuple[bytes, bytes], ...]:
    """The last headers of a 202."""
    return _JSON, (b"content-length", b"%d" % size_bytes), (b"retry-after", b"%d" % retry_after_s)


def applied(wait_s: float) -> tuple[bytes, bytes]:
    """The header that says that a wait was granted."""
    return (b"preference-applied", b"wait=%d" % wait_s)


def _values(scope: Scope, name: bytes) -> list[bytes]:
    return [value for key, value in scope["headers"] if key == name]


def _key(argument: bytes) -> bytes:
    key = job_key(argument)
    if key is None:
        raise ProblemError(problems.MALFORMED_ID, "A job id is 32 hexadecimal digits.")
    return key


def _content(content_type: bytes, body: bytes) -> tuple[list[bytes], str]:
    """(request frames, the Content-Type to keep with the job: none for a frames document)."""
    if content_type.partition(b";")[0].strip().lower() == negotiate.FRAMES_TYPE:
        try:
            return frames_json.decode(body), ""
        except ValueError as error:
            raise ProblemError(problems.BAD_FRAMES, str(error)) from error
    return [body], content_type.decode("latin-1")


def demand(demanded: bytes, offered: str) -> None:
    """Raises ProblemError (503) if ``offered`` is less than ``demanded``, or nobody knows what that is."""
    wanted = negotiate.durability_rank(demanded.decode("latin-1"))
    if wanted < 0 or negotiate.durability_rank(offered) < wanted:
        text = demanded.decode("ascii", "backslashreplace")
        detail = f"The request demands durability {text!r}; the node offers {offered!r}."
        raise ProblemError(problems.LESS_DURABLE, detail)


def _reply(accept: Sequence[bytes], answer: list[bytes], headers: list[tuple[bytes, bytes]]) -> Reply:
    """200: one frame as it is under its own type, several (or any, if Accept names the type) as frames."""
    head = tsp.decode_reply_head(answer[1])
    if len(answer) == 3 and not negotiate.names_frames(accept):
        body = answer[2]
        content_type = head.content_type.encode("latin-1", "replace") or b"application/octet-stream"
        headers.append((b"content-type", content_type))
    elif negotiate.accepts_frames(accept):
        body = frames_json.encode(answer[2:])
        headers.append(_FRAMES)
    else:
        frames: Headers = tuple(headers)
        detail = f"The reply has {len(answer) - 2} frames, and Accept rules out the type that carries them."
        raise ProblemError(problems.NOT_ACCEPTABLE, detail, headers=frames)
    headers.append((b"content-length", b"%d" % len(body)))
    headers.extend(_OPAQUE)
    return 200, headers, body


async def _send(send: Send, reply: Reply) -> int:
    status, headers, body = reply
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
    return status
