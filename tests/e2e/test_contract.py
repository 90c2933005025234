"""Every status of the HTTP contract, from the real processes: node, gateway, store on disk, worker."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.support.processes import Processes, processes, run, until
from tests.support.sources import ROOT

NDJSON = {"content-type": "application/x-ndjson"}
FRAMES = "application/vnd.titanic.frames+json"
NEVER = "0" * 32
Closed = tuple[httpx.Client, dict[str, dict[str, str]]]
"""A client, and the headers of each key by its name."""
ECHO, BROKEN, IDLE = "/v1/services/echo/jobs", "/v1/services/broken/jobs", "/v1/services/idle/jobs"


def serve(family: Processes, folder: Path, *flags: str) -> tuple[str, str]:
    """URL and broker of a server of its own."""
    command = ("--data", "data", "--broker", "tcp://127.0.0.1:0", "--http", "127.0.0.1:0", "--json")
    facts = family.start("serve", *command, *flags, cwd=folder).facts()
    return facts["http"], facts["broker"]


@pytest.fixture(scope="module")
def open_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A server without keys, with a worker that echoes and one that fails."""
    folder = tmp_path_factory.mktemp("open")
    with processes(folder) as family:
        url, broker = serve(family, folder)
        family.start("worker", "echo", "--nodes", broker)
        family.start("worker", "broken", "--exec", "echo no >&2; exit 3", "--nodes", broker)
        with httpx.Client(base_url=url, timeout=30) as client:
            yield client


@pytest.fixture(scope="module")
def closed_server(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[httpx.Client, dict[str, dict[str, str]]]]:
    """A server with keys, by name."""
    folder = tmp_path_factory.mktemp("closed")
    keys = {}
    for name, *flags in (
        ("both", "--scope", "submit", "--scope", "read"),
        ("reader", "--scope", "read"),
        ("bound", "--scope", "submit", "--service", "other"),
        ("slow", "--scope", "submit", "--rate", "0.001", "--burst", "1"),
        ("few", "--scope", "submit", "--jobs-max", "1"),
        ("small", "--scope", "submit", "--bytes-max", "100"),
        ("root", "--scope", "admin"),
    ):
        made = run("keys", "create", name, *flags, "--data", "data", "--json", cwd=folder)
        keys[name] = {"authorization": f"Bearer {json.loads(made.stdout)['key']}"}
    with processes(folder) as family:
        url, _ = serve(family, folder)
        with httpx.Client(base_url=url, timeout=30) as client:
            yield client, keys


