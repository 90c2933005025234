"""Connections that are made from here: both ways against libzmq's ROUTER, our own also against raw bytes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import uvloop
import zmq

from core.shell.link import Link, ZmqLink, open_link
from core.shell.plain_link import HANDSHAKE_TICKS, SILENCE_TICKS, PlainLink
from core.shell.pump import SocketPump
from core.shell.router import Router
from core.shell.sockets import listen_tcp
from tests.support.hostile import GREETING, frame, ready
from tests.support.raw_router import RawRouter, free_endpoint, until

LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]
MIB = 1 << 20
PING = b"\x04\x07\x04PING"


@pytest.fixture(params=LOOPS, ids=["asyncio", "uvloop"])
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    """Every test that takes it holds on both loops."""
    with asyncio.Runner(loop_factory=request.param) as made:
        yield made


@pytest.fixture(params=[False, True], ids=["own", "libzmq"])
def by_libzmq(request: pytest.FixtureRequest) -> bool:
    """Every test that takes it holds for both ways."""
    chosen: bool = request.param
    return chosen


class Rig:
    """A started link and what it told its owner."""

    def __init__(self, endpoint: str, *, by_libzmq: bool = False, identity: str = "") -> None:
        self.got: list[list[bytes]] = []
        self.lost = self.refused = 0
        self.on_message: Callable[[list[bytes]], None] = self.got.append
        self.link: Link = open_link(
            endpoint,
            lambda frames: self.on_message(frames),
            identity=identity,
            on_lost=self._on_lost,
            on_refused=self._on_refused,
            by_libzmq=by_libzmq,
        )
        self.link.start()

    def _on_lost(self) -> None:
        self.lost += 1

    def _on_refused(self) -> None:
        self.refused += 1

    @property
    def own(self) -> PlainLink:
        assert isinstance(self.link, PlainLink)
        return self.link


@contextlib.asynccontextmanager
async def rig(endpoint: str, *, by_libzmq: bool = False, identity: str = "") -> AsyncIterator[Rig]:
    made = Rig(endpoint, by_libzmq=by_libzmq, identity=identity)
    try:
        yield made
    finally:
        made.link.close(0)


class RawNode:
    """A listening socket; :meth:`accept` gives a connection that speaks only when the test does."""

    def __init__(self) -> None:
        self.rest = b""
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(10)
        self.endpoint = f"tcp://127.0.0.1:{self.listener.getsockname()[1]}"

    async def accept(self) -> socket.socket:
        accepted, _ = await asyncio.to_thread(self.listener.accept)
        accepted.settimeout(10)
        return accepted

    async def shaken(self) -> socket.socket:
        """The next connection, after its handshake; ``rest`` is what came behind that already."""
        accepted = await self.accept()
        accepted.sendall(GREETING + ready(kind=b"ROUTER"))
        said = b""
        while not (found := said.partition(b"DEALER\x08Identity\0\0\0\0"))[1]:
            said += await asyncio.to_thread(accepted.recv, 4096)
        self.rest = found[2]
        return accepted


@contextlib.contextmanager
def raw_node() -> Iterator[RawNode]:
    made = RawNode()
    with made.listener:
        yield made


def test_the_way_is_chosen_by_the_endpoint_and_by_the_setting() -> None:
    """Plain TCP is our own unless libzmq is wanted; what it cannot read is libzmq's to refuse."""

    async def main() -> None:
        for endpoint, by_libzmq, kind in [
            ("tcp://127.0.0.1:9", False, PlainLink),
            ("tcp://localhost:9", False, PlainLink),
            ("tcp://127.0.0.1:9", True, ZmqLink),
            ("ipc:///tmp/titanic-nobody", False, ZmqLink),
        ]:
            link = open_link(endpoint, lambda frames: None, by_libzmq=by_libzmq)
            assert type(link) is kind
            assert isinstance(link, SocketPump) == (kind is ZmqLink)
            link.close(0)
        for bad in ("tcp://127.0.0.1:99999999", "tcp://127.0.0.1:0", "tcp://", "nonsense"):
            with pytest.raises(ValueError, match="cannot connect"):
                open_link(bad, lambda frames: None)
        with pytest.raises(ValueError, match="name"):
            open_link("tcp://127.0.0.1:9", lambda frames: None, identity="x" * 256)

    asyncio.run(main())


def test_messages_of_any_size_go_both_ways_under_the_name(runner: asyncio.Runner, by_libzmq: bool) -> None:
    """From nothing to several megabytes; what is sent before the node is there waits for it."""

    async def main() -> None:
        endpoint = free_endpoint()
        bodies = [b"", b"x", bytes(255), bytes(256), bytes(300_000), bytes(3 * MIB)]
        async with rig(endpoint, by_libzmq=by_libzmq, identity="lucy") as one:
            for body in bodies:
                one.link.send([b"", body, b"end"])
            await until(lambda: one.refused > 0)
            with RawRouter(endpoint) as node:
                for body in bodies:
                    assert await node.receive() == [b"lucy", b"", body, b"end"]
                    node.send(b"lucy", body, b"", b"back")
                await until(lambda: len(one.got) == len(bodies))
                assert one.got == [[body, b"", b"back"] for body in bodies]
                assert one.link.dropped_count == 0

    runner.run(main())


