"""The worker library over loopback TCP, against a broker that speaks RFC 7 by hand."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Callable

import pytest

from core.pure.mdp import NOT_STARTED
from core.pure.worker_job import (
    AttemptFailedError,
    ReplyMemory,
    WorkerJob,
    adapt,
    is_async,
    job_of,
    memory_key,
    to_frames,
)
from core.shell.worker import Worker
from tests.support.links import both_ways
from tests.support.raw_router import RawRouter, free_endpoint, until

__all__ = ["both_ways"]

BEAT = b"\x04"
KEY = bytes.fromhex("0190aabbccdd8eee8fff001122334455")
JOB = b"J" + KEY + b"\0\0\0\x02"


@contextlib.asynccontextmanager
async def serving(worker: Worker) -> AsyncIterator[asyncio.Task[None]]:
    """The worker runs meanwhile and has drained, without error, afterwards."""
    task = asyncio.create_task(worker.serve())
    await asyncio.sleep(0)
    try:
        yield task
        worker.drain()
        await asyncio.wait_for(task, 10)
    finally:
        task.cancel()


async def ready(broker: RawRouter, service: bytes = b"echo") -> bytes:
    """The identity of the next worker that says READY."""
    identity, *frames = await broker.receive_but(BEAT)
    assert frames == [b"", b"MDPW01", b"\x01", service]
    return identity


def ask(broker: RawRouter, worker: bytes, *body: bytes, address: bytes = b"client") -> None:
    broker.send(worker, b"", b"MDPW01", b"\x02", address, b"", *body)


def echoing(broker: RawRouter) -> Worker:
    worker = Worker([broker.endpoint])

    @worker.service("echo")
    def echo(body: bytes) -> bytes:
        return body

    return worker


def test_a_raising_handler_is_a_disconnect_with_the_reason_then_ready(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever user code raises or returns fails the attempt and nothing else; the log has it."""

    async def main() -> None:
        with RawRouter() as broker:
            worker = Worker([broker.endpoint])

            @worker.service("echo")
            def fail(body: bytes) -> object:
                if body == b"none":
                    return None
                if body == b"exit":
                    raise SystemExit(3)
                if body == b"known":
                    raise AttemptFailedError("disk full")
                raise KeyError("what")

            async with serving(worker):
                identity = await ready(broker)
                for body, reason in (
                    (b"x", b"KeyError: 'what'"),
                    (b"none", b"the handler returned NoneType, not bytes, str or a sequence of bytes"),
                    (b"exit", b"SystemExit: 3"),
                    (b"known", b"disk full"),
                ):
                    ask(broker, identity, body)
                    assert await broker.receive_but(BEAT) == [identity, b"", b"MDPW01", b"\x05", reason]
                    assert await ready(broker) == identity
                assert worker.failed_count == 4

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert "disk full" in caplog.text


def test_plain_async_and_job_handlers_reply_with_the_address_they_got() -> None:
    """RFC 7 REPLY: 0x03, client address, empty frame, body frames."""

    async def main() -> None:
        with RawRouter() as broker:
            worker = Worker([broker.endpoint])

            @worker.service("plain")
            def plain(body: bytes) -> str:
                return body.decode().upper()

            @worker.service("async")
            async def later(body: bytes) -> bytes:
                await asyncio.sleep(0)
                return body[::-1]

            @worker.service("job")
            def job(job: WorkerJob) -> list[bytes]:
                return [job.id.encode(), str(job.attempt).encode(), *job.frames]

            async with serving(worker):
                identities = {}
                for _ in range(3):
                    identity, *frames = await broker.receive_but(BEAT)
                    identities[frames[3]] = identity
                for service, address, expected in (
                    (b"plain", b"client", [b"ABCD"]),
                    (b"async", b"\0\0packed", [b"dcba"]),
                    (b"job", b"client", [b"", b"1", b"ab", b"cd"]),
                    (b"job", JOB, [KEY.hex().encode(), b"2", b"ab", b"cd"]),
                ):
                    ask(broker, identities[service], b"ab", b"cd", address=address)
                    assert await broker.receive_but(BEAT) == [
                        identities[service],
                        *[b"", b"MDPW01", b"\x03", address, b""],
                        *expected,
                    ]

    asyncio.run(main())


def test_heartbeats_go_on_while_the_handler_works() -> None:
    """Ours, beyond guide-style workers: a busy worker is heard of in every interval."""

    async def main() -> None:
        release = threading.Event()
        with RawRouter() as broker:
            worker = Worker([broker.endpoint], heartbeat_ms=30)

            @worker.service("echo")
            def slow(body: bytes) -> bytes:
                assert release.wait(20)
                return body

            async with serving(worker):
                identity = await ready(broker)
                ask(broker, identity, b"x")
                for _ in range(5):
                    assert (await broker.receive())[1:] == [b"", b"MDPW01", BEAT]
                release.set()
                assert (await broker.receive_but(BEAT))[-1] == b"x"

    asyncio.run(main())