def problem(answer: httpx.Response, status: int, slug: str) -> dict[str, object]:
    """The problem document of a refusal, whose type is a heading of the page it leads to."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, object] = answer.json()
    assert document["type"] == f"/problems#{slug}"
    assert document["status"] == status
    return document


def submit(client: httpx.Client, path: str = IDLE, **headers: str) -> httpx.Response:
    answer = client.post(path, content=b"work", headers=headers)
    assert answer.status_code == 202, answer.text
    return answer


# -- one job, all the way


def test_submit_reply_status_close(open_server: httpx.Client) -> None:
    """202 with its receipt, 202 while pending, 200, 304, 204, 410, 204 again."""
    client = open_server
    sent = submit(client, **{"x-request-id": "abc-1"})
    links = sent.json()["links"]
    assert sent.headers["location"] == links["status"]
    assert sent.headers["titanic-durability"] == "fsync"
    assert sent.headers["titanic-epoch"] == "1"
    assert sent.headers["x-request-id"] == "abc-1"
    assert int(sent.headers["retry-after"]) >= 1
    pending = client.get(links["reply"])
    assert (pending.status_code, pending.json()["state"]) == (202, "queued")
    assert int(pending.headers["retry-after"]) >= 1
    status = client.get(links["status"])
    assert (status.status_code, status.json()["service"]) == (200, "idle")
    tag = status.headers["etag"]
    assert client.get(links["status"], headers={"if-none-match": tag}).status_code == 304
    assert client.get(links["status"], headers={"if-none-match": '"other"'}).status_code == 200
    assert client.delete(links["close"]).status_code == 204
    problem(client.get(links["reply"]), 410, "job-gone")
    problem(client.get(links["status"]), 410, "job-gone")
    assert client.delete(links["close"]).status_code == 204


def test_ids_nobody_issued(open_server: httpx.Client) -> None:
    """404 for what was never ours, 204 to close it all the same, 400 for what is no id."""
    client = open_server
    problem(client.get(f"/v1/jobs/{NEVER}"), 404, "never-issued")
    problem(client.get(f"/v1/jobs/{NEVER}/reply"), 404, "never-issued")
    problem(client.post(f"/v1/jobs/{NEVER}:cancel"), 404, "never-issued")
    assert client.delete(f"/v1/jobs/{NEVER}").status_code == 204
    for path in ("/v1/jobs/no-id", "/v1/jobs/no-id/reply"):
        problem(client.get(path), 400, "malformed-id")
    problem(client.delete("/v1/jobs/no-id"), 400, "malformed-id")
    job_id = submit(client).json()["id"]
    dashed = f"{job_id[:8]}-{job_id[8:12]}-{job_id[12:16]}-{job_id[16:20]}-{job_id[20:]}".upper()
    assert client.get(f"/v1/jobs/{dashed}").json()["id"] == job_id


def test_waiting(open_server: httpx.Client) -> None:
    """200 with the reply itself if it is there in time, else 202; it says what was applied."""
    client = open_server
    done = client.post(ECHO, content=b"hello", headers={"prefer": "wait=20"})
    assert (done.status_code, done.content) == (200, b"hello")
    assert done.headers["preference-applied"] == "wait=20"
    assert done.headers["location"].startswith("/v1/jobs/")
    late = client.post(IDLE, content=b"x", headers={"prefer": "wait=1"})
    assert (late.status_code, late.headers["preference-applied"]) == (202, "wait=1")
    again = client.get(late.json()["links"]["reply"], headers={"prefer": "wait=1"})
    assert (again.status_code, again.headers["preference-applied"]) == (202, "wait=1")


def test_failed_and_cancelled(open_server: httpx.Client) -> None:
    """409 with attempts and last error; cancel and retry are 200, or 409 in the wrong state."""
    client = open_server
    failed = client.post(BROKEN + "?attempts=1", content=b"x", headers={"prefer": "wait=20"})
    document = problem(failed, 409, "job-failed")
    assert (document["attempts"], document["last_error"]) == (1, "exit code 3: no")
    path = f"/v1/jobs/{document['id']}"
    problem(client.post(path + ":cancel"), 409, "wrong-state")
    assert client.post(path + ":retry").json()["state"] == "queued"
    idle = submit(client).json()["links"]["status"]
    problem(client.post(idle + ":retry"), 409, "wrong-state")
    assert client.post(idle + ":cancel").json()["state"] == "cancelled"
    problem(client.get(idle + "/reply"), 409, "job-cancelled")


def test_options_are_kept_and_wrong_ones_named(open_server: httpx.Client) -> None:
    """Each in the status; all wrong ones in one 400, by name."""
    client = open_server
    query = "?delay=PT1H&expires=2h&retention=7d&timeout=90s&attempts=3&priority=high"
    status = client.get(submit(client, IDLE + query).json()["links"]["status"]).json()
    assert (status["state"], status["priority"], status["attempts_max"]) == ("scheduled", "high", 3)
    assert status["due_at"] < status["expires_at"]
    query = (
        "?delay=x&timeout=8d&attempts=-1&priority=urgent&retention=0s&callback=ftp://x&bogus=1&not_before=now"
    )
    errors = problem(client.post(IDLE + query), 400, "bad-parameter")["errors"]
    assert isinstance(errors, list)
    assert len({error["parameter"] for error in errors}) == 8
    problem(client.post("/v1/services/mmi.x/jobs"), 400, "bad-service-name")


def test_idempotency(open_server: httpx.Client) -> None:
    """The first answer again, said to be so, also after the close; 422 for another body."""
    client = open_server
    key = {"idempotency-key": '"order 1"'}
    first = submit(client, **key)
    again = submit(client, **key)
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    problem(client.post(IDLE, content=b"other", headers=key), 422, "idempotency-key-reused")
    assert client.delete(first.json()["links"]["close"]).status_code == 204
    assert submit(client, **key).json()["id"] == first.json()["id"]


def test_durability_demands(open_server: httpx.Client) -> None:
    """What is there is enough; more is 503, and nothing is stored."""
    client = open_server
    submit(client, **{"titanic-durability": "interval"})
    before = client.get("/readyz").json()["jobs"]
    refused = client.post(IDLE, content=b"x", headers={"titanic-durability": "replicated"})
    problem(refused, 503, "less-durable")
    assert client.get("/readyz").json()["jobs"] == before


def test_frames(open_server: httpx.Client) -> None:
    """Several in, several out; one is raw unless Accept names the type; 400 and 406."""
    client = open_server
    body = json.dumps({"frames": [base64.b64encode(part).decode() for part in (b"a", b"b")]})
    headers = {"content-type": FRAMES, "prefer": "wait=20"}
    assert client.post(ECHO, content=body, headers=headers).json() == json.loads(body)
    one = client.post(ECHO, content=b"x", headers={"accept": FRAMES, "prefer": "wait=20"})
    assert one.json() == {"frames": ["eA=="]}
    problem(client.post(ECHO, content=b"{}", headers=headers), 400, "bad-frames")
    refused = client.post(ECHO, content=body, headers={**headers, "accept": "text/plain"})
    problem(refused, 406, "not-acceptable")


def test_batch(open_server: httpx.Client) -> None:
    """A line per line in order, id or problem; 415 and 400 for what is no batch."""
    client = open_server
    lines = b"one\n" + b"x" * (9 << 20) + b"\n\nthree"
    answer = client.post(IDLE + ":batch", content=lines, headers=NDJSON)
    assert (answer.status_code, answer.headers["content-type"]) == (202, "application/x-ndjson")
    first, second, third = map(json.loads, answer.text.splitlines())
    assert first["state"] == third["state"] == "queued"
    assert (second["status"], second["type"]) == (413, "/problems#body-too-large")
    problem(client.post(IDLE + ":batch", content=b"x"), 415, "unsupported-media-type")
    problem(client.post(IDLE + ":batch", content=b"\n\n", headers=NDJSON), 400, "bad-batch")


def is_past(at_ms: int) -> bool:
    """Whether a later millisecond than this has begun."""
    return time.time_ns() // 1_000_000 > at_ms


def test_lists_have_a_stable_cursor(open_server: httpx.Client) -> None:
    """Newest first, by the millisecond; what is submitted meanwhile is not met on the next page."""
    client = open_server
    ids = []
    for _ in range(5):
        ids.append(submit(client, "/v1/services/listed/jobs").json()["id"])
        made_ms = int(ids[-1][:12], 16)  # ids of one millisecond are in no order of time
        until("the next millisecond", partial(is_past, made_ms))
    page = client.get("/v1/jobs?service=listed&limit=2").json()
    submit(client, "/v1/services/listed/jobs")
    rest = client.get(f"/v1/jobs?service=listed&limit=9&cursor={page['next']}").json()
    assert [job["id"] for job in page["jobs"] + rest["jobs"]] == ids[::-1]
    assert rest["next"] is None
    problem(client.get("/v1/jobs?cursor=zz"), 400, "bad-parameter")
    assert client.get("/v1/jobs?state=cancelled&service=listed").json()["jobs"] == []


def test_services(open_server: httpx.Client) -> None:
    """200 for all and one, paused and resumed; 404 for what nobody knows."""
    client = open_server
    submit(client, "/v1/services/quiet/jobs")
    assert client.post("/v1/services/quiet:pause").json()["paused"] is True
    assert client.get("/v1/services/quiet").json()["queued"] == 1
    assert client.post("/v1/services/quiet:resume").json()["paused"] is False
    assert "quiet" in {row["name"] for row in client.get("/v1/services").json()["services"]}
    problem(client.get("/v1/services/nobody-knows"), 404, "no-such-service")


def test_events_resume_and_say_what_is_gone(open_server: httpx.Client) -> None:
    """After Last-Event-ID, in order; an id from elsewhere is answered with a gap."""
    client = open_server
    job_id = submit(client, "/v1/services/watched/jobs").json()["id"]
    url = "/v1/events?service=watched"
    for last, kind in (("0", "accepted"), ("999999999", "gap")):
        with client.stream("GET", url, headers={"last-event-id": last}) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            lines = stream.iter_lines()
            kinds = (line.removeprefix("event: ") for line in lines if line.startswith("event: "))
            assert next(kinds) == kind
            data = json.loads(next(line for line in lines if line.startswith("data: "))[6:])
            assert data.get("job", job_id) == job_id


def test_store_backup_nodes(open_server: httpx.Client) -> None:
    """Usage with a forecast; an image with its digest; the node's role."""
    client = open_server
    store = client.get("/v1/store").json()
    assert store["facts"]["file_bytes"] > 0
    assert store["forecast"]["usable_bytes"] > store["forecast"]["needed_bytes"] > 0
    image = client.get("/v1/store/backup")
    digest = base64.b64encode(hashlib.sha256(image.content).digest()).decode()
    assert image.headers["repr-digest"] == f"sha-256=:{digest}:"
    assert client.get("/v1/nodes").json()["nodes"][0]["role"] == "single"


