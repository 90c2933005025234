"""Health, readiness, metrics, and errors that belong to no operation."""

import json
import logging
import re
import socket
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from core.pure import tsp
from core.pure.tsp import Stats
from gateway.http.metrics import SERVICES_MAX
from tests.gateway.conftest import SETTINGS, LiveGateway
from tests.gateway.fake_node import FakeNode
from tests.support.processes import until


def raw(live: LiveGateway, request: bytes) -> bytes:
    """Everything the server sends until it closes the connection."""
    with socket.create_connection(live.address, timeout=5) as connection:
        connection.sendall(request)
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def samples(live: LiveGateway) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """The exposition text, parsed: (name, labels) -> value."""
    answer = live.client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = text_string_to_metric_families(answer.text)
    return {(s.name, frozenset(s.labels.items())): s.value for f in families for s in f.samples}


def test_livez(live: LiveGateway) -> None:
    """The process is alive whatever its node does."""
    live.node.down = True
    answer = live.client.get("/livez")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_readyz_without_a_node_and_back(live: LiveGateway) -> None:
    """Without a node 503 with a reason; when the node is back, 200, and submits work, by themselves."""
    live.node.down = True
    answer = live.client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["type"] == "/problems#node-unreachable"
    assert "retry-after" in answer.headers
    live.node.down = False
    answer = live.client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json() == {
        "status": "ready",
        "version": "0.1.0",
        "role": "single",
        "epoch": 3,
        "durability": "fsync",
        "jobs": 0,
        "started_at": "2025-11-23T13:53:00.123Z",
        "idempotency_key_lifetime_s": 86_400,
    }
    live.submit()


def test_readyz_of_a_starting_node(live: LiveGateway) -> None:
    """A node that is not ready is 503 with its own reason."""
    live.node.ready, live.node.reason = False, "replaying the journal: 41 %"
    answer = live.client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["type"] == "/problems#node-not-ready"
    assert answer.json()["detail"] == "replaying the journal: 41 %"


def test_a_gateway_that_never_met_its_node_submits_when_it_comes(live: LiveGateway) -> None:
    """A submit asks who the node is if nobody did before."""
    assert live.app.node.hello is None
    live.submit()
    assert live.node.calls[:2] == [tsp.HELLO, tsp.SUBMIT]


@pytest.mark.parametrize("path", ["/nothing", "/v1/services/a/b", "/v1/jobs/x/y", "/livez/", "/assets/x"])
def test_no_such_route(live: LiveGateway, path: str) -> None:
    """What is not served is a problem document, and no redirect."""
    answer = live.client.get(path, headers={"X-Request-ID": "r"})
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "/problems#no-such-route"
    assert answer.headers["x-request-id"] == "r"


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/services/echo/jobs", "POST"),
        ("PUT", "/v1/jobs/" + "0" * 32, "DELETE, GET, HEAD"),
        ("POST", "/v1/jobs/" + "0" * 32 + "/reply", "GET, HEAD"),
        ("OPTIONS", "/livez", "GET"),
        ("BREW", "/metrics", "GET"),
    ],
)
def test_method_not_allowed(live: LiveGateway, method: str, path: str, allow: str) -> None:
    """405 names every method that the path has."""
    with httpx.Client(base_url=live.url) as client:
        answer = client.request(method, path)
    if method == "BREW":  # no method that the parser knows
        assert (answer.status_code, answer.json()["type"]) == (400, "/problems#malformed-http")
        return
    assert answer.status_code == 405
    assert answer.json()["type"] == "/problems#method-not-allowed"
    assert answer.headers["allow"] == allow


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nBad Header: x\r\n\r\n",
        b"\r\n\r\nnonsense\r\n\r\n",
    ],
)
def test_bytes_that_are_no_http(live: LiveGateway, request_: bytes) -> None:
    """Even for the parser's errors the answer is a problem document; the server lives on."""
    head, _, body = raw(live, request_).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in head
    assert json.loads(body)["type"] == "/problems#malformed-http"
    assert live.client.get("/livez").status_code == 200


@pytest.mark.parametrize("method", [b"GET", b"POST", b"CONNECT", b"OPTIONS", b"MKCOL"])
@pytest.mark.parametrize(
    "at",
    [b"//", b"//x/y", b"*", b"http://a/livez", b"/%zz", b"/v1/jobs/%", b"/\xff", b"?a=b", b"a:443", b"/\x01"],
)
def test_strange_targets(live: LiveGateway, method: bytes, at: bytes) -> None:
    """Whatever stands in the request line, there is one whole answer, and a problem unless it is a page."""
    answer = raw(live, method + b" " + at + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head[9:12])
    assert status in (200, 307, 400, 404, 405), head
    if status >= 400:
        assert json.loads(body)["status"] == status


