"""Submit over TCP: what is refused, what is stored, and what a node can do to it."""

import base64

import httpx
import pytest

from core.pure import tsp
from core.pure.ids import Mint
from gateway.pure.negotiate import FRAMES_TYPE
from tests.gateway.conftest import ISSUED, MAX_BODY_BYTES, LiveGateway, check_problem
from tests.gateway.fake_node import SECRET
from tests.support.fair import FairClock

FRAMES = FRAMES_TYPE.decode()


# -- submit


@pytest.mark.parametrize(
    "service", ["mmi.service", "titanic.request", "%2F", "a%2Fb", "", "%00", "a" * 256, "%C3%A9", "%E2%82%AC"]
)
def test_submit_to_a_bad_service(live: LiveGateway, service: str) -> None:
    """Reserved, empty, too long or unprintable names are 400 and nothing reaches the node."""
    answer = live.client.post(f"/v1/services/{service}/jobs", content=b"x")
    check_problem(answer, 400, "bad-service-name")
    assert tsp.SUBMIT not in live.node.calls


def test_submit_with_unknown_parameters(live: LiveGateway) -> None:
    """Unknown parameters are refused by name, all of them."""
    answer = live.client.post("/v1/services/echo/jobs?retries=3&attempts=x&colour=red", content=b"x")
    errors = check_problem(answer, 400, "bad-parameter")["errors"]
    assert isinstance(errors, list)
    assert [error["parameter"] for error in errors] == ["retries", "attempts", "colour"]
    assert not live.node.jobs


@pytest.mark.parametrize("body", [b"", b"{}", b'{"frames":[]}', b'{"frames":["!"]}'])
def test_submit_of_bad_frames(live: LiveGateway, body: bytes) -> None:
    """A body that is not what its Content-Type says is 400."""
    answer = live.client.post("/v1/services/echo/jobs", content=body, headers={"Content-Type": FRAMES})
    check_problem(answer, 400, "bad-frames")


def test_submit_with_an_absurd_content_type(live: LiveGateway) -> None:
    """A Content-Type that nobody could mean is 400."""
    answer = live.client.post(
        "/v1/services/echo/jobs", content=b"", headers={"Content-Type": "x/" + "y" * 254}
    )
    check_problem(answer, 400, "bad-header")


def test_submit(live: LiveGateway) -> None:
    """202, id, Location, Retry-After, receipt, links; body and Content-Type reach the node as they are."""
    body = bytes(range(256))
    answer = live.client.post(
        "/v1/services/word%20count/jobs?attempts=3&timeout=2m",
        content=body,
        headers={"Content-Type": "image/x; a=b", "X-Request-ID": "r-1"},
    )
    assert answer.status_code == 202
    document = answer.json()
    path = f"/v1/jobs/{document['id']}"
    assert answer.headers["location"] == path
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers["titanic-durability"] == "fsync"
    assert answer.headers["titanic-epoch"] == "3"
    assert answer.headers["x-request-id"] == "r-1"
    assert document["service"] == "word count"
    assert document["state"] == "queued"
    assert document["created_at"] == "2025-11-23T13:53:00.123Z"
    assert document["links"] == {"status": path, "reply": f"{path}/reply", "close": path}
    job = live.node.only()
    assert job.key.hex() == document["id"]
    assert job.frames == [body]
    assert (job.meta.content_type, job.meta.attempts_max, job.meta.timeout_ms) == ("image/x; a=b", 3, 120_000)


def test_submit_of_nothing(live: LiveGateway) -> None:
    """An empty body is a body."""
    live.submit(b"")
    assert live.node.only().frames == [b""]
    assert live.node.only().meta.content_type == ""


def test_submit_of_frames(live: LiveGateway) -> None:
    """A frames document becomes the request's frames."""
    document = {"frames": [base64.b64encode(frame).decode() for frame in (b"one", b"", b"three")]}
    headers = {"Content-Type": FRAMES + "; charset=utf-8"}
    answer = live.client.post("/v1/services/echo/jobs", json=document, headers=headers)
    assert answer.status_code == 202
    assert live.node.only().frames == [b"one", b"", b"three"]


def test_ids_are_of_our_making(live: LiveGateway) -> None:
    """Each id is new and carries the node's tag."""
    keys = {live.submit() for _ in range(50)}
    assert len(keys) == 50
    assert all(Mint(SECRET).issued(key) for key in keys)


# -- the body's limit


@pytest.mark.parametrize("declared", [True, False])
def test_body_over_the_limit(live: LiveGateway, declared: bool) -> None:
    """413, with and without Content-Length; the limit is named and nothing is stored."""
    body = b"x" * (MAX_BODY_BYTES + 1)
    content = body if declared else iter([body[:1000], body[1000:]])
    with httpx.Client(base_url=live.url) as client:
        answer = client.post("/v1/services/echo/jobs", content=content)
    assert check_problem(answer, 413, "body-too-large")["limit_bytes"] == MAX_BODY_BYTES
    assert answer.headers["connection"] == "close"
    assert not live.node.jobs