def test_health_and_pages(open_server: httpx.Client) -> None:
    """200 for all of them; the pages have a policy that lets nothing in from elsewhere."""
    client = open_server
    for path in ("/livez", "/readyz", "/metrics", "/openapi.json"):
        assert client.get(path).status_code == 200
    for path in ("/", "/docs", "/redoc", "/problems"):
        policy = client.get(path).headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "http" not in policy.replace("https:", "http")


def test_the_grafana_dashboard_asks_for_what_there_is(open_server: httpx.Client) -> None:
    """Names, and the numbers of a service by their label, from a scrape of gateway and node."""
    client = open_server
    submit(client)
    text = client.get("/metrics").text
    asked = (ROOT / "docs" / "grafana" / "titanic.json").read_text()
    names = set(re.findall(r"titanic_\w+", asked)) - {"titanic_service"}
    assert len(names) > 10
    assert names <= set(re.findall(r"^(titanic_\w+)", text, re.MULTILINE))
    numbers = set(re.findall(r'what=~?\\?"([^"\\]+)', asked))
    there = set(re.findall(r'titanic_service\{service="idle",what="(\w+)"', text))
    assert {word for number in numbers for word in number.split("|")} <= there
    assert numbers


def test_metrics_have_bounded_labels(open_server: httpx.Client) -> None:
    """Neither ids nor paths nor methods that a client makes up become labels."""
    client = open_server
    for path in ("/made-up/1", "/v1/jobs/made-up-2", "/v1/services/made-up-3:pause/x"):
        client.request("PROPFIND", path)
    text = client.get("/metrics").text
    assert not re.search("made|propfind", text.lower())
    assert 'method="other"' in text
    assert 'route="unmatched"' in text


