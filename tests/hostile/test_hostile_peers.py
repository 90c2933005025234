"""Peers of a real node that break every rule they can: it serves on, does not swell, and counts."""

from __future__ import annotations

import contextlib
import random
import select
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.hostile import (
    GREETING,
    MORE,
    Honest,
    RawPeer,
    check_served,
    counters,
    frame,
    peak_bytes,
    rss_bytes,
    until_count,
)
from tests.support.processes import Titanic, processes, until

MIB: Final = 1 << 20
SEED: Final = random.SystemRandom().randrange(1 << 32)

Node = tuple[Titanic, str]


@pytest.fixture(scope="module", params=["own", "libzmq"])
def zmtp(request: pytest.FixtureRequest) -> str:
    """Who serves the peers: all of this holds for both."""
    return str(request.param)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, zmtp: str) -> Iterator[Node]:
    """One node for all of them: each test leaves it as good as it found it."""
    folder: Path = tmp_path_factory.mktemp("hostile")
    with processes(folder) as family:
        yield family.node(folder / "data", env={"TITANIC_ZMTP": zmtp})


@pytest.fixture(autouse=True)
def _still_there(node: Node) -> Iterator[None]:
    """Whatever was done to it, the same process answers a newcomer afterwards."""
    yield
    assert node[0].process.poll() is None, node[0].errors
    check_served(node[1])


def test_garbage_bytes_end_their_connection_only(node: Node) -> None:
    """Random bytes, also behind a correct greeting, cost nothing but the connection they came over."""
    print("seed", SEED)
    source = random.Random(SEED)
    before = rss_bytes(node[0].process.pid)
    for number in range(60):
        with RawPeer(node[1]) as peer:
            noise = source.randbytes(source.randrange(1, 5_000))
            try:
                peer.socket.sendall(GREETING + noise if number % 2 else noise)
            except OSError:
                continue  # ended before all was sent
    assert rss_bytes(node[0].process.pid) - before < 32 * MIB


def test_garbage_frames_are_counted(node: Node) -> None:
    """Well-formed ZMTP with anything inside is dropped as invalid, one count per message."""
    print("seed", SEED)
    source = random.Random(SEED)
    before = counters(node[1])["dropped_invalid"]
    with RawPeer(node[1]) as peer:
        peer.shake()
        for _ in range(200):
            peer.send(*(b"?" + source.randbytes(source.randrange(40)) for _ in range(source.randrange(1, 9))))
        until_count(node[0], node[1], "dropped_invalid", before + 200)


def test_a_message_of_a_hundred_thousand_frames_is_one_invalid_message(node: Node) -> None:
    """It is received, not copied, and dropped; memory stays within what libzmq needs to hold it once."""
    before, rss = counters(node[1])["dropped_invalid"], rss_bytes(node[0].process.pid)
    with RawPeer(node[1]) as peer:
        peer.shake()
        peer.send(b"", b"MDPC01", b"mmi.service", *([b"x"] * 100_000))
        until_count(node[0], node[1], "dropped_invalid", before + 1)
    assert rss_bytes(node[0].process.pid) - rss < 64 * MIB


def test_a_frame_of_a_gigabyte_is_refused_when_it_is_announced(node: Node) -> None:
    """MAXMSGSIZE: the connection ends at the length, before any memory is set aside for the body."""
    before = peak_bytes(node[0].process.pid)
    with RawPeer(node[1]) as peer:
        peer.shake()
        peer.socket.sendall(b"\x02" + (1 << 30).to_bytes(8, "big") + b"x" * 1_000)
        until("the connection is closed", peer.is_closed)
    assert peak_bytes(node[0].process.pid) - before < 16 * MIB


def test_half_open_connections_are_ended(node: Node) -> None:
    """Who connects and says nothing, or stops after the greeting, is cut off after five seconds."""
    before = rss_bytes(node[0].process.pid)
    silent = [RawPeer(node[1]) for _ in range(40)]
    for peer in silent[20:]:
        peer.socket.sendall(GREETING)
    assert not any(peer.is_closed() for peer in silent)
    check_served(node[1])
    until("all are closed", lambda: all(peer.is_closed() for peer in silent), deadline_s=12, pause_s=0.1)
    for peer in silent:
        peer.socket.close()
    assert rss_bytes(node[0].process.pid) - before < 16 * MIB


def test_nobody_takes_the_name_of_a_connected_peer(node: Node) -> None:
    """A second connection under a worker's identity is not heard, and does not cost the worker anything."""
    before = rss_bytes(node[0].process.pid)
    with Honest(node[1], b"worker-7") as worker, Honest(node[1]) as client, RawPeer(node[1]) as thief:
        worker.send(b"", b"MDPW01", b"\x01", b"vault")
        until("the worker is there", lambda: client.ask(b"mmi.service", b"vault") == [b"200"])
        thief.shake(b"worker-7")
        _shout(thief, b"", b"MDPW01", b"\x05")  # DISCONNECT, as if the worker left
        check_served(node[1])
        client.send(b"", b"MDPC01", b"vault", b"secret")
        _, _, command, address, _, body = worker.receive()
        assert (command, body) == (b"\x02", b"secret")
        _shout(thief, b"", b"MDPW01", b"\x03", address, b"", b"forged")
        worker.send(b"", b"MDPW01", b"\x03", address, b"", b"real")
        assert client.answer(b"vault") == [b"real"]
    assert rss_bytes(node[0].process.pid) - before < 16 * MIB


def _shout(peer: RawPeer, *frames: bytes) -> None:
    """Send, to a node that may have ended the connection already."""
    with contextlib.suppress(OSError):
        peer.send(*frames)


