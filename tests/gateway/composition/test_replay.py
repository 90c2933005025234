"""A node that is still opening its store says so, and how far it is (B3)."""

import asyncio
import threading
from pathlib import Path

import zmq
import zmq.asyncio

from core.pure import tsp
from gateway.composition.journal import DATA_FILE, open_journal
from gateway.composition.replay import Replay, opened
from titanic_store import Options, StoreMissingError

DEADLINE_S = 10.0


async def ask(endpoint: str, service: bytes) -> list[bytes]:
    """One MDP/0.1 question; the frames behind the service."""
    context = zmq.asyncio.Context()
    socket = context.socket(zmq.DEALER)
    socket.linger = 0
    try:
        socket.connect(endpoint)
        await socket.send_multipart([b"", b"MDPC01", service, b""])
        frames = await asyncio.wait_for(socket.recv_multipart(), DEADLINE_S)
        assert frames[:3] == [b"", b"MDPC01", service]
        return frames[3:]
    finally:
        socket.close()
        context.term()


def test_who_asks_meanwhile_is_told_how_far_it_is(tmp_path: Path) -> None:
    """hello: not ready, with bytes; everything else 503 with the same reason; afterwards nobody listens."""
    journal = open_journal(tmp_path, Options(chunk_bytes=1 << 16))
    secret = journal.id_secret
    journal.close()
    replay = Replay(tmp_path / DATA_FILE, "always", 1 << 20)
    go_on = threading.Event()

    def work() -> str:
        replay.progress(1, 4)
        assert go_on.wait(DEADLINE_S)
        return "journal"

    async def story() -> None:
        with zmq.Context() as context, context.socket(zmq.ROUTER) as probe:
            probe.bind("tcp://127.0.0.1:0")
            endpoint = probe.get_string(zmq.LAST_ENDPOINT)
        opening = asyncio.ensure_future(opened(work, replay, endpoint))
        status, head = await ask(endpoint, tsp.HELLO)
        hello = tsp.decode_hello(head)
        assert status == tsp.OK
        assert not hello.ready
        assert hello.reason == f"replaying {(8192 + (4 << 16)) // 4} of {8192 + (4 << 16)} bytes"
        assert (hello.id_secret, hello.durability) == (secret, "fsync")
        status, head = await ask(endpoint, tsp.SUBMIT)
        assert status == tsp.UNAVAILABLE
        assert b"replaying" in head
        go_on.set()
        assert await opening == ("journal", endpoint)
        with zmq.Context() as context, context.socket(zmq.ROUTER) as after:
            after.bind(endpoint)

    asyncio.run(story())


def test_an_error_of_opening_is_the_nodes(tmp_path: Path) -> None:
    """What goes wrong in the thread ends the node as before; a store that is quick needs no waiting room."""

    def work() -> str:
        raise StoreMissingError("there")

    async def story() -> BaseException | None:
        replay = Replay(tmp_path / DATA_FILE, "never", 1)
        assert replay.hello().durability == "memory"
        try:
            await opened(work, replay, "tcp://not an endpoint")
        except StoreMissingError as error:
            return error
        return None

    assert isinstance(asyncio.run(story()), StoreMissingError)
