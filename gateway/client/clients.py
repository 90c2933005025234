"""The two clients: what differs is how a request is sent and how time passes; the calls are calls.py's."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterable
from types import TracebackType
from typing import Final, Self, TypeVar

import httpx

from gateway.client import calls
from gateway.client.calls import Answer, Ask, Call, Lost
from gateway.client.values import Accepted, Job, Options, Page, Problem, Reply

T = TypeVar("T")
BYTES: Final = "application/octet-stream"
TIMEOUT: Final = httpx.Timeout(60.0, connect=5.0)
WAIT_POLLS: Final = 15
assert calls.POLL_S < 60.0, "a poll ends before the client gives up on it"


def _headers(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}


def _fresh() -> str:
    return uuid.uuid4().hex


class Client:
    """The gateway at ``url``; calls block. ``key`` is an API key. Methods raise ClientError."""

    def __init__(self, url: str, *, key: str = "", http: httpx.Client | None = None) -> None:
        self._http = http or httpx.Client(base_url=url, headers=_headers(key), timeout=TIMEOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _run(self, call: Call[T]) -> T:
        answer: Answer = None
        while True:
            try:
                step = call.send(answer)
            except StopIteration as done:
                value: T = done.value
                return value
            if isinstance(step, Ask):
                answer = self._send(step)
            else:
                answer = None
                time.sleep(step.seconds)

    def _send(self, ask: Ask) -> Answer:
        try:
            return self._http.request(
                ask.method, ask.path, content=ask.content, headers=ask.headers, params=ask.params
            )
        except httpx.TransportError as error:
            return Lost(f"{type(error).__name__} {error}")

    def submit(
        self,
        service: str,
        body: bytes,
        *,
        content_type: str = BYTES,
        idempotency_key: str = "",
        options: Options | None = None,
    ) -> Accepted:
        """The job, stored once however often the network fails."""
        return self._run(calls.submit(service, body, content_type, idempotency_key or _fresh(), options))

    def batch(
        self,
        service: str,
        lines: Iterable[bytes],
        *,
        idempotency_key: str = "",
        options: Options | None = None,
    ) -> list[Accepted | Problem]:
        """What became of each line (none may hold a line feed), in order."""
        return self._run(calls.batch(service, lines, idempotency_key or _fresh(), options))

    def reply(self, id_: str, *, wait_s: int = 0) -> Reply | None:
        """The reply, None while there is none. Raises JobFailedError."""
        return self._run(calls.reply(id_, wait_s))

    def wait(self, id_: str, *, polls: int = WAIT_POLLS) -> Reply | None:
        """The reply after at most so many long-polls of 20 s. Raises JobFailedError."""
        return self._run(calls.wait(id_, polls))

    def job(self, id_: str) -> Job:
        """How the job stands."""
        return self._run(calls.job("GET", id_))

    def cancel(self, id_: str) -> Job:
        """The job will not run (again)."""
        return self._run(calls.job("POST", id_, ":cancel"))

    def retry(self, id_: str) -> Job:
        """A dead letter is queued again."""
        return self._run(calls.job("POST", id_, ":retry"))

    def close_job(self, id_: str) -> None:
        """The job and its bytes are gone."""
        self._run(calls.close(id_))

    def jobs(self, *, service: str = "", state: str = "", limit: int = 50, cursor: str = "") -> Page:
        """A page of jobs, newest first."""
        return self._run(calls.jobs(service, state, limit, cursor))


class AsyncClient:
    """The gateway at ``url``, for asyncio; otherwise as :class:`Client`."""

    def __init__(self, url: str, *, key: str = "", http: httpx.AsyncClient | None = None) -> None:
        self._http = http or httpx.AsyncClient(base_url=url, headers=_headers(key), timeout=TIMEOUT)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _run(self, call: Call[T]) -> T:
        answer: Answer = None
        while True:
            try:
                step = call.send(answer)
            except StopIteration as done:
                value: T = done.value
                return value
            if isinstance(step, Ask):
                answer = await self._send(step)
            else:
                answer = None
                await asyncio.sleep(step.seconds)

    async def _send(self, ask: Ask) -> Answer:
        try:
            return await self._http.request(
                ask.method, ask.path, content=ask.content, headers=ask.headers, params=ask.params
            )
        except httpx.TransportError as error:
            return Lost(f"{type(error).__name__} {error}")

    async def submit(
        self,
        service: str,
        body: bytes,
        *,
        content_type: str = BYTES,
        idempotency_key: str = "",
        options: Options | None = None,
    ) -> Accepted:
        """See :meth:`Client.submit`."""
        return await self._run(
            calls.submit(service, body, content_type, idempotency_key or _fresh(), options)
        )

    async def batch(
        self,
        service: str,
        lines: Iterable[bytes],
        *,
        idempotency_key: str = "",
        options: Options | None = None,
    ) -> list[Accepted | Problem]:
        """See :meth:`Client.batch`."""
        return await self._run(calls.batch(service, lines, idempotency_key or _fresh(), options))

    async def reply(self, id_: str, *, wait_s: int = 0) -> Reply | None:
        """See :meth:`Client.reply`."""
        return await self._run(calls.reply(id_, wait_s))

    async def wait(self, id_: str, *, polls: int = WAIT_POLLS) -> Reply | None:
        """See :meth:`Client.wait`."""
        return await self._run(calls.wait(id_, polls))

    async def job(self, id_: str) -> Job:
        """See :meth:`Client.job`."""
        return await self._run(calls.job("GET", id_))

    async def cancel(self, id_: str) -> Job:
        """See :meth:`Client.cancel`."""
        return await self._run(calls.job("POST", id_, ":cancel"))

    async def retry(self, id_: str) -> Job:
        """See :meth:`Client.retry`."""
        return await self._run(calls.job("POST", id_, ":retry"))

    async def close_job(self, id_: str) -> None:
        """See :meth:`Client.close_job`."""
        await self._run(calls.close(id_))

    async def jobs(self, *, service: str = "", state: str = "", limit: int = 50, cursor: str = "") -> Page:
        """See :meth:`Client.jobs`."""
        return await self._run(calls.jobs(service, state, limit, cursor))
