"""Callbacks through the real processes: delivered, signed, tried again, given up, refused."""

from __future__ import annotations

import json
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.pair import Pair
from tests.support.processes import Processes, processes, run, until
from tests.support.receiver import Receiver, is_signed, receiving

ENV = {
    "TITANIC_CALLBACK_BACKOFF_FIRST": "20ms",
    "TITANIC_CALLBACK_BACKOFF_MAX": "100ms",
    "TITANIC_CALLBACK_TIMEOUT": "1s",
}


class Server:
    """A node, a gateway and an echo worker of their own."""

    def __init__(self, family: Processes, folder: Path, *flags: str, **env: str) -> None:
        self.family, self.folder, self.env = family, folder, {**ENV, **env}
        self.start_node()
        self.start_gateway(*flags)
        family.start("worker", "echo", "--nodes", self.broker)

    def start_node(self, broker: str = "tcp://127.0.0.1:0") -> None:
        command = ("node", "--data", str(self.folder / "data"), "--broker", broker, "--json")
        self.node = self.family.start(*command, env=self.env)
        self.broker = self.node.facts()["broker"]

    def start_gateway(self, *flags: str) -> None:
        command = ("gateway", "--nodes", self.broker, "--http", "127.0.0.1:0", "--json")
        self.gateway = self.family.start(
            *command, "--keys", str(self.folder / "keys.json"), *flags, env=self.env
        )
        self.url = self.gateway.facts()["http"]

    def submit(self, callback: str, service: str = "echo", **headers: str) -> str:
        answer = httpx.post(
            f"{self.url}/v1/services/{service}/jobs?attempts=1",
            params={"attempts": "1", "callback": callback},
            content=b"work",
            headers=headers,
            timeout=30,
        )
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def job(self, job_id: str, **headers: str) -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"{self.url}/v1/jobs/{job_id}", headers=headers, timeout=30).json()
        return found

    def call_is(self, job_id: str, state: str, **headers: str) -> dict[str, Any]:
        """The callback of the job once it is in this state."""

        def there() -> dict[str, Any] | None:
            call: dict[str, Any] = self.job(job_id, **headers)["callback"]
            return call if call["state"] == state else None

        return until(f"callback of {job_id} {state}\n{self.gateway.errors}", there)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server whose callbacks may go to loopback, for the tests that do not end it."""
    folder = tmp_path_factory.mktemp("callbacks")
    with processes(folder) as family:
        yield Server(family, folder, "--callback-allow", "loopback", TITANIC_CALLBACK_ATTEMPTS="3")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Answers 200 unless told otherwise."""
    with receiving() as found:
        yield found


def test_the_end_of_a_job_is_posted_and_signed(server: Server, receiver: Receiver) -> None:
    """Once, with the headers of Standard Webhooks, verified with code of the test's own."""
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    job_id = server.submit(receiver.url, traceparent=trace)
    call = server.call_is(job_id, "delivered")
    (posted,) = receiver.posted
    assert posted.path == "/hook?token=t0p"
    asked = run("keys", "callback-secret", "--nodes", server.broker, "--keys", "none.json", "--json")
    secret = json.loads(asked.stdout)["callback_secret"]
    assert is_signed(posted, secret)
    assert not is_signed(posted._replace(body=posted.body + b" "), secret)
    assert posted.headers["webhook-id"] == f"{job_id}.1"
    assert abs(int(posted.headers["webhook-timestamp"]) - time.time()) < 120
    assert posted.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert posted.headers["traceparent"][3:35] == "a" * 32
    document = json.loads(posted.body)
    assert (document["type"], document["data"]["id"]) == ("job.succeeded", job_id)
    assert (call["attempts"], call["last_error"], call["next_attempt_at"]) == (1, None, None)
    assert call["url"] == receiver.url


def test_a_failure_is_tried_again(server: Server, receiver: Receiver) -> None:
    """500 twice, then 200: three tries with one webhook-id, and the job says so."""
    receiver.answers = [500, 503]
    call = server.call_is(server.submit(receiver.url), "delivered")
    assert call["attempts"] == 3
    assert len({posted.headers["webhook-id"] for posted in receiver.posted}) == 1
    assert len(receiver.posted) == 3


def test_after_so_many_tries_it_is_given_up(server: Server, receiver: Receiver) -> None:
    """The status of the job keeps the last reason, and the reply is there as ever."""
    receiver.answers = [500] * 3
    job_id = server.submit(receiver.url)
    call = server.call_is(job_id, "given_up")
    assert (call["attempts"], call["last_error"]) == (3, "HTTP 500")
    assert server.job(job_id)["state"] == "succeeded"
    assert len(receiver.posted) == 3
    metrics = httpx.get(f"{server.url}/metrics", timeout=30).text
    assert "titanic_node_callbacks_given_up_total 1.0" in metrics