def test_a_client_that_never_reads_does_not_fill_memory(node: Node) -> None:
    """What waits for it is dropped beyond a bound, and counted; others are answered meanwhile."""
    before, rss = counters(node[1])["sends_dropped"], rss_bytes(node[0].process.pid)
    question = b"".join((frame(b"", MORE), frame(b"MDPC01", MORE), frame(b"mmi.service", MORE), frame(b"x")))
    with RawPeer(node[1]) as deaf:
        deaf.shake()
        deaf.socket.settimeout(20)
        for _ in range(100):
            deaf.socket.sendall(question * 5_000)
            if counters(node[1])["sends_dropped"] > before:
                break
        check_served(node[1])
        assert counters(node[1])["sends_dropped"] > before
        assert rss_bytes(node[0].process.pid) - rss < 64 * MIB


def test_a_message_without_end_is_ended(node: Node, zmtp: str) -> None:
    """At 64 MiB of one message its connection is ended; over libzmq, which has no limit, by the guard."""
    before = counters(node[1])["connections_ended"]
    base = rss_bytes(node[0].process.pid)
    chunk = frame(b"x" * MIB, MORE)
    with Honest(node[1]) as client, RawPeer(node[1]) as peer:
        peer.shake()
        peer.socket.settimeout(2)
        for _ in range(4_000):
            try:
                peer.socket.sendall(chunk)
            except OSError:
                break  # ended: what this test waits for
        else:
            raise AssertionError("four gigabytes were taken")
        assert client.ask(b"mmi.service", b"mmi.service") == [b"200"], "others keep their connections"
    until_count(node[0], node[1], "connections_ended", before + 1)
    peak_max_bytes, rest_max_bytes = (400 * MIB, 100 * MIB) if zmtp == "own" else (3_000 * MIB, 300 * MIB)
    assert peak_bytes(node[0].process.pid) - base < peak_max_bytes
    until("memory is given back", lambda: rss_bytes(node[0].process.pid) - base < rest_max_bytes)


def test_large_answers_that_nobody_reads_end_their_connection(node: Node) -> None:
    """A small question asked again and again for a large reply: who does not read them is ended."""
    before = counters(node[1])["connections_ended"]
    base = rss_bytes(node[0].process.pid)
    with Honest(node[1]) as client, Honest(node[1]) as worker:
        worker.send(b"", b"MDPW01", b"\x01", b"large")
        _, uuid = client.ask(b"titanic.request", b"large", b"please")
        address = worker.receive()[3]
        worker.send(b"", b"MDPW01", b"\x03", address, b"", b"x" * 2 * MIB)
        until("the reply is stored", lambda: client.ask(b"titanic.reply", uuid)[0] == b"200")
        until("it is ended", lambda: _ask_and_never_read(node, uuid, before), deadline_s=60)
        assert client.ask(b"mmi.service", b"large") == [b"200"], "others keep their connections"
    assert peak_bytes(node[0].process.pid) - base < 3_000 * MIB
    until("memory is given back", lambda: rss_bytes(node[0].process.pid) - base < 400 * MIB)


def _ask_and_never_read(node: Node, uuid: bytes, ended: int) -> bool:
    """A thousand questions over one connection; True once the guard has ended one more than ``ended``."""
    question = b"".join(frame(part, MORE) for part in (b"", b"MDPC01", b"titanic.reply")) + frame(uuid)
    with RawPeer(node[1], timeout_s=2) as deaf:
        deaf.shake()
        try:
            deaf.socket.sendall(question * 1_000)
        except OSError:
            pass  # it is full, or gone: both are answers
        for _ in range(30):
            if counters(node[1])["connections_ended"] > ended:
                return True
            select.select([], [], [], 0.1)
    return False


@pytest.fixture
def narrow(tmp_path: Path, zmtp: str) -> Iterator[Node]:
    """A node that may open 256 files."""
    with processes(tmp_path) as family:
        under = ("sh", "-c", 'ulimit -n 256; exec "$@"', "sh")
        arguments = ("--data", str(tmp_path / "data"), "--broker", "tcp://127.0.0.1:0", "--json")
        process = family.start("node", *arguments, under=under, env={"TITANIC_ZMTP": zmtp})
        yield process, process.facts()["broker"]


def test_used_up_descriptors_stop_newcomers_only(narrow: Node) -> None:
    """Who is connected is served, no core is burnt, and when the flood goes newcomers are served again."""
    from tests.support.processes import cpu_seconds

    process, endpoint = narrow
    base = rss_bytes(process.process.pid)
    with Honest(endpoint) as client:
        assert client.ask(b"mmi.service", b"mmi.service") == [b"200"]
        flood: list[RawPeer] = []

        def shut() -> bool:
            """One more connection; the kernel may refuse some while the node is busy accepting others."""
            with contextlib.suppress(OSError):
                flood.append(RawPeer(endpoint, timeout_s=0.5))
                flood[-1].socket.sendall(GREETING)
            return "no new connections" in process.errors

        try:
            until("the listener is shut", shut, deadline_s=60, pause_s=0)
            assert 80 < len(flood) < 600, "it is the descriptors that shut it"
            before = cpu_seconds(process.process.pid)
            for _ in range(200):
                assert client.ask(b"mmi.service", b"mmi.service") == [b"200"]
            used = cpu_seconds(process.process.pid) - before
        finally:
            for peer in flood:
                peer.socket.close()
        assert used < 0.5
        until("newcomers are served", lambda: "connections are accepted" in process.errors)
    check_served(endpoint)
    assert rss_bytes(process.process.pid) - base < 32 * MIB
    assert counters(endpoint)["listener_shut"] >= 1
    assert process.process.poll() is None
