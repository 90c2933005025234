"""The server: its settings, its socket, its end."""

import os
import signal
import subprocess
import sys
import threading

import httpx
import pytest

from gateway.errors import ListenError, SettingsError
from gateway.http.server import bind, run, url_of
from gateway.http.settings import GatewaySettings
from tests.gateway.conftest import SETTINGS, LiveGateway
from tests.gateway.fake_node import FakeNode
from tests.support.fair import FairClock
from tests.support.processes import IMPORTS, until

NOBODY = "tcp://127.0.0.1:1"
SCRIPT = f"""
import sys
from gateway.http.server import run
from gateway.http.settings import GatewaySettings
settings = GatewaySettings(http_port=0, nodes=({NOBODY!r},), node_timeout_s=0.3, patience_s=0.5)
sys.exit(run(settings, started=lambda url: print(url, flush=True)))
"""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("http_port", 65_536),
        ("http_port", -1),
        ("nodes", ()),
        ("max_body_bytes", 0),
        ("max_body_bytes", 1 << 40),
        ("wait_max_s", -1),
        ("node_timeout_s", 0),
        ("patience_s", 1),
        ("shutdown_s", 0),
        ("backlog", 0),
    ],
)
def test_settings_that_cannot_work(name: str, value: object) -> None:
    """A wrong value is refused with its name."""
    with pytest.raises(SettingsError) as caught:
        GatewaySettings(**{name: value})  # type: ignore[arg-type]
    assert caught.value.name == name


def test_a_taken_port_is_one_clear_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1 and one line with the address and the reason."""
    with bind(GatewaySettings(http_port=0)) as taken:
        port = taken.getsockname()[1]
        assert run(GatewaySettings(http_port=port), link=FakeNode()) == 1
    error = capsys.readouterr().err
    why = f"cannot listen on 127.0.0.1:{port}: Address already in use; choose another address with --http"
    assert error == f"titanic gateway: {why}\n"


def test_a_host_that_is_none() -> None:
    """An address of another machine, or no address, cannot be listened on."""
    for host in ("192.0.2.1", "256.1.1.1"):
        with pytest.raises(ListenError):
            bind(GatewaySettings(http_host=host, http_port=0))


def test_ipv6() -> None:
    """An IPv6 address is listened on, and written with brackets."""
    try:
        sock = bind(GatewaySettings(http_host="::1", http_port=0))
    except ListenError as error:
        pytest.skip(f"no IPv6 here: {error}")
    with sock:
        assert url_of(sock) == f"http://[::1]:{sock.getsockname()[1]}"


def test_stop_ends_long_polls_with_an_answer() -> None:
    """A stopping server answers those who wait as if their time were over, and is gone soon."""
    live = LiveGateway(SETTINGS, FakeNode())
    key = live.submit()
    answers: list[httpx.Response] = []
    path = f"/v1/jobs/{key.hex()}/reply"

    def poll() -> None:
        answers.append(httpx.get(live.url + path, headers={"Prefer": "wait=3"}))

    thread = threading.Thread(target=poll)
    thread.start()
    until("somebody waits", lambda: live.node.waiting(key))
    with FairClock() as clock:
        live.stop()
        thread.join()
        assert clock.elapsed_s < 2
    assert answers[0].status_code == 202


def test_process_without_a_node() -> None:
    """The real process starts without a node, says so at /readyz, and ends with 0 at SIGTERM."""
    environment = {**os.environ, **IMPORTS}
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            assert httpx.get(f"{url}/livez").status_code == 200
            ready = httpx.get(f"{url}/readyz")
            assert (ready.status_code, ready.json()["type"]) == (503, "/problems#node-unreachable")
            submitted = httpx.post(f"{url}/v1/services/echo/jobs", content=b"x")
            assert (submitted.status_code, submitted.json()["type"]) == (503, "/problems#node-unreachable")
            assert "server" not in ready.headers
            process.send_signal(signal.SIGTERM)
            _, error = process.communicate(timeout=10)
            assert (process.returncode, error) == (0, "")
        finally:
            process.kill()
