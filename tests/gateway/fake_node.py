"""A node in memory that speaks NodeLink: the contract of docs/internals/tsp.md, without broker or disk.

It lives on the loop of the gateway under test; :meth:`FakeNode.finish`, :meth:`fail` and :meth:`cancel`
may be called from the test's thread, and wake those who wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec

from core.errors import ServerUnreachableError
from core.pure import tsp
from core.pure.ids import Mint, parse_id
from core.pure.jobs import RequestMeta

SECRET: Final = b"s" * 32
CREATED_MS: Final = 1_763_905_980_123
DETAIL_STATES: Final = ("succeeded", "failed", "cancelled")


class FakeJob:
    """One job as the node keeps it."""

    def __init__(self, key: bytes, meta: RequestMeta, frames: list[bytes]) -> None:
        self.key, self.meta, self.frames = key, meta, frames
        self.state = "queued"
        self.attempt = 0
        self.reason = ""
        self.reply: list[bytes] = []
        self.reply_type = ""

    def status(self) -> tsp.JobStatus:
        done = self.state == "succeeded"
        return tsp.JobStatus(
            key=self.key,
            service=self.meta.service.decode(),
            state=self.state,
            attempt=self.attempt,
            created_ms=CREATED_MS,
            content_type=self.meta.content_type,
            request_bytes=sum(map(len, self.frames)),
            reply_bytes=sum(map(len, self.reply)),
            attempts_max=self.meta.attempts_max if self.meta.attempts_max >= 0 else 25,
            reason=self.reason,
            replied_ms=CREATED_MS + 500 if done else 0,
        )


class FakeNode:
    """Answers calls; the public attributes are what a test may turn."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.reset()

    def reset(self) -> None:
        """As new: ready, empty, reachable."""
        self.secret = SECRET
        self.jobs: dict[bytes, FakeJob] = {}
        self.calls: list[bytes] = []
        self.down = False  # nobody answers
        self.lost_answers = 0  # so many submits are stored, and their answers lost
        self.refusal: tuple[bytes, str] | None = None  # every submit, fetch and close gets this
        self.garbage: list[bytes] | None = None  # every call gets this
        self.crash: Exception | None = None  # a defect of the gateway's own side
        self.ready, self.reason = True, ""
        self.durability = "fsync"
        self.max_body_bytes = 0
        self.stats = tsp.Stats({"jobs_accepted": 7}, {"jobs_open": 1.0}, {"echo": {"queued": 2}})
        self._ended: dict[bytes, asyncio.Event] = {}

    # -- the test's side

    def only(self) -> FakeJob:
        """The one job there is."""
        (job,) = self.jobs.values()
        return job

    def finish(self, key: bytes, *frames: bytes, content_type: str = "") -> None:
        """The job's reply is stored."""
        job = self.jobs[key]
        job.state, job.attempt, job.reply, job.reply_type = "succeeded", 1, list(frames), content_type
        self._wake(key)

    def fail(self, key: bytes, reason: str, attempts: int) -> None:
        """The job is a dead letter."""
        job = self.jobs[key]
        job.state, job.attempt, job.reason = "failed", attempts, reason
        self._wake(key)

    def cancel(self, key: bytes) -> None:
        """The job will not run."""
        self.jobs[key].state = "cancelled"
        self._wake(key)

    def waiting(self, key: bytes) -> bool:
        """Whether somebody waits for the end of the job."""
        return key in self._ended

    def _wake(self, key: bytes) -> None:
        event = self._ended.get(key)
        if event is not None and self.loop is not None:
            self.loop.call_soon_threadsafe(event.set)

    # -- NodeLink

    async def call(self, service: bytes, body: Sequence[bytes], timeout_s: float) -> list[bytes]:
        """See gateway.pure.ports.NodeLink."""
        self.loop = asyncio.get_running_loop()
        self.calls.append(service)
        if self.crash is not None:
            raise self.crash
        if self.down:
            await asyncio.sleep(timeout_s)
            raise ServerUnreachableError("no node answered")
        if self.garbage is not None:
            return self.garbage
        if service == tsp.HELLO:
            return [tsp.OK, tsp.encode_head(self._hello())]
        if service == tsp.STATS:
            return [tsp.OK, tsp.encode_head(self.stats)]
        if self.refusal is not None:
            status, detail = self.refusal
            if service == tsp.CLOSE:
                return [status + b" " + detail.encode()]
            return [status, tsp.encode_head(tsp.ErrorHead(detail))]
        if service == tsp.SUBMIT:
            return await self._submit(body, timeout_s)
        if service == tsp.CLOSE:
            key = parse_id(body[0].decode())
            assert key is not None, "the gateway closes ids only"
            self.jobs.pop(key, None)
            return [tsp.OK]
        return await self._look(service, tsp.decode_fetch(body[0]))

    def _hello(self) -> tsp.Hello:
        return tsp.Hello(
            version="0.1.0",
            role="single",
            epoch=3,
            ready=self.ready,
            reason=self.reason,
            durability=self.durability,
            id_secret=self.secret,
            max_body_bytes=self.max_body_bytes,
            started_ms=CREATED_MS,
            jobs=len(self.jobs),
        )

    async def _submit(self, body: Sequence[bytes], timeout_s: float) -> list[bytes]:
        head = tsp.decode_submit(body[0])
        if not Mint(self.secret).issued(head.key):
            return [tsp.NOT_FOUND, tsp.encode_head(tsp.ErrorHead("another secret"))]
        replayed = head.key in self.jobs
        self.jobs.setdefault(head.key, FakeJob(head.key, head.meta, list(body[1:])))
        if self.lost_answers:
            self.lost_answers -= 1
            await asyncio.sleep(timeout_s)
            raise ServerUnreachableError("the answer was lost")
        ack = tsp.SubmitAck(head.key, "queued", CREATED_MS, self.durability, 3, replayed)
        return [tsp.OK, tsp.encode_head(ack)]

    async def _look(self, service: bytes, head: tsp.FetchHead) -> list[bytes]:
        job = self.jobs.get(head.key)
        if job is None:
            issued = Mint(self.secret).issued(head.key)
            return [tsp.GONE if issued else tsp.NOT_FOUND, tsp.encode_head(tsp.ErrorHead(""))]
        if head.wait_ms and job.state not in DETAIL_STATES:
            event = self._ended.setdefault(head.key, asyncio.Event())
            try:
                await asyncio.wait_for(event.wait(), head.wait_ms / 1000)
            except TimeoutError:
                pass  # the time is over: the answer is the state as it is
            finally:
                self._ended.pop(head.key, None)
        if service == tsp.STATUS:
            return [tsp.OK, tsp.encode_head(job.status())]
        if job.state == "succeeded":
            reply = tsp.ReplyHead(job.reply_type, job.attempt, CREATED_MS + 500)
            return [tsp.OK, tsp.encode_head(reply), *job.reply]
        code = tsp.CONFLICT if job.state in ("failed", "cancelled") else tsp.PENDING
        return [code, msgspec.msgpack.encode(job.status())]
