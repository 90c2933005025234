"""What our own ROUTER offers and takes as bytes: on real connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from core.pure.zmtp import encoded
from core.shell.router import Router
from core.shell.sockets import listen_tcp
from tests.support.hostile import RawPeer, frame
from tests.support.raw_router import until

OLD_GREETING = b"\x01\x00"  # ZMTP 1.0: an empty identity


class Rig:
    """A router whose owner reads bytes."""

    def __init__(self) -> None:
        listening = listen_tcp("tcp://127.0.0.1:*")
        assert listening is not None
        listener, self.endpoint = listening
        self.offered: list[bytes] = []
        self.got: list[list[bytes]] = []
        self.gone: list[list[bytes]] = []
        self.read: Callable[[bytes], int] = len
        self.router = Router(
            listener,
            self.got.append,
            message_max_bytes=1 << 20,
            frames_max=64,
            on_unreachable=self.gone.append,
            on_bytes=self._on_bytes,
        )
        self.router.start()

    def _on_bytes(self, identity: bytes, data: bytes) -> int:
        assert identity == b"lucy"
        self.offered.append(data)
        return self.read(data)

    async def peer(self) -> RawPeer:
        """Lucy, after her handshake."""
        peer = RawPeer(self.endpoint)
        await asyncio.to_thread(peer.shake, b"lucy")
        return peer


@asynccontextmanager
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    try:
        yield made
    finally:
        made.router.close(0)


def test_what_is_not_taken_as_bytes_comes_as_messages() -> None:
    """In order; and nothing is offered while a part of a message is held."""

    async def main() -> None:
        async with rig() as one:
            peer = await one.peer()
            one.read = lambda data: 3 if data.startswith(frame(b"a")) else 0
            peer.socket.sendall(frame(b"a") + frame(b"b") + b"\0")
            await until(lambda: one.got == [[b"lucy", b"b"]])
            peer.socket.sendall(b"\1c" + frame(b"a"))
            await until(lambda: len(one.got) == 3)
            assert one.got[1:] == [[b"lucy", b"c"], [b"lucy", b"a"]]
            peer.socket.sendall(frame(b"a"))
            await until(lambda: len(one.offered) == 2)
            assert one.offered == [frame(b"a") + frame(b"b") + b"\0", frame(b"a")]
            peer.socket.close()

    asyncio.run(main())


def test_an_owner_that_raises_over_bytes_ends_the_connection() -> None:
    """Nobody knows how far they were read; the loop is told, and others are served."""

    async def main() -> None:
        errors: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, facts: errors.append(facts["exception"]))

        def read(data: bytes) -> int:
            raise LookupError(data)

        async with rig() as one:
            one.read = read
            peer = await one.peer()
            peer.send(b"x")
            await until(peer.is_closed)
            assert [type(error) for error in errors] == [LookupError]
            one.read = len
            with await one.peer() as other:
                other.send(b"y")
                await until(lambda: one.offered[1:] == [frame(b"y")])
            peer.socket.close()

    asyncio.run(main())


def test_written_messages_go_out_in_order_with_the_others() -> None:
    """One write for a turn, also where the kernel has no room for a while."""

    async def main() -> None:
        async with rig() as one:
            peer = await one.peer()
            big = bytes(300_000)
            for number in range(40):
                one.router.forward(b"lucy", encoded([b"", b"%02d" % number]))
                one.router.send([b"lucy", b"%02d" % number, big])
            file = peer.socket.makefile("rb")
            for number in range(40):
                for wanted in (encoded([b"", b"%02d" % number]), encoded([b"%02d" % number, big])):
                    assert await asyncio.to_thread(file.read, len(wanted)) == wanted
            assert one.router.dropped_count == 0
            peer.socket.close()

    asyncio.run(main())


def test_a_written_message_that_reaches_nobody_comes_back_as_frames() -> None:
    """To an unknown name, and to one whose connection ended before it was sent."""

    async def main() -> None:
        async with rig() as one:
            peer = await one.peer()
            peer.send(b"x")
            await until(lambda: bool(one.offered))
            one.router.forward(b"nobody", encoded([b"", b"hello"]))
            peer.socket.close()
            await until(lambda: one.gone == [[b"nobody", b"", b"hello"]])

            def all_gone() -> bool:
                one.router.forward(b"lucy", encoded([b"", b"bye"]))
                return [b"lucy", b"", b"bye"] in one.gone

            await until(all_gone)

    asyncio.run(main())


def test_a_peer_of_version_1_is_sent_what_it_can_read() -> None:
    """A written message is taken apart for it, and nothing it says is offered as bytes."""

    async def main() -> None:
        async with rig() as one:
            peer = RawPeer(one.endpoint)
            peer.socket.sendall(OLD_GREETING + b"\x02\x00x")
            await until(lambda: bool(one.got))
            assert one.offered == []
            one.router.forward(one.got[0][0], encoded([b"", b"hello"]))
            said = b""
            while b"hello" not in said:
                said += await asyncio.to_thread(peer.socket.recv, 100)
            assert said.endswith(b"\x01\x01\x06\x00hello")
            peer.socket.close()

    asyncio.run(main())