def test_a_node_that_comes_back_is_found_again(runner: asyncio.Runner, by_libzmq: bool) -> None:
    """The loss is told, attempts meanwhile are refused, and what is sent meanwhile is delivered."""

    async def main() -> None:
        with RawRouter() as node:
            endpoint = node.endpoint
            async with rig(endpoint, by_libzmq=by_libzmq) as one:
                one.link.send([b"first"])
                assert (await node.receive())[1:] == [b"first"]
                assert (one.lost, one.refused) == (0, 0)
                node.close()
                await until(lambda: one.lost == 1 and one.refused > 0)
                one.link.send([b"second"])
                with RawRouter(endpoint) as again:
                    assert (await again.receive())[1:] == [b"second"]
                    one.link.send([b"third"])
                    assert (await again.receive())[1:] == [b"third"]

    runner.run(main())


def test_what_was_sent_before_a_close_arrives(runner: asyncio.Runner, by_libzmq: bool) -> None:
    """Also in the same turn, and with bytes of the node unread."""

    async def main() -> None:
        with RawRouter() as node:
            one = Rig(node.endpoint, by_libzmq=by_libzmq)
            one.link.send([b"first"])
            identity = (await node.receive())[0]
            for _ in range(10):
                node.send(identity, b"unread")
            for number in range(100):
                one.link.send([b"%d" % number, bytes(100)])
            one.link.close(1_000)
            for number in range(100):
                assert (await node.receive())[1:] == [b"%d" % number, bytes(100)]

    runner.run(main())


def test_a_handler_that_fails_costs_no_other_message(runner: asyncio.Runner, by_libzmq: bool) -> None:
    """The loop's handler is told, and what came along is handed on."""

    async def main() -> None:
        errors: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
        with RawRouter() as node:
            async with rig(node.endpoint, by_libzmq=by_libzmq) as one:

                def failing(frames: list[bytes]) -> None:
                    one.got.append(frames)
                    if frames == [b"bad"]:
                        raise RuntimeError("of the owner")

                one.on_message = failing
                one.link.send([b"here"])
                identity = (await node.receive())[0]
                for body in (b"good", b"bad", b"good", b"better"):
                    node.send(identity, body)
                await until(lambda: len(one.got) == 4)
                assert one.got == [[b"good"], [b"bad"], [b"good"], [b"better"]]
                assert len(errors) == 1

    runner.run(main())


def test_two_of_our_own_ends_meet(runner: asyncio.Runner) -> None:
    """The DEALER's greeting does not wait for the ROUTER's, which waits for it."""

    async def main() -> None:
        listening = listen_tcp("tcp://127.0.0.1:*")
        assert listening is not None
        listener, endpoint = listening
        router = Router(
            listener, lambda frames: router.send(frames), message_max_bytes=8 * MIB, frames_max=64
        )
        router.start()
        async with rig(endpoint, identity="x" * 255) as one:
            one.link.send([b"there", b"and"])
            await until(lambda: one.got == [[b"there", b"and"]])
        router.close(0)

    runner.run(main())


def test_a_turn_is_one_write(runner: asyncio.Runner) -> None:
    """Twenty messages of one turn are read by the other side at once."""

    async def main() -> None:
        with raw_node() as node:
            async with rig(node.endpoint) as one:
                accepted = await node.shaken()
                await until(lambda: one.own._flows)
                for _ in range(20):
                    one.link.send([b"x"])
                assert await asyncio.to_thread(accepted.recv, 4096) == frame(b"x") * 20
                accepted.close()

    runner.run(main())


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(64),
        GREETING.replace(b"NULL", b"PLAI") + ready(kind=b"ROUTER"),
        GREETING + ready(kind=b"PUB"),
        GREETING + frame(b"\x05ERROR\x03no!", 4),
        GREETING + ready(kind=b"ROUTER") + b"\x08\x00",
        GREETING + ready(kind=b"ROUTER") + b"\x02" + (1 << 40).to_bytes(8, "big"),
    ],
    ids=["http", "mechanism", "type", "error", "reserved", "endless"],
)
def test_a_node_that_speaks_something_else_is_left_and_tried_again(
    runner: asyncio.Runner, said: bytes
) -> None:
    """No message comes of it, the loss is told each time, and a real node at the same place is served."""

    async def main() -> None:
        with raw_node() as node:
            async with rig(node.endpoint) as one:
                one.link.send([b"patient"])
                for count in (1, 2):
                    with await node.accept() as accepted:
                        accepted.sendall(said)
                        await until(lambda count=count: one.lost == count)  # type: ignore[misc]
                assert one.got == []
                with await node.shaken() as accepted:
                    if b"\x08\x00" not in said and b"\x02\0\0" not in said:  # it had not been taken before
                        said_to_it = node.rest
                        while frame(b"patient") not in said_to_it:
                            said_to_it += await asyncio.to_thread(accepted.recv, 4096)
                    accepted.sendall(frame(b"at last"))
                    await until(lambda: one.got == [[b"at last"]])

    runner.run(main())