def test_a_worker_started_first_waits_and_complains_once(caplog: pytest.LogCaptureFixture) -> None:
    """However many registrations wait, and however long."""

    async def main() -> None:
        endpoint = free_endpoint()
        worker = Worker([endpoint], concurrency=3, heartbeat_ms=20)

        @worker.service("echo")
        def echo(body: bytes) -> bytes:
            return body

        async with serving(worker):
            await until(lambda: all(slot._peer._socket_count >= 2 for slot in worker._slots))
            with RawRouter(endpoint) as broker:
                identity = await ready(broker)
                ask(broker, identity, b"x")
                while (await broker.receive())[3] != b"\x03":
                    pass

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert caplog.text.count("no broker answers") == 1


def test_disconnect_brings_a_new_registration() -> None:
    """After DISCONNECT the worker is back under a new identity."""

    async def main() -> None:
        with RawRouter() as broker:
            async with serving(echoing(broker)):
                identity = await ready(broker)
                broker.send(identity, b"", b"MDPW01", BEAT)
                broker.send(identity, b"", b"MDPW01", b"\x05")
                again = await ready(broker)
                assert again != identity
                ask(broker, again, b"x")
                assert (await broker.receive_but(BEAT))[-1] == b"x"

    asyncio.run(main())


def test_concurrency_is_as_many_registrations_that_work_at_once() -> None:
    """An MDP worker handles one request at a time; four of them, four."""

    async def main() -> None:
        together = threading.Barrier(4, timeout=20)
        with RawRouter() as broker:
            worker = Worker([broker.endpoint], concurrency=4, identity="lucy")

            @worker.service("echo")
            def meet(body: bytes) -> bytes:
                together.wait()
                return body

            async with serving(worker):
                identities = [await ready(broker) for _ in range(4)]
                assert sorted(identities) == [b"lucy", b"lucy-2", b"lucy-3", b"lucy-4"]
                for identity in identities:
                    ask(broker, identity, b"x")
                assert {(await broker.receive_but(BEAT))[0] for _ in range(4)} == set(identities)

    asyncio.run(main())


def test_draining_finishes_the_job_at_hand_replies_and_leaves() -> None:
    """REPLY, DISCONNECT, end; no READY after it."""

    async def main() -> None:
        release = threading.Event()
        with RawRouter() as broker:
            worker = Worker([broker.endpoint])

            @worker.service("echo")
            def slow(body: bytes) -> bytes:
                assert release.wait(20)
                return body

            task = asyncio.create_task(worker.serve())
            identity = await ready(broker)
            ask(broker, identity, b"x")
            await until(lambda: worker._slots[0]._peer.working)
            worker.drain()
            await asyncio.sleep(0)
            assert not task.done()
            release.set()
            await asyncio.wait_for(task, 10)
            assert (await broker.receive_but(BEAT))[3:] == [b"\x03", b"client", b"", b"x"]
            assert (await broker.receive_but(BEAT))[3:] == [b"\x05", NOT_STARTED.encode()]

    asyncio.run(main())


def test_a_redelivered_job_is_answered_without_being_done_again() -> None:
    """The reply of attempt 2 answers attempt 3; a plain request is done every time."""

    async def main() -> None:
        with RawRouter() as broker:
            worker = Worker([broker.endpoint])
            done: list[bytes] = []

            @worker.service("echo")
            def count(body: bytes) -> bytes:
                done.append(body)
                return str(len(done)).encode()

            async with serving(worker):
                identity = await ready(broker)
                for address, expected in (
                    (JOB, b"1"),
                    (JOB[:-1] + b"\x03", b"1"),
                    (b"client", b"2"),
                    (b"client", b"3"),
                ):
                    ask(broker, identity, b"x", address=address)
                    assert (await broker.receive_but(BEAT))[4:] == [address, b"", expected]
                assert len(done) == 3

    asyncio.run(main())


