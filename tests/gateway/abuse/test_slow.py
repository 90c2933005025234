"""Slow, huge and absent senders: each is cut, with an answer where one can be given."""

import json
import select
import socket
import time
from collections.abc import Iterator

import pytest

from tests.gateway.conftest import SETTINGS, LiveGateway
from tests.gateway.fake_node import FakeNode
from tests.support.fair import FairClock

DEADLINE_S = 1.0
HEAD = b"POST /v1/services/echo/jobs HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture(scope="module")
def strict() -> Iterator[LiveGateway]:
    """A gateway with little patience."""
    live = LiveGateway(SETTINGS.replacing(request_deadline_s=DEADLINE_S), FakeNode())
    yield live
    live.stop()


def connect(live: LiveGateway) -> socket.socket:
    connection = socket.create_connection(live.address, timeout=10)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def rest(connection: socket.socket) -> bytes:
    """What comes until the other side closes."""
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        parts.append(b"")
    return b"".join(parts)


def drip(connection: socket.socket, piece: bytes, seconds: float) -> bytes:
    """Send a piece every 50 ms until the other side closes; what it said."""
    connection.settimeout(0.05)
    heard, ends = b"", time.monotonic() + seconds
    while time.monotonic() < ends:
        try:
            connection.sendall(piece)
            part = connection.recv(65536)
            if not part:
                return heard
            heard += part
        except TimeoutError:
            continue
        except OSError:
            return heard
    raise AssertionError(f"still connected after {seconds} s")


@pytest.mark.parametrize(
    ("begin", "piece"),
    [
        (HEAD, b"X: y\r\n"),
        (HEAD[:20], b"x"),
        (HEAD + b"Content-Length: 99\r\n\r\n", b"b"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    ],
    ids=["headers", "request line", "body", "chunks"],
)
def test_a_drip(strict: LiveGateway, begin: bytes, piece: bytes) -> None:
    """However the bytes drip, the whole request has the deadline: 408, the connection is closed, no job."""
    strict.node.reset()
    with FairClock() as clock, connect(strict) as connection:
        connection.sendall(begin)
        answer = drip(connection, piece, DEADLINE_S + 30)
        assert clock.elapsed_s < DEADLINE_S + 4
    assert answer.startswith(b"HTTP/1.1 408 ")
    body = answer.partition(b"\r\n\r\n")[2]
    assert json.loads(body)["type"] == "/problems#request-timeout"
    assert not strict.node.jobs


@pytest.mark.parametrize("piece", [b"", b"\r\n"], ids=["nothing", "line ends"])
def test_connections_that_never_ask(strict: LiveGateway, piece: bytes) -> None:
    """A connection without a request is closed."""
    with connect(strict) as connection:
        if piece:
            assert drip(connection, piece, DEADLINE_S + 6) == b""
        else:
            assert rest(connection) == b""


def test_line_ends_after_a_request(strict: LiveGateway) -> None:
    """Line ends between requests do not keep a connection open."""
    with connect(strict) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert drip(connection, b"\r\n", DEADLINE_S + 6) == b""


def test_a_long_poll_is_not_slow(strict: LiveGateway) -> None:
    """Who waits for the server is not cut, nor is the request that stands behind in a pipeline."""
    strict.node.reset()
    key = strict.submit().hex()
    poll = f"GET /v1/jobs/{key}/reply HTTP/1.1\r\nHost: x\r\nPrefer: wait=3\r\n\r\n".encode()
    with connect(strict) as connection:
        connection.sendall(poll + b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = rest(connection)
    assert answer.count(b"HTTP/1.1 202 ") == 1
    assert answer.endswith(b'{"status":"ok"}')


def test_a_slow_but_steady_body(strict: LiveGateway) -> None:
    """A body at more than 16 KiB/s has the time it needs."""
    size = 60_000
    with connect(strict) as connection:
        connection.sendall(HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % size)
        started = time.monotonic()
        for _ in range(10):
            assert not select.select([connection], [], [], 0.14)[0], "it is heard to its end"
            connection.sendall(b"x" * (size // 10))
        assert time.monotonic() - started > 1.2 * DEADLINE_S
        assert rest(connection).startswith(b"HTTP/1.1 202 ")


@pytest.mark.parametrize(
    "head",
    [
        b"GET /livez HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 101 + b"\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 40_000 + b"\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\n" + (b"X: " + b"y" * 900 + b"\r\n") * 40 + b"\r\n",
        b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 500_000,
        b"GET /" + b"a" * 500_000,
    ],
    ids=["many", "long", "many and long", "target", "without end", "target without end"],
)
def test_huge_headers(strict: LiveGateway, head: bytes) -> None:
    """431 with a problem document, before the end if there is none; the server lives on."""
    with connect(strict) as connection:
        try:
            connection.sendall(head)
        except OSError:
            pass  # it was refused before the end
        answer = rest(connection)
    if answer:  # a reset may overtake the answer while we still send
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["type"] == "/problems#headers-too-large"
    else:
        assert len(head) > 400_000
    assert strict.client.get("/livez").status_code == 200


def test_headers_within_the_limit(strict: LiveGateway) -> None:
    """32 KiB and 100 headers are taken."""
    head = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    for more in (b"X: y\r\n" * 98, b"X: " + b"y" * 32_000 + b"\r\n"):
        with connect(strict) as connection:
            connection.sendall(head + more + b"\r\n")
            assert rest(connection).startswith(b"HTTP/1.1 200 ")
