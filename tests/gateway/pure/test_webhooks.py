"""Callbacks: where one may go, and how it is signed."""

from __future__ import annotations

import json
from ipaddress import ip_address

import pytest

from core.pure.jobs import CallMeta
from core.pure.tsp import JobStatus
from gateway.pure import webhooks
from gateway.pure.query import BadParametersError, check_callback, submit_options
from gateway.pure.webhooks import Target

KEY = bytes(range(16))
STATUS = JobStatus(
    KEY, "echo", "succeeded", 1, 1, "text/plain", 4, 2, replied_ms=2_000, ended_ms=2_000,
    owner="0123456789abcdef", callback="https://example.org/hook?token=x", call=CallMeta(),
)  # fmt: skip


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://example.org", Target("https", "example.org", 443, "/")),
        ("http://example.org?a=b", Target("http", "example.org", 80, "/?a=b")),
        ("https://example.org:8443/a/b?c=d%20e", Target("https", "example.org", 8443, "/a/b?c=d%20e")),
        ("http://[2001:db8::1]:80/x", Target("http", "2001:db8::1", 80, "/x")),
    ],
)
def test_a_url_says_where_it_goes(url: str, target: Target) -> None:
    """Scheme, host, port and path are found as they stand."""
    assert webhooks.parse_target(url) == target


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://example.org/",
        "HTTPS://example.org/",
        "//example.org/",
        "https:/example.org",
        "https://",
        "https:///path",
        "https://user@example.org/",
        "https://user:pass@example.org/",
        "https://example.org@10.0.0.1/",
        "https://example.org\\@10.0.0.1/",
        "https://example.org#@10.0.0.1/",
        "https://example.org/#fragment",
        "https://example.org:0/",
        "https://example.org:65536/",
        "https://example.org:/",
        "https://example.org/ x",
        "https://example.org/\r\nhost: other",
        "https://exa mple.org/",
        "https://éxample.org/",
        "https://[::1/",
        "https://[::gg]/",
        "https://[1.2.3.4]/",
        "https://example.org/" + "x" * 2_048,
    ],
)
def test_what_is_not_plainly_a_url_is_refused(url: str) -> None:
    """Whatever two programs might read differently is no callback."""
    with pytest.raises(ValueError, match="must"):
        webhooks.parse_target(url)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.255.255.254", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",
        "169.254.169.254", "100.64.0.1", "192.0.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "239.1.1.1",
        "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1",
        "fec0::1", "ff02::1", "2001:db8::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254",
        "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::", "2001:0:4136:e378::1",
    ],
)  # fmt: skip
def test_what_is_not_public_is_refused(address: str) -> None:
    """Private, loopback, link-local, unspecified, multicast, reserved, and every disguise of them."""
    assert webhooks.refusal(ip_address(address), ()) is not None


@pytest.mark.parametrize("address", ["93.184.216.34", "1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1"])
def test_what_is_public_is_not_refused(address: str) -> None:
    """No setting is needed for it."""
    assert webhooks.refusal(ip_address(address), ()) is None


def test_a_setting_allows_networks_and_nothing_else() -> None:
    """Words and networks; an IPv4 address inside an IPv6 one counts as what it is."""
    allowed = (*webhooks.parse_network("loopback"), *webhooks.parse_network("10.1.0.0/16"))
    for address in ("127.0.0.1", "::1", "10.1.2.3", "::ffff:127.0.0.1"):
        assert webhooks.refusal(ip_address(address), allowed) is None
    for address in ("10.2.0.1", "169.254.169.254", "192.168.0.1", "fe80::1"):
        assert webhooks.refusal(ip_address(address), allowed) is not None


@pytest.mark.parametrize("text", ["", "everywhere", "10.0.0.1/8", "10.0.0.0/33"])
def test_a_setting_that_is_no_network_is_refused(text: str) -> None:
    """Host bits included: who writes 10.0.0.1/8 meant something else."""
    with pytest.raises(ValueError, match=r"\S"):
        webhooks.parse_network(text)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://localhost/",
        "http://LOCALHOST./",
        "https://[::1]/",
        "http://10.0.0.1:8080/x",
    ],
)
def test_a_submit_names_a_bad_callback_at_once(url: str) -> None:
    """What is an address already is judged before anything is stored."""
    options = submit_options(b"callback=" + url.encode())
    with pytest.raises(BadParametersError) as refused:
        check_callback(options, ())
    assert [fault.parameter for fault in refused.value.faults] == ["callback"]
    assert "no setting allows it" in refused.value.faults[0].detail
    networks = (*webhooks.parse_network("loopback"), *webhooks.parse_network("private"))
    check_callback(options, networks)
    assert options.callback == url


def test_a_secret_is_whsec_and_base64() -> None:
    """24 to 64 bytes, and there and back."""
    assert webhooks.decode_secret(webhooks.encode_secret(bytes(24))) == bytes(24)
    for text in (
        "",
        "whsec_",
        "whsec_!!!!",
        webhooks.encode_secret(bytes(23)),
        webhooks.encode_secret(bytes(65)),
    ):
        with pytest.raises(ValueError, match="whsec_"):
            webhooks.decode_secret(text)


def test_a_known_signature() -> None:
    """The example of the Standard Webhooks specification's own libraries."""
    secret = webhooks.decode_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signed = webhooks.signatures(
        (secret,), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    )
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert webhooks.signatures((secret, secret), "x", 1, b"").count("v1,") == 2


def test_the_payload_has_the_job_and_no_body() -> None:
    """Type, time and status document; neither the URL, which may hold a token, nor the key's id."""
    document = json.loads(webhooks.payload(STATUS))
    assert document["type"] == "job.succeeded"
    assert document["timestamp"] == "1970-01-01T00:00:02.000Z"
    data = document["data"]
    assert data["id"] == KEY.hex()
    assert data["links"]["reply"] == f"/v1/jobs/{KEY.hex()}/reply"
    assert not {"callback", "owner"} & set(data)
    assert "token" not in json.dumps(document)


def test_the_id_of_a_message_is_that_of_the_end() -> None:
    """The same for every try of one end, another one after a retry by hand."""
    assert webhooks.message_id(STATUS) == f"{KEY.hex()}.1"
    retried = JobStatus(KEY, "echo", "failed", 1, 1, "", 4, 0, call=CallMeta(tries=3, round=1))
    assert webhooks.message_id(retried) == f"{KEY.hex()}.2"
