"""Pipelined calls over one DEALER, against a ROUTER that speaks RFC 7 by hand."""

from __future__ import annotations

import asyncio
import random

import pytest

from core.errors import ServerUnreachableError
from core.shell.dealer import NodeDealer
from core.shell.link import connect_dealer
from tests.support.links import both_ways
from tests.support.raw_router import RawRouter, free_endpoint, until

__all__ = ["both_ways"]


def test_a_request_is_as_rfc_7_says_with_a_counter_in_front() -> None:
    """Envelope, empty frame, MDPC01, service, body; the answer's body frames come back."""

    async def main() -> None:
        with RawRouter() as node:
            dealer = NodeDealer([node.endpoint])
            dealer.start()
            call = asyncio.create_task(dealer.call(b"echo", [b"a", b"b"], 5))
            identity, tag, *rest = await node.receive()
            assert len(tag) == 8
            assert rest == [b"", b"MDPC01", b"echo", b"a", b"b"]
            assert dealer.pending == 1
            node.send(identity, tag, b"", b"MDPC01", b"echo", b"c", b"d")
            assert await call == [b"c", b"d"]
            assert dealer.pending == 0
            dealer.close()

    asyncio.run(main())


def test_garbage_and_strangers_answers_are_counted_and_disturb_no_call() -> None:
    """Whatever the other side sends, only the right counter ends a call."""

    async def main() -> None:
        with RawRouter() as node:
            dealer = NodeDealer([node.endpoint])
            dealer.start()
            call = asyncio.create_task(dealer.call(b"echo", [b"a"], 5))
            identity, tag, *_ = await node.receive()
            node.send(identity, b"")
            node.send(identity, b"junk", b"more")
            node.send(identity, tag, b"", b"MDPW01", b"echo", b"c")
            node.send(identity, tag, b"", b"MDPC01", b"echo")
            node.send(identity, b"", b"MDPC01", b"echo", b"no counter")
            node.send(identity, b"\0" * 8, b"", b"MDPC01", b"echo", b"other")
            node.send(identity, tag, tag, b"", b"MDPC01", b"echo", b"twice")
            node.send(identity, tag, b"", b"MDPC01", b"echo", b"right")
            assert await call == [b"right"]
            assert (dealer.invalid_count, dealer.late_count) == (4, 3)
            dealer.close()

    asyncio.run(main())


def test_answers_in_any_order_find_their_callers() -> None:
    """A thousand calls at once, answered in random order."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")

    async def main() -> None:
        with RawRouter() as node:
            dealer = NodeDealer([node.endpoint])
            dealer.start()
            calls = [
                asyncio.create_task(dealer.call(b"echo", [str(number).encode()], 20))
                for number in range(1_000)
            ]
            requests = [await node.receive() for _ in calls]
            random.Random(seed).shuffle(requests)
            for request in requests:
                node.send(*request)
            assert await asyncio.gather(*calls) == [[str(number).encode()] for number in range(1_000)]
            assert dealer.late_count == 0
            dealer.close()

    asyncio.run(main())


def test_a_silent_node_is_an_error_that_says_where_and_what_to_do() -> None:
    """Each call at its own time, and the late answer is counted and dropped."""

    async def main() -> None:
        with RawRouter() as node:
            dealer = NodeDealer([node.endpoint])
            dealer.start()
            slow = asyncio.create_task(dealer.call(b"echo", [b"slow"], 30))
            started = asyncio.get_running_loop().time()
            with pytest.raises(ServerUnreachableError, match="check that a node") as error:
                await dealer.call(b"echo", [b"quick"], 0.1)
            took_s = asyncio.get_running_loop().time() - started
            assert node.endpoint in str(error.value)
            assert took_s >= 0.1
            assert not slow.done()
            for _ in range(2):
                node.send(*await node.receive())
            assert await slow == [b"slow"]
            await until(lambda: dealer.late_count == 1)
            dealer.close()

    asyncio.run(main())


def test_calls_made_before_the_node_is_there_are_answered_when_it_is() -> None:
    """Connecting does not wait, and nothing is lost meanwhile."""

    async def main() -> None:
        endpoint = free_endpoint()
        dealer = NodeDealer([endpoint])
        dealer.start()
        call = asyncio.create_task(dealer.call(b"echo", [b"x"], 20))
        await until(lambda: dealer.pending == 1)
        with RawRouter(endpoint) as node:
            node.send(*await node.receive())
            assert await call == [b"x"]
        dealer.close()

    asyncio.run(main())


def test_no_timer_runs_while_nothing_is_pending() -> None:
    """An idle gateway costs nothing."""

    async def main() -> None:
        with RawRouter() as node:
            dealer = NodeDealer([node.endpoint])
            dealer.start()
            timers = [dealer._timer]
            call = asyncio.create_task(dealer.call(b"echo", [b"x"], 5))
            request = await node.receive()
            timers.append(dealer._timer)
            node.send(*request)
            await call
            await until(lambda: dealer._timer is None)
            assert timers[0] is None
            assert timers[1] is not None
            assert not dealer._buckets
            dealer.close()

    asyncio.run(main())


def test_a_cancelled_call_leaves_nothing_behind_and_closing_ends_the_rest() -> None:
    """Its late answer is dropped; close() fails what is pending, and later calls fail at once."""

    async def main() -> None:
        with RawRouter() as node:
            dealer = NodeDealer([node.endpoint])
            dealer.start()
            cancelled = asyncio.create_task(dealer.call(b"echo", [b"x"], 5))
            left = asyncio.create_task(dealer.call(b"echo", [b"y"], 5))
            request = await node.receive()
            cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled
            assert dealer.pending == 1
            node.send(*request)
            await until(lambda: dealer.late_count == 1)
            dealer.close()
            with pytest.raises(ServerUnreachableError, match="closed here"):
                await left
            with pytest.raises(ServerUnreachableError, match="not connected"):
                await dealer.call(b"echo", [b"z"], 5)
            assert dealer.pending == 0

    asyncio.run(main())


@pytest.mark.parametrize(
    "endpoint", ["", "nonsense", "tcp://", "tcp://127.0.0.1", "tcp://127.0.0.1:99999999"]
)
def test_a_bad_endpoint_is_a_value_error(endpoint: str) -> None:
    """With the endpoint in the message, and no socket left open."""
    with pytest.raises(ValueError, match="cannot connect"):
        connect_dealer(endpoint)


def test_a_close_that_meets_a_disconnect_leaves_the_shared_context_alive() -> None:
    """An event for a monitor whose reader is gone blocks libzmq for ever: the monitor goes first."""

    async def main() -> None:
        for number in range(150):
            with RawRouter() as node:
                dealer = NodeDealer([node.endpoint])
                dealer.start()
                call = asyncio.create_task(dealer.call(b"echo", [b"a"], 5))
                assert (await node.receive())[2:] == [b"", b"MDPC01", b"echo", b"a"]
            for _ in range(number % 7):
                await asyncio.sleep(0)
            dealer.close()
            with pytest.raises(ServerUnreachableError):
                await call

    asyncio.run(main())
