"""Lists of jobs, cancel and retry, services, nodes and the store."""

import httpx
import msgspec
import pytest

from core.pure import tsp
from core.pure.pair_heads import PairStatus
from tests.gateway.conftest import ISSUED, STRANGER, LiveGateway, check_problem
from tests.gateway.fake_node import FakeNode

# -- GET /v1/jobs


@pytest.mark.parametrize("query", ["limit=0", "state=lost", "cursor=xyz", "cursor=0", "cursor=AA", "page=1"])
def test_lists_that_are_refused(live: LiveGateway, query: str) -> None:
    """Parameters that cannot be used are named."""
    document = check_problem(live.client.get(f"/v1/jobs?{query}"), 400, "bad-parameter")
    assert query.partition("=")[0] in str(document["errors"])


def test_an_empty_list(live: LiveGateway) -> None:
    """No jobs are no error."""
    answer = live.client.get("/v1/jobs")
    assert (answer.status_code, answer.json()) == (200, {"jobs": [], "next": None})
    assert "link" not in answer.headers


def test_pages(live: LiveGateway) -> None:
    """Newest first; the cursor, and the Link with all filters, lead through all of them once."""
    keys = [live.submit(service="a b") for _ in range(7)]
    live.submit(service="other")
    seen: list[str] = []
    url: str | None = "/v1/jobs?service=a%20b&limit=3"
    while url is not None:
        answer = live.client.get(url)
        assert answer.status_code == 200
        seen += [job["id"] for job in answer.json()["jobs"]]
        url = answer.links["next"]["url"] if "next" in answer.links else None
        assert (answer.json()["next"] is None) is (url is None)
    assert seen == sorted((key.hex() for key in keys), reverse=True)


def test_list_by_state(live: LiveGateway) -> None:
    """A row says what is known without the disk."""
    key = live.submit()
    live.submit()
    live.node.fail(key, "exit status 1", 2)
    (row,) = live.client.get("/v1/jobs?state=failed").json()["jobs"]
    assert (row["id"], row["state"], row["attempts"]) == (key.hex(), "failed", 2)
    assert (row["last_error"], row["priority"], row["owner"]) == ("exit status 1", "normal", None)
    assert row["links"]["status"] == f"/v1/jobs/{key.hex()}"


# -- cancel and retry


@pytest.mark.parametrize("verb", ["cancel", "retry"])
def test_acts_on_what_is_not_there(live: LiveGateway, verb: str) -> None:
    """What is no id, never was, or is gone, is told apart."""
    check_problem(live.client.post(f"/v1/jobs/xyz:{verb}"), 400, "malformed-id")
    check_problem(live.client.post(f"/v1/jobs/{STRANGER}:{verb}"), 404, "never-issued")
    check_problem(live.client.post(f"/v1/jobs/{ISSUED}:{verb}"), 410, "job-gone")
    check_problem(live.client.post(f"/v1/jobs/{ISSUED}:{verb}?force=1"), 400, "bad-parameter")


def test_cancel(live: LiveGateway) -> None:
    """A waiting job is cancelled, twice if need be; one that succeeded is not."""
    key, done = live.submit(), live.submit()
    for _ in range(2):
        answer = live.client.post(f"/v1/jobs/{key.hex()}:cancel")
        assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    live.node.finish(done, b"")
    document = check_problem(live.client.post(f"/v1/jobs/{done.hex()}:cancel"), 409, "wrong-state")
    assert (document["state"], document["id"]) == ("succeeded", done.hex())


def test_retry(live: LiveGateway) -> None:
    """A dead letter is queued again; a job that is queued is not."""
    key = live.submit()
    check_problem(live.client.post(f"/v1/jobs/{key.hex()}:retry"), 409, "wrong-state")
    live.node.fail(key, "no", 25)
    answer = live.client.post(f"/v1/jobs/{key.hex()}:retry")
    assert (answer.status_code, answer.json()["state"]) == (200, "queued")


# -- services


def test_services(live: LiveGateway) -> None:
    """All of them, over the node's pages, sorted; one of them by name."""
    live.node.page_max = 2
    for name in ("e", "b", "a/../", "d", "c"):
        live.node.services[name] = tsp.ServiceRow(name, workers=3, queued=2, oldest_ms=1, paused=name == "b")
    answer = live.client.get("/v1/services")
    assert answer.status_code == 200
    document = answer.json()
    assert [service["name"] for service in document["services"]] == ["a/../", "b", "c", "d", "e"]
    assert document["truncated"] is False
    assert document["services"][0]["links"]["self"] == "/v1/services/a%2F..%2F"
    one = live.client.get("/v1/services/b")
    assert one.status_code == 200
    assert (one.json()["paused"], one.json()["workers"], one.json()["queued"]) == (True, 3, 2)
    assert one.json()["oldest_queued_at"] == "1970-01-01T00:00:00.001Z"