def test_a_connection_that_is_cut_in_the_middle_leaves_nothing_behind(runner: asyncio.Runner) -> None:
    """Half a frame, and half a message, are not put in front of what the next connection brings."""

    async def main() -> None:
        with raw_node() as node:
            async with rig(node.endpoint) as one:
                for count, half in enumerate((frame(b"one", 1), frame(bytes(100_000))[:50_000]), start=1):
                    with await node.shaken() as accepted:
                        accepted.sendall(half)
                        await asyncio.to_thread(accepted.shutdown, socket.SHUT_RDWR)
                    await until(lambda count=count: one.lost == count)  # type: ignore[misc]
                with await node.shaken() as accepted:
                    accepted.sendall(frame(b"two", 1) + frame(b"three"))
                    await until(lambda: one.got == [[b"two", b"three"]])

    runner.run(main())


def test_a_node_that_does_not_read_costs_bounded_memory_and_no_order() -> None:
    """What does not fit is dropped, newest first, and counted; the rest comes whole once it is read."""

    async def main() -> None:
        with raw_node() as node:
            link = PlainLink(
                ("127.0.0.1", int(node.endpoint.rpartition(":")[2])),
                lambda frames: None,
                queue_max_count=100,
                queue_max_bytes=4 * MIB,
            )
            link.start()
            with await node.shaken() as accepted:
                await until(lambda: link._flows)
                count = 0
                while not link.dropped_count:
                    link.send([b"%06d" % count + bytes(99_994)])
                    count += 1
                    await asyncio.sleep(0)
                    assert link.queued_bytes < 5 * MIB
                kept = count - link.dropped_count
                got = b""
                whole = len(frame(bytes(100_000)))
                while len(got) < kept * whole:
                    got += await asyncio.to_thread(accepted.recv, MIB)
                    await asyncio.sleep(0)
                assert [got[at + 9 : at + 15] for at in range(0, len(got), whole)] == [
                    b"%06d" % number for number in range(kept)
                ]
                await until(lambda: link._flows and link.queued_bytes == 0)
            link.close(0)

    asyncio.run(main())


def test_a_silent_node_is_asked_and_then_given_up(runner: asyncio.Runner) -> None:
    """One that never finishes its greeting, too."""

    async def main() -> None:
        with raw_node() as node:
            async with rig(node.endpoint) as one:
                with await node.accept() as accepted:
                    accepted.sendall(GREETING[:20])
                    await until(lambda: one.own._heard)
                    for _ in range(HANDSHAKE_TICKS + 1):
                        one.own._on_tick()
                    assert one.own._socket is not None
                    one.own._on_tick()
                    await until(lambda: one.lost == 1)
                with await node.shaken() as accepted:
                    await until(lambda: one.own._flows)
                    one.own._on_tick()
                    one.own._on_tick()
                    said = node.rest
                    while PING + b"\0\x3c" not in said:  # six seconds, in tenths
                        said += await asyncio.to_thread(accepted.recv, 4096)
                    accepted.sendall(b"\x04\x05\x04PONG")
                    await until(lambda: one.own._heard)
                    one.own._on_tick()
                    assert one.own._silent_ticks == 0
                    for _ in range(SILENCE_TICKS):
                        one.own._on_tick()
                    assert one.own._socket is not None
                    one.own._on_tick()
                    await until(lambda: one.lost == 2)

    runner.run(main())


def test_a_pinging_node_is_answered_by_both_ways(by_libzmq: bool) -> None:
    """PONG brings back what the PING had, between two frames of a message as well."""

    async def main() -> None:
        with raw_node() as node:
            async with rig(node.endpoint, by_libzmq=by_libzmq) as one:
                with await node.shaken() as accepted:
                    accepted.sendall(frame(b"a", 1) + b"\x04\x0a\x04PING\0\x3cabc" + frame(b"b"))
                    said = b""
                    while b"\x04PONGabc" not in said:
                        said += await asyncio.to_thread(accepted.recv, 4096)
                    await until(lambda: one.got == [[b"a", b"b"]])

    asyncio.run(main())


def test_a_name_is_looked_up_and_one_that_nobody_has_is_refused() -> None:
    """In a thread, so that the loop goes on."""

    async def main() -> None:
        with RawRouter() as node:
            port = node.endpoint.rpartition(":")[2]
            async with rig(f"tcp://localhost:{port}") as one:
                one.link.send([b"hello"])
                assert (await node.receive())[1:] == [b"hello"]
        async with rig("tcp://no-such-host.invalid:5555") as one:
            await until(lambda: one.refused > 0)
            assert zmq.zmq_version_info() >= (4, 3, 5)

    asyncio.run(main())
