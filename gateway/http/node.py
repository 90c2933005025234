"""The gateway's view of its node: makes ids, repeats submits, and knows when the node is another one.

A submit is repeated under one id until the gateway's patience ends (X2): the node recognises the id, so a
lost answer never makes a second job.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import msgspec

from core.errors import PeerError, ServerUnreachableError
from core.pure import tsp
from core.pure.ids import RANDOM_BITS, Mint
from core.pure.jobs import RequestMeta
from core.pure.pair_heads import PAIR, PairCommand, decode_pair_status
from gateway.errors import ProblemError
from gateway.http.closer import Closer
from gateway.http.coalescer import Coalescer
from gateway.http.watcher import Watcher
from gateway.pure.answers import ENDED, problem_of
from gateway.pure.negotiate import durability_rank
from gateway.pure.node_views import NodeAnswer
from gateway.pure.pace import Paces
from gateway.pure.packing import Stored, pack_frames
from gateway.pure.ports import NodeLink
from gateway.pure.quotas import Open, Quotas

T = TypeVar("T")

BACKOFF_FIRST_S: Final = 0.05
BACKOFF_MAX_S: Final = 1.0
WAIT_SLICE_S: Final = 10.0  # a waiter lost with its node is asked for again this soon
STATS_EVERY_S: Final = 2.0
REINTRODUCTIONS_MAX: Final = 2

_RANDOM_BYTES: Final = 7
_RANDOM_SHIFT: Final = 8 * _RANDOM_BYTES - RANDOM_BITS
assert 0 <= _RANDOM_SHIFT < 8


def _random() -> int:
    return int.from_bytes(os.urandom(_RANDOM_BYTES), "big") >> _RANDOM_SHIFT


def wall_ms() -> int:
    """Unix milliseconds, now."""
    return time.time_ns() // 1_000_000


class Node:
    """Calls of the ``titanic.*`` services over a link, which may come later and may lead nowhere.

    Every method raises ServerUnreachableError when no node answers in time, PeerError or
    msgspec.MsgspecError for an answer that makes no sense, and ProblemError for a refusal.
    """

    def __init__(self, *, timeout_s: float, patience_s: float) -> None:
        self.link: NodeLink | None = None
        self.hello: tsp.Hello | None = None
        self.paces = Paces()
        self.quotas = Quotas()
        self.coalescer = Coalescer(self.submit_alone, self.batch)
        self.closer = Closer(self.close_alone)
        self.watcher = Watcher(self._wait_for)
        self.repeats_count = 0
        self.unreachable_count = 0
        self._timeout_s = timeout_s
        self._patience_s = patience_s
        self._mint: Mint | None = None
        self._greeting: asyncio.Task[tsp.Hello] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._stats_due_s = 0.0

    async def stop(self) -> None:
        """End what runs in the background; the link is the caller's to close."""
        tasks = [task for task in (self._greeting, self._reading) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def failovers_count(self) -> int:
        """Times that the link went on at the other node of a pair."""
        return self.link.failovers_count if self.link is not None else 0

    # -- what the node is

    def forget(self) -> None:
        """The node may be another one now: ask again before the next submit."""
        self.hello = self._mint = None

    @property
    def _is_patient(self) -> bool:
        """A link that waits for a failover and repeats by itself: what it gives up is given up here too."""
        return self.link is not None and self.link.patient

    async def greet(self, timeout_s: float | None) -> tsp.Hello:
        """Ask the node who it is; any number of callers share one question. Ids are then made its way."""
        if self._greeting is None:
            self._greeting = asyncio.create_task(self._greet())
            # Whoever asked may have stopped waiting: then nobody takes the task's error, rightly.
            self._greeting.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.wait_for(asyncio.shield(self._greeting), timeout_s)

    async def _greet(self) -> tsp.Hello:
        try:
            answer = await self._call(tsp.HELLO, (), self._timeout_s)
            if answer[0] != tsp.OK:
                raise problem_of(answer)
            hello = tsp.decode_hello(answer[1])
            self._mint = Mint(hello.id_secret)
            self.hello = hello
            return hello
        finally:
            self._greeting = None

    async def introduced(self) -> tsp.Hello:
        """The node's hello, asked for if it is not known yet, within the gateway's patience."""
        if self.hello is not None:
            return self.hello
        deadline = time.monotonic() + self._patience_s
        pause_s = BACKOFF_FIRST_S
        while True:
            try:
                return await self.greet(None if self._is_patient else max(0.001, deadline - time.monotonic()))
            except (ServerUnreachableError, TimeoutError) as error:
                if self._is_patient or time.monotonic() + pause_s >= deadline:
                    raise ServerUnreachableError(str(error) or "no node answered") from error
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, BACKOFF_MAX_S)

    async def offers(self, demanded: str) -> str:
        """The durability that the node has now; a pair's changes: one that was less is asked for again."""
        hello = await self.introduced()
        if durability_rank(hello.durability) < durability_rank(demanded):
            hello = await self.greet(self._timeout_s)
        return hello.durability

    # -- jobs

    async def submit(self, meta: RequestMeta, frames: Sequence[bytes]) -> tsp.SubmitAck:
        """See :meth:`submit_alone`; in one message with others that come in the same turn, if it can be."""
        if len(frames) == 1 and not meta.idempotency:
            return await self.coalescer.submit(meta, frames[0])
        return await self.submit_alone(meta, frames)

    async def submit_alone(self, meta: RequestMeta, frames: Sequence[bytes]) -> tsp.SubmitAck:
        """Store a job under a new id; it is as durable as the acknowledgement says.

        ``replayed`` in the acknowledgement means: by an earlier request with the same idempotency key.
        """
        refused: Sequence[bytes] = ()
        for _ in range(REINTRODUCTIONS_MAX):
            mint = self._mint or await self._introduced_mint()
            key = mint.make(wall_ms(), _random())
            body = [tsp.encode_head(tsp.SubmitHead(key, meta)), *frames]
            try:
                answer = await self._call(tsp.SUBMIT, body, self._timeout_s)
            except ServerUnreachableError as error:
                answer = await self._repeat(tsp.SUBMIT, body, error)
            status = answer[0]
            if status == tsp.OK:
                ack = tsp.decode_ack(answer[1])
                if ack.replayed and ack.key == key:  # by our own repeat: for the client it is the first
                    ack = msgspec.structs.replace(ack, replayed=False)
                return ack
            refused = answer
            if status == tsp.NOT_FOUND:  # another node, or another store: its secret is another
                self.forget()
            elif status != tsp.CONFLICT:  # a conflict is a collision of ids: take the next one
                raise problem_of(answer)
        raise PeerError(f"the node refused two new ids with {refused[0].decode('ascii', 'replace')}")

    async def batch(self, meta: RequestMeta, lines: Sequence[bytes]) -> Stored:
        """Store a job per line in one commit; what became of each is in the answer."""
        service = tsp.BATCH if meta.idempotency else tsp.PACK
        for _ in range(REINTRODUCTIONS_MAX):
            mint = self._mint or await self._introduced_mint()
            keys = mint.make_many(wall_ms(), os.urandom(8 * len(lines)))
            body = _batch_frames(meta, keys, lines)
            repeated = False
            try:
                answer = await self._call(service, body, self._timeout_s)
            except ServerUnreachableError as error:
                answer, repeated = await self._repeat(service, body, error), True
            if answer[0] != tsp.OK:
                raise problem_of(answer)
            stored = _stored(service, keys, answer[1])
            if not stored.lines:
                return stored
            if len(stored.lines) != len(lines):
                raise PeerError(f"{len(stored.lines)} lines answer a batch of {len(lines)}")
            if not any(line.status == int(tsp.NOT_FOUND) for line in stored.lines):
                if not any(line.replayed for line in stored.lines):
                    return stored
                judged = tuple(_judged(*pair, repeated) for pair in zip(stored.lines, keys, strict=True))
                return msgspec.structs.replace(stored, lines=judged)
            self.forget()
        raise PeerError("the node refused two batches of new ids")

    async def _introduced_mint(self) -> Mint:
        await self.introduced()
        assert self._mint is not None, "whoever is introduced has a mint"
        return self._mint

    async def _repeat(
        self, service: bytes, body: Sequence[bytes], error: ServerUnreachableError
    ) -> list[bytes]:
        if self._is_patient:
            raise error
        deadline = time.monotonic() + self._patience_s - self._timeout_s
        pause_s = BACKOFF_FIRST_S
        while (left_s := deadline - time.monotonic()) > pause_s:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, BACKOFF_MAX_S)
            self.repeats_count += 1
            try:
                return await self._call(service, body, min(self._timeout_s, left_s))
            except ServerUnreachableError as again:
                error = again
        raise error

    async def look(self, service: bytes, key: bytes, owner: str = "") -> list[bytes]:
        """The answer of ``titanic.fetch`` or ``titanic.status`` now."""
        return await self._call(service, (tsp.encode_head(tsp.FetchHead(key, 0, owner)),), self._timeout_s)

    async def watch(self, service: bytes, key: bytes, wait_s: float, owner: str = "") -> list[bytes]:
        """The answer once the job has ended, or after ``wait_s`` seconds."""
        deadline = time.monotonic() + wait_s
        pause_s = BACKOFF_FIRST_S
        while True:
            left_s = max(0.0, deadline - time.monotonic())
            slice_s = min(left_s, WAIT_SLICE_S)
            head = tsp.encode_head(tsp.FetchHead(key, int(slice_s * 1000), owner))
            try:
                answer = await self._call(service, (head,), slice_s + self._timeout_s)
            except ServerUnreachableError:
                if self._is_patient or time.monotonic() + pause_s >= deadline:
                    raise
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, BACKOFF_MAX_S)
                continue
            if left_s <= WAIT_SLICE_S or not _pending(answer):
                return answer

    async def _wait_for(self, service: bytes, body: Sequence[bytes], wait_s: float) -> list[bytes]:
        return await self._call(service, body, wait_s + self._timeout_s)

    async def close(self, key: bytes, owner: str = "") -> None:
        """The job and its bytes are gone, durably; also when nobody, or not this owner, has such a job."""
        await self.closer.close(key, owner)

    async def close_alone(self, keys: Sequence[bytes], owner: str) -> None:
        """See :meth:`close`; of several jobs in one message."""
        if owner or len(keys) > 1:
            await self.ask(tsp.DELETE, tsp.JobHead(b"".join(keys), owner), tsp.decode_deleted)
            return
        (key,) = keys
        answer = await self._call(tsp.CLOSE, (key.hex().encode(),), self._timeout_s)
        status = tsp.status_of(answer)
        if status != tsp.OK:  # plain TSP: the text follows the digits
            detail = answer[0][3:].decode("utf-8", "replace").strip() or "the close was not stored"
            raise problem_of((tsp.ERROR, tsp.encode_head(tsp.ErrorHead(detail))))

    async def ask(
        self, service: bytes, head: msgspec.Struct, decode: Callable[[bytes], T], wait_s: float = 0.0
    ) -> T:
        """The head of a 200; any other answer is raised as the problem it stands for."""
        answer = await self._call(service, (tsp.encode_head(head),), wait_s + self._timeout_s)
        if answer[0] != tsp.OK:
            raise problem_of(answer)
        return decode(answer[1])

    async def call(self, service: bytes, body: Sequence[bytes]) -> list[bytes]:
        """The frames of any answer, at least two of them."""
        return await self._call(service, body, self._timeout_s)

    async def act(self, service: bytes, key: bytes, owner: str) -> tuple[bool, tsp.JobStatus]:
        """Cancel or retry: whether it was done, and how the job stands."""
        answer = await self._call(service, (tsp.encode_head(tsp.JobHead(key, owner)),), self._timeout_s)
        if answer[0] not in (tsp.OK, tsp.CONFLICT):
            raise problem_of(answer)
        return answer[0] == tsp.OK, tsp.decode_status(answer[1])

    async def nodes(self, timeout_s: float) -> list[NodeAnswer]:
        """Every node of this gateway: who it is and how its pair stands, or why it did not answer."""
        if self.link is None:
            raise ServerUnreachableError("the gateway is not connected yet")
        hellos, pairs = await asyncio.gather(
            self.link.ask_all(tsp.HELLO, (), timeout_s),
            self.link.ask_all(PAIR, (tsp.encode_head(PairCommand()),), timeout_s),
        )
        return [
            _node_answer(endpoint, hello, pair)
            for (endpoint, hello), (_, pair) in zip(hellos, pairs, strict=True)
        ]

    # -- statistics

    async def stats(self, timeout_s: float) -> tsp.Stats:
        """The node's counters, gauges and services."""
        answer = await self._call(tsp.STATS, (), timeout_s)
        if answer[0] != tsp.OK:
            raise problem_of(answer)
        stats = tsp.decode_stats(answer[1])
        now_ms = int(time.monotonic() * 1000)
        self.paces.update(stats, now_ms)
        self.quotas.update(stats.owners, stats.owner_bytes, now_ms)
        return stats

    def retry_after_s(self, service: str, queued_before: int = -1) -> int:
        """See :meth:`Paces.retry_after_s`; asks for new statistics behind it, at most every two seconds.

        Nothing is asked while no client asks: an idle gateway leaves its node alone.
        """
        now_s = time.monotonic()
        if now_s >= self._stats_due_s:
            self._stats_due_s = now_s + STATS_EVERY_S
            self._reading = asyncio.create_task(self._read_paces())
        return self.paces.retry_after_s(service, queued_before)

    async def within_quota(self, owner: str, most: Open, more: Open) -> bool:
        """Whether the owner may have so much more; a refusal is never older than a fresh reading.

        A limit of 0 is none.
        """
        now_ms = time.monotonic() * 1000
        if now_ms - self.quotas.read_at_ms > STATS_EVERY_S * 1000:
            await self.stats(self._timeout_s)
        if not self._fits(owner, most, more):
            await self.stats(self._timeout_s)
        return self._fits(owner, most, more)

    def _fits(self, owner: str, most: Open, more: Open) -> bool:
        now = self.quotas.open(owner)
        jobs_fit = not most.jobs or now.jobs + more.jobs <= most.jobs
        return jobs_fit and (not most.size_bytes or now.size_bytes + more.size_bytes <= most.size_bytes)

    async def _read_paces(self) -> None:
        try:
            await self.stats(self._timeout_s)
        except (ServerUnreachableError, PeerError, ProblemError, msgspec.MsgspecError):
            # An estimate is worth no error of its own; those who need the node meet its absence themselves.
            self._stats_due_s = time.monotonic() + 5 * STATS_EVERY_S

    async def _call(self, service: bytes, body: Sequence[bytes], timeout_s: float) -> list[bytes]:
        if self.link is None:
            raise ServerUnreachableError("the gateway is not connected yet")
        try:
            answer = await self.link.call(service, body, timeout_s)
        except ServerUnreachableError:
            self.unreachable_count += 1
            raise
        if len(answer) < 2 and service != tsp.CLOSE:
            raise PeerError(f"{service.decode()} answered with {len(answer)} frames")
        return answer