def test_methods_in_metrics_are_bounded(live: LiveGateway) -> None:
    """A method that is not a common one is counted as other."""
    assert raw(live, b"MKCOL /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").startswith(
        b"HTTP/1.1 405"
    )
    labels = frozenset({("process", "0"), ("method", "other"), ("route", "/livez"), ("status", "405")})
    assert samples(live)["titanic_gateway_request_seconds_count", labels] >= 1


def test_expect_continue_is_refused_before_the_body(live: LiveGateway) -> None:
    """A client that asks first never sends a body that is too large."""
    request = (
        b"POST /v1/services/echo/jobs HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        b"Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n"
    )
    answer = raw(live, request)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"100 Continue" not in answer


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/services/echo/jobs"), ("GET", "/v1/jobs/" + "0" * 32), ("GET", "/readyz")],
)
def test_a_defect_is_a_problem_too(
    live: LiveGateway, method: str, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What nobody foresaw is 500 with a request id, under which it is logged; nothing inside is shown."""
    live.node.crash = ZeroDivisionError("inner secret")
    with caplog.at_level(logging.ERROR):
        answer = live.client.request(method, path, headers={"X-Request-ID": "find-me"})
    assert answer.status_code == 500
    assert answer.json()["type"] == "/problems#internal-error"
    assert answer.json()["request_id"] == "find-me"
    assert "inner secret" not in answer.text
    assert answer.headers.get_list("x-request-id") == ["find-me"]
    logged = [record for record in caplog.records if record.name == "titanic.gateway"]
    assert len(logged) == 1, "once"
    assert "find-me" in logged[0].getMessage()


@pytest.mark.parametrize("given", ["", "x" * 129, "b\u00e9"])
def test_request_id_that_is_not_echoed(live: LiveGateway, given: str) -> None:
    """A request id that is too long or not printable ASCII is left out."""
    headers = [(b"X-Request-ID", given.encode("latin-1"))]
    for path in ("/livez", "/v1/jobs/x/reply"):
        assert "x-request-id" not in live.client.get(path, headers=headers).headers


def test_metrics(live: LiveGateway) -> None:
    """Requests are counted by route template and status; the node's numbers are there."""
    labels = {"process": "0", "method": "POST", "route": "/v1/services/{service}/jobs", "status": "202"}
    name = ("titanic_gateway_request_seconds_count", frozenset(labels.items()))
    before = samples(live).get(name, 0.0)
    live.submit(b"12345")
    live.client.get("/nothing/at/all")
    after = samples(live)
    assert after[name] == before + 1
    routes = {dict(found[1]).get("route") for found in after if found[0] == name[0]}
    assert "unmatched" in routes
    assert not [route for route in routes if route and re.search("nothing|echo|[0-9a-f]{32}", route)]
    assert after["titanic_node_up", frozenset()] == 1
    assert after["titanic_node_jobs_accepted_total", frozenset()] == 7
    assert after["titanic_service", frozenset({("service", "echo"), ("what", "queued")})] == 2
    assert after["titanic_gateway_requests_underway", frozenset({("process", "0")})] == 1, "this one"
    assert ("process_open_fds", frozenset()) in after


def test_metrics_are_bounded(live: LiveGateway) -> None:
    """More services than fit are counted as left out."""
    live.node.stats = Stats({}, {}, {f"s{number:04}": {"queued": 1} for number in range(SERVICES_MAX + 5)})
    found = samples(live)
    assert sum(name == "titanic_service" for name, _ in found) == SERVICES_MAX
    assert found["titanic_node_services_omitted", frozenset()] == 5


def test_metrics_without_a_node(live: LiveGateway) -> None:
    """The gateway's own numbers are there without a node, and say that it is gone."""
    live.node.down = True
    assert samples(live)["titanic_node_up", frozenset()] == 0


def test_one_scrape_shows_all_processes(tmp_path: Path) -> None:
    """Processes that share a port leave their counts for each other; whichever is asked shows all."""
    lives = [
        LiveGateway(SETTINGS.replacing(metrics_dir=tmp_path, process=number), FakeNode())
        for number in range(2)
    ]
    try:
        (tmp_path / "gateway-7.json").write_bytes(b'{"process": 7}')
        for number, live in enumerate(lives):
            for _ in range(number + 1):
                live.submit()

        def counts(live: LiveGateway) -> dict[str, float]:
            name = "titanic_gateway_request_seconds_count"
            found = {labels: value for (found, labels), value in samples(live).items() if found == name}
            submits = {
                dict(labels)["process"]: value
                for labels, value in found.items()
                if ("method", "POST") in labels
            }
            return dict(sorted(submits.items()))

        for live in lives:
            until("both are seen", lambda live=live: counts(live) == {"0": 1.0, "1": 2.0})  # type: ignore[misc]
        assert not any(name.startswith("process_") for name, _ in samples(lives[0]))
    finally:
        for live in lives:
            live.stop()
