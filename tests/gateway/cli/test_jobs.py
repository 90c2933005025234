"""``titanic submit``, ``jobs``, ``status``, ``cancel`` and ``retry`` against real processes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import Processes, processes, run, until

STRANGER = "0" * 32


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server for all tests of the file, with a service of its own for each."""
    folder = tmp_path_factory.mktemp("jobs")
    with processes(folder) as family:
        broker = "tcp://127.0.0.1:0"
        arguments = ("--data", str(folder / "data"), "--http", "127.0.0.1:0", "--broker", broker)
        facts = family.start("serve", *arguments, "--store-max", "128MiB", "--json").facts()
        family.start("worker", "echo", "--nodes", facts["broker"])
        family.start("worker", "broken", "--exec", "echo no luck >&2; exit 3", "--nodes", facts["broker"])
        yield facts["http"]


def said(url: str, *arguments: str, body: bytes = b"") -> dict[str, Any]:
    """What the command says with ``--json``; it ends well."""
    done = run(*arguments, "--url", url, "--json", body=body)
    assert done.returncode == 0, done
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        ("--attempts: must be", ["submit", "a", "--attempts", "-1"]),
        ("--attempts: must be", ["submit", "a", "--attempts", "many"]),
        ("--priority: must be one of", ["submit", "a", "--priority", "urgent"]),
        ("--delay: ", ["submit", "a", "--delay", "tomorrow"]),
        ("--timeout: must be", ["submit", "a", "--timeout", "8d"]),
        ("--retention: must be", ["submit", "a", "--retention", "0s"]),
        ("--expires: must be longer than delay", ["submit", "a", "--delay", "2s", "--expires", "1s"]),
        ("--key", ["submit", "a", "--key", "two\nlines"]),
        ("--state: must be one of", ["jobs", "--state", "lost"]),
        ("--limit", ["jobs", "--limit", "0"]),
        ("--cursor: ", ["jobs", "--cursor", "ü"]),
    ],
)
def test_wrong_use_needs_no_server(words: str, arguments: list[str]) -> None:
    """A wrong flag is named before anybody is asked: one line, exit code 2."""
    done = run(*arguments, "--url", "http://127.0.0.1:9", body=b"x")
    assert done.returncode == 2, done
    assert words in done.stderr.decode()
    assert len(done.stderr.splitlines()) == 1


def test_exit_codes_without_the_job(url: str) -> None:
    """6 when no server answers; 1 for a job that does not exist, or is not in the state for it."""
    for command in ("cancel", "retry", "status"):
        assert run(command, STRANGER, "--url", "http://127.0.0.1:9").returncode == 6
        unknown = run(command, STRANGER, "--url", url)
        assert unknown.returncode == 1
        assert b"404" in unknown.stderr
    assert run("jobs", "--url", "http://127.0.0.1:9").returncode == 6
    job = said(url, "submit", "echo", "--wait", body=b"x")["id"]
    for command in ("cancel", "retry"):
        refused = run(command, job, "--url", url)
        assert refused.returncode == 1
        assert b"409" in refused.stderr


def test_options_arrive(url: str) -> None:
    """Each option of a submit is seen in the job's status; --wait with a time ends with 8."""
    options = ("--delay", "1h", "--expires", "2h", "--attempts", "3", "--priority", "high")
    submitted = said(url, "submit", "never", *options, "--timeout", "5m", "--retention", "2d", body=b"x")
    job = said(url, "status", submitted["id"])
    assert (job["state"], job["attempts_max"], job["priority"]) == ("scheduled", 3, "high")
    assert job["due_at"] < job["expires_at"]
    late = run("submit", "never", "--priority", "low", "--wait", "100ms", "--url", url, body=b"x")
    assert late.returncode == 8, late


def test_a_key_makes_one_job(url: str) -> None:
    """The same submit with the same key is the same job, and says so; another body is refused."""
    first = said(url, "submit", "keyed", "--key", 'a "quoted" key', body=b"x")
    again = said(url, "submit", "keyed", "--key", 'a "quoted" key', body=b"x")
    assert (again["id"], again["replayed"]) == (first["id"], True)
    assert "replayed" not in first
    other = run("submit", "keyed", "--key", 'a "quoted" key', "--url", url, body=b"y")
    assert other.returncode == 1
    assert b"422" in other.stderr


