"""Keys over TCP: who is refused, what a scope allows, whose a job is, rates, quotas, changes at runtime."""

import logging
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from core.pure import tsp
from gateway.errors import KeyFileError
from gateway.http import keyfile
from gateway.http.app import create_app
from gateway.http.server import run
from gateway.pure.keys import KeyRecord, hash_secret
from tests.gateway.conftest import SETTINGS, LiveGateway, check_problem
from tests.gateway.fake_node import FakeNode
from tests.support.processes import until

NDJSON = {"Content-Type": "application/x-ndjson"}


class Closed(LiveGateway):
    """A gateway with a key file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        keyfile.update(path, lambda _: [])
        super().__init__(SETTINGS.replacing(keys=path), FakeNode())

    def key(self, name: str, *scopes: str, **limits: object) -> dict[str, str]:
        """A new key's headers; it is in force."""
        secret = keyfile.new_secret()
        hash_ = hash_secret(secret.encode())
        record = KeyRecord(keyfile.new_id(), name, hash_, list(scopes), 0, **limits)  # type: ignore[arg-type]
        keyfile.update(self.path, lambda records: [*records, record])
        self.app.guard.refresh()
        return {"Authorization": f"Bearer {keyfile.token(record, secret)}"}

    def revoke(self, name: str) -> None:
        keyfile.update(self.path, lambda records: [known for known in records if known.name != name])


@pytest.fixture(scope="module")
def served_closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Closed]:
    """One server with keys for all tests of the file."""
    live = Closed(tmp_path_factory.mktemp("keys") / "keys.json")
    yield live
    live.stop()


@pytest.fixture
def closed(served_closed: Closed) -> Closed:
    """The server with no key and a node as new."""
    keyfile.update(served_closed.path, lambda _: [])
    served_closed.node.reset()
    served_closed.app.node.forget()
    served_closed.app.node.quotas.update({}, {}, -1_000_000)
    return served_closed


DATA = [
    ("POST", "/v1/services/echo/jobs"),
    ("POST", "/v1/services/echo/jobs:batch"),
    ("GET", "/v1/jobs"),
    ("GET", "/v1/jobs/" + "0" * 32),
    ("HEAD", "/v1/jobs/" + "0" * 32),
    ("GET", "/v1/jobs/" + "0" * 32 + "/reply"),
    ("DELETE", "/v1/jobs/" + "0" * 32),
    ("POST", "/v1/jobs/" + "0" * 32 + ":cancel"),
    ("POST", "/v1/jobs/" + "0" * 32 + ":retry"),
    ("GET", "/v1/services"),
    ("GET", "/v1/services/echo"),
    ("POST", "/v1/services/echo:pause"),
    ("POST", "/v1/services/echo:resume"),
    ("GET", "/v1/events"),
    ("GET", "/v1/nodes"),
    ("GET", "/v1/store"),
    ("GET", "/v1/store/backup"),
    ("GET", "/metrics"),
]


def test_the_table_is_complete() -> None:
    """Every operation of the API that shows or changes data is tried below."""
    paths = create_app(SETTINGS).api.openapi()["paths"]
    known = {"/livez", "/readyz"}
    tried = {path.replace("echo", "{service}").replace("0" * 32, "{id}") for _, path in DATA}
    assert set(paths) - known == tried


# -- who is refused


