"""The wire between the nodes of a pair: what travels, who is let in, and what a listener learns."""

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import zmq

from core.shell import curve
from core.shell.peer import PeerLink
from core.shell.sockets import bind_router
from tests.support.chaos_proxy import ChaosProxy
from tests.support.processes import free_port
from tests.support.waiting import check_never, until_true

REFUSED_S = 0.5
SECRET = b"what only the two nodes may know"


def keys(folder: Path, name: str) -> Path:
    """A folder with a new pair of keys."""
    curve.keygen(folder / name, curve.SERVER)
    return folder / name


class End:
    """One node's side: what it heard."""

    def __init__(self, bind: int, peer: int, folder: Path | None) -> None:
        self.heard: list[list[bytes]] = []
        self.refused_count = 0
        self.link = PeerLink(
            f"tcp://127.0.0.1:{bind}",
            f"tcp://127.0.0.1:{peer}",
            self.heard.append,
            self._refused,
            lambda: None,
            message_max_bytes=1 << 20,
            curve=folder,
        )
        self.link.start()

    def _refused(self) -> None:
        self.refused_count += 1


@asynccontextmanager
async def ends(first: Path | None, second: Path | None) -> AsyncIterator[tuple[End, End]]:
    """Both sides, with the keys in these folders."""
    ports = free_port(), free_port()
    one = End(ports[0], ports[1], first)
    other = End(ports[1], ports[0], second)
    try:
        yield one, other
    finally:
        one.link.close()
        other.link.close()


async def talk(one: End, other: End) -> None:
    """What each says arrives at the other, said again until it does: a link may be made anew meanwhile."""

    def heard() -> bool:
        one.link.send([b"to", b"the other"])
        other.link.send([b"to", b"the one"])
        return bool(one.heard and other.heard)

    await until_true("both arrived", heard)
    assert (one.heard[-1], other.heard[-1]) == ([b"to", b"the one"], [b"to", b"the other"])


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
def test_two_nodes_talk(tmp_path: Path, encrypted: bool) -> None:
    """Without keys, or with one key in both folders, messages go both ways."""
    here = keys(tmp_path, "here") if encrypted else None

    async def scene() -> None:
        async with ends(here, here) as (one, other):
            assert one.link.encrypted is encrypted
            await talk(one, other)

    asyncio.run(scene())


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
def test_what_is_said_to_nobody_is_never_heard(tmp_path: Path, encrypted: bool) -> None:
    """A peer that ends is noticed; what is said meanwhile is dropped, and its next run hears the rest."""
    here = keys(tmp_path, "here") if encrypted else None
    ports = free_port(), free_port()

    async def scene() -> None:
        one = End(ports[0], ports[1], here)
        other = End(ports[1], ports[0], here)
        try:
            await talk(one, other)
            other.link.close()
            await until_true("its end is noticed", lambda: not one.link.up)
            await until_true("nobody listens, and that is told", lambda: one.refused_count)
            one.link.send([b"to", b"nobody"])
            other = End(ports[1], ports[0], here)
            await talk(one, other)
            assert [b"to", b"nobody"] not in other.heard
        finally:
            one.link.close()
            other.link.close()

    asyncio.run(scene())


def test_who_answers_and_does_not_speak_the_protocol_is_complained_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The port is open, so nothing is refused; the link never is up, and the log says what to look at."""

    async def scene() -> None:
        async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        end = End(free_port(), server.sockets[0].getsockname()[1], None)
        try:
            await until_true("the log says so", lambda: "answers, but not to this node" in caplog.text)
            assert not end.link.up
            assert end.refused_count == 0
        finally:
            end.link.close()
            server.close()

    asyncio.run(scene())


@pytest.mark.parametrize("has", [True, False], ids=["another key", "no keys at all"])
def test_a_node_with_another_key_is_a_stranger(
    tmp_path: Path, has: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither hears a word of the other, although both ports are open; the log says why."""
    here, there = keys(tmp_path, "here"), keys(tmp_path, "there")

    async def scene() -> None:
        async with ends(here, there if has else None) as (one, other):

            def call_out() -> None:
                one.link.send([b"x"])
                other.link.send([b"x"])

            def let_in() -> bool:
                return bool(one.heard or other.heard or one.link.up)

            await check_never("a stranger was let in", let_in, for_s=REFUSED_S, meanwhile=call_out)
            await until_true("the log says why", lambda: "both need the same server.key" in caplog.text)
            assert one.link.refused_count + other.link.refused_count >= 3

    asyncio.run(scene())


