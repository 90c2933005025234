"""Our own ROUTER and real connections: raw sockets that speak ZMTP by hand, libzmq's DEALER and REQ."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop
import zmq

from core.shell.router import DOUBT_TICKS, HANDSHAKE_TICKS, SILENCE_TICKS, Router
from core.shell.sockets import listen_tcp
from tests.support.hostile import GREETING, RawPeer, frame, ready
from tests.support.processes import DEADLINE_S
from tests.support.raw_router import until

LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]
MIB = 1 << 20


@pytest.fixture(params=LOOPS, ids=["asyncio", "uvloop"])
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    """Every test that takes it holds on both loops."""
    with asyncio.Runner(loop_factory=request.param) as made:
        yield made


class Rig:
    """A router and what it told its owner."""

    def __init__(self, **options: int) -> None:
        listening = listen_tcp("tcp://127.0.0.1:*")
        assert listening is not None
        listener, self.endpoint = listening
        self.got: list[list[bytes]] = []
        self.gone: list[list[bytes]] = []
        self.lost: list[bytes] = []
        self.turns = 0
        self.on_message: Callable[[list[bytes]], None] = self.got.append
        limits: Any = {"message_max_bytes": 8 * MIB, "frames_max": 64, **options}
        self.router = Router(
            listener,
            lambda frames: self.on_message(frames),
            on_unreachable=self.gone.append,
            on_lost=self.lost.append,
            after_batch=self._after_batch,
            **limits,
        )
        self.router.start()

    def _after_batch(self) -> None:
        self.turns += 1

    async def peer(self, name: bytes = b"") -> RawPeer:
        """A raw peer after its handshake, which this loop has to answer meanwhile."""
        peer = RawPeer(self.endpoint)
        await asyncio.to_thread(peer.shake, name)
        return peer


@asynccontextmanager
async def rig(**options: int) -> AsyncIterator[Rig]:
    made = Rig(**options)
    try:
        yield made
    finally:
        made.router.close(0)


def test_libzmq_peers_are_served(runner: asyncio.Runner) -> None:
    """DEALER and REQ of libzmq, named and not, with bodies from nothing to several megabytes, each way."""

    async def main() -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        async with rig() as one:
            one.on_message = lambda frames: one.router.send(frames)
            dealer, req = context.socket(zmq.DEALER), context.socket(zmq.REQ)
            dealer.set(zmq.ROUTING_ID, b"lucy")
            bodies = [b"", b"x", bytes(255), bytes(256), bytes(300_000), bytes(3 * MIB)]
            for peer in (dealer, req):
                peer.set(zmq.LINGER, 0)
                peer.connect(one.endpoint)
            for body in bodies:
                dealer.send_multipart([b"", body, b"end"])
                req.send(body)
                await until(lambda: bool(dealer.poll(0)) and bool(req.poll(0)))
                assert dealer.recv_multipart() == [b"", body, b"end"]
                assert req.recv() == body
            dealer.close()
            req.close()
            context.term()

    runner.run(main())


def test_identities_are_given_or_taken(runner: asyncio.Runner) -> None:
    """A peer with a name has it in front; one without gets five bytes, the first zero, no two the same."""

    async def main() -> None:
        async with rig() as one:
            peers = [await one.peer(), await one.peer(), await one.peer(b"lucy")]
            for peer in peers:
                peer.send(b"hello")
            await until(lambda: len(one.got) == 3)
            first, second, named = sorted(frames[0] for frames in one.got)
            assert named == b"lucy"
            assert first != second
            assert [(len(name), name[0]) for name in (first, second)] == [(5, 0), (5, 0)]
            for peer in peers:
                peer.socket.close()

    runner.run(main())


def test_the_end_of_a_nameless_peer_is_told_at_once(runner: asyncio.Runner) -> None:
    """Its identity never comes again; a named one may come back, and only a message shows that it is away."""

    async def main() -> None:
        async with rig() as one:
            nameless, named = await one.peer(), await one.peer(b"lucy")
            nameless.send(b"x")
            await until(lambda: bool(one.got))
            for peer in (nameless, named):
                peer.socket.close()
            await until(lambda: bool(one.lost))
            one.router.send([b"lucy", b"are", b"you there"])
            await until(lambda: bool(one.gone))
            assert one.lost == [one.got[0][0]]
            assert one.gone == [[b"lucy", b"are", b"you there"]]

    runner.run(main())


def test_what_arrives_together_is_one_turn(runner: asyncio.Runner) -> None:
    """The owner hears of the end of a turn once for many messages, and their answers are one write."""

    async def main() -> None:
        async with rig() as one:
            peer = await one.peer(b"lucy")
            one.on_message = lambda frames: one.router.send(frames)
            peer.socket.sendall(frame(b"x") * 20)
            assert await asyncio.to_thread(peer.socket.recv, 4_096) == frame(b"x") * 20
            assert one.turns == 1
            peer.socket.close()

    runner.run(main())


def test_a_flood_leaves_others_their_turn(runner: asyncio.Runner) -> None:
    """Of one peer at most 200 messages are handled before the loop goes round; all arrive, in order."""

    async def main() -> None:
        async with rig() as one:
            peer, other = await one.peer(b"flood"), await one.peer(b"calm")
            peer.socket.sendall(b"".join(frame(b"%d" % number) for number in range(5_000)))
            other.send(b"me too")
            await until(lambda: len(one.got) == 5_001)
            assert [frames[1] for frames in one.got if frames[0] == b"flood"] == [
                b"%d" % number for number in range(5_000)
            ]
            assert one.turns > 10
            for each in (peer, other):
                each.socket.close()

    runner.run(main())


def test_slow_messages_leave_others_their_turn(runner: asyncio.Runner) -> None:
    """What takes long to handle is put off after 20 ms; it comes in order, also when its sender has gone."""

    async def main() -> None:
        async with rig() as one:
            peer = await one.peer(b"slow")
            clock = asyncio.get_running_loop().time
            turns: list[int] = []

            def on_message(frames: list[bytes]) -> None:
                until_s = clock() + 0.005
                while clock() < until_s:
                    pass
                one.got.append(frames)
                turns.append(one.turns)

            one.on_message = on_message
            peer.socket.sendall(b"".join(frame(b"%d" % number) for number in range(40)))
            peer.socket.close()
            await until(lambda: len(one.got) == 40)
            assert [frames[1] for frames in one.got] == [b"%d" % number for number in range(40)]
            assert turns[-1] >= 3, "eight messages of 5 ms are a turn"

    runner.run(main())


def test_a_handler_that_raises_loses_only_its_message(runner: asyncio.Runner) -> None:
    """The loop's exception handler is told, and the rest of what came with it still arrives."""

    async def main() -> None:
        errors: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, facts: errors.append(facts["exception"]))
        async with rig() as one:

            def on_message(frames: list[bytes]) -> None:
                if frames[1] == b"1":
                    raise LookupError("bad message")
                one.got.append(frames)

            one.on_message = on_message
            peer = await one.peer(b"lucy")
            peer.socket.sendall(frame(b"0") + frame(b"1") + frame(b"2"))
            await until(lambda: len(one.got) == 2)
            assert [frames[1] for frames in one.got] == [b"0", b"2"]
            assert isinstance(errors[0], LookupError)
            peer.socket.close()

    runner.run(main())