@pytest.mark.parametrize(("method", "path"), DATA)
def test_without_a_key(closed: Closed, method: str, path: str) -> None:
    """Everything but pages and health is 401 without a key, with a challenge; the node is not asked."""
    closed.node.calls.clear()
    for variant in (path, path.replace("/v1", "/%761"), path.replace("metrics", "metric%73")):
        answer = closed.client.request(method, variant)
        assert answer.status_code == 401, variant
        assert answer.headers["www-authenticate"] == 'Bearer realm="titanic"'
        if method != "HEAD":
            check_problem(answer, 401, "unauthenticated")
    assert closed.node.calls == []


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Bearer",
        "Bearer .",
        "Bearer x.y",
        "Basic eDp5",
        "Bearer {id}",
        "Bearer {id}.",
        "Bearer {id}.wrong",
        "Bearer {id}.{hash}",
        "Token {token}",
        "Bearer {token}x",
        "Bearer {token} {token}",
        "Bearer " + "x" * 1000,
        "{token}",
    ],
)
def test_keys_that_are_none(closed: Closed, value: str) -> None:
    """A key that is not known is 401 with invalid_token, also when half of it is right."""
    token = closed.key("a", "admin")["Authorization"].removeprefix("Bearer ")
    (record,) = keyfile.read(closed.path)
    given = value.format(id=record.id, token=token, hash=record.sha256).strip()
    answer = closed.client.get("/v1/jobs", headers={"Authorization": given})
    check_problem(answer, 401, "unauthenticated")
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    right = {"Authorization": f"bearer  {token}"}
    assert closed.client.get("/v1/jobs", headers=right).status_code == 200, (
        "the case of the scheme is no matter"
    )


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/docs", "/openapi.json", "/problems"])
def test_what_needs_no_key(closed: Closed, path: str) -> None:
    """Health, pages and the API's document are open."""
    assert closed.client.get(path).status_code == 200


# -- scopes and services

SUBMITS = {("POST", path) for method, path in DATA if "jobs" in path and method == "POST"} | {
    ("DELETE", "/v1/jobs/" + "0" * 32)
}
ADMINS = {
    ("POST", "/v1/services/echo:pause"),
    ("POST", "/v1/services/echo:resume"),
    ("GET", "/v1/store/backup"),
}


@pytest.mark.parametrize(("method", "path"), DATA)
def test_scopes(closed: Closed, method: str, path: str) -> None:
    """Each operation needs its scope, says which one it is, and admin has them all."""
    needed = "submit" if (method, path) in SUBMITS else "admin" if (method, path) in ADMINS else "read"
    for scope in ("submit", "read"):
        headers = {**closed.key(scope, scope), **NDJSON}
        content = b"1\n" if method == "POST" else None
        if scope == needed:
            continue
        answer = closed.client.request(method, path, headers=headers, content=content)
        assert answer.status_code == 403
        assert f'error="insufficient_scope", scope="{needed}"' in answer.headers["www-authenticate"]
    if path != "/v1/events":
        headers = {**closed.key("root", "admin"), **NDJSON}
        content = b"1\n" if method == "POST" else None
        answer = closed.client.request(method, path, headers=headers, content=content)
        assert answer.status_code not in (401, 403)


def test_a_key_bound_to_services(closed: Closed) -> None:
    """It submits to its services only, sees those only, and nothing that concerns all."""
    closed.node.services = {name: tsp.ServiceRow(name) for name in ("a", "b")}
    key = closed.key("bound", "admin", services=["a"])
    assert closed.client.post("/v1/services/a/jobs", headers=key).status_code == 202
    listed = closed.client.get("/v1/services", headers=key).json()["services"]
    assert [service["name"] for service in listed] == ["a"]
    for method, path in [
        ("POST", "/v1/services/b/jobs"),
        ("POST", "/v1/services/%62/jobs"),
        ("GET", "/v1/services/b"),
        ("POST", "/v1/services/b:pause"),
        ("GET", "/v1/events?service=b"),
        ("GET", "/v1/nodes"),
        ("GET", "/v1/store"),
        ("GET", "/v1/store/backup"),
        ("GET", "/metrics"),
    ]:
        check_problem(closed.client.request(method, path, headers=key), 403, "forbidden")


# -- ownership


