"""What keys may use, through the real processes: a rate over several gateways, and quotas after a restart."""

from __future__ import annotations

import json
from pathlib import Path

import httpx

from tests.support.processes import Processes, run, until


def make_key(folder: Path, *flags: str) -> dict[str, str]:
    """The headers of a new key."""
    done = run("keys", "create", "shop", "--scope", "submit", *flags, "--data", "data", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    return {"authorization": f"Bearer {json.loads(done.stdout)['key']}"}


def serve(family: Processes, folder: Path, *flags: str) -> str:
    command = ("--data", "data", "--broker", "tcp://127.0.0.1:0", "--http", "127.0.0.1:0", "--json")
    url: str = family.start("serve", *command, *flags, cwd=folder).facts()["http"]
    return url


def test_a_rate_is_one_for_all_gateways(family: Processes, tmp_path: Path) -> None:
    """A key with 12 requests at once has 12, over however many connections and processes it comes."""
    key = make_key(tmp_path, "--rate", "0.001", "--burst", "12")
    url = serve(family, tmp_path, "--gateways", "3")
    statuses = []
    for _ in range(30):  # a connection each: the kernel spreads them
        answer = httpx.post(f"{url}/v1/services/echo/jobs", content=b"x", headers=key, timeout=30)
        statuses.append(answer.status_code)
        assert answer.headers["ratelimit-policy"] == '"key";q=12;w=12000'
    assert statuses == [202] * 12 + [429] * 18
    assert int(answer.headers["retry-after"]) > 900


def test_open_bytes_are_counted_over_a_restart(family: Processes, tmp_path: Path) -> None:
    """The node says what is open; closing gives it back."""
    key = make_key(tmp_path, "--scope", "read", "--bytes-max", "10kB", "--jobs-max", "50")
    data = ("--data", "data", "--broker", "tcp://127.0.0.1:0", "--http", "127.0.0.1:0", "--json")
    server = family.start("serve", *data, cwd=tmp_path)
    url = server.facts()["http"]
    path = "/v1/services/echo/jobs"
    sent = [httpx.post(url + path, content=b"x" * 3_000, headers=key, timeout=30) for _ in range(4)]
    assert [answer.status_code for answer in sent] == [202, 202, 202, 429]
    assert sent[-1].json()["type"] == "/problems#quota-exceeded"
    assert httpx.post(url + path, content=b"x" * 10_001, headers=key, timeout=30).status_code == 403
    assert server.stop() == 0
    url = family.start("serve", *data, cwd=tmp_path).facts()["http"]
    assert httpx.post(url + path, content=b"x" * 3_000, headers=key, timeout=30).status_code == 429
    closed = httpx.delete(url + sent[0].json()["links"]["close"], headers=key, timeout=30)
    assert closed.status_code == 204

    def accepted() -> bool:
        return httpx.post(url + path, content=b"x" * 3_000, headers=key, timeout=30).status_code == 202

    until("what was closed counts no more", accepted)


def test_retry_after_follows_workers_queue_and_pace(family: Processes, tmp_path: Path) -> None:
    """10 s without a worker; with one that takes its time, what the queue will take at its pace."""
    command = ("--data", "data", "--broker", "tcp://127.0.0.1:0", "--http", "127.0.0.1:0", "--json")
    facts = family.start("serve", *command, cwd=tmp_path).facts()
    path = f"{facts['http']}/v1/services/slow/jobs"

    def retry_after() -> int:
        return int(httpx.post(path, content=b"x", timeout=30).headers["retry-after"])

    until("nobody works", lambda: retry_after() == 10)
    lines = b"x\n" * 200
    ndjson = {"content-type": "application/x-ndjson"}
    assert httpx.post(path + ":batch", content=lines, headers=ndjson, timeout=30).status_code == 202
    family.start("worker", "slow", "--exec", "sleep 0.1", "--nodes", facts["broker"])
    until("two hundred jobs at ten a second or less", lambda: 12 <= retry_after() <= 60)


def test_no_job_ends_before_it_began(family: Processes, tmp_path: Path) -> None:
    """In lists, where ends are kept roughly, too."""
    command = ("--data", "data", "--broker", "tcp://127.0.0.1:0", "--http", "127.0.0.1:0", "--json")
    facts = family.start("serve", *command, cwd=tmp_path).facts()
    family.start("worker", "echo", "--nodes", facts["broker"])
    path = f"{facts['http']}/v1/services/echo/jobs"
    for _ in range(20):
        assert httpx.post(path, headers={"prefer": "wait=20"}, timeout=30).status_code == 200
    jobs = httpx.get(f"{facts['http']}/v1/jobs").json()["jobs"]
    assert len(jobs) == 20
    assert all(job["created_at"] <= job["ended_at"] for job in jobs)
