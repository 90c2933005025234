"""Many who wait, and clients that leave in the middle."""

import contextlib
import os
import resource
import socket
import threading

import pytest

from core.pure import tsp
from tests.gateway.conftest import SETTINGS, LiveGateway
from tests.gateway.fake_node import FakeNode
from tests.support.fair import FairClock
from tests.support.processes import until

POLLS = int(os.environ.get("TITANIC_TEST_POLLS", "2000"))
"""Both ends are in this process: two descriptors each. 10000 is what `make crowds` takes."""
LATENCY_S = 0.5


def poll(live: LiveGateway, path: str, wait_s: int) -> socket.socket:
    connection = socket.create_connection(live.address, timeout=30)
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nPrefer: wait={wait_s}\r\n\r\n".encode())
    return connection


def crowd_size() -> int:
    """As many as the process may have, up to POLLS."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * POLLS + 500
    if hard != resource.RLIM_INFINITY and hard < wanted:
        with contextlib.suppress(ValueError, OSError):  # only root may have more
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
            hard = wanted
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return (limit - 500) // 2


@pytest.mark.timeout(300)
def test_idle_long_polls() -> None:
    """Thousands of idle long-polls cost nobody else, are answered when their job ends, and leave nothing."""
    count = crowd_size()
    live = LiveGateway(SETTINGS.replacing(wait_max_s=120, waits_max=count), FakeNode())
    crowd: list[socket.socket] = []
    try:
        key = live.submit()
        path = f"/v1/jobs/{key.hex()}/reply"
        crowd = [poll(live, path, 110) for _ in range(count)]
        until("all of them wait", lambda: live.app.waits.count == count, deadline_s=60)
        with FairClock() as clock:
            assert live.client.post("/v1/services/echo/jobs", content=b"x").status_code == 202
            assert clock.elapsed_s < LATENCY_S
        one_more = live.client.get(path, headers={"Prefer": "wait=100"})
        assert one_more.status_code == 202, "one over the limit is answered at once"
        assert "preference-applied" not in one_more.headers
        live.node.finish(key, b"done")
        for connection in crowd:
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        until("nobody waits", lambda: live.app.waits.count == 0)
    finally:
        for connection in crowd:
            connection.close()
        live.stop()


def test_pollers_that_leave() -> None:
    """A client that goes away while it waits frees its place, long before its wait would be over."""
    live = LiveGateway(SETTINGS.replacing(wait_max_s=120), FakeNode())
    try:
        key = live.submit()
        crowd = [poll(live, f"/v1/jobs/{key.hex()}", 110) for _ in range(100)]
        until("all of them wait", lambda: live.app.waits.count == 100)
        for connection in crowd:
            connection.close()
        until("nobody waits", lambda: live.app.waits.count == 0)
    finally:
        live.stop()


class HeldNode(FakeNode):
    """Stores a submit at once and answers when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()

    async def call(self, service: bytes, body: object, timeout_s: float) -> list[bytes]:
        import asyncio

        answer = await super().call(service, body, timeout_s)  # type: ignore[arg-type]
        if service == tsp.SUBMIT:
            await asyncio.get_running_loop().run_in_executor(None, self.gate.wait, 10)
        return answer


@pytest.mark.parametrize("how", ["close", "reset"])
def test_disconnects_during_commit(how: str) -> None:
    """A client that leaves while its job is written loses the answer only: the job is there once."""
    node = HeldNode()
    live = LiveGateway(SETTINGS.replacing(node_timeout_s=5, patience_s=6), node)
    try:
        crowd = []
        for number in range(20):
            connection = socket.create_connection(live.address, timeout=5)
            body = b"%03d" % number
            connection.sendall(
                b"POST /v1/services/echo/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n" + body
            )
            crowd.append(connection)
        until("all are stored", lambda: len(node.jobs) == 20)
        for connection in crowd:
            if how == "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.close()
        node.gate.set()
        until("nothing is under way", lambda: live.app.metrics.underway_count == 0)
        assert sorted(job.frames[0] for job in node.jobs.values()) == [b"%03d" % n for n in range(20)]
        assert live.client.get("/livez").status_code == 200
    finally:
        node.gate.set()
        live.stop()


@pytest.mark.parametrize("sent", [b"", b"12", b"12345"])
def test_disconnects_before_the_body_is_whole(live: LiveGateway, sent: bytes) -> None:
    """A body that never became whole makes no job."""
    with socket.create_connection(live.address, timeout=5) as connection:
        connection.sendall(
            b"POST /v1/services/echo/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\n" + sent
        )
    until("nothing is under way", lambda: live.app.metrics.underway_count == 0)
    assert not live.node.jobs
