"""Requests that two parsers might read differently are refused, or end where we say that they end.

Each case is sent with a second request behind it. What must never happen is that the second one is answered
as anything but itself, or that bytes of a body are taken for a request.
"""

import re
import socket

import pytest

from tests.gateway.conftest import LiveGateway

PATH = b"/v1/services/smuggled/jobs"
FOLLOWER = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def talk(live: LiveGateway, raw: bytes, timeout_s: float = 20.0) -> bytes:
    """Everything that comes back until the connection is closed or silent."""
    with socket.create_connection(live.address, timeout=timeout_s) as connection:
        connection.sendall(raw)
        parts = []
        try:
            while part := connection.recv(65536):
                parts.append(part)
        except (TimeoutError, ConnectionResetError):
            parts.append(b"")
    return b"".join(parts)


def statuses(answer: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


def request(
    *headers: bytes, body: bytes = b"", version: bytes = b"1.1", host: bytes = b"Host: x\r\n"
) -> bytes:
    lines = b"".join(header + b"\r\n" for header in headers)
    return b"POST " + PATH + b" HTTP/" + version + b"\r\n" + host + lines + b"\r\n" + body


CHUNKED = b"5\r\nhello\r\n0\r\n\r\n"
REFUSED = {
    "both lengths": request(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=CHUNKED),
    "both lengths, other order": request(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=CHUNKED),
    "two lengths": request(b"Content-Length: 5", b"Content-Length: 6", body=b"hello!"),
    "two equal lengths": request(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"),
    "a list of lengths": request(b"Content-Length: 5, 5", body=b"hello"),
    "a signed length": request(b"Content-Length: +5", body=b"hello"),
    "a negative length": request(b"Content-Length: -1", body=b"hello"),
    "a hexadecimal length": request(b"Content-Length: 0x5", body=b"hello"),
    "a huge length": request(b"Content-Length: 99999999999999999999999", body=b"hello"),
    "no length after the colon": request(b"Content-Length:", body=b"hello"),
    "a coding that is none": request(b"Transfer-Encoding: xchunked", body=CHUNKED),
    "chunked not last": request(b"Transfer-Encoding: chunked, identity", body=CHUNKED),
    "a space before the colon": request(b"Transfer-Encoding : chunked", body=CHUNKED),
    "a tab before the colon": request(b"Content-Length\t: 5", body=b"hello"),
    "a folded header": request(b"X: a", b" b", body=b""),
    "a header that begins with a space": request(b" Content-Length: 5", body=b"hello"),
    "a bare CR in a header": request(b"X: a\rTransfer-Encoding: chunked", body=CHUNKED),
    "a NUL in a header": request(b"X: a\0b"),
    "a chunk size that is none": request(b"Transfer-Encoding: chunked", body=b"g\r\nhello\r\n0\r\n\r\n"),
    "a signed chunk size": request(b"Transfer-Encoding: chunked", body=b"+5\r\nhello\r\n0\r\n\r\n"),
    "a chunk size with 0x": request(b"Transfer-Encoding: chunked", body=b"0x5\r\nhello\r\n0\r\n\r\n"),
    "a chunk longer than said": request(b"Transfer-Encoding: chunked", body=b"5\r\nhello!\r\n0\r\n\r\n"),
    "a length in a trailer": request(
        b"Transfer-Encoding: chunked", body=b"5\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n"
    ),
    "a huge chunk size": request(b"Transfer-Encoding: chunked", body=b"f" * 20 + b"\r\nx"),
    "no host": request(host=b""),
    "two hosts": request(b"Host: y"),
    "a version that is none": request(version=b"1.a"),
    "a version of tomorrow": request(version=b"3.7"),
    "line feeds alone": b"POST " + PATH + b" HTTP/1.1\nHost: x\nContent-Length: 5\n\nhello",
    "a line feed alone behind a header": request(b"X: a\nContent-Length: 5", body=b"hello"),
    "a line feed alone behind a chunk size": request(
        b"Transfer-Encoding: chunked", body=b"5\nhello\r\n0\r\n\r\n"
    ),
    "HTTP/0.9": b"GET /livez\r\n\r\n",
    "a space in the target": b"GET /livez x HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("raw", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_read_in_two_ways_is_refused(live: LiveGateway, raw: bytes) -> None:
    """400 and the end of the connection: what follows is not answered, and no job is made of it."""
    answer = talk(live, raw + FOLLOWER)
    assert statuses(answer) in ([400], [413]), "one answer, and the follower has none"
    assert b"\r\ncontent-type: application/problem+json\r\n" in answer
    assert not live.node.jobs


UNDERSTOOD = {
    "a body with a request in it": (request(b"Content-Length: %d" % len(FOLLOWER), body=FOLLOWER), FOLLOWER),
    "chunked": (request(b"Transfer-Encoding: chunked", body=CHUNKED), b"hello"),
    "chunked, as anybody writes it": (request(b"TRANSFER-ENCODING:\tChunked ", body=CHUNKED), b"hello"),
    "chunks with extensions": (
        request(b"Transfer-Encoding: chunked", body=b"5;a=b\r\nhello\r\n0\r\n\r\n"),
        b"hello",
    ),
    "chunks with a trailer": (
        request(b"Transfer-Encoding: chunked", body=b"5\r\nhello\r\n0\r\nAttempts: 9\r\n\r\n"),
        b"hello",
    ),
    "a request in a chunk": (
        request(
            b"Transfer-Encoding: chunked",
            body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(FOLLOWER), FOLLOWER),
        ),
        FOLLOWER,
    ),
    "no length at all": (request(), b""),
}


@pytest.mark.parametrize(("raw", "body"), UNDERSTOOD.values(), ids=UNDERSTOOD.keys())
def test_what_is_understood_ends_where_it_says(live: LiveGateway, raw: bytes, body: bytes) -> None:
    """Exactly one job with exactly the body, and the follower is answered as itself."""
    answer = talk(live, raw + FOLLOWER)
    assert statuses(answer) == [202, 200]
    assert answer.endswith(b'{"status":"ok"}')
    assert live.node.only().frames == [body]


@pytest.mark.parametrize("split", [1, 7, 40, 80])
def test_pieces_make_no_difference(live: LiveGateway, split: int) -> None:
    """A request that comes in pieces is the request; the answers of a pipeline come in its order."""
    raw = request(b"Content-Length: 5", body=b"hello") * 3 + FOLLOWER
    with socket.create_connection(live.address, timeout=5) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(raw), split):
            connection.sendall(raw[at : at + split])
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
    assert statuses(b"".join(parts)) == [202, 202, 202, 200]
    assert len(live.node.jobs) == 3
