"""Settings of the jobs' life, seen from outside of a running server."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import httpx

from tests.support.processes import Processes, run, until


def is_gone(status_url: str) -> bool:
    """Whether the job was here and is closed."""
    return httpx.get(status_url).status_code == 410


def test_settings_of_the_life_are_in_force(family: Processes, tmp_path: Path) -> None:
    """Flags, variables and the file reach the node through ``serve``; ``config show`` names their sources."""
    (tmp_path / "titanic.toml").write_text(
        "backoff-first = '10ms'\nattempts = 9\n[services.hasty]\nattempts = 1\nattempt-timeout = '200ms'\n"
    )
    env = {"TITANIC_DEAD_LETTER_RETENTION": "500ms"}
    server = family.start(
        *("serve", "--data", "data", "--http", "127.0.0.1:0", "--broker", "tcp://127.0.0.1:0", "--json"),
        *("--attempts", "2", "--retention", "1s", "--key-lifetime", "2d", "--store-max", "128MiB"),
        env=env,
        cwd=tmp_path,
    )
    facts = server.facts()
    url, nodes = facts["http"], ("--nodes", facts["broker"])
    assert httpx.get(f"{url}/readyz").json()["idempotency_key_lifetime_s"] == 2 * 86_400
    family.start("worker", "echo", *nodes)
    family.start("worker", "broken", "--exec", "exit 1", *nodes)
    family.start("worker", "hasty", "--exec", "sleep 60", *nodes)
    jobs = {
        service: httpx.post(f"{url}/v1/services/{service}/jobs", content=b"x").json()["links"]["status"]
        for service in ("echo", "broken", "hasty")
    }
    assert httpx.get(url + jobs["echo"]).json()["attempts_max"] == 2
    assert httpx.get(url + jobs["hasty"]).json()["attempts_max"] == 1
    for service, path in jobs.items():
        until(f"the retention of {service} is over", functools.partial(is_gone, url + path))
    counted = {row["name"]: row for row in httpx.get(f"{url}/v1/services").json()["services"]}
    assert counted["broken"]["failed"] == 0, "a dead letter is closed after its own retention"
    shown = json.loads(run("config", "show", "--json", env=env, cwd=tmp_path).stdout)
    assert shown["dead_letter_retention"] == {
        "value": "500ms",
        "source": "environment TITANIC_DEAD_LETTER_RETENTION",
    }
    assert shown["attempts"] == {"value": 9, "source": "file titanic.toml"}
    assert shown["services"]["value"] == {"hasty": {"attempts": 1, "attempt_timeout": "200ms"}}
    assert server.stop() == 0
    refused = run("node", "--retention", "long", cwd=tmp_path)
    assert refused.returncode == 2
    assert b"retention (flag --retention)" in refused.stderr
