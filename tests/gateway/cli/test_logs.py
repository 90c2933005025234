"""``--log-format json``: one object per request, without a body or a secret."""

import json
from pathlib import Path

import httpx

from tests.support.processes import Processes, run, until


def test_access_lines(family: Processes, tmp_path: Path) -> None:
    """A request leaves its id, route, status, time and the public half of its key; nothing else of it."""
    made = run("keys", "create", "k", "--scope", "submit", "--data", str(tmp_path), "--json")
    key = json.loads(made.stdout)["key"]
    arguments = ("--nodes", "tcp://127.0.0.1:1", "--http", "127.0.0.1:0", "--json")
    gateway = family.start(
        "gateway", *arguments, "--keys", str(tmp_path / "keys.json"), "--log-format", "json"
    )
    url = gateway.facts()["http"]
    headers = {"Authorization": f"Bearer {key}", "X-Request-ID": "find-me"}
    path = "/v1/services/a/jobs"
    assert httpx.post(f"{url}{path}?colour=hidden", content=b"hidden", headers=headers).status_code == 400
    until("the line is there", lambda: "find-me" in gateway.errors)
    (line,) = [json.loads(line) for line in gateway.errors.splitlines() if "find-me" in line]
    assert (line["logger"], line["level"], line["request_id"]) == ("titanic.access", "info", "find-me")
    assert (line["method"], line["path"], line["status"]) == ("POST", path, 400)
    assert line["route"] == "/v1/services/{service}/jobs"
    assert line["key"] == key.partition(".")[0]
    assert line["ms"] > 0
    assert "hidden" not in gateway.errors
    assert key.partition(".")[2] not in gateway.errors