def test_a_job_belongs_to_its_key(closed: Closed) -> None:
    """To another key a job does not exist, whatever is asked; to an admin it does."""
    mine, other = closed.key("mine", "submit", "read"), closed.key("other", "submit", "read")
    root = closed.key("root", "admin")
    path = closed.client.post("/v1/services/echo/jobs", headers=mine).headers["location"]
    owner = mine["Authorization"].removeprefix("Bearer ").partition(".")[0]
    assert closed.node.only().meta.owner == owner
    for method, tail in [("GET", ""), ("GET", "/reply"), ("POST", ":cancel"), ("POST", ":retry")]:
        check_problem(closed.client.request(method, path + tail, headers=other), 404, "never-issued")
    wait = {**other, "Prefer": "wait=1"}
    check_problem(closed.client.get(path, headers=wait), 404, "never-issued")
    check_problem(closed.client.get(path + "/reply", headers=wait), 404, "never-issued")
    assert closed.client.delete(path, headers=other).status_code == 204
    assert closed.node.jobs, "the other's close did nothing"
    assert closed.client.get("/v1/jobs", headers=other).json()["jobs"] == []
    for headers in (mine, root):
        assert closed.client.get(path, headers=headers).json()["owner"] == owner
        assert len(closed.client.get("/v1/jobs", headers=headers).json()["jobs"]) == 1
    assert closed.client.delete(path, headers=mine).status_code == 204
    assert not closed.node.jobs


def test_idempotency_keys_are_per_caller(closed: Closed) -> None:
    """Two callers may use the same Idempotency-Key for different requests."""
    one, two = closed.key("one", "submit"), closed.key("two", "submit")
    for body, headers in ((b"1", one), (b"2", two)):
        answer = closed.client.post(
            "/v1/services/echo/jobs", content=body, headers={**headers, "Idempotency-Key": "k"}
        )
        assert answer.status_code == 202
        assert "idempotent-replayed" not in answer.headers
    assert len(closed.node.jobs) == 2


# -- rates and quotas


def test_rate(closed: Closed) -> None:
    """A burst passes; then 429 with Retry-After. Every answer says how the key stands."""
    key = closed.key("slow", "submit", "read", rate_per_s=0.1, burst=3)
    answers = [closed.client.get("/v1/jobs", headers=key) for _ in range(2)]
    answers.append(closed.client.post("/v1/services/echo/jobs", headers=key))
    assert [answer.status_code for answer in answers] == [200, 200, 202]
    assert [answer.headers["ratelimit"].split(";")[1] for answer in answers] == ["r=2", "r=1", "r=0"]
    assert answers[0].headers["ratelimit-policy"] == '"key";q=3;w=30'
    for method, path in (("GET", "/v1/jobs"), ("POST", "/v1/services/echo/jobs")):
        refused = closed.client.request(method, path, headers=key)
        check_problem(refused, 429, "rate-limited")
        assert 8 <= int(refused.headers["retry-after"]) <= 10
        assert refused.headers.get_list("ratelimit") == ['"key";r=0;t=30']
    assert "ratelimit" not in closed.client.get("/v1/jobs", headers=closed.key("b", "read")).headers


def test_a_batch_costs_its_lines(closed: Closed) -> None:
    """A batch takes from the rate what its lines would."""
    key = {**closed.key("slow", "submit", rate_per_s=0.1, burst=5), **NDJSON}
    path = "/v1/services/echo/jobs:batch"
    assert closed.client.post(path, headers=key, content=b"1\n2\n3\n4\n").status_code == 202
    check_problem(closed.client.post(path, headers=key, content=b"1\n2\n3\n"), 429, "rate-limited")


def test_quota_of_open_jobs(closed: Closed) -> None:
    """A key that has as many open jobs as it may gets 429, from what the node says and what was submitted."""
    key = {**closed.key("few", "submit", jobs_max=3), **NDJSON}
    owner = key["Authorization"].removeprefix("Bearer ").partition(".")[0]
    closed.node.stats = tsp.Stats({}, {}, {}, {owner: 1})
    assert closed.client.post("/v1/services/echo/jobs", headers=key).status_code == 202
    closed.node.stats = tsp.Stats({}, {}, {}, {owner: 2})
    batch = closed.client.post("/v1/services/echo/jobs:batch", headers=key, content=b"1\n2\n")
    check_problem(batch, 429, "quota-exceeded")
    assert closed.client.post("/v1/services/echo/jobs", headers=key).status_code == 202
    closed.node.stats = tsp.Stats({}, {}, {}, {owner: 3})
    check_problem(closed.client.post("/v1/services/echo/jobs", headers=key), 429, "quota-exceeded")
    closed.node.stats = tsp.Stats({}, {}, {}, {})
    assert closed.client.post("/v1/services/echo/jobs", headers=key).status_code == 202