def test_what_http_itself_refuses(open_server: httpx.Client) -> None:
    """404 and 405 for paths and methods, 413 for bodies told and streamed, 431 for headers."""
    client = open_server
    problem(client.get("/v2/jobs"), 404, "no-such-route")
    refused = client.put("/v1/jobs")
    problem(refused, 405, "method-not-allowed")
    assert refused.headers["allow"] == "GET"
    big = bytes((8 << 20) + 1)
    problem(client.post(IDLE, content=big), 413, "body-too-large")
    problem(client.post(IDLE, content=iter([big])), 413, "body-too-large")
    problem(client.get("/v1/jobs", headers={"x-big": "x" * 40_000}), 431, "headers-too-large")


# -- keys


def test_keys(closed_server: Closed) -> None:
    """401 without one, 403 without its scope or service, 404 for another's job; health needs none."""
    client, keys = closed_server
    refused = client.post(IDLE)
    problem(refused, 401, "unauthenticated")
    assert refused.headers["www-authenticate"].startswith("Bearer")
    problem(client.get("/metrics"), 401, "unauthenticated")
    problem(client.post(IDLE, headers={"authorization": "Bearer " + "0" * 16 + ".x"}), 401, "unauthenticated")
    problem(client.post(IDLE, headers=keys["reader"]), 403, "forbidden")
    problem(client.post(IDLE, headers=keys["bound"]), 403, "forbidden")
    problem(client.get("/v1/store/backup", headers=keys["both"]), 403, "forbidden")
    links = submit(client, **keys["both"]).json()["links"]
    for path in (links["status"], links["reply"]):
        problem(client.get(path, headers=keys["reader"]), 404, "never-issued")
    problem(client.post(links["status"] + ":cancel", headers=keys["bound"]), 404, "never-issued")
    assert client.delete(links["close"], headers=keys["bound"]).status_code == 204, "and nothing is closed"
    assert client.get(links["status"], headers=keys["both"]).status_code == 200
    assert client.get(links["status"], headers=keys["root"]).status_code == 200
    assert client.get("/readyz").status_code == client.get("/docs").status_code == 200


