"""The socket pump over real loopback TCP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop
import zmq

from core.shell.pump import SocketPump
from tests.support.raw_router import until


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, None]], None]:
    """Every test in this file holds for both event loops."""
    return asyncio.run if request.param == "asyncio" else uvloop.run


def pair(high_water: int = 0) -> tuple[zmq.Socket[bytes], zmq.Socket[bytes]]:
    """A ROUTER with ROUTER_MANDATORY and a DEALER named ``peer``, connected."""
    router: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
    dealer: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    for socket in (router, dealer):
        socket.set_hwm(high_water)
        socket.set(zmq.LINGER, 0)
    router.set(zmq.ROUTER_MANDATORY, 1)
    dealer.set(zmq.ROUTING_ID, b"peer")
    port = router.bind_to_random_port("tcp://127.0.0.1")
    dealer.connect(f"tcp://127.0.0.1:{port}")
    return router, dealer


Run = Callable[[Coroutine[Any, Any, None]], None]


def test_an_unreachable_peer_is_reported_later_and_stops_nothing(run: Run) -> None:
    """EHOSTUNREACH never raises, is never told from inside send, and others are served."""

    async def main() -> None:
        router, dealer = pair()
        gone: list[list[bytes]] = []
        got: list[list[bytes]] = []
        pump = SocketPump(router, got.append, on_unreachable=gone.append)
        pump.start()
        dealer.send(b"hello")
        await until(lambda: bool(got))
        pump.send([b"nobody", b"x"])
        pump.send([b"peer", b"y"])
        assert gone == []
        await until(lambda: bool(gone))
        await until(lambda: bool(dealer.poll(0)))
        assert gone == [[b"nobody", b"x"]]
        assert dealer.recv_multipart() == [b"y"]
        pump.close(0)
        dealer.close()

    run(main())


def test_a_handler_that_raises_loses_only_its_message(run: Run) -> None:
    """The loop's exception handler is told, and the rest of the batch still arrives."""

    async def main() -> None:
        router, dealer = pair()
        errors: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, facts: errors.append(facts["exception"]))
        got: list[bytes] = []

        def on_message(frames: list[bytes]) -> None:
            if frames[1] == b"1":
                raise LookupError("bad message")
            got.append(frames[1])

        pump = SocketPump(router, on_message)
        pump.start()
        for number in range(3):
            dealer.send(str(number).encode())
        await until(lambda: len(got) == 2)
        assert got == [b"0", b"2"]
        assert [type(error) for error in errors] == [LookupError]
        pump.close(0)
        dealer.close()

    run(main())


def test_a_full_batch_gives_way_to_other_callbacks(run: Run) -> None:
    """No more than max_batch messages per turn; after_batch follows each run; none is lost."""

    async def main() -> None:
        router, dealer = pair()
        in_turn, batches, total = 0, [], 0

        def on_message(frames: list[bytes]) -> None:
            nonlocal in_turn, total
            in_turn += 1
            total += 1

        def after_batch() -> None:
            nonlocal in_turn
            batches.append(in_turn)
            in_turn = 0

        for number in range(1_000):
            dealer.send(str(number).encode())
        await until(lambda: bool(router.poll(0)))
        pump = SocketPump(router, on_message, after_batch=after_batch, max_batch=10)
        pump.start()
        await until(lambda: total == 1_000)
        assert max(batches) == 10
        assert sum(batches) == 1_000
        pump.close(0)
        dealer.close()

    run(main())


def test_messages_that_arrive_while_sending_are_seen(run: Run) -> None:
    """The edge of ZMQ_FD may be consumed by a send: EVENTS is looked at after it."""

    async def main() -> None:
        router, dealer = pair()
        echoed, returned = 0, 0

        def echo(frames: list[bytes]) -> None:
            nonlocal echoed
            echoed += 1
            router_pump.send(frames)

        def back(frames: list[bytes]) -> None:
            nonlocal returned
            returned += 1

        router_pump = SocketPump(router, echo)
        dealer_pump = SocketPump(dealer, back)
        router_pump.start()
        dealer_pump.start()
        for burst in range(500):
            dealer_pump.send([b"%d" % burst])
            if burst % 7 == 0:
                await asyncio.sleep(0)
        await until(lambda: returned == 500)
        assert echoed == 500
        router_pump.close(0)
        dealer_pump.close(0)

    run(main())