def test_quota_of_open_bytes(closed: Closed) -> None:
    """The same of the bytes of requests: 429 while others must be closed first, 403 for what never fits."""
    key = {**closed.key("small", "submit", bytes_max=1_000), **NDJSON}
    owner = key["Authorization"].removeprefix("Bearer ").partition(".")[0]
    path = "/v1/services/echo/jobs"
    closed.node.stats = tsp.Stats({}, {}, {}, {owner: 1}, {owner: 640})
    assert closed.client.post(path, headers=key, content=b"x" * 300).status_code == 202
    document = check_problem(closed.client.post(path, headers=key, content=b"x" * 361), 429, "quota-exceeded")
    assert document["detail"] == "The key has 640 of 1000 bytes open."
    batch = closed.client.post(path + ":batch", headers=key, content=b"1" * 200 + b"\n" + b"2" * 200 + b"\n")
    assert batch.headers["retry-after"]
    check_problem(batch, 429, "quota-exceeded")
    assert closed.client.post(path, headers=key, content=b"x" * 360).status_code == 202
    check_problem(closed.client.post(path, headers=key, content=b"x" * 1_001), 403, "forbidden")


# -- the file


def test_changes_at_runtime(closed: Closed) -> None:
    """A new key, a revoked one and a rotated one are in force within two seconds, without a restart."""
    key = closed.key("a", "read")

    def status() -> int:
        return closed.client.get("/v1/jobs", headers=key).status_code

    assert status() == 200
    closed.revoke("a")
    until("the key is out of force", lambda: status() == 401, deadline_s=2)


def test_a_broken_file_changes_nothing(closed: Closed, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever happens to the file, the last good keys stay in force, and the server never opens."""
    key = closed.key("a", "read")
    good = closed.path.read_bytes()
    for bad in (b"", b"{", b'{"version":2,"keys":[]}', good.replace(b'"read"', b'"root"'), None):
        closed.path.unlink(missing_ok=True)
        if bad is not None:
            closed.path.write_bytes(bad)
        with caplog.at_level(logging.ERROR):
            closed.app.guard.refresh()
        assert closed.client.get("/v1/jobs", headers=key).status_code == 200
        assert closed.client.get("/v1/jobs").status_code == 401
    assert len([record for record in caplog.records if "stay in force" in record.getMessage()]) == 5
    closed.path.write_bytes(good)


def test_a_file_that_comes_later_closes_the_server(tmp_path: Path) -> None:
    """A server that was open asks for keys as soon as there is a file."""
    path = tmp_path / "keys.json"
    live = LiveGateway(SETTINGS.replacing(keys=path), FakeNode())
    try:
        assert live.client.get("/v1/jobs").status_code == 200
        keyfile.update(path, lambda _: [])
        live.app.guard.refresh()
        assert live.client.get("/v1/jobs").status_code == 401
    finally:
        live.stop()


def test_a_server_does_not_start_with_a_broken_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At the start a file that cannot be used is an error, and one line with the reason."""
    path = tmp_path / "keys.json"
    path.write_text("{}")
    with pytest.raises(KeyFileError):
        create_app(SETTINGS.replacing(keys=path))
    assert run(SETTINGS.replacing(keys=path), link=FakeNode()) == 1
    assert str(path) in capsys.readouterr().err


def test_secrets_are_nowhere(closed: Closed, caplog: pytest.LogCaptureFixture) -> None:
    """Neither file, log nor answers show a secret."""
    key = closed.key("a", "submit")
    secret = key["Authorization"].partition(".")[2]
    with caplog.at_level(logging.DEBUG):
        closed.node.crash = ZeroDivisionError("x")
        answers = [
            closed.client.post("/v1/services/echo/jobs", headers=key),
            closed.client.get("/v1/jobs", headers=key),
        ]
    seen = "".join(answer.text for answer in answers) + caplog.text + closed.path.read_text()
    assert secret not in seen
    assert all(isinstance(answer, httpx.Response) and answer.status_code >= 400 for answer in answers)