def test_a_job_redelivered_while_it_is_worked_on_is_done_once() -> None:
    """The broker forgot the session; the other registration that is given the job waits for its result."""

    async def main() -> None:
        release, calls = threading.Event(), 0
        with RawRouter() as broker:
            worker = Worker([broker.endpoint], concurrency=2)

            @worker.service("echo")
            def slow(body: bytes) -> bytes:
                nonlocal calls
                calls += 1
                assert release.wait(20)
                return body

            async with serving(worker):
                first, second = await ready(broker), await ready(broker)
                ask(broker, first, b"x", address=JOB)
                await until(lambda: calls == 1)
                broker.send(first, b"", b"MDPW01", b"\x05")
                ask(broker, second, b"x", address=JOB[:-1] + b"\x03")
                await until(lambda: any(slot.twins for slot in worker._slots))
                release.set()
                got = [await broker.receive_but(BEAT), await broker.receive_but(BEAT)]
                replies = [frames for frames in got if frames[3] == b"\x03"]
                assert [frames[:1] + frames[4:] for frames in replies] == [
                    [second, JOB[:-1] + b"\x03", b"", b"x"]
                ]
                assert calls == 1

    asyncio.run(main())


def test_an_attempt_the_broker_gives_up_is_cancelled_if_it_can_be() -> None:
    """DISCONNECT while busy: an async handler is cancelled, and the worker registers again."""

    async def main() -> None:
        with RawRouter() as broker:
            worker = Worker([broker.endpoint])
            cancelled = asyncio.Event()

            @worker.service("echo")
            async def stuck(body: bytes) -> bytes:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    cancelled.set()
                    raise
                return body

            async with serving(worker):
                identity = await ready(broker)
                ask(broker, identity, b"x")
                await until(lambda: worker._slots[0]._peer.working)
                broker.send(identity, b"", b"MDPW01", b"\x05")
                assert await ready(broker) != identity
                assert cancelled.is_set()

    asyncio.run(main())


def test_wrong_use_is_a_value_error() -> None:
    """Before any socket is open."""
    with pytest.raises(ValueError, match="sequence"):
        Worker("tcp://127.0.0.1:1")
    with pytest.raises(ValueError, match="concurrency"):
        Worker(["tcp://127.0.0.1:1"], concurrency=0)
    with pytest.raises(ValueError, match="no service"):
        Worker(["tcp://127.0.0.1:1"]).run()
    worker = Worker(["nonsense"])
    worker.add("echo", lambda job: job.body)
    with pytest.raises(ValueError, match="has a handler"):
        worker.add("echo", lambda job: job.body)
    with pytest.raises(ValueError, match="cannot connect"):
        worker.run()


@pytest.mark.parametrize("address", [b"", b"J", b"client", JOB[:-1], JOB + b"x", b"K" + JOB[1:], b"\0" * 21])
def test_only_a_nodes_own_address_carries_an_id(address: bytes) -> None:
    """Anything else is a plain request, whatever its length."""
    job = job_of("echo", address, [b"x"])
    assert (job.id, job.attempt, memory_key(job)) == ("", 1, b"")


def test_a_client_named_like_a_job_is_not_remembered() -> None:
    """Its identity is printable, a UUID is not: its second request is not answered with its first reply."""
    job = job_of("echo", b"J" + b"a printable name" + b"four", [b"x"])
    assert job.id
    assert memory_key(job) == b""
    assert memory_key(job_of("echo", JOB, [b"x"])) == KEY + b"echo"


def test_the_memory_is_bounded_by_count_and_bytes() -> None:
    """The oldest make room; what alone is too big is not kept."""
    memory = ReplyMemory(max_count=3, max_bytes=100)
    for number in range(5):
        memory.put(b"%d" % number, [b"x" * 40])
    assert (len(memory), memory.size_bytes) == (2, 80)
    memory.put(b"big", [b"x" * 101])
    assert memory.get(b"big") is None
    for number in range(10):
        memory.put(b"small %d" % number, [b"x"])
    assert (len(memory), memory.size_bytes) == (3, 3)
    assert memory.get(b"small 9") == [b"x"]


def test_functions_get_what_their_annotation_says() -> None:
    """Bytes unless the first parameter is a WorkerJob, also when annotations are strings."""

    class Counter:
        async def __call__(self, job: WorkerJob) -> str:
            return job.id

    def bare(body):  # type: ignore[no-untyped-def]
        return body

    job = WorkerJob("echo", [b"a", b"b"], b"client")
    text: Callable[..., object] = lambda body: body  # noqa: E731
    assert adapt(bare)(job) == b"ab"
    assert adapt(text)(job) == b"ab"
    assert is_async(adapt(Counter()))
    assert not is_async(adapt(bare))


@pytest.mark.parametrize("result", [None, 3, ["text"], [b"a", None], {"a": 1}, object()])
def test_what_is_no_reply_fails_the_attempt(result: object) -> None:
    """With the type in the reason."""
    with pytest.raises(AttemptFailedError, match=type(result).__name__):
        to_frames(result)