def test_a_name_that_nobody_knows_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It looks like a peer that is away, and never comes."""

    async def unknown(*where: object) -> None:
        asked.append(where)
        raise socket.gaierror(-2, "Name or service not known")

    async def scene() -> None:
        end = End(free_port(), free_port(), None)
        try:
            await until_true("it was asked for again", lambda: len(asked) > 1)
        finally:
            end.link.close()

    asked: list[object] = []
    monkeypatch.setattr(asyncio, "open_connection", unknown)
    asyncio.run(scene())
    assert [line.getMessage().count("cannot be resolved") for line in caplog.records] == [1]


def test_who_knows_the_public_key_only_is_refused_and_counted(tmp_path: Path) -> None:
    """A client of the pair has the nodes' public key; it is not let onto the wire between them."""
    here = keys(tmp_path, "here")

    async def scene() -> None:
        port = free_port()
        end = End(port, free_port(), here)
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        client = context.socket(zmq.DEALER)
        public, secret = zmq.curve_keypair()
        curve.ClientKeys((here / "server.pub").read_bytes().strip(), public, secret).apply(client)
        client.connect(f"tcp://127.0.0.1:{port}")
        try:
            client.send(b"let me in")
            await until_true("the stranger is counted", lambda: end.link.refused_count)
            await check_never("the stranger was heard", lambda: end.heard, for_s=REFUSED_S / 5)
        finally:
            context.destroy(linger=0)
            end.link.close()

    asyncio.run(scene())


def test_without_a_usable_key_nothing_is_bound(tmp_path: Path) -> None:
    """A folder without the key, or with one that others can read, is an error, and the port stays free."""
    open_to_all = keys(tmp_path, "open")
    (open_to_all / "server.key").chmod(0o644)

    async def scene() -> None:
        for bad in (tmp_path / "missing", open_to_all):
            port = free_port()
            with pytest.raises(curve.CurveError):
                End(port, free_port(), bad)
            context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
            socket, _ = bind_router(context, f"tcp://127.0.0.1:{port}")
            socket.close(linger=0)
            context.term()

    asyncio.run(scene())


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
def test_a_listener_on_the_wire_learns_nothing_of_an_encrypted_link(tmp_path: Path, encrypted: bool) -> None:
    """The bytes of a message are on a plain wire (so the listener works), and not on an encrypted one."""
    here = keys(tmp_path, "here") if encrypted else None
    ports = free_port(), free_port()

    async def scene(proxy: ChaosProxy) -> None:
        one = End(ports[0], proxy.port, here)
        other = End(ports[1], ports[0], here)
        try:
            await until_true("the link is up", lambda: one.link.up)
            one.link.send([SECRET])
            await until_true("it arrived", lambda: other.heard)
        finally:
            one.link.close()
            other.link.close()

    with ChaosProxy(ports[1], listens=True) as proxy:
        asyncio.run(scene(proxy))
        assert (SECRET in proxy.heard) is not encrypted
        assert b"CURVE" in proxy.heard or not encrypted


def test_a_changed_key_is_used_without_a_restart(tmp_path: Path) -> None:
    """The key's file is replaced under both nodes: they meet again under the new one, and only under it."""
    here, new = keys(tmp_path, "here"), keys(tmp_path, "new")

    async def scene() -> None:
        async with ends(here, here) as (one, other):
            await talk(one, other)
            for name in ("server.pub", "server.key"):
                shutil.copy2(new / name, tmp_path / f"{name}.draft")
                (tmp_path / f"{name}.draft").replace(here / name)
            await until_true("both took it", lambda: one.link.rekeyed_count == other.link.rekeyed_count == 1)
            one.heard.clear()
            other.heard.clear()
            await talk(one, other)
        async with ends(here, new) as (one, other):
            await talk(one, other)

    asyncio.run(scene())
