"""Batches: what is refused, what is stored, and the answer line by line."""

import json

import httpx
import pytest

from core.pure import tsp
from tests.gateway.conftest import MAX_BODY_BYTES, LiveGateway, check_problem

PATH = "/v1/services/echo/jobs:batch"
TYPE = {"Content-Type": "application/x-ndjson"}


def post(live: LiveGateway, body: bytes, query: str = "", **headers: str) -> httpx.Response:
    return live.client.post(PATH + query, content=body, headers={**TYPE, **headers})


def lines(answer: httpx.Response) -> list[dict[str, object]]:
    """The documents of an accepted batch."""
    assert answer.status_code == 202, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.text.endswith("\n")
    return [json.loads(line) for line in answer.text.splitlines()]


@pytest.mark.parametrize("body", [b"", b"\n", b"\r\n\n\r\n"])
def test_a_batch_without_lines(live: LiveGateway, body: bytes) -> None:
    """Nothing is no batch."""
    check_problem(post(live, body), 400, "bad-batch")


def test_a_batch_with_too_many_lines(live: LiveGateway) -> None:
    """More lines than one commit takes are refused as a whole."""
    answer = post(live, b"1\n" * (tsp.BATCH_MAX_COUNT + 1))
    check_problem(answer, 400, "bad-batch")
    assert not live.node.jobs
    assert len(lines(post(live, b"1\n" * tsp.BATCH_MAX_COUNT))) == tsp.BATCH_MAX_COUNT


@pytest.mark.parametrize("type_", ["", "application/json", "text/plain", "application/x-ndjson2"])
def test_another_type(live: LiveGateway, type_: str) -> None:
    """A batch says that it is one."""
    answer = live.client.post(PATH, content=b"1\n", headers={"Content-Type": type_} if type_ else {})
    check_problem(answer, 415, "unsupported-media-type")


def test_what_a_submit_refuses(live: LiveGateway) -> None:
    """Service, options and Idempotency-Key are refused as for a single submit."""
    answer = live.client.post("/v1/services/mmi.x/jobs:batch", content=b"1\n", headers=TYPE)
    check_problem(answer, 400, "bad-service-name")
    check_problem(post(live, b"1\n", "?colour=red"), 400, "bad-parameter")
    check_problem(post(live, b"1\n", **{"Idempotency-Key": '"'}), 400, "bad-header")
    check_problem(post(live, b"1\n", **{"Titanic-Durability": "replicated"}), 503, "less-durable")
    assert not live.node.jobs


def test_a_batch(live: LiveGateway) -> None:
    """A line is a body; the answer has a line for each, in order, as a submit would have been answered."""
    answer = post(live, b'{"a": 1}\r\n\n  not json \n\xff\x00', "?attempts=3&priority=high")
    documents = lines(answer)
    assert answer.headers["titanic-durability"] == "fsync"
    assert answer.headers["titanic-epoch"] == "3"
    assert [document["state"] for document in documents] == ["queued"] * 3
    jobs = [live.node.jobs[bytes.fromhex(str(document["id"]))] for document in documents]
    assert [job.frames for job in jobs] == [[b'{"a": 1}'], [b"  not json "], [b"\xff\x00"]]
    assert {(job.meta.content_type, job.meta.attempts_max, job.meta.priority) for job in jobs} == {
        ("application/json", 3, 2)
    }
    links = documents[0]["links"]
    assert isinstance(links, dict)
    assert links["reply"] == f"/v1/jobs/{documents[0]['id']}/reply"


def test_a_line_that_is_too_large(live: LiveGateway) -> None:
    """One line over the limit is refused alone."""
    documents = lines(post(live, b"1\n" + b"x" * (MAX_BODY_BYTES + 1) + b"\n2\n"))
    assert [document.get("status", 202) for document in documents] == [202, 413, 202]
    assert documents[1]["type"] == "/problems#body-too-large"
    assert documents[1]["limit_bytes"] == MAX_BODY_BYTES
    assert len(live.node.jobs) == 2
    only = lines(post(live, b"x" * (MAX_BODY_BYTES + 1)))
    assert [document["status"] for document in only] == [413]


def test_a_lost_answer_makes_no_second_batch(live: LiveGateway) -> None:
    """A batch without answer is repeated under its ids (X2), and is no replay for its client."""
    live.node.lost_answers = 2
    answer = post(live, b"1\n2\n")
    assert len(lines(answer)) == 2
    assert "idempotent-replayed" not in answer.headers
    assert len(live.node.jobs) == 2


def test_a_node_with_another_secret(live: LiveGateway) -> None:
    """When the node is another one, the gateway asks its secret and submits again."""
    lines(post(live, b"1\n"))
    live.node.secret = b"t" * 32
    lines(post(live, b"1\n2\n"))
    assert len(live.node.jobs) == 3


def test_a_repeated_batch(live: LiveGateway) -> None:
    """With an Idempotency-Key a batch is stored once; with another body it is refused line by line."""
    first = post(live, b"1\n2\n", **{"Idempotency-Key": '"b"'})
    again = post(live, b"1\n2\n", **{"Idempotency-Key": "b"})
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert [line["id"] for line in lines(again)] == [line["id"] for line in lines(first)]
    other = lines(post(live, b"1\n3\n", **{"Idempotency-Key": "b"}))
    assert [line["type"] for line in other] == ["/problems#idempotency-key-reused"] * 2
    assert len(live.node.jobs) == 2


@pytest.mark.parametrize(("code", "status"), [(tsp.FULL, 507), (tsp.UNAVAILABLE, 503), (tsp.ERROR, 500)])
def test_what_the_node_refuses(live: LiveGateway, code: bytes, status: int) -> None:
    """A refusal of the whole batch is the answer's status."""
    live.client.get("/readyz")
    live.node.refusal = (code, "why not")
    assert post(live, b"1\n").status_code == status
