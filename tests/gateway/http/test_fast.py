"""The fast path is no other server: whatever it is asked, it answers what the other path answers."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.pure import tsp
from gateway.http import keyfile
from gateway.http.protocol import GatewayProtocol
from gateway.pure.keys import KeyRecord, hash_secret
from tests.gateway.conftest import ISSUED, MAX_BODY_BYTES, SETTINGS, STRANGER, LiveGateway
from tests.gateway.fake_node import FakeNode
from tests.support.processes import until

Act = Callable[[LiveGateway], bytes]


class Wire:
    """A connection on which bytes are sent just as they are."""

    def __init__(self, live: LiveGateway) -> None:
        self.socket = socket.create_connection(live.address, timeout=20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._heard = b""
        self.headless = False  # answers have no body, whatever they announce

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()

    def send(self, raw: bytes) -> None:
        self.socket.sendall(raw)

    def answer(self) -> bytes:
        """The next answer, whole; b"" if the other side closed instead."""
        while b"\r\n\r\n" not in self._heard:
            if not self._read():
                return b""
        head, _, rest = self._heard.partition(b"\r\n\r\n")
        found = re.search(rb"\r\ncontent-length: (\d+)", head)
        size = int(found.group(1)) if found and not self.headless else 0
        while len(rest) < size:
            assert self._read(), "closed in the middle of an answer"
            rest = self._heard.partition(b"\r\n\r\n")[2]
        self._heard = rest[size:]
        return head + b"\r\n\r\n" + rest[:size]

    def _read(self) -> bool:
        try:
            part = self.socket.recv(1 << 16)
        except ConnectionResetError:
            return False
        self._heard += part
        return bool(part)

    def ask(self, raw: bytes) -> bytes:
        self.send(raw)
        return self.answer()


class Twins:
    """The same gateway twice, one without a fast path; both have the same keys."""

    def __init__(self, keys: Path | None) -> None:
        settings = SETTINGS.replacing(keys=keys, wait_max_s=20)
        self.fast = LiveGateway(settings, FakeNode())
        self.slow = LiveGateway(settings, FakeNode(), fast=False)
        self.keys = keys

    def reset(self) -> None:
        for live in (self.fast, self.slow):
            live.node.reset()
            live.app.node.forget()

    def stop(self) -> None:
        self.fast.stop()
        self.slow.stop()

    def key(self, name: str, *scopes: str, **limits: object) -> bytes:
        """An Authorization header of a new key."""
        assert self.keys is not None
        secret = keyfile.new_secret()
        hash_ = hash_secret(secret.encode())
        record = KeyRecord(keyfile.new_id(), name, hash_, list(scopes), 0, **limits)  # type: ignore[arg-type]
        keyfile.update(self.keys, lambda records: [*records, record])
        for live in (self.fast, self.slow):
            live.app.guard.refresh()
        return b"Authorization: Bearer %b" % keyfile.token(record, secret).encode()


@pytest.fixture(scope="module")
def served_twins() -> Iterator[Twins]:
    twins = Twins(None)
    yield twins
    twins.stop()


@pytest.fixture
def twins(served_twins: Twins) -> Twins:
    """Two open gateways, their nodes as new."""
    served_twins.reset()
    return served_twins


@pytest.fixture(scope="module")
def closed_twins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    """Two gateways that need keys."""
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    keyfile.update(path, lambda _: [])
    twins = Twins(path)
    yield twins
    twins.stop()


def post(body: bytes = b"work", *headers: bytes, service: bytes = b"echo") -> bytes:
    lines = b"".join(header + b"\r\n" for header in headers)
    head = b"POST /v1/services/%b/jobs HTTP/1.1\r\nHost: x\r\n%bContent-Length: %d\r\n\r\n"
    return head % (service, lines, len(body)) + body


def look(method: bytes, path: bytes, *headers: bytes) -> bytes:
    lines = b"".join(header + b"\r\n" for header in headers)
    return b"%b %b HTTP/1.1\r\nHost: x\r\n%b\r\n" % (method, path, lines)


def get_reply(job: str, *headers: bytes) -> bytes:
    return look(b"GET", b"/v1/jobs/%b/reply" % job.encode(), *headers)


def delete(job: str, *headers: bytes) -> bytes:
    return look(b"DELETE", b"/v1/jobs/%b" % job.encode(), *headers)


def plain(answer: bytes) -> bytes:
    """The answer without what differs from one to the next: date, ids."""
    answer = re.sub(rb"\r\ndate: [^\r]*", b"", answer)
    return re.sub(rb"[0-9a-f]{32}", b"<id>", answer)


def both(twins: Twins, act: Act, *, fast: bool = True) -> bytes:
    """What both say to ``act``, which must be the same; ``fast``: the twin that has a fast path took it."""
    told = []
    for live in (twins.slow, twins.fast):
        act(live)  # a head is known from its second time on
        live.node.reset()
        live.app.node.forget()
        before = live.app.metrics.fast_count
        told.append(plain(act(live)))
        took = live.app.metrics.fast_count - before
        assert (took > 0) == (fast and live is twins.fast), f"{took} requests on the fast path"
    assert told[0] == told[1]
    return told[0]


def asking(raw: bytes, prepare: Callable[[FakeNode], object] = lambda _: None) -> Act:
    """Prepare the node, then ask on a connection of its own."""

    def act(live: LiveGateway) -> bytes:
        prepare(live.node)
        with Wire(live) as wire:
            wire.headless = raw.startswith(b"HEAD")
            return wire.ask(raw)

    return act


def about(make: Callable[[str], bytes], settle: Callable[[FakeNode, bytes], object]) -> Act:
    """Submit, settle the job in the node, then ask about it on the same connection."""

    def act(live: LiveGateway) -> bytes:
        with Wire(live) as wire:
            wire.ask(post())
            key = next(reversed(live.node.jobs))
            settle(live.node, key)
            return wire.ask(make(key.hex()))

    return act


def turn(**attributes: object) -> Callable[[FakeNode], object]:
    def prepare(node: FakeNode) -> None:
        for name, value in attributes.items():
            setattr(node, name, value)

    return prepare


SUBMITS = {
    "plain": (post(), turn(), 202),
    "empty": (post(b""), turn(), 202),
    "typed": (post(b"{}", b"Content-Type: application/json; charset=utf-8"), turn(), 202),
    "chatty": (post(b"x", b"User-Agent: t/1", b"Accept: */*", b"Connection: Keep-Alive"), turn(), 202),
    "lower case": (post().replace(b"Content-Length", b"content-length"), turn(), 202),
    "another durability": (post(), turn(durability="interval; ms=50"), 202),
    "the store is full": (post(), turn(refusal=(tsp.FULL, "no room")), 507),
    "the disk is behind": (post(), turn(refusal=(tsp.UNAVAILABLE, "busy")), 503),
    "the node has an error": (post(), turn(refusal=(tsp.ERROR, "broken")), 500),
    "the node talks nonsense": (post(), turn(garbage=[b"200", b"\xc1"]), 502),
    "the node is another one": (post(), turn(secret=b"t" * 32), 202),
    "nobody answers": (post(), turn(down=True), 503),
}


@pytest.mark.parametrize(("raw", "prepare", "status"), SUBMITS.values(), ids=SUBMITS)
def test_submit(twins: Twins, raw: bytes, prepare: Callable[[FakeNode], object], status: int) -> None:
    """Accepted or not: head and body are the same, byte for byte."""
    assert both(twins, asking(raw, prepare)).startswith(b"HTTP/1.1 %d " % status)


def test_what_is_stored(twins: Twins) -> None:
    """Body, type, service and owner arrive at the node as they do otherwise."""
    both(twins, asking(post(b"\x00\xff" * 300, b"Content-Type: a/b", service=b"s-1")))
    one, two = twins.fast.node.only(), twins.slow.node.only()
    assert (one.frames, one.meta) == (two.frames, two.meta)
    assert one.frames == [b"\x00\xff" * 300]


WAITS: dict[str, tuple[bytes, Callable[[FakeNode, bytes], object], int]] = {
    "no wait at all": (b"Prefer: wait=0", lambda node, key: None, 202),
    "a reply": (b"Prefer: wait=9", lambda node, key: node.finish(key, b"done", content_type="a/b"), 200),
    "too late": (b"Prefer: wait=1", lambda node, key: None, 202),
    "a failure": (b"Prefer: wait=9", lambda node, key: node.fail(key, "it broke", 2), 409),
    "a cancellation": (b"Prefer: wait=9", lambda node, key: node.cancel(key), 409),
    "frames": (b"Prefer: wait=9", lambda node, key: node.finish(key, b"a", b"b"), 200),
}


@pytest.mark.parametrize(("prefer", "settle", "status"), WAITS.values(), ids=WAITS)
def test_submit_and_wait(
    twins: Twins, prefer: bytes, settle: Callable[[FakeNode, bytes], object], status: int
) -> None:
    """The reply, the receipt or what became of the job: the same, byte for byte."""

    def act(live: LiveGateway) -> bytes:
        with Wire(live) as wire:
            wire.send(post(b"work", prefer))
            until("the node has it", lambda: len(live.node.jobs) > 0)
            key = next(reversed(live.node.jobs))
            if status != 202:
                until("the wait has begun", lambda: live.node.waiting(key))
                settle(live.node, key)
            answer = wire.answer()
            live.node.jobs.clear()
            return answer

    assert both(twins, act).startswith(b"HTTP/1.1 %d " % status)


REPLIES: dict[str, tuple[Callable[[str], bytes], Callable[[FakeNode, bytes], object], int]] = {
    "there": (get_reply, lambda node, key: node.finish(key, b"done", content_type="text/plain"), 200),
    "there, empty": (get_reply, lambda node, key: node.finish(key, b""), 200),
    "several frames": (get_reply, lambda node, key: node.finish(key, b"a", b"b"), 200),
    "frames asked for": (
        lambda job: get_reply(job, b"Accept: application/vnd.titanic.frames+json"),
        lambda node, key: node.finish(key, b"a"),
        200,
    ),
    "frames ruled out": (
        lambda job: get_reply(job, b"Accept: text/plain"),
        lambda node, key: node.finish(key, b"a", b"b"),
        406,
    ),
    "pending": (get_reply, lambda node, key: None, 202),
    "failed": (get_reply, lambda node, key: node.fail(key, "it broke", 3), 409),
    "cancelled": (get_reply, lambda node, key: node.cancel(key), 409),
    "gone": (get_reply, lambda node, key: node.jobs.clear(), 410),
    "never issued": (lambda _: get_reply(STRANGER), lambda node, key: None, 404),
    "issued once": (lambda _: get_reply(ISSUED), lambda node, key: None, 410),
    "upper case": (lambda job: get_reply(job.upper()), lambda node, key: node.finish(key, b"x"), 200),
    "waited for": (
        lambda job: get_reply(job, b"Prefer: wait=5"),
        lambda node, key: node.finish(key, b"done"),
        200,
    ),
    "waited for in vain": (lambda job: get_reply(job, b"Prefer: wait=1"), lambda node, key: None, 202),
    "waited for nothing": (lambda job: get_reply(job, b"Prefer: wait=0"), lambda node, key: None, 202),
    "no answer": (get_reply, lambda node, key: setattr(node, "down", True), 503),
    "closed": (delete, lambda node, key: None, 204),
    "closed, unknown": (lambda _: delete(STRANGER), lambda node, key: None, 204),
    "close refused": (delete, lambda node, key: setattr(node, "refusal", (b"500", "broken")), 500),
    "close unanswered": (delete, lambda node, key: setattr(node, "down", True), 503),
}


@pytest.mark.parametrize(("make", "settle", "status"), REPLIES.values(), ids=REPLIES)
def test_reply_and_close(
    twins: Twins,
    make: Callable[[str], bytes],
    settle: Callable[[FakeNode, bytes], object],
    status: int,
) -> None:
    """Whatever became of the job: head and body are the same, byte for byte."""
    assert both(twins, about(make, settle)).startswith(b"HTTP/1.1 %d " % status)


def test_a_type_that_would_end_the_head(twins: Twins) -> None:
    """500 and no such header; the other path finds out in the middle of its answer, and can only hang up."""
    act = about(get_reply, lambda node, key: node.finish(key, b"x", content_type="a/b\r\nx: y"))
    act(twins.fast)
    answer = act(twins.fast)
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"x: y" not in answer


UNUSUAL = {
    "a key": post(b"x", b"Idempotency-Key: k"),
    "a demand": post(b"x", b"Titanic-Durability: fsync"),
    "no wait": post(b"x", b"Prefer: respond-async"),
    "two preferences": post(b"x", b"Prefer: respond-async, wait=1"),
    "no wait for a reply": get_reply(STRANGER, b"Prefer: respond-async"),
    "a trace": post(b"x", b"traceparent: 00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"),
    "a request id": post(b"x", b"X-Request-ID: r-1"),
    "frames": post(b'{"frames":["eA=="]}', b"Content-Type: application/vnd.titanic.frames+json"),
    "an option": post(b"x").replace(b"/jobs ", b"/jobs?priority=high "),
    "a bad option": post(b"x").replace(b"/jobs ", b"/jobs?x=1 "),
    "a bad service": post(b"x", service=b"mmi.x"),
    "an encoded service": post(b"x", service=b"%65cho"),
    "no length": b"POST /v1/services/echo/jobs HTTP/1.1\r\nHost: x\r\n\r\n",
    "chunks": b"POST /v1/services/echo/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"1\r\nx\r\n0\r\n\r\n",
    "the end of the connection": post(b"x", b"Connection: close"),
    "an old version": post(b"x").replace(b"HTTP/1.1", b"HTTP/1.0"),
    "a header twice": post(b"x", b"Accept: a/b", b"Accept: c/d"),
    "no space behind a colon": post(b"x").replace(b"Host: x", b"Host:x"),
    "two spaces behind a colon": post(b"x").replace(b"Host: x", b"Host:  x"),
    "two hosts": post(b"x", b"Host: y"),
    "no host": post(b"x").replace(b"Host: x\r\n", b""),
    "a body over the limit": post(bytes(MAX_BODY_BYTES + 1)),
    "a bad id": get_reply("0" * 31 + "g"),
    "an id with dashes": get_reply("00000000-0000-0000-0000-000000000000"),
    "a HEAD": get_reply(STRANGER).replace(b"GET", b"HEAD"),
    "a GET with a body": get_reply(STRANGER, b"Content-Length: 1") + b"x",
    "a status": look(b"GET", b"/v1/jobs/%b" % STRANGER.encode()),
    "an option of a reply": look(b"GET", b"/v1/jobs/%b/reply?x=1" % STRANGER.encode()),
}


@pytest.mark.parametrize("raw", UNUSUAL.values(), ids=UNUSUAL)
def test_what_is_not_for_the_fast_path(twins: Twins, raw: bytes) -> None:
    """It goes the other way, also the second time, and is answered as ever."""
    assert both(twins, asking(raw), fast=False).startswith(b"HTTP/1.1 ")


def test_keys(closed_twins: Twins) -> None:
    """Keys, scopes, services and owners count; what a rate or a quota limits goes the other way."""
    twins = closed_twins
    admin = twins.key("admin", "admin")
    submitter, reader = twins.key("submitter", "submit"), twins.key("reader", "read")
    bound = twins.key("bound", "submit", services=["echo"])
    assert both(twins, asking(post(b"x", admin))).startswith(b"HTTP/1.1 202 ")
    assert both(twins, asking(post(b"x", submitter))).startswith(b"HTTP/1.1 202 ")
    assert twins.fast.node.only().meta.owner == twins.slow.node.only().meta.owner != ""
    assert both(twins, asking(post(b"x", bound))).startswith(b"HTTP/1.1 202 ")
    for raw, status in (
        (post(b"x", bound, service=b"other"), 403),
        (post(b"x", reader), 403),
        (post(b"x"), 401),
        (post(b"x", b"Authorization: Bearer 0123456789abcdef.x"), 401),
        (get_reply(STRANGER, submitter), 403),
        (delete(STRANGER, reader), 403),
        (post(b"x", twins.key("slow", "submit", rate_per_s=1_000, burst=1_000)), 202),
        (post(b"x", twins.key("small", "submit", jobs_max=5)), 202),
        (post(b"x", twins.key("light", "submit", bytes_max=500)), 202),
    ):
        answer = re.sub(rb"\r\nratelimit[^\r]*", b"", both_modulo_rates(twins, raw))
        assert answer.startswith(b"HTTP/1.1 %d " % status)


def both_modulo_rates(twins: Twins, raw: bytes) -> bytes:
    def act(live: LiveGateway) -> bytes:
        return re.sub(rb"\r\nratelimit[^\r]*", b"", asking(raw)(live))

    return both(twins, act, fast=False)


def test_a_job_of_another_key(closed_twins: Twins) -> None:
    """Is 404 to look at and 204 to close, and stays."""
    twins = closed_twins
    twins.reset()
    mine, other = twins.key("mine", "submit", "read"), twins.key("other", "submit", "read")

    def foreign(make: Callable[..., bytes]) -> Act:
        def act(live: LiveGateway) -> bytes:
            with Wire(live) as wire:
                wire.ask(post(b"x", mine))
                (key,) = live.node.jobs
                answer = wire.ask(make(key.hex(), other))
                assert key in live.node.jobs
                live.node.jobs.clear()
                return answer

        return act

    assert both(twins, foreign(get_reply)).startswith(b"HTTP/1.1 404 ")
    assert both(twins, foreign(delete)).startswith(b"HTTP/1.1 204 ")


def test_a_revoked_key_ends_at_once(closed_twins: Twins) -> None:
    """A head that is known does not keep a key alive."""
    twins = closed_twins
    twins.reset()
    raw = post(b"x", twins.key("short", "submit"))
    with Wire(twins.fast) as wire:
        assert [wire.ask(raw)[9:12] for _ in range(3)] == [b"202"] * 3
        assert twins.keys is not None
        keyfile.update(twins.keys, lambda found: [one for one in found if one.name != "short"])
        twins.fast.app.guard.refresh()
        assert wire.ask(raw)[9:12] == b"401"


# -- the connection


def known(live: LiveGateway, raw: bytes) -> None:
    with Wire(live) as wire:
        wire.ask(raw)


def test_answers_come_in_the_order_of_their_requests(twins: Twins) -> None:
    """However requests share pieces: pipelined behind a fast one, in its own piece, or all in one."""
    live = twins.fast
    known(live, post(b"work"))
    for pieces in (
        [post(b"work"), get_reply(STRANGER)],
        [post(b"work") + get_reply(STRANGER)],
        [post(b"work"), get_reply(STRANGER)[:20], get_reply(STRANGER)[20:]],
        [post(b"wo"), post(b"work")[:-2], b"rk" + get_reply(STRANGER)],
    ):
        with Wire(live) as wire:
            for piece in pieces:
                wire.send(piece)
            statuses = [wire.answer()[9:12] for _ in range(b"".join(pieces).count(b" HTTP/1.1"))]
            assert statuses == [b"202"] * (len(statuses) - 1) + [b"404"]
            assert wire.ask(look(b"GET", b"/livez"))[9:12] == b"200"


def test_many_requests_on_one_connection(twins: Twins) -> None:
    """Bodies of every size, each stored as it was sent, whichever way they took."""
    live = twins.fast
    bodies = [b"%d" % number * (number % 50) for number in range(300)]
    with Wire(live) as wire:
        for number, body in enumerate(bodies):
            raw = post(body)
            cut = number * 7 % len(raw)
            wire.send(raw[:cut])
            wire.send(raw[cut:])
            assert wire.answer()[9:12] == b"202"
    assert [job.frames[0] for job in live.node.jobs.values()] == bodies


def test_head_and_body_in_two_pieces(twins: Twins) -> None:
    """As many clients send them: the fast path waits for one more piece; then the parser has it."""
    live = twins.fast
    raw = post(b"work")
    known(live, raw)
    for pieces, count in (([raw[:-4], raw[-4:]], 1), ([raw[:-4], b"wo", b"rk"], 0), ([raw[:9], raw[9:]], 0)):
        before = live.app.metrics.fast_count
        with Wire(live) as wire:
            for piece in pieces:
                wire.send(piece)
                until_read(live)
            assert wire.answer()[9:12] == b"202"
        assert live.app.metrics.fast_count - before == count
        assert next(reversed(live.node.jobs.values())).frames == [b"work"]


def until_read(live: LiveGateway) -> None:
    """What was sent before has been read: the server answers what came later."""
    with Wire(live) as wire:
        wire.ask(look(b"GET", b"/livez"))


def test_a_body_that_never_comes(twins: Twins) -> None:
    """The whole-request deadline holds for a head that the fast path has kept."""
    live = LiveGateway(SETTINGS.replacing(request_deadline_s=1), FakeNode())
    try:
        known(live, post(b"work"))
        with Wire(live) as wire:
            wire.send(post(b"work")[:-4])
            assert wire.answer()[9:12] == b"408"
            assert wire.answer() == b""
        assert len(live.node.jobs) == 1
    finally:
        live.stop()


def test_an_idle_connection_is_closed(twins: Twins) -> None:
    """After the keep-alive time, on the fast path too; not while an answer is due."""
    live = LiveGateway(SETTINGS.replacing(wait_max_s=20), FakeNode())
    live.server.config.timeout_keep_alive = 1
    try:
        with Wire(live) as wire:
            assert wire.ask(post())[9:12] == b"202"
            assert wire.ask(post())[9:12] == b"202"
            key = next(iter(live.node.jobs)).hex()
            wire.ask(get_reply(STRANGER, b"Prefer: wait=3"))
            wire.send(get_reply(key, b"Prefer: wait=3"))
            assert wire.answer()[9:12] == b"202"
            assert wire.answer() == b""
    finally:
        live.stop()


def test_who_leaves_while_waiting(twins: Twins) -> None:
    """The wait ends, is counted as 499, and nobody is told anything."""
    live = twins.fast
    known(live, get_reply(STRANGER, b"Prefer: wait=20"))
    with Wire(live) as wire:
        wire.ask(post())
        key = next(iter(live.node.jobs))
        wire.send(get_reply(key.hex(), b"Prefer: wait=20"))
        until("the wait has begun", lambda: live.node.waiting(key))
        assert live.app.waits.count == 1
    until("the wait is over", lambda: live.app.waits.count == 0 and live.app.metrics.underway_count == 0)
    assert any(cell.status == 499 for cell in live.app.metrics.counts().cells)


def test_who_leaves_while_waiting_for_what_it_submitted(twins: Twins) -> None:
    """Before the job is stored or after: the wait ends, is counted as 499, and the job stays."""
    live = twins.fast
    raw = post(b"work", b"Prefer: wait=9")
    known(live, raw.replace(b"=9", b"=1"))
    for stored_first in (True, False):
        live.node.reset()
        live.node.lost_answers = 0 if stored_first else 1
        before = gone_count(live)
        with Wire(live) as wire:
            wire.send(raw.replace(b"=9", b"=1"))
            until("the node has it", lambda: len(live.node.jobs) == 1)
            if stored_first:
                until("the wait has begun", lambda: live.node.waiting(next(iter(live.node.jobs))))
        until("the wait is over", lambda: live.app.metrics.underway_count == 0)
        assert gone_count(live) == before + 1
        assert live.app.waits.count == 0
        assert len(live.node.jobs) == 1


def gone_count(live: LiveGateway) -> int:
    cells = live.app.metrics.counts().cells
    return sum(sum(cell.buckets) for cell in cells if cell.status == 499 and cell.method == "POST")


def test_who_leaves_before_the_commit(twins: Twins) -> None:
    """The job is stored all the same, and the server goes on."""
    live = twins.fast
    known(live, post())
    live.node.lost_answers = 1
    with Wire(live) as wire:
        wire.send(post(b"left behind"))
        until("the node has it", lambda: len(live.node.jobs) == 2)
    until("the gateway has its answer", lambda: live.app.metrics.underway_count == 0)
    assert next(reversed(live.node.jobs.values())).frames == [b"left behind"]
    known(live, post())


def test_a_stopping_server_answers_first() -> None:
    """A submit at hand is answered, with the end of the connection; a wait as if its time were over."""
    live = LiveGateway(SETTINGS.replacing(wait_max_s=20), FakeNode())
    known(live, get_reply(STRANGER, b"Prefer: wait=20"))
    with Wire(live) as waiting, Wire(live) as submitting:
        waiting.ask(post())
        key = next(iter(live.node.jobs))
        waiting.send(get_reply(key.hex(), b"Prefer: wait=20"))
        until("the wait has begun", lambda: live.node.waiting(key))
        live.node.lost_answers = 1
        submitting.send(post(b"late"))
        until("the node has it", lambda: len(live.node.jobs) == 2)
        assert live.app.metrics.fast_count == 2
        live.server.should_exit = True
        for wire in (waiting, submitting):
            answer = wire.answer()
            assert answer[9:12] == b"202"
            assert b"\r\nconnection: close\r\n" in answer
            assert wire.answer() == b""
    live.stop()


def test_who_does_not_read_gets_no_further(twins: Twins) -> None:
    """Answers pile up to the transport's limit and no more, whatever is asked for."""
    live = twins.fast
    with Wire(live) as wire:
        wire.ask(post())
        key = next(iter(live.node.jobs))
        live.node.finish(key, bytes(60_000))
        ask = get_reply(key.hex())
        wire.ask(ask)
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        wire.socket.settimeout(0.5)
        blocked = False
        try:
            for _ in range(10_000):
                wire.send(ask * 100)
        except TimeoutError:
            blocked = True  # nobody reads us any more, since we do not read
        assert blocked, "a million requests were taken of somebody who reads nothing"
        protocols = [one for one in live.server.server_state.connections if isinstance(one, GatewayProtocol)]
        assert max(one.transport.get_write_buffer_size() for one in protocols) < 1 << 20


def test_counts(twins: Twins) -> None:
    """The metrics count requests, bytes and statuses the same on both paths."""

    def act(live: LiveGateway) -> bytes:
        with Wire(live) as wire:
            wire.ask(post(b"12345"))
            wire.ask(get_reply(STRANGER))
            return wire.ask(delete(STRANGER))

    seen = []
    for live in (twins.fast, twins.slow):
        act(live)
        before = count(live)
        act(live)
        seen.append({name: value - before.get(name, 0) for name, value in count(live).items()})
    assert {name: value for name, value in seen[0].items() if value} == {
        name: value for name, value in seen[1].items() if value
    }
    assert seen[0]["bytes"] == 5


def count(live: LiveGateway) -> dict[object, int]:
    found: dict[object, int] = {
        (cell.method, cell.route, cell.status): sum(cell.buckets) for cell in live.app.metrics.counts().cells
    }
    found["bytes"] = int(live.app.metrics.counts().counters["submitted_bytes"])
    return found
