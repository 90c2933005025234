"""A gateway under a real uvicorn on a free port, over a node in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import httpx
import pytest

from core.pure.ids import Mint
from gateway.http.app import create_app
from gateway.http.server import GatewayServer, bind, url_of
from gateway.http.settings import GatewaySettings
from tests.gateway.fake_node import SECRET, FakeNode

MAX_BODY_BYTES = 64 * 1024
SETTINGS = GatewaySettings(
    http_port=0, max_body_bytes=MAX_BODY_BYTES, wait_max_s=3, node_timeout_s=0.3, patience_s=1.5, shutdown_s=3
)

STRANGER = "0" * 32
ISSUED = Mint(SECRET).make(1_763_905_980_123, 7).hex()


def check_problem(answer: httpx.Response, status: int, slug: str) -> dict[str, object]:
    """The problem document, checked: RFC 9457, never cached, type as named."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    document: dict[str, object] = answer.json()
    assert document["type"] == f"/problems#{slug}"
    assert document["status"] == status
    assert document["title"]
    assert document["detail"]
    return document


class LiveGateway:
    """A served gateway: where it is, its node, and a client."""

    def __init__(self, settings: GatewaySettings, node: FakeNode, *, fast: bool = True) -> None:
        self.node = node
        self.app = create_app(settings, node)
        if not fast:
            self.app.fast = None
        self._socket = bind(settings)
        self.address: tuple[str, int] = self._socket.getsockname()[:2]
        self.url = url_of(self._socket)
        self.server = GatewayServer(settings, self.app)
        self._thread = threading.Thread(target=self.server.run, args=([self._socket],), daemon=True)
        self._thread.start()
        self.client = httpx.Client(base_url=self.url, timeout=10)

    def submit(self, body: bytes = b"work", service: str = "echo", **headers: str) -> bytes:
        """The key of a new job."""
        answer = self.client.post(f"/v1/services/{service}/jobs", content=body, headers=headers)
        assert answer.status_code == 202, answer.text
        return bytes.fromhex(answer.json()["id"])

    def stop(self) -> None:
        """Stop as SIGTERM would; the thread is gone when this returns."""
        self.server.should_exit = True
        self._thread.join(10)
        assert not self._thread.is_alive(), "the server did not stop"
        self.client.close()


@pytest.fixture(scope="session")
def served() -> Iterator[LiveGateway]:
    """One server for all tests of the folder."""
    live = LiveGateway(SETTINGS, FakeNode())
    yield live
    live.stop()


@pytest.fixture
def live(served: LiveGateway) -> LiveGateway:
    """The server with a node as new."""
    served.node.reset()
    served.app.node.forget()
    return served