def test_410_is_final(server: Server, receiver: Receiver) -> None:
    """The receiver says that it wants no more."""
    receiver.answers = [410]
    assert server.call_is(server.submit(receiver.url), "given_up")["attempts"] == 1


def test_a_redirect_is_a_failure_and_not_followed(server: Server, receiver: Receiver) -> None:
    """It could lead to where no callback may go."""
    receiver.answers = [302]
    call = server.call_is(server.submit(receiver.url), "delivered")
    assert call["attempts"] == 2
    assert [posted.path for posted in receiver.posted] == ["/hook?token=t0p"] * 2


def test_a_receiver_that_is_slow_is_given_its_time_and_no_more(server: Server, receiver: Receiver) -> None:
    """The whole delivery is bounded; the next one finds it awake."""
    receiver.gate.clear()
    job_id = server.submit(receiver.url)

    def late() -> bool:
        return str(server.job(job_id)["callback"]["last_error"]).startswith("no answer within 1 s")

    until("the delivery is cut", late)
    receiver.gate.set()
    server.call_is(job_id, "delivered")


@pytest.mark.parametrize("verb", ["cancel", "none"])
def test_every_end_is_told(server: Server, receiver: Receiver, verb: str) -> None:
    """A cancelled job as well as one that nobody worked on in time."""
    more = "&expires=50ms" if verb == "none" else ""
    answer = httpx.post(f"{server.url}/v1/services/nobody/jobs?callback={receiver.url}{more}", content=b"x")
    job_id = answer.json()["id"]
    if verb == "cancel":
        assert httpx.post(f"{server.url}/v1/jobs/{job_id}:cancel").status_code == 200
    server.call_is(job_id, "delivered")
    wanted = "job.cancelled" if verb == "cancel" else "job.failed"
    assert json.loads(receiver.posted[0].body)["type"] == wanted


def test_a_batch_has_a_callback_per_line(server: Server, receiver: Receiver) -> None:
    """Each line is a job of its own."""
    answer = httpx.post(
        f"{server.url}/v1/services/echo/jobs:batch",
        params={"callback": receiver.url},
        content=b"1\n2\n3\n",
        headers={"content-type": "application/x-ndjson"},
    )
    ids = {json.loads(line)["id"] for line in answer.text.splitlines()}
    until("three are told", lambda: len(receiver.posted) >= 3)
    assert {json.loads(posted.body)["data"]["id"] for posted in receiver.posted} == ids


def test_a_target_that_is_not_allowed_is_refused(tmp_path: Path) -> None:
    """At the submit where the address shows, with the parameter's name; nothing is stored."""
    with processes(tmp_path) as family:
        server = Server(family, tmp_path)
        for url in ("http://127.0.0.1/x", "http://localhost:1/", "http://169.254.169.254/", "ftp://x/"):
            answer = httpx.post(f"{server.url}/v1/services/echo/jobs", params={"callback": url}, content=b"x")
            assert answer.status_code == 400, url
            assert answer.json()["errors"][0]["parameter"] == "callback", url
        assert httpx.get(f"{server.url}/v1/jobs").json()["jobs"] == []


def test_deliveries_survive_both_processes(tmp_path: Path) -> None:
    """The receiver is away, node and gateway are killed: delivered once all three are back."""
    with processes(tmp_path) as family, receiving() as receiver:
        server = Server(family, tmp_path, "--callback-allow", "loopback")
        receiver.gate.clear()
        job_id = server.submit(receiver.url)
        until("the first try is under way", lambda: len(receiver.posted) == 1)
        server.node.kill()
        server.gateway.kill()
        receiver.gate.set()
        server.start_node(server.broker)
        server.start_gateway("--callback-allow", "loopback")
        server.call_is(job_id, "delivered")
        assert len({posted.headers["webhook-id"] for posted in receiver.posted}) == 1
        assert len(receiver.posted) >= 2


def test_another_gateway_takes_over(tmp_path: Path) -> None:
    """A gateway that dies with a delivery in its hands loses it when the lease ends."""
    with processes(tmp_path) as family, receiving() as receiver:
        server = Server(family, tmp_path, "--callback-allow", "loopback")
        receiver.gate.clear()
        job_id = server.submit(receiver.url)
        until("the first try is under way", lambda: len(receiver.posted) == 1)
        server.gateway.kill()
        receiver.gate.set()
        server.start_gateway("--callback-allow", "loopback")
        server.call_is(job_id, "delivered")
        assert len(receiver.posted) == 2


