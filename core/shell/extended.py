"""The calls of a client beyond RFC 9: options, idempotency keys, batches, lists, services, events.

They need one of our nodes at the other end; ``docs/internals/tsp.md`` has the frames.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from hashlib import blake2s
from typing import Any, Final, TypeVar

import msgspec

from core.errors import CoreError, PeerError, ServerUnreachableError
from core.pure import tsp
from core.pure.ids import RANDOM_BITS, Mint, parse_id
from core.pure.jobs import KEY_BYTES, RequestMeta
from core.shell.client_errors import (
    JobFailedError,
    JobStateError,
    JobUnknownError,
    KeyMismatchError,
    RequestRefusedError,
    TitanicFailedError,
)

REPEAT_S: Final = 0.2
ANSWER_S: Final = 5.0  # of one ask of a submit; then it is repeated under the same id

Frame = bytes | str
_Head = TypeVar("_Head", bound=msgspec.Struct)


class JobOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a job asks for; 0 or "" is the node's default. Times are seconds from now."""

    delay_s: float = 0
    expires_s: float = 0  # give up if not started by then
    attempt_timeout_s: float = 0
    attempts_max: int = -1  # -1: default; 0: for ever
    retention_s: float = 0
    priority: int = 1  # 0 low, 1 normal, 2 high
    content_type: str = ""
    key_lifetime_s: float = 0
    callback: str = ""  # a URL that a gateway posts the job's end to


def to_bytes(frame: Frame) -> bytes:
    """Text as UTF-8."""
    return frame.encode() if isinstance(frame, str) else frame


def request_meta(
    service: bytes, frames: Sequence[bytes], options: JobOptions | None, key: str, now_ms: int
) -> RequestMeta:
    """What the request says about itself, with the hashes of its idempotency key."""
    options = options or JobOptions()
    meta = RequestMeta(
        service,
        0,
        content_type=options.content_type,
        priority=options.priority,
        timeout_ms=_ms(options.attempt_timeout_s),
        attempts_max=options.attempts_max,
        not_before_ms=now_ms + _ms(options.delay_s) if options.delay_s else 0,
        expires_ms=now_ms + _ms(options.expires_s) if options.expires_s else 0,
        retention_ms=_ms(options.retention_s),
        key_lifetime_ms=_ms(options.key_lifetime_s),
        callback=options.callback,
    )
    if key:
        scope = b"\0".join((b"", service, key.encode()))
        meta.idempotency = blake2s(scope, digest_size=KEY_BYTES).digest()
        content = blake2s(tsp.encode_head([service, options.content_type]))
        for frame in frames:
            content.update(len(frame).to_bytes(8, "big") + frame)
        meta.fingerprint = content.digest()
    return meta


def _ms(seconds: float) -> int:
    return round(seconds * 1_000)