def test_who_does_not_read_has_bounded_messages_waiting(runner: asyncio.Runner) -> None:
    """Beyond the bound the newest are dropped and counted; what was kept arrives in order once it reads."""

    async def main() -> None:
        async with rig(peer_max_count=50) as one:
            peer = await one.peer(b"deaf")
            for number in range(400):
                one.router.send([b"deaf", b"%04d" % number + bytes(60_000)])
                await asyncio.sleep(0)
            assert one.router.dropped_count > 0
            assert one.router.queued_bytes > 50 * 60_000
            kept = 400 - one.router.dropped_count
            data = await asyncio.to_thread(read_messages, peer, kept)
            assert data == [b"%04d" % number for number in range(kept)]
            await until(lambda: one.router.queued_bytes == 0)
            peer.socket.close()

    runner.run(main())


def read_messages(peer: RawPeer, count: int) -> list[bytes]:
    """The first four bytes of each of so many messages of 60,004 bytes."""
    file = peer.socket.makefile("rb")
    found = []
    for _ in range(count):
        whole = file.read(9 + 60_004)
        assert whole[:9] == b"\x02" + (60_004).to_bytes(8, "big")
        found.append(whole[9:13])
    return found


def test_bytes_for_all_are_bounded_and_the_deaf_are_ended(runner: asyncio.Runner) -> None:
    """While half of the room is taken, who takes nothing for a tick is cut off; its messages come back."""

    async def main() -> None:
        async with rig(queue_max_bytes=4 * MIB) as one:
            deaf, calm = await one.peer(b"deaf"), await one.peer(b"calm")
            for _ in range(20):
                one.router.send([b"deaf", bytes(MIB)])
            assert one.router.queued_bytes <= 6 * MIB
            assert one.router.dropped_count > 0

            def ended() -> bool:
                one.router.look()
                return one.router.ended_count == 1

            await until(ended)
            await until(lambda: bool(one.gone))
            assert one.router.queued_bytes == 0
            one.router.send([b"calm", b"hello"])
            assert await asyncio.to_thread(calm.socket.recv, 100) == frame(b"hello")
            for peer in (deaf, calm):
                peer.socket.close()

    runner.run(main())