def test_a_key_has_a_secret_of_its_own(tmp_path: Path, receiver: Receiver) -> None:
    """Rotated with a grace, callbacks are signed with both."""
    keys = ("--keys", str(tmp_path / "keys.json"), "--json")
    made = json.loads(run("keys", "create", "shop", "--scope", "submit", "--scope", "read", *keys).stdout)
    with processes(tmp_path) as family:
        server = Server(family, tmp_path, "--callback-allow", "loopback")
        bearer = {"authorization": f"Bearer {made['key']}"}
        server.call_is(server.submit(receiver.url, **bearer), "delivered", **bearer)
        assert is_signed(receiver.posted[0], made["callback_secret"])
        renewed = json.loads(run("keys", "rotate", "shop", "--grace", "1h", *keys).stdout)
        assert renewed["callback_secret"] != made["callback_secret"]

        def taken() -> bool:
            server.call_is(server.submit(receiver.url, **bearer), "delivered", **bearer)
            return is_signed(receiver.posted[-1], renewed["callback_secret"])

        until("the new secret is in force", taken)
        assert is_signed(receiver.posted[-1], made["callback_secret"])
        shown = json.loads(run("keys", "callback-secret", "shop", *keys).stdout)
        assert shown["callback_secret"] == renewed["callback_secret"]


def test_a_revoked_key_has_no_callbacks(tmp_path: Path, receiver: Receiver) -> None:
    """Its jobs go on; whom they would have told is not told, and the status says why."""
    keys = ("--keys", str(tmp_path / "keys.json"), "--json")
    made = json.loads(run("keys", "create", "shop", "--scope", "submit", *keys).stdout)
    admin = json.loads(run("keys", "create", "root", "--scope", "admin", *keys).stdout)
    with processes(tmp_path) as family:
        server = Server(family, tmp_path, "--callback-allow", "loopback")
        bearer = {"authorization": f"Bearer {made['key']}"}
        above = {"authorization": f"Bearer {admin['key']}"}
        job_id = server.submit(receiver.url, "nobody-works-here", **bearer)
        run("keys", "revoke", "shop", *keys)
        submit = f"{server.url}/v1/services/nobody-works-here/jobs"

        def refused() -> bool:
            return httpx.post(submit, content=b"x", headers=bearer, timeout=30).status_code == 401

        until("the revocation is in force", refused)
        cancelled = httpx.post(f"{server.url}/v1/jobs/{job_id}:cancel", headers=above, timeout=30)
        assert cancelled.status_code == 200, cancelled.text
        call = server.call_is(job_id, "given_up", **above)
        assert "revoked" in call["last_error"]
        assert not receiver.posted


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that nobody knows, and its key, in one file."""
    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-days", "30", "-subj", "/CN=receiver", "-addext", "subjectAltName=IP:127.0.0.1"]
    try:
        subprocess.run(
            [*command, "-keyout", "key.pem", "-out", "cert.pem"], cwd=folder, check=True, capture_output=True
        )
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    both = folder / "both.pem"
    both.write_bytes((folder / "key.pem").read_bytes() + (folder / "cert.pem").read_bytes())
    return both


@pytest.mark.parametrize("trusted", [True, False])
def test_https_is_verified(tmp_path: Path, certificate: Path, trusted: bool) -> None:
    """A certificate that no authority signed is refused, unless a setting names it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    more = {"TITANIC_CALLBACK_CA": str(certificate.with_name("cert.pem"))} if trusted else {}
    with processes(tmp_path) as family, receiving(context) as receiver:
        server = Server(
            family, tmp_path, "--callback-allow", "loopback", TITANIC_CALLBACK_ATTEMPTS="1", **more
        )
        call = server.call_is(server.submit(receiver.url), "delivered" if trusted else "given_up")
        assert len(receiver.posted) == int(trusted)
        assert trusted or "CERTIFICATE_VERIFY_FAILED" in call["last_error"]


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_a_failover_loses_no_callback(family: Processes, tmp_path: Path, receiver: Receiver) -> None:
    """The passive node knows of the first try, and hands out the next one once it is active."""
    pair = Pair(family, tmp_path)
    _, url = family.gateway(pair.both, "--callback-allow", "loopback")
    family.start("worker", "echo", "--nodes", pair.both)
    receiver.answers = [500]
    query = {"callback": receiver.url}
    sent = httpx.post(f"{url}/v1/services/echo/jobs", params=query, content=b"x", timeout=60)
    assert sent.headers["titanic-durability"] == "replicated"

    def call() -> dict[str, Any]:
        answer = httpx.get(url + sent.json()["links"]["status"], timeout=60)
        found: dict[str, Any] = answer.json().get("callback") or {}
        return found

    until("the first try", lambda: call().get("attempts") == 1)
    pair.kill(pair.until_paired())
    until("the second try, by the other node", lambda: call().get("state") == "delivered", deadline_s=90)
    assert call()["attempts"] == 2
    assert len({posted.headers["webhook-id"] for posted in receiver.posted}) == 1
