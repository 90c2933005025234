"""``titanic keys``, and the server that follows them."""

import json
import stat
from pathlib import Path

import httpx

from tests.support.processes import Processes, run, until


def keys(data: Path, *arguments: str) -> dict[str, str]:
    done = run("keys", *arguments, "--data", str(data), "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


def test_wrong_use(tmp_path: Path) -> None:
    """An unknown scope, a taken name and a key that is not there are exit code 2, and change nothing."""
    data = ("--data", str(tmp_path))
    assert run("keys", "create", "a", "--scope", "root", *data).returncode == 2
    assert run("keys", "revoke", "a", *data).returncode == 2
    keys(tmp_path, "create", "a", "--scope", "read")
    before = (tmp_path / "keys.json").read_bytes()
    again = run("keys", "create", "a", "--scope", "read", *data)
    assert again.returncode == 2
    assert b"already" in again.stderr
    assert run("keys", "rotate", "a", "--grace", "soon", *data).returncode == 2
    assert (tmp_path / "keys.json").read_bytes() == before


def test_life_of_a_key(tmp_path: Path) -> None:
    """Made, listed without its secret, rotated under the same id, revoked; the file is for its owner only."""
    made = keys(tmp_path, "create", "shop", "--scope", "submit", "--scope", "read", "--service", "a")
    id_, _, secret = made["key"].partition(".")
    path = tmp_path / "keys.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert secret not in path.read_text()
    listed = run("keys", "list", "--data", str(tmp_path))
    assert id_.encode() in listed.stdout
    assert secret.encode() not in listed.stdout
    rotated = keys(tmp_path, "rotate", "shop", "--grace", "1h")
    assert rotated["key"].partition(".")[0] == id_
    assert rotated["key"] != made["key"]
    keys(tmp_path, "revoke", id_)
    assert json.loads(path.read_text())["keys"] == []


def test_gateways_follow_the_keys(family: Processes, tmp_path: Path) -> None:
    """Two processes share a port and the keys: without one 401, a new one works, a revoked one does not."""
    data = tmp_path / "data"
    root = keys(data, "create", "root", "--scope", "admin")["key"]
    arguments = ("--data", str(data), "--http", "127.0.0.1:0", "--broker", "tcp://127.0.0.1:0")
    serve = family.start("serve", *arguments, "--gateways", "2", "--store-max", "128MiB", "--json")
    url = serve.facts()["http"]
    key = keys(data, "create", "shop", "--scope", "submit")["key"]

    def status(token: str = "") -> int:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.post(f"{url}/v1/services/a/jobs", content=b"x", headers=headers).status_code

    assert {status() for _ in range(8)} == {401}
    until("the key is in force", lambda: all(status(key) == 202 for _ in range(8)), deadline_s=5)
    keys(data, "revoke", "shop")
    until("the key is out of force", lambda: all(status(key) == 401 for _ in range(8)), deadline_s=5)

    def processes() -> bool:
        text = httpx.get(f"{url}/metrics", headers={"Authorization": f"Bearer {root}"}).text
        return 'requests_underway{process="0"}' in text and 'requests_underway{process="1"}' in text

    until("one scrape shows both", processes, deadline_s=5)
    assert serve.stop() == 0
