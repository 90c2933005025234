"""Idempotency-Key over TCP, and the options that become times."""

import time

import httpx
import pytest

from tests.gateway.conftest import LiveGateway, check_problem
from tests.gateway.fake_node import CREATED_MS

PATH = "/v1/services/echo/jobs"


def post(
    live: LiveGateway, key: str, body: bytes = b"x", path: str = "/v1/services/echo/jobs"
) -> httpx.Response:
    headers = {"Idempotency-Key": key, "Content-Type": "text/plain"}
    return live.client.post(path, content=body, headers=headers)


@pytest.mark.parametrize(
    "key", ["", '"', '""', '"a', 'a"', '"a"b"', "a b", "a,b", '"\\a"', '"\\"', "x" * 256]
)
def test_keys_that_are_none(live: LiveGateway, key: str) -> None:
    """What is neither a quoted string nor a token is 400, and nothing is stored."""
    check_problem(post(live, key), 400, "bad-header")
    assert not live.node.jobs


@pytest.mark.parametrize("key", ["order-4711", '"order-4711"', '"with \\"quotes\\" and \\\\"', "x" * 255])
def test_a_repeated_submit(live: LiveGateway, key: str) -> None:
    """The same key and the same request: the first job again, and the header says so."""
    first, again = post(live, key), post(live, key)
    assert (first.status_code, again.status_code) == (202, 202)
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]
    assert len(live.node.jobs) == 1


def test_both_forms_are_one_key(live: LiveGateway) -> None:
    """A token and the quoted string of the same characters are the same key."""
    assert post(live, "k").json()["id"] == post(live, '"k"').json()["id"]


def test_another_request_under_the_key(live: LiveGateway) -> None:
    """Another body, type or option is 422; another service has its own keys."""
    post(live, "k")
    check_problem(post(live, "k", b"y"), 422, "idempotency-key-reused")
    check_problem(post(live, "k", path=PATH + "?attempts=1"), 422, "idempotency-key-reused")
    headers = {"Idempotency-Key": "k", "Content-Type": "text/html"}
    answer = live.client.post(PATH, content=b"x", headers=headers)
    check_problem(answer, 422, "idempotency-key-reused")
    assert post(live, "k", path="/v1/services/other/jobs").status_code == 202
    assert len(live.node.jobs) == 2


def test_a_relative_time_is_the_same_request(live: LiveGateway) -> None:
    """``delay`` counts from the first submit: the repeat is no other request."""
    path = PATH + "?delay=1h"
    assert post(live, "k", path=path).json() == post(live, "k", path=path).json()


def test_a_lost_answer_is_no_replay(live: LiveGateway) -> None:
    """When the gateway itself had to repeat, the client's request is still the first one."""
    live.node.lost_answers = 2
    assert "idempotent-replayed" not in post(live, "k").headers
    assert len(live.node.jobs) == 1


def test_a_replay_waits_and_finds_the_reply(live: LiveGateway) -> None:
    """``Prefer: wait`` on a repeat answers with the first job's reply."""
    key = bytes.fromhex(post(live, "k").json()["id"])
    live.node.finish(key, b"done")
    headers = {"Idempotency-Key": "k", "Content-Type": "text/plain", "Prefer": "wait=1"}
    answer = live.client.post(PATH, content=b"x", headers=headers)
    assert (answer.status_code, answer.content) == (200, b"done")
    assert answer.headers["idempotent-replayed"] == "true"


def test_a_key_of_a_closed_job(live: LiveGateway) -> None:
    """The key outlives its job: no second one is made, and the answer says that it is closed."""
    first = post(live, "k").json()
    live.client.delete(f"/v1/jobs/{first['id']}")
    again = post(live, "k")
    assert (again.json()["id"], again.json()["state"]) == (first["id"], "closed")
    assert not live.node.jobs


def test_options_become_times(live: LiveGateway) -> None:
    """Delays and expiries count from now; the rest is passed on as it is."""
    before = time.time_ns() // 1_000_000
    query = "delay=10s&expires=1m&retention=2h&priority=low&timeout=3s&attempts=0"
    headers = {"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01"}
    answer = live.client.post(f"/v1/services/echo/jobs?{query}", headers=headers)
    assert answer.json()["state"] == "scheduled"
    meta = live.node.only().meta
    after = time.time_ns() // 1_000_000
    assert before + 10_000 <= meta.not_before_ms <= after + 10_000
    assert before + 60_000 <= meta.expires_ms <= after + 60_000
    assert (meta.retention_ms, meta.priority, meta.timeout_ms, meta.attempts_max) == (7_200_000, 0, 3_000, 0)
    assert meta.traceparent == headers["traceparent"]
    assert before > CREATED_MS


def test_a_bad_traceparent_is_not_stored(live: LiveGateway) -> None:
    """What is no trace context is left out, as W3C demands."""
    live.client.post(PATH, headers={"traceparent": "00-xyz-01"})
    assert live.node.only().meta.traceparent == ""