def _batch_frames(meta: RequestMeta, keys: Sequence[bytes], lines: Sequence[bytes]) -> list[bytes]:
    if meta.idempotency:
        return [tsp.encode_head(tsp.BatchHead(tuple(keys), meta)), *lines]
    return pack_frames(meta, keys, lines)


def _stored(service: bytes, keys: Sequence[bytes], head: bytes) -> Stored:
    if service == tsp.BATCH:
        ack = tsp.decode_batch_ack(head)
        if not ack.lines:
            raise PeerError("no line answers a batch")
        return Stored.of_batch(keys, ack)
    found = tsp.decode_pack_ack(head)
    return Stored(keys, found.state, found.created_ms, found.durability, found.epoch, lines=found.lines)


def _judged(line: tsp.BatchLine, key: bytes, repeated: bool) -> tsp.BatchLine:
    """A line that was there already: by our own repeat, by its idempotency key, or by a collision of ids."""
    if not line.replayed or line.key != key:
        return line
    if repeated:
        return msgspec.structs.replace(line, replayed=False)
    return tsp.BatchLine(int(tsp.CONFLICT), key)


def _node_answer(endpoint: str, hello: list[bytes] | str, pair: list[bytes] | str) -> NodeAnswer:
    if isinstance(hello, str):
        return NodeAnswer(endpoint, error=hello)
    if len(hello) < 2 or hello[0] != tsp.OK:
        raise problem_of(hello)
    known = tsp.decode_hello(hello[1])
    if known.role == "single" or isinstance(pair, str) or len(pair) < 2 or pair[0] != tsp.OK:
        return NodeAnswer(endpoint, known)
    return NodeAnswer(endpoint, known, decode_pair_status(pair[1]))


def _pending(answer: Sequence[bytes]) -> bool:
    if answer[0] == tsp.PENDING:
        return True
    return answer[0] == tsp.OK and len(answer) == 2 and _unended(answer[1])


def _unended(head: bytes) -> bool:
    try:
        return tsp.decode_status(head).state not in ENDED
    except msgspec.ValidationError:
        return False  # a ReplyHead: the reply is there, with no frames
