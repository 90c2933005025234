"""Heads that were read before: only what is equal to one, but for what varies, is taken for it."""

from __future__ import annotations

import httptools
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.pure import heads
from gateway.pure.heads import Known, KnownHeads, cut, job_key, size_of, understand
from gateway.pure.target import CLOSE, REPLY, SUBMIT, ServiceNames

ID = b"0123456789abcdef0123456789abcdef"
POST = (
    b"POST /v1/services/echo/jobs HTTP/1.1\r\nHost: x:80\r\nUser-Agent: t\r\n"
    b"Content-Type: a/b\r\nContent-Length: 25\r\nAccept: */*\r\n\r\n"
)
GET = b"GET /v1/jobs/%b/reply HTTP/1.1\r\nHost: x\r\nPrefer: wait=7\r\n\r\n" % ID
DELETE = b"DELETE /v1/jobs/%b HTTP/1.1\r\nhost: x\r\n\r\n" % ID


class Reading:
    """What the real parser reads."""

    def __init__(self, raw: bytes) -> None:
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.heads_count = self.messages_count = 0
        self.parser = httptools.HttpRequestParser(self)
        self.failed = False
        try:
            self.parser.feed_data(raw)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.failed = True

    def on_url(self, url: bytes) -> None:
        if not self.heads_count:
            self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.heads_count:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if not self.heads_count:
            self.method, self.version = self.parser.get_method(), self.parser.get_http_version()
        self.heads_count += 1

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.messages_count += 1


def read(raw: bytes) -> Known | None:
    """What becomes of ``raw`` when the parser reads it."""
    found, reading = cut(raw), Reading(raw)
    if found is None or not reading.heads_count:
        return None
    return understand(raw[: found.end], found, reading.method, reading.url, reading.headers, ServiceNames())


def test_what_is_understood() -> None:
    """A submit with its service and type, a reply with its wait, a close."""
    submit, reply, close = read(POST), read(GET), read(DELETE)
    assert submit is not None
    assert submit.service is not None
    assert (submit.operation, submit.service.text, submit.content_type) == (SUBMIT, "echo", "a/b")
    assert reply is not None
    assert (reply.operation, reply.wait_s, reply.path(ID)) == (REPLY, 7, f"/v1/jobs/{ID.decode()}/reply")
    assert close is not None
    assert (close.operation, close.wait_s) == (CLOSE, 0)


MUTATIONS = st.lists(
    st.tuples(
        st.integers(0, 200),
        st.sampled_from([0, 1, 2]),
        st.sampled_from(
            [b"", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b"\t", b":", b"0", b"9", b"a", b"\x00", b"\x80",
             b"/", b"%", b"?", b"Content-Length: 3\r\n", b"ontent-Length: ", b"Transfer-Encoding: x\r\n",
             b"GET ", b"X: y\r\n", b"Expect: 100-continue\r\n", ID],
        ),
    ),
    min_size=1,
    max_size=3,
)  # fmt: skip


@given(st.sampled_from([POST, GET, DELETE]), MUTATIONS, st.binary(max_size=30))
@example(POST, [(0, 0, b"ontent-Length: ")], b"")
@example(POST.replace(b"User-Agent: t", b"User-Agent: xContent-Length: 9"), [(0, 0, b"")], b"x" * 25)
@settings(max_examples=1_500, deadline=None)
def test_what_is_taken_for_a_known_head_reads_like_it(
    raw: bytes, mutations: list[tuple[int, int, bytes]], body: bytes
) -> None:
    """Whatever is done to a head: if it is found, the parser reads the same, but for what varies."""
    known = KnownHeads()
    for original in (POST, GET, DELETE, raw):
        found, meant = cut(original), read(original)
        if found is not None and meant is not None:
            known.learn(found.key, meant)
    for at, gone, put in mutations:
        at %= len(raw)
        raw = raw[:at] + put + raw[at + gone :]
    raw += body
    found = cut(raw)
    taken = known.find(found.key) if found is not None else None
    if found is None or taken is None:
        return
    if taken.operation == SUBMIT:
        size = size_of(found.varies)
        if size < 0 or size != len(raw) - found.end:
            return
    elif job_key(found.varies) is None or len(raw) != found.end:
        return
    reading = Reading(raw)
    assert not reading.failed
    assert (reading.heads_count, reading.messages_count, reading.version) == (1, 1, "1.1")
    assert reading.body == raw[found.end :]
    again = understand(raw[: found.end], found, reading.method, reading.url, reading.headers, ServiceNames())
    assert again is not None
    for name in ("operation", "method", "service", "content_type", "wait_s", "accept"):
        assert getattr(again, name) == getattr(taken, name), name
    fields = {name: value for name, value in again.headers.items() if name != b"content-length"}
    assert fields == {name: value for name, value in taken.headers.items() if name != b"content-length"}


@pytest.mark.parametrize(
    "raw",
    [
        POST.replace(b"Accept: */*", b"Accept: */*\r\nAccept: a"),
        POST.replace(b"Accept: */*", b"Authorized: x"),
        POST.replace(b"Host: x:80", b"Host:x:80"),
        POST.replace(b"User-Agent: t", b"User-Agent: \xff"),
        POST.replace(b"echo", b"mmi.x"),
        POST.replace(b"echo", b"%65cho"),
        POST.replace(b"25", b"25 "),
        POST.replace(b"25", b"99999999"),
        POST.replace(b"1.1", b"1.0"),
        POST.replace(b"jobs", b"jobs?x=1"),
        POST.replace(b"Accept: */*", b"Connection: close"),
        POST.replace(b"a/b", b"application/vnd.titanic.frames+json"),
        GET.replace(b"wait=7", b"wait=7\r\nContent-Length: 0"),
        GET.replace(ID, ID[:-1] + b"g"),
        GET.replace(ID, ID + b"0"),
        DELETE.replace(ID, ID[:-1]),
        DELETE.replace(b"host: x\r\n", b""),
        b"\r\n" + POST,
        POST.replace(b"Host", b"A: " + b"a" * heads.HEAD_MAX_BYTES + b"\r\nHost"),
    ],
)
def test_what_is_not(raw: bytes) -> None:
    """Anything that would need a second look is not understood."""
    assert read(raw) is None


def test_a_flood_of_heads_is_forgotten() -> None:
    """The memory is bounded, and goes on."""
    known = KnownHeads()
    meant = read(POST)
    assert meant is not None
    for number in range(heads.KNOWN_MAX_COUNT + 1):
        known.learn(b"%d" % number, meant)
    assert known.find(b"0") is None
    assert known.find(b"%d" % heads.KNOWN_MAX_COUNT) is meant