def test_a_service_nobody_knows(live: LiveGateway) -> None:
    """404, and 400 for what cannot be a service."""
    check_problem(live.client.get("/v1/services/nobody"), 404, "no-such-service")
    check_problem(live.client.get("/v1/services/mmi.service"), 400, "bad-service-name")
    check_problem(live.client.post("/v1/services/titanic.x:pause"), 400, "bad-service-name")
    check_problem(live.client.get("/v1/services/nobody?x=1"), 400, "bad-parameter")
    check_problem(live.client.get("/v1/services?x=1"), 400, "bad-parameter")


def test_percent_signs_are_decoded_once(live: LiveGateway) -> None:
    """A service may have a percent sign in its name."""
    assert live.client.post("/v1/services/50%2525:pause").json()["name"] == "50%25"
    assert "50%25" in live.node.services


def test_pause_and_resume(live: LiveGateway) -> None:
    """A service is paused and resumed by name, also one that nobody used yet."""
    assert live.client.post("/v1/services/new:pause").json()["paused"] is True
    assert live.client.get("/v1/services/new").json()["paused"] is True
    assert live.client.post("/v1/services/new:resume").json()["paused"] is False


# -- nodes


def test_nodes(live: LiveGateway) -> None:
    """The node says what it is, and how far its journal is."""
    number = live.node.happen("accepted")
    (node,) = live.client.get("/v1/nodes").json()["nodes"]
    assert (node["role"], node["epoch"], node["ready"], node["sequence"]) == ("single", 3, True, number)


PAIRED = PairStatus(
    role="primary", state="paired", epoch=4, last_seq=9, durable_seq=9, lag=0, outdated=False, why="stored",
    replication="sync", held=0, peer="tcp://b:5600", peer_up=True, peer_state="passive", peer_heard_ms=12,
    merged={}, changes=(), broker="tcp://a:5555", active=True, in_sync=True,
)  # fmt: skip
FOLLOWS = msgspec.structs.replace(PAIRED, role="backup", state="passive", broker="tcp://b:5555", active=False)


def test_nodes_of_a_pair(live: LiveGateway) -> None:
    """Both sides, and one that does not answer with the reason."""
    live.node.pair = {"tcp://a:5555": PAIRED, "tcp://b:5555": FOLLOWS}
    found = live.client.get("/v1/nodes").json()["nodes"]
    assert [(row["name"], row["role"], row["in_sync"]) for row in found] == [
        ("primary", "active", True),
        ("backup", "passive", True),
    ]
    live.node.pair["tcp://b:5555"] = "no answer in time"
    row = live.client.get("/v1/nodes").json()["nodes"][1]
    assert (row["reachable"], row["reason"], row["name"]) == (False, "no answer in time", "backup")


def test_nodes_of_which_none_answers(live: LiveGateway) -> None:
    """503, and the reason of each."""
    live.node.pair = {"tcp://a:5555": "gone", "tcp://b:5555": "away"}
    answer = live.client.get("/v1/nodes")
    assert answer.status_code == 503
    assert "gone; away" in answer.json()["detail"]


# -- the store


def test_store(live: LiveGateway) -> None:
    """Facts, pins and chunks, as the node says them."""
    document = live.client.get("/v1/store").json()
    assert document["facts"]["file_bytes"] == 4096
    assert document["pins"] == [
        {"job": ISSUED, "part": "request", "offset": 7, "status": f"/v1/jobs/{ISSUED}"}
    ]
    assert document["chunks"] == [{"turn": 1, "state": "head", "alive": 1}]


def test_backup(live: LiveGateway) -> None:
    """The image byte for byte, with its length and digest; and the node is told to let go of it."""
    answer = live.client.get("/v1/store/backup")
    assert answer.status_code == 200
    assert answer.content == live.node.store.image
    assert answer.headers["content-length"] == str(len(live.node.store.image))
    assert answer.headers["repr-digest"] == live.node.store.repr_digest
    assert answer.headers["titanic-sequence"] == "9"
    assert live.node.store.ended == 1


def test_backup_that_cannot_begin(live: LiveGateway) -> None:
    """Too many images at once are 503 with Retry-After."""
    live.node.store.refuse = tsp.CONFLICT
    answer = live.client.get("/v1/store/backup")
    check_problem(answer, 503, "too-many-backups")
    assert "retry-after" in answer.headers


@pytest.mark.parametrize("fault", ["gone", "down", "garbage"])
def test_backup_that_breaks_off(live: LiveGateway, fault: str) -> None:
    """An image that ends early is cut short of its Content-Length: nobody takes it for a whole one."""
    live.node.store.break_at = 2
    live.node.store.fault = fault
    with pytest.raises(httpx.RemoteProtocolError):
        live.client.get("/v1/store/backup")
    assert live.client.get("/livez").status_code == 200


def test_fake_and_port_agree() -> None:
    """The fake node's image is made of several parts, with holes."""
    store = FakeNode().store
    assert len(store.image) > 2 * (1 << 20)
    assert bytes(1 << 20) in store.image