class Extended:
    """The extended half of :class:`core.shell.client.Client`."""

    _mint: Mint | None = None

    async def call(self, service: Frame, *frames: Frame, timeout_s: float | None = None) -> list[bytes]:
        """See :meth:`core.shell.client.Client.call`."""
        raise NotImplementedError

    async def hello(self, *, timeout_s: float | None = None) -> tsp.Hello:
        """Who the node is. Ids of jobs are made its way from now on."""
        hello = await self._ask(tsp.HELLO, None, tsp.decode_hello, timeout_s)
        self._mint = Mint(hello.id_secret)
        return hello

    async def stats(self, *, timeout_s: float | None = None) -> tsp.Stats:
        """Counters since the node's start, gauges of now."""
        return await self._ask(tsp.STATS, None, tsp.decode_stats, timeout_s)

    # -- jobs

    async def _new_key(self) -> bytes:
        if self._mint is None:
            await self.hello()
        assert self._mint is not None, "hello() makes the mint"
        return self._mint.make(time.time_ns() // 1_000_000, secrets.randbits(RANDOM_BITS))

    async def submit_with(
        self,
        service: Frame,
        frames: Sequence[Frame],
        options: JobOptions | None,
        idempotency_key: str,
        timeout_s: float,
    ) -> tsp.SubmitAck:
        """A durable job; an ask without an answer is repeated under the same id until ``timeout_s`` is over.

        So however often it is repeated it makes one job (X2), with an idempotency key also across clients.
        """
        deadline = time.monotonic() + timeout_s
        body = [to_bytes(frame) for frame in frames]
        meta = request_meta(to_bytes(service), body, options, idempotency_key, time.time_ns() // 1_000_000)
        head = tsp.SubmitHead(await self._new_key(), meta)
        while True:
            left_s = deadline - time.monotonic()
            try:
                ask_s = max(min(left_s, ANSWER_S), 0.001)
                return await self._ask(tsp.SUBMIT, head, tsp.decode_ack, ask_s, *body)
            except ServerUnreachableError:
                if left_s <= REPEAT_S:
                    raise
            await asyncio.sleep(REPEAT_S)

    async def submit_many(
        self,
        service: Frame,
        bodies: Sequence[Frame],
        *,
        options: JobOptions | None = None,
        idempotency_key: str = "",
        timeout_s: float | None = None,
    ) -> list[tsp.BatchLine]:
        """A job per body, all durable before the answer: a line each, in order, at most 1,000.

        A line's ``status`` is 200, or what a submit would have been refused with.
        """
        body = [to_bytes(line) for line in bodies]
        keys = tuple([await self._new_key() for _ in body])
        meta = request_meta(to_bytes(service), body, options, idempotency_key, time.time_ns() // 1_000_000)
        ack = await self._ask(tsp.BATCH, tsp.BatchHead(keys, meta), tsp.decode_batch_ack, timeout_s, *body)
        return list(ack.lines)

    async def status(
        self, job_id: str, *, wait_s: float = 0, timeout_s: float | None = None
    ) -> tsp.JobStatus:
        """How the job stands; with ``wait_s`` once it has ended, or after that time. JobUnknownError."""
        head = tsp.FetchHead(_key(job_id), _ms(wait_s))
        if wait_s and timeout_s is None:
            timeout_s = wait_s + ANSWER_S
        return await self._ask(tsp.STATUS, head, tsp.decode_status, timeout_s)

    async def cancel(self, job_id: str, *, timeout_s: float | None = None) -> tsp.JobStatus:
        """The job will not run (again), durably. JobUnknownError; JobStateError if it has ended otherwise."""
        head = tsp.JobHead(_key(job_id))
        return await self._ask(tsp.CANCEL, head, tsp.decode_status, timeout_s)

    async def retry(self, job_id: str, *, timeout_s: float | None = None) -> tsp.JobStatus:
        """The dead letter is queued again, durably. JobUnknownError; JobStateError if it has not failed."""
        return await self._ask(tsp.RETRY, tsp.JobHead(_key(job_id)), tsp.decode_status, timeout_s)

    async def list_jobs(
        self,
        *,
        service: str = "",
        state: str = "",
        limit: int = 100,
        cursor: bytes = b"",
        timeout_s: float | None = None,
    ) -> tsp.JobPage:
        """A page of jobs, newest first; go on with its ``cursor`` until that is empty, pages may be short."""
        head = tsp.ListHead(service, state, limit, cursor)
        return await self._ask(tsp.LIST, head, tsp.decode_page, timeout_s)

    # -- services and events

    async def services(self, prefix: str = "", *, timeout_s: float | None = None) -> list[tsp.ServiceRow]:
        """All services whose name begins with ``prefix``, sorted."""
        rows: list[tsp.ServiceRow] = []
        after = ""
        while True:
            head = tsp.ServicesHead(prefix=prefix, after=after, limit=tsp.SERVICES_MAX_COUNT)
            page = await self._ask(tsp.SERVICES, head, tsp.decode_services_page, timeout_s)
            rows += page.rows
            after = page.after
            if not after:
                return rows

    async def pause(self, service: str, *, timeout_s: float | None = None) -> tsp.ServiceRow:
        """The service hands out no work, durably."""
        return await self._ask(tsp.PAUSE, tsp.PauseHead(service), tsp.decode_service_row, timeout_s)

    async def resume(self, service: str, *, timeout_s: float | None = None) -> tsp.ServiceRow:
        """The service hands out work again, durably."""
        return await self._ask(tsp.RESUME, tsp.PauseHead(service), tsp.decode_service_row, timeout_s)

    async def events(
        self,
        since: int = -1,
        *,
        wait_s: float = 0,
        service: str = "",
        limit: int = 100,
        timeout_s: float | None = None,
    ) -> tsp.EventsPage:
        """What happened after ``since`` (-1: now), waiting ``wait_s`` for it; go on with its ``next``."""
        head = tsp.EventsHead(since, _ms(wait_s), limit, service)
        if wait_s and timeout_s is None:
            timeout_s = wait_s + ANSWER_S
        return await self._ask(tsp.EVENTS, head, tsp.decode_events_page, timeout_s)

    # -- asking

    async def _fetch(self, job_id: str, wait_s: float) -> list[bytes] | None:
        """The reply's frames, or None if there is none after ``wait_s``."""
        head = tsp.encode_head(tsp.FetchHead(_key(job_id), _ms(wait_s)))
        answer = await self.call(tsp.FETCH, head, timeout_s=wait_s + ANSWER_S)
        status = tsp.status_of(answer)
        if status == tsp.OK:
            return answer[2:]
        if status == tsp.PENDING:
            return None
        if status == tsp.CONFLICT and len(answer) > 1:
            ended = _decoded(tsp.FETCH, tsp.decode_status, answer)
            raise JobFailedError(f"job {job_id} {ended.state} {ended.reason}".strip())
        raise _refusal(tsp.FETCH, answer)

    async def _ask(
        self,
        service: bytes,
        head: msgspec.Struct | None,
        decode: Callable[[bytes], _Head],
        timeout_s: float | None,
        *frames: bytes,
    ) -> _Head:
        body = (tsp.encode_head(head), *frames) if head is not None else (b"",)
        answer = await self.call(service, *body, timeout_s=timeout_s)
        if tsp.status_of(answer) == tsp.OK:
            return _decoded(service, decode, answer)
        raise _refusal(service, answer)


def _key(job_id: str) -> bytes:
    key = parse_id(job_id)
    if key is None:
        raise JobUnknownError(f"{job_id!r} is no job id")
    return key


def _decoded(service: bytes, decode: Callable[[bytes], _Head], answer: Sequence[bytes]) -> _Head:
    try:
        return decode(answer[1])
    except (IndexError, msgspec.MsgspecError) as error:
        raise PeerError(f"{service.decode()} answered with a head that is none: {error}") from error


def _refusal(service: bytes, answer: Sequence[bytes]) -> CoreError:
    """The error for a status that is not 200."""
    status, name = tsp.status_of(answer), service.decode()
    if status == tsp.CONFLICT and service in (tsp.CANCEL, tsp.RETRY):
        what = "cancelled" if service == tsp.CANCEL else "retried"
        return JobStateError(what, _decoded(service, tsp.decode_status, answer))
    detail = _decoded(service, tsp.decode_error, answer).detail
    kinds: dict[bytes, Callable[[str], CoreError]] = {
        tsp.UNKNOWN: RequestRefusedError,
        tsp.CONFLICT: RequestRefusedError,
        tsp.MISMATCH: KeyMismatchError,
        tsp.NOT_FOUND: JobUnknownError,
        tsp.GONE: JobUnknownError,
        tsp.ERROR: TitanicFailedError,
        tsp.UNAVAILABLE: TitanicFailedError,
        tsp.FULL: TitanicFailedError,
    }
    kind: Any = kinds.get(status, PeerError)
    error: CoreError = kind(f"{name}: {status.decode()} {detail}")
    return error