def test_limits_of_keys(closed_server: Closed) -> None:
    """429 with the fields that say when; quotas of jobs and bytes; 403 for what never fits."""
    client, keys = closed_server
    first = submit(client, **keys["slow"])
    assert first.headers["ratelimit-policy"] == '"key";q=1;w=1000'
    limited = client.post(IDLE, headers=keys["slow"])
    problem(limited, 429, "rate-limited")
    assert limited.headers["ratelimit"].startswith('"key";r=0;t=')
    assert int(limited.headers["retry-after"]) > 900
    submit(client, **keys["few"])
    problem(client.post(IDLE, content=b"x", headers=keys["few"]), 429, "quota-exceeded")
    assert client.post(IDLE, content=b"x" * 60, headers=keys["small"]).status_code == 202
    problem(client.post(IDLE, content=b"x" * 60, headers=keys["small"]), 429, "quota-exceeded")
    problem(client.post(IDLE, content=b"x" * 101, headers=keys["small"]), 403, "forbidden")


# -- states of the world


def test_a_full_store_is_507_and_closing_helps(family: Processes, tmp_path: Path) -> None:
    """With Retry-After; replies and closes still work, and then there is room again."""
    url, _ = serve(family, tmp_path, "--store-max", "24MiB", "--max-body", "1MiB")
    with httpx.Client(base_url=url, timeout=30) as client:
        closes: list[str] = []
        while (answer := client.post(IDLE, content=bytes(900_000))).status_code == 202:
            closes.append(answer.json()["links"]["close"])
            assert len(closes) < 40, "never full"
        problem(answer, 507, "store-full")
        assert int(answer.headers["retry-after"]) >= 1
        for path in closes:
            assert client.delete(path).status_code == 204

        def room() -> bool:
            return client.post(IDLE, content=bytes(900_000)).status_code == 202

        until("there is room again", room)


def test_a_gateway_without_its_node_is_503(family: Processes, tmp_path: Path) -> None:
    """At once for those who probe, after its patience for a submit; alive all the same."""
    command = ("gateway", "--nodes", "tcp://127.0.0.1:1", "--http", "127.0.0.1:0", "--json")
    url = family.start(*command, cwd=tmp_path).facts()["http"]
    with httpx.Client(base_url=url, timeout=40) as client:
        assert client.get("/livez").status_code == 200
        problem(client.get("/readyz"), 503, "node-unreachable")
        started = time.monotonic()
        refused = client.post(ECHO, content=b"x")
        problem(refused, 503, "node-unreachable")
        assert int(refused.headers["retry-after"]) >= 1
        assert time.monotonic() - started < 35
