"""A node in memory that speaks NodeLink: the contract of docs/internals/tsp.md, without broker or disk.

It lives on the loop of the gateway under test; :meth:`FakeNode.finish`, :meth:`fail` and :meth:`cancel`
may be called from the test's thread, and wake those who wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from struct import iter_unpack
from typing import Final

import msgspec

from core.errors import ServerUnreachableError
from core.pure import store_heads, tsp
from core.pure.ids import Mint, parse_id
from core.pure.jobs import RequestMeta
from core.pure.pair_heads import PAIR, PairStatus
from core.pure.watch_heads import WATCH, ToldHead, ToldRow, Watched, WatchHead, decode_watch
from tests.gateway.fake_store import FakeStore

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

    def row(self) -> tsp.JobRow:
        return tsp.JobRow(
            self.key,
            self.meta.service.decode(),
            self.state,
            self.attempt,
            CREATED_MS,
            priority=self.meta.priority,
            reason=self.reason,
            owner=self.meta.owner,
        )

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
            priority=self.meta.priority,
            owner=self.meta.owner,
        )


class FakeNode:
    """Answers calls; the public attributes are what a test may turn."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.told: Callable[[list[bytes]], None] | None = None
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
        self.pair: dict[str, PairStatus | str] = {}  # endpoint -> what that node says, or why it does not
        self.durability = "fsync"
        self.max_body_bytes = 0
        self.stats = tsp.Stats({"jobs_accepted": 7}, {"jobs_open": 1.0}, {"echo": {"queued": 2}})
        self.bindings: dict[bytes, tuple[bytes, bytes]] = {}  # idempotency key -> (job, fingerprint)
        self.services: dict[str, tsp.ServiceRow] = {}
        self.events: list[tsp.Event] = []
        self.events_from = 0  # events up to here are forgotten
        self.page_max = 1_000
        self.store = FakeStore(Mint(SECRET).make(CREATED_MS, 7))
        self.failovers_count, self.patient = 0, False
        self.tells = True  # a node that knows titanic.watch
        self._ended: dict[bytes, asyncio.Event] = {}
        self._followers: set[asyncio.Event] = set()

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

    def happen(self, kind: str, key: bytes = b"", service: str = "echo", detail: str = "") -> int:
        """An event, with the next sequence, which is returned."""
        number = self.events[-1].id + 1 if self.events else self.events_from + 1
        self.events.append(tsp.Event(number, CREATED_MS, kind, key, service, 1, detail))
        for follower in tuple(self._followers):
            assert self.loop is not None, "who follows was called"
            self.loop.call_soon_threadsafe(follower.set)
        return number

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
        if service == tsp.BATCH:
            return await self._batch(body, timeout_s)
        if service == tsp.PACK:
            return await self._pack(body, timeout_s)
        if service == WATCH:
            return await self._watch(decode_watch(body[0]), timeout_s)
        if service == tsp.EVENTS:
            return await self._events(tsp.decode_events(body[0]))
        if service in FAKED:
            return FAKED[service](self, body[0])
        if service == tsp.CLOSE:
            key = parse_id(body[0].decode())
            assert key is not None, "the gateway closes ids only"
            self.jobs.pop(key, None)
            return [tsp.OK]
        return await self._look(service, tsp.decode_fetch(body[0]))

    async def ask_all(
        self, service: bytes, body: Sequence[bytes], timeout_s: float
    ) -> list[tuple[str, list[bytes] | str]]:
        """See gateway.pure.ports.NodeLink."""
        found: list[tuple[str, list[bytes] | str]] = []
        nodes: dict[str, PairStatus | str | None] = {**self.pair} or {"tcp://fake": None}
        for endpoint, status in nodes.items():
            if isinstance(status, str):
                found.append((endpoint, status))
            elif service == PAIR and status is not None:
                found.append((endpoint, [tsp.OK, tsp.encode_head(status)]))
            elif service == PAIR:
                found.append((endpoint, [tsp.UNKNOWN, b""]))
            elif status is None:
                try:
                    found.append((endpoint, await self.call(service, body, timeout_s)))
                except ServerUnreachableError as error:
                    found.append((endpoint, str(error)))
            else:
                role = "active" if status.active else "passive"
                hello = msgspec.structs.replace(
                    self._hello(), role=role, ready=status.active, state=status.state, epoch=status.epoch
                )
                found.append((endpoint, [tsp.OK, tsp.encode_head(hello)]))
        return found

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
            key_lifetime_ms=86_400_000,
        )

    def _accept(self, key: bytes, meta: RequestMeta, frames: list[bytes]) -> tsp.BatchLine:
        if not Mint(self.secret).issued(key):
            return tsp.BatchLine(404, key, detail="another secret")
        if meta.idempotency:
            bound = self.bindings.setdefault(meta.idempotency, (key, meta.fingerprint))
            if bound[1] != meta.fingerprint:
                return tsp.BatchLine(422, key, detail="another request")
            if bound[0] != key:
                state = self.jobs[bound[0]].state if bound[0] in self.jobs else "closed"
                return tsp.BatchLine(200, bound[0], state, replayed=True)
        replayed = key in self.jobs
        state = "scheduled" if meta.not_before_ms else "queued"
        job = self.jobs.setdefault(key, FakeJob(key, meta, frames))
        job.state = state
        return tsp.BatchLine(200, key, state, replayed=replayed)

    async def _lose(self, timeout_s: float) -> None:
        if self.lost_answers:
            self.lost_answers -= 1
            await asyncio.sleep(timeout_s)
            raise ServerUnreachableError("the answer was lost")

    async def _submit(self, body: Sequence[bytes], timeout_s: float) -> list[bytes]:
        head = tsp.decode_submit(body[0])
        line = self._accept(head.key, head.meta, list(body[1:]))
        if line.status != 200:
            return [b"%d" % line.status, tsp.encode_head(tsp.ErrorHead(line.detail))]
        await self._lose(timeout_s)
        ack = tsp.SubmitAck(line.key, line.state, CREATED_MS, self.durability, 3, line.replayed)
        return [tsp.OK, tsp.encode_head(ack)]

    async def _batch(self, body: Sequence[bytes], timeout_s: float) -> list[bytes]:
        head = tsp.decode_batch(body[0])
        assert len(head.keys) == len(body) - 1, "an id per line"
        lines = []
        for number, (key, frame) in enumerate(zip(head.keys, body[1:], strict=True)):
            binding = head.meta.idempotency and head.meta.idempotency + b"%d" % number
            lines.append(self._accept(key, msgspec.structs.replace(head.meta, idempotency=binding), [frame]))
        await self._lose(timeout_s)
        return [tsp.OK, tsp.encode_head(tsp.BatchAck(tuple(lines), CREATED_MS, self.durability, 3))]

    async def _pack(self, body: Sequence[bytes], timeout_s: float) -> list[bytes]:
        head, at, lines = tsp.decode_pack(body[0]), 0, []
        for number, (size,) in enumerate(iter_unpack("<I", head.sizes)):
            key = head.keys[16 * number : 16 * number + 16]
            lines.append(self._accept(key, head.meta, [body[1][at : at + size]]))
            at += size
        assert (len(head.keys), len(body), len(body[1])) == (16 * len(lines), 2, at), "an id per body"
        await self._lose(timeout_s)
        state = lines[0].state
        if all(line == tsp.BatchLine(200, line.key, state) for line in lines):
            return [tsp.OK, tsp.encode_head(tsp.PackAck(state, CREATED_MS, self.durability, 3))]
        return [tsp.OK, tsp.encode_head(tsp.PackAck("", CREATED_MS, self.durability, 3, tuple(lines)))]

    async def _watch(self, head: WatchHead, timeout_s: float) -> list[bytes]:
        if not self.tells:
            return [b"501", tsp.encode_head(tsp.ErrorHead("no such titanic service"))]

        async def one(key: bytes) -> bool:
            answer = await self._look(tsp.FETCH, tsp.FetchHead(key, head.wait_ms, head.owner))
            if answer[0] == tsp.PENDING:
                return False
            row, reply = ToldRow(key), b""
            if answer[0] == tsp.OK and len(answer) == 3:
                row, reply = ToldRow(key, tsp.decode_reply_head(answer[1]), len(answer[2])), answer[2]
            if self.told is not None:
                self.told([tsp.OK, tsp.encode_head(ToldHead((row,))), reply])
            return True

        keys = [head.keys[at : at + 16] for at in range(0, len(head.keys), 16)]
        told = await asyncio.gather(*map(one, keys))
        if all(told):
            await asyncio.sleep(timeout_s)  # nobody is left to be answered; the question is given up
        return [tsp.OK, tsp.encode_head(Watched(told.count(False)))]

    async def _events(self, head: tsp.EventsHead) -> list[bytes]:
        happened = asyncio.Event()
        self._followers.add(happened)  # before looking: happen() is called by another thread
        try:
            last = self.events[-1].id if self.events else self.events_from
            since = last if head.since < 0 else head.since
            if since >= last and head.wait_ms:
                await asyncio.wait_for(happened.wait(), head.wait_ms / 1000)
        except TimeoutError:
            pass  # nothing happened
        finally:
            self._followers.discard(happened)
        gap_to = self.events_from if since < self.events_from else -1
        known = list(self.events)
        last = known[-1].id if known else last
        found = [event for event in known if event.id > since and head.service in ("", event.service)]
        page = found[: head.limit]
        next_ = page[-1].id if len(found) > head.limit else max(since, gap_to, last)
        return [tsp.OK, tsp.encode_head(tsp.EventsPage(tuple(page), next_, gap_to))]

    # -- what FAKED names

    def delete(self, raw: bytes) -> list[bytes]:
        """See tsp.DELETE."""
        head = tsp.decode_job(raw)
        for at in range(0, len(head.key), 16):
            if self._find(head.key[at : at + 16], head.owner) is not None:
                del self.jobs[head.key[at : at + 16]]
        return [tsp.OK, tsp.encode_head(tsp.Deleted(head.key))]

    def cancel_job(self, raw: bytes) -> list[bytes]:
        """See tsp.CANCEL."""
        return self._set(raw, ("succeeded", "failed"), "cancelled")

    def retry_job(self, raw: bytes) -> list[bytes]:
        """See tsp.RETRY."""
        return self._set(raw, ("scheduled", "queued", "running", "succeeded", "cancelled"), "queued")

    def _set(self, raw: bytes, never: tuple[str, ...], state: str) -> list[bytes]:
        head = tsp.decode_job(raw)
        job = self._find(head.key, head.owner)
        if job is None:
            return self._missing(head.key, head.owner)
        if job.state in never:
            return [tsp.CONFLICT, tsp.encode_head(job.status())]
        job.state = state
        return [tsp.OK, tsp.encode_head(job.status())]

    def list_jobs(self, raw: bytes) -> list[bytes]:
        """See tsp.LIST."""
        head = tsp.decode_list(raw)
        keys = sorted((key for key in self.jobs if not head.cursor or key < head.cursor), reverse=True)
        keys = keys[: min(head.limit, self.page_max) + 1]
        more = len(keys) > min(head.limit, self.page_max)
        rows = [self.jobs[key] for key in keys[: min(head.limit, self.page_max)]]
        shown = [
            job.row()
            for job in rows
            if head.service in ("", job.meta.service.decode())
            and head.state in ("", job.state)
            and head.owner in ("", job.meta.owner)
        ]
        page = tsp.JobPage(tuple(shown), rows[-1].key if more else b"")
        return [tsp.OK, tsp.encode_head(page)]

    def list_services(self, raw: bytes) -> list[bytes]:
        """See tsp.SERVICES."""
        head = tsp.decode_services(raw)
        names = sorted(name for name in self.services if name > head.after)
        if head.service:
            names = [name for name in names if name == head.service]
        limit = min(head.limit, self.page_max)
        rows = tuple(self.services[name] for name in names[:limit])
        after = rows[-1].name if len(names) > limit else ""
        return [tsp.OK, tsp.encode_head(tsp.ServicesPage(rows, CREATED_MS, after))]

    def pause(self, raw: bytes) -> list[bytes]:
        """See tsp.PAUSE."""
        return self._paused(raw, paused=True)

    def resume(self, raw: bytes) -> list[bytes]:
        """See tsp.RESUME."""
        return self._paused(raw, paused=False)

    def _paused(self, raw: bytes, *, paused: bool) -> list[bytes]:
        name = tsp.decode_pause(raw).service
        row = self.services.get(name, tsp.ServiceRow(name))
        self.services[name] = msgspec.structs.replace(row, paused=paused)
        return [tsp.OK, tsp.encode_head(self.services[name])]

    def _find(self, key: bytes, owner: str) -> FakeJob | None:
        job = self.jobs.get(key)
        return job if job is not None and owner in ("", job.meta.owner) else None

    def _missing(self, key: bytes, owner: str) -> list[bytes]:
        foreign = key in self.jobs and owner != self.jobs[key].meta.owner
        issued = Mint(self.secret).issued(key) and not foreign
        return [tsp.GONE if issued else tsp.NOT_FOUND, tsp.encode_head(tsp.ErrorHead(""))]

    async def _look(self, service: bytes, head: tsp.FetchHead) -> list[bytes]:
        job = self._find(head.key, head.owner)
        if job is None:
            return self._missing(head.key, head.owner)
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


FAKED: Final[dict[bytes, Callable[[FakeNode, bytes], list[bytes]]]] = {
    tsp.DELETE: FakeNode.delete,
    tsp.CANCEL: FakeNode.cancel_job,
    tsp.RETRY: FakeNode.retry_job,
    tsp.LIST: FakeNode.list_jobs,
    tsp.SERVICES: FakeNode.list_services,
    tsp.PAUSE: FakeNode.pause,
    tsp.RESUME: FakeNode.resume,
    store_heads.STORE: lambda node, raw: node.store.facts(raw),
    store_heads.BACKUP: lambda node, raw: node.store.backup(raw),
}