def test_a_name_in_use_is_not_given_twice(runner: asyncio.Runner) -> None:
    """The second is sent away and asked back by its own reconnecting; an owner that is dead is found out."""

    async def main() -> None:
        async with rig() as one:
            owner, thief = await one.peer(b"lucy"), RawPeer(one.endpoint)
            await asyncio.to_thread(thief.shake, b"lucy")
            await until(thief.is_closed)
            owner.send(b"still me")
            await until(lambda: one.got == [[b"lucy", b"still me"]])
            assert b"\x04PING" in await asyncio.to_thread(owner.socket.recv, 100)
            for _ in range(DOUBT_TICKS + 2):  # it does not answer
                one.router.look()
            await until(owner.is_closed)
            heir = await one.peer(b"lucy")
            heir.send(b"me now")
            await until(lambda: one.got[1:] == [[b"lucy", b"me now"]])
            for peer in (owner, thief, heir):
                peer.socket.close()

    runner.run(main())


def test_silence_is_asked_about_then_ended() -> None:
    """A peer of ZMTP 3.1 gets a PING after 15 ticks and is gone after 30; one that answers stays."""

    async def main() -> None:
        async with rig() as one:
            silent, alive, old = await one.peer(b"silent"), await one.peer(b"alive"), RawPeer(one.endpoint)
            old.socket.sendall(GREETING[:11] + b"\0" + GREETING[12:] + ready(b"old"))
            old.send(b"x")
            alive.socket.setblocking(False)
            await until(lambda: bool(one.got))
            for _ in range(SILENCE_TICKS + 2):
                one.router.look()
                answered = False
                with contextlib.suppress(BlockingIOError):
                    if b"\x04PING" in alive.socket.recv(100):
                        alive.socket.sendall(frame(b"\x04PONG", 4))
                        answered = True
                if answered:
                    await until(lambda: is_heard(one, b"alive"))
            await until(silent.is_closed)
            assert not alive.is_closed()
            assert not old.is_closed(), "who does not know PING is not judged by it"
            for peer in (silent, alive, old):
                peer.socket.close()

    asyncio.run(main())


def is_heard(one: Rig, name: bytes) -> bool:
    """Whether the peer has said something since the last tick."""
    return one.router._peers[name].heard_tick == one.router._tick


def test_half_a_handshake_is_ended() -> None:
    """Who has not said who it is after five ticks is gone."""

    async def main() -> None:
        async with rig() as one:
            half = RawPeer(one.endpoint)
            half.socket.sendall(GREETING)
            await until(lambda: len(one.router._connections) == 1)
            for _ in range(HANDSHAKE_TICKS + 3):
                one.router.look()
                await asyncio.sleep(0)
            await until(half.is_closed)
            half.socket.close()

    asyncio.run(main())


def test_close_lets_out_what_was_sent() -> None:
    """Within the linger a slow reader still gets all of it; what is left after that is counted."""

    async def main() -> None:
        one = Rig()
        peer = await one.peer(b"slow")
        for number in range(100):
            one.router.send([b"slow", b"%04d" % number + bytes(60_000)])
        reading = asyncio.create_task(asyncio.to_thread(read_messages, peer, 100))
        await asyncio.sleep(0)
        one.router.close(int(DEADLINE_S * 1_000))
        assert await reading == [b"%04d" % number for number in range(100)]
        assert one.router.dropped_count == 0
        peer.socket.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("endpoint", "served"),
    [
        ("tcp://127.0.0.1:0", True),
        ("tcp://localhost:*", True),
        ("tcp://*:*", True),
        ("tcp://lo:5555", False),
        ("ipc:///run/x", False),
        ("inproc://x", False),
    ],
)
def test_which_addresses_are_ours(endpoint: str, served: bool) -> None:
    """TCP at an address; names of interfaces and other transports are libzmq's."""
    listening = listen_tcp(endpoint)
    assert (listening is not None) == served
    if listening is not None:
        listener, bound = listening
        assert bound.startswith("tcp://")
        assert int(bound.rpartition(":")[2]) == listener.getsockname()[1] > 0
        listener.close()


def test_a_taken_address_is_named() -> None:
    """The error says which."""
    listening = listen_tcp("tcp://127.0.0.1:*")
    assert listening is not None
    listener, bound = listening
    with pytest.raises(OSError, match=bound):
        listen_tcp(bound)
    with pytest.raises(OSError, match="65535"):
        listen_tcp("tcp://127.0.0.1:70000")
    listener.close()