def test_a_job_that_fails_is_7_and_can_be_retried(url: str) -> None:
    """A dead letter says why; retry queues it again; a job that cannot go on can be cancelled."""
    failed = run("submit", "broken", "--attempts", "1", "--wait", "--url", url, body=b"x")
    assert failed.returncode == 7, failed
    assert b"no luck" in failed.stderr
    listed = said(url, "jobs", "--service", "broken", "--state", "failed")["jobs"]
    assert len(listed) == 1
    assert "no luck" in listed[0]["last_error"]
    assert said(url, "retry", listed[0]["id"])["state"] in ("queued", "running")
    done = run("reply", listed[0]["id"], "--wait", "--url", url)
    assert done.returncode == 7


def test_a_cancelled_job_is_7(url: str) -> None:
    """Cancelled is shown by cancel, twice if asked twice; its reply never comes."""
    job = said(url, "submit", "nobody", body=b"x")["id"]
    for _ in range(2):
        assert said(url, "cancel", job)["state"] == "cancelled"
    shown = run("cancel", job, "--url", url)
    assert b"cancelled" in shown.stdout
    assert b"links" not in shown.stdout
    assert run("reply", job, "--url", url).returncode == 7


def test_jobs_come_in_pages(url: str) -> None:
    """Newest first; a list that is cut says with which cursor it goes on, and nothing is lost or twice."""
    made = [said(url, "submit", "paged", body=b"x")["id"] for _ in range(5)]
    found: list[str] = []
    cursor: list[str] = []
    while True:
        page = said(url, "jobs", "--service", "paged", "--limit", "2", *cursor)
        found += [job["id"] for job in page["jobs"]]
        if page["next"] is None:
            break
        assert len(page["jobs"]) == 2
        cursor = ["--cursor", page["next"]]
    assert found == made[::-1]
    table = run("jobs", "--service", "paged", "--limit", "3", "--url", url)
    lines = table.stdout.decode().splitlines()
    assert lines[0].split()[:3] == ["id", "service", "state"]
    assert [line.split()[0] for line in lines[1:]] == made[:1:-1]
    assert b"--cursor" in table.stderr
    assert run("jobs", "--service", "none-such", "--url", url).stdout == b""


def test_status_of_everything(url: str) -> None:
    """Without an id: the server, its nodes and its services with their workers; as text and as JSON."""
    until("both workers", lambda: len(workers(url)) == 2)
    seen = said(url, "status")
    assert seen["status"] == "ready"
    assert [node["role"] for node in seen["nodes"]] == ["single"]
    assert workers(url) == {"echo": 1, "broken": 1}
    text = run("status", "--url", url).stdout.decode()
    assert "durability" in text
    assert any(line.split()[:2] == ["echo", "1"] for line in text.splitlines())


def workers(url: str) -> dict[str, int]:
    """Service -> workers, of those that have any."""
    return {row["name"]: row["workers"] for row in said(url, "status")["services"] if row["workers"]}


def test_a_key_of_the_server_is_sent(family: Processes, tmp_path: Path) -> None:
    """--token, or TITANIC_TOKEN, is the API key; without it a server that asks for one says 401."""
    data = tmp_path / "data"
    made = run("keys", "create", "shop", "--scope", "submit", "--service", "a", "--data", str(data), "--json")
    key = json.loads(made.stdout)["key"]
    arguments = ("--data", str(data), "--http", "127.0.0.1:0", "--broker", "tcp://127.0.0.1:0", "--json")
    url = family.start("serve", *arguments, "--store-max", "128MiB").facts()["http"]
    refused = run("submit", "a", "--url", url, body=b"x")
    assert refused.returncode == 1
    assert b"401" in refused.stderr
    assert said(url, "submit", "a", "--token", key, body=b"x")["state"] == "queued"
    sent = run("submit", "a", "--url", url, "-v", body=b"x", env={"TITANIC_TOKEN": key})
    assert sent.returncode == 0
    assert key.encode() not in sent.stderr, "the trace hides it"