def test_body_at_the_limit(live: LiveGateway) -> None:
    """The limit itself is allowed, with and without Content-Length."""
    body = b"x" * MAX_BODY_BYTES
    live.submit(body)
    answer = live.client.post("/v1/services/echo/jobs", content=iter([body[:5], body[5:]]))
    assert answer.status_code == 202
    assert [len(job.frames[0]) for job in live.node.jobs.values()] == [MAX_BODY_BYTES] * 2


def test_body_over_the_nodes_limit(live: LiveGateway) -> None:
    """A node that takes less sets the limit."""
    live.node.max_body_bytes = 100
    assert live.client.get("/readyz").status_code == 200
    answer = live.client.post("/v1/services/echo/jobs", content=b"x" * 101)
    assert check_problem(answer, 413, "body-too-large")["limit_bytes"] == 100


# -- a submit and its node


def test_a_lost_answer_makes_no_second_job(live: LiveGateway) -> None:
    """A submit without answer is repeated under its id (X2)."""
    live.node.lost_answers = 2
    live.submit()
    assert live.node.calls.count(tsp.SUBMIT) == 3
    assert len(live.node.jobs) == 1


def test_patience_ends(live: LiveGateway) -> None:
    """With no node, a submit ends with 503 and Retry-After within the gateway's patience."""
    live.node.down = True
    with FairClock() as clock:
        answer = live.client.post("/v1/services/echo/jobs", content=b"x")
        assert clock.elapsed_s < 3
    check_problem(answer, 503, "node-unreachable")
    assert int(answer.headers["retry-after"]) >= 1


def test_a_node_with_another_secret(live: LiveGateway) -> None:
    """When the node is another one, the gateway asks its secret and submits again."""
    live.submit()
    live.node.secret = b"t" * 32
    key = live.submit()
    assert Mint(b"t" * 32).issued(key)


@pytest.mark.parametrize(
    ("code", "status", "slug"),
    [
        (tsp.UNAVAILABLE, 503, "node-not-ready"),
        (tsp.FULL, 507, "store-full"),
        (tsp.ERROR, 500, "node-error"),
        (tsp.UNKNOWN, 500, "node-error"),
        (tsp.CONFLICT + b"x", 502, "bad-node-answer"),
    ],
)
def test_what_the_node_refuses(live: LiveGateway, code: bytes, status: int, slug: str) -> None:
    """The node's refusal of a submit is told with its reason; what may pass has Retry-After."""
    live.node.refusal = (code, "why not")
    answer = live.client.post("/v1/services/echo/jobs", content=b"x")
    document = check_problem(answer, status, slug)
    assert ("retry-after" in answer.headers) is (status in (503, 507))
    assert "why not" in str(document["detail"]) or status == 502


@pytest.mark.parametrize("garbage", [[], [b""], [b"200"], [b"200", b"\xc1"], [b"xyz", b"\x90"]])
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/services/echo/jobs"), ("GET", f"/v1/jobs/{ISSUED}"), ("GET", f"/v1/jobs/{ISSUED}/reply")],
)
def test_garbage_from_the_node(live: LiveGateway, garbage: list[bytes], method: str, path: str) -> None:
    """An answer that makes no sense is 502 and no crash."""
    live.node.garbage = garbage
    check_problem(live.client.request(method, path), 502, "bad-node-answer")


@pytest.mark.parametrize("demand", ["replicated", "FSYNC", "memory", "paper"])
def test_demanded_durability(live: LiveGateway, demand: str) -> None:
    """Less than demanded, and what nobody knows, is 503 and not stored; enough is taken."""
    answer = live.client.post("/v1/services/echo/jobs", headers={"Titanic-Durability": demand})
    if demand in ("replicated", "paper"):
        check_problem(answer, 503, "less-durable")
        assert not live.node.jobs
    else:
        assert answer.status_code == 202


def test_durability_lost_after_hello(live: LiveGateway) -> None:
    """If the node turns out to give less than it said, the job is taken back."""
    live.submit()
    live.node.durability = "memory"
    answer = live.client.post("/v1/services/echo/jobs", headers={"Titanic-Durability": "fsync"})
    check_problem(answer, 503, "less-durable")
    assert len(live.node.jobs) == 1, "only the first job is left"


def test_respond_async_is_said_to_be_applied(live: LiveGateway) -> None:
    """It is what happens anyway; a wait beside it is what is applied instead."""
    path = "/v1/services/echo/jobs"
    answer = live.client.post(path, headers={"prefer": "respond-async"})
    assert (answer.status_code, answer.headers["preference-applied"]) == (202, "respond-async")
    answer = live.client.post(path, headers={"prefer": "respond-async, wait=1"})
    assert (answer.status_code, answer.headers["preference-applied"]) == (202, "wait=1")
    assert "preference-applied" not in live.client.post(path, headers={"prefer": "handling=lenient"}).headers