def test_a_peer_that_does_not_read_blocks_nobody_and_keeps_its_order(run: Run) -> None:
    """Its share of the queue is bounded, the rest is dropped and counted; what is kept arrives in order."""

    async def main() -> None:
        router, deaf = pair(high_water=2)
        other: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        other.set(zmq.LINGER, 0)
        other.connect(router.get_string(zmq.LAST_ENDPOINT))
        got: list[list[bytes]] = []
        pump = SocketPump(router, got.append, send_queue_max=1_000)
        pump.start()
        deaf.send(b"hello")
        other.send(b"hello")
        await until(lambda: len(got) == 2)
        other_id = next(frames[0] for frames in got if frames[0] != b"peer")
        big = b"x" * 1_000_000
        for number in range(400):
            pump.send([b"peer", b"%d" % number, big])
        assert pump.queued_count == 100
        assert pump.queued_bytes > 100 * len(big)
        dropped_count = pump.dropped_count
        assert 0 < dropped_count < 300
        pump.send([other_id, b"prompt"])
        await until(lambda: bool(other.poll(0)))
        numbers: list[int] = []

        def read() -> bool:
            while deaf.poll(0):
                numbers.append(int(deaf.recv_multipart()[0]))
            return len(numbers) == 400 - dropped_count

        await until(read)
        assert numbers == list(range(400 - dropped_count))
        assert (pump.queued_count, pump.queued_bytes) == (0, 0)
        pump.close(0)
        deaf.close()
        other.close()

    run(main())


def test_a_blocked_peer_that_leaves_frees_its_queue(run: Run) -> None:
    """What waited for it is handed back as unreachable, in order, before what was sent later."""

    async def main() -> None:
        router, deaf = pair(high_water=1)
        got: list[list[bytes]] = []
        gone: list[list[bytes]] = []
        pump = SocketPump(router, got.append, on_unreachable=gone.append, send_queue_max=1_000)
        pump.start()
        deaf.send(b"hello")
        await until(lambda: bool(got))
        big = b"x" * 1_000_000
        for number in range(200):
            pump.send([b"peer", b"%d" % number, big])
        assert pump.queued_count == 100
        deaf.close()

        def nudged() -> bool:
            pump.send([b"peer", b"are you there"])
            return bool(gone)

        await until(nudged)
        assert pump.queued_count == 0
        assert pump.queued_bytes == 0
        numbers = [int(frames[1]) for frames in gone if len(frames) == 3]
        assert len(numbers) > 50, "a few may have fitted into TCP's buffers"
        assert numbers == sorted(numbers)
        assert all(frames == [b"peer", b"are you there"] for frames in gone[len(numbers) :])
        pump.close(0)


def test_a_message_with_too_many_frames_is_cut_short_and_the_next_arrives_whole(run: Run) -> None:
    """The reader sees one frame more than the limit; the rest is never copied."""

    async def main() -> None:
        router, dealer = pair()
        got: list[list[bytes]] = []
        pump = SocketPump(router, got.append, frames_max=4)
        pump.start()
        dealer.send_multipart([b"%d" % number for number in range(50)])
        dealer.send_multipart([b"1", b"2", b"3"])
        await until(lambda: len(got) == 2)
        assert got == [[b"peer", b"0", b"1", b"2", b"3"], [b"peer", b"1", b"2", b"3"]]
        pump.close(0)
        dealer.close()

    run(main())

    run(main())


def test_the_trace_sees_every_message_both_ways(run: Run) -> None:
    """One call per message, with its frames."""

    async def main() -> None:
        router, dealer = pair()
        seen: list[tuple[str, list[bytes]]] = []
        pump = SocketPump(router, lambda frames: pump.send(frames), trace=lambda *facts: seen.append(facts))
        pump.start()
        dealer.send(b"hello")
        await until(lambda: bool(dealer.poll(0)))
        assert seen == [("in", [b"peer", b"hello"]), ("out", [b"peer", b"hello"])]
        pump.close(0)
        pump.close(0)
        dealer.close()

    run(main())
