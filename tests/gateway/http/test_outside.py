"""What faces other machines and other origins: TLS, refusal of open addresses, CORS, a shared port."""

import shutil
import ssl
import subprocess
from pathlib import Path

import httpx
import pytest

from gateway.errors import ListenError, SettingsError
from gateway.http.server import bind
from gateway.http.settings import GatewaySettings
from tests.gateway.conftest import SETTINGS, LiveGateway
from tests.gateway.fake_node import FakeNode
from tests.support.processes import Processes, run

ORIGIN = "https://shop.example"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("request_deadline_s", 0.5),
        ("waits_max", -1),
        ("streams_max", -1),
        ("tls_cert", Path("cert.pem")),
        ("cors_origins", ("shop.example",)),
        ("cors_origins", ("https://shop.example/",)),
    ],
)
def test_settings_that_cannot_work(name: str, value: object) -> None:
    """A wrong value is refused with its name."""
    with pytest.raises(SettingsError) as caught:
        GatewaySettings(**{name: value})  # type: ignore[arg-type]
    assert caught.value.name == name


def test_an_open_address_needs_keys(family: Processes, tmp_path: Path) -> None:
    """An address that other machines reach is refused without keys, and served with them."""
    arguments = ("gateway", "--nodes", "tcp://127.0.0.1:1", "--http", "0.0.0.0:0")
    keys = ("--keys", str(tmp_path / "keys.json"))
    refused = run(*arguments, *keys)
    assert refused.returncode == 2
    assert b"titanic keys create" in refused.stderr
    assert run("keys", "create", "a", "--scope", "read", *keys).returncode == 0
    gateway = family.start(*arguments, *keys, "--json")
    port = gateway.facts()["http"].rpartition(":")[2]
    assert httpx.get(f"http://127.0.0.1:{port}/v1/jobs").status_code == 401


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_tls(family: Processes, tmp_path: Path) -> None:
    """With a certificate the gateway serves HTTPS, says so, and nothing else."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    make = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(["openssl", *make.split(), *names], check=True, capture_output=True)
    arguments = ("--nodes", "tcp://127.0.0.1:1", "--http", "127.0.0.1:0", "--json")
    gateway = family.start("gateway", *arguments, "--tls-cert", str(cert), "--tls-key", str(key))
    url = gateway.facts()["http"]
    assert url.startswith("https://")
    context = ssl.create_default_context(cafile=str(cert))
    assert httpx.get(f"{url}/livez", verify=context).status_code == 200
    with pytest.raises(httpx.TransportError):
        httpx.get(url.replace("https", "http") + "/livez")


def test_cors() -> None:
    """An allowed origin may use the API from a browser; any other gets no leave."""
    live = LiveGateway(SETTINGS.replacing(cors_origins=(ORIGIN,)), FakeNode())
    try:
        asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
        preflight = live.client.options("/v1/services/a/jobs", headers=asked)
        assert preflight.status_code == 204
        assert "POST" in preflight.headers["access-control-allow-methods"]
        assert "Idempotency-Key" in preflight.headers["access-control-allow-headers"]
        for path, status in (("/v1/jobs", 200), ("/v1/jobs/x", 400), ("/v1/jobs/x/reply", 400)):
            answer = live.client.get(path, headers={"Origin": ORIGIN})
            assert answer.status_code == status
            assert answer.headers["access-control-allow-origin"] == ORIGIN
            assert "Location" in answer.headers["access-control-expose-headers"]
            other = live.client.get(path, headers={"Origin": "https://evil.example"})
            assert "access-control-allow-origin" not in other.headers
            assert other.headers["vary"].lower().startswith(("origin", "accept"))
        asked["Origin"] = "https://evil.example"
        assert live.client.options("/v1/services/a/jobs", headers=asked).status_code == 405
    finally:
        live.stop()


def test_cors_is_off(live: LiveGateway) -> None:
    """Without configured origins no answer speaks of them."""
    answer = live.client.get("/v1/jobs", headers={"Origin": ORIGIN})
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_port_is_shared_only_among_ourselves() -> None:
    """Processes of one server share its port; a port that a stranger has is refused, even if he shares it."""
    settings = GatewaySettings(http_port=0, shares_port=True)
    with bind(settings, listen=False) as reserved:
        port = reserved.getsockname()[1]
        with bind(settings.replacing(http_port=port)) as one, bind(settings.replacing(http_port=port)) as two:
            assert one.getsockname() == two.getsockname()
            with pytest.raises(ListenError):
                bind(settings.replacing(http_port=port), listen=False)
