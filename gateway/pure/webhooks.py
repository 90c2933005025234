"""Callbacks as Standard Webhooks: where one may go, what it says, and how it is signed.

    webhook-id         | job id "." number of the end        |   the same for every try of one end
    webhook-timestamp  | unix seconds of this try            |
    webhook-signature  | "v1," base64(HMAC-SHA256) ...       |   of id "." timestamp "." body, one per secret

A secret is ``whsec_`` and the base64 of 24 to 64 bytes. Each API key has its own; a server without keys, and
a key made before there were secrets, use the server's, which follows from the secret of the store: all
gateways, a failover and a restored backup agree on it without a file.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple

import msgspec

from core.pure.tsp import CALLBACK_MAX_CHARS, JobStatus
from gateway.pure.views import job_view, rfc3339

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - what every secret begins with, and none itself
SECRET_MIN_BYTES: Final = 24
SECRET_MAX_BYTES: Final = 64
SECRET_BYTES: Final = 32
NETWORKS: Final = {
    "loopback": ("127.0.0.0/8", "::1/128"),
    "private": ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"),
}
"""Words for networks that people would otherwise have to look up."""

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

_HOST: Final = r"\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252})"
_URL: Final = re.compile(
    rf"(https?)://({_HOST})(?::([0-9]{{1,5}}))?((?:[/?][!$%&'()*+,./0-9:;=?@A-Z_a-z~\[\]-]*)?)", re.ASCII
)
# Addresses that carry an IPv4 address inside: a router or gateway would unwrap what we could not check.
_EMBEDDING: Final = tuple(
    map(IPv6Network, ("64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16", "::/96"))
)


class Target(NamedTuple):
    """Where a callback goes; ``path`` has the query and begins with ``/``."""

    scheme: str
    host: str  # without the brackets of an IPv6 address
    port: int
    path: str

    @property
    def authority(self) -> str:
        """What the ``Host`` header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


_PORTS: Final = {"http": 80, "https": 443}


def parse_target(url: str) -> Target:
    """Where the URL points. ValueError says what a callback looks like.

    Stricter than RFC 3986 on purpose: what is not plainly a URL is read differently by different programs.
    """
    found = _URL.fullmatch(url) if len(url) <= CALLBACK_MAX_CHARS else None
    if found is None:
        raise ValueError(
            f"must be an http or https URL of at most {CALLBACK_MAX_CHARS} characters, "
            "without user name and fragment"
        )
    scheme, host, port_text, path = found.groups()
    port = int(port_text) if port_text is not None else _PORTS[scheme]
    if not 1 <= port <= 65_535:
        raise ValueError("must have a port from 1 to 65535")
    if host.startswith("["):
        host = host[1:-1]
        try:
            IPv6Address(host)
        except ValueError:
            raise ValueError("must have an IPv6 address between its brackets") from None
    return Target(scheme, host, port, path if path.startswith("/") else "/" + path)


def parse_network(text: str) -> tuple[Network, ...]:
    """The networks of ``loopback``, ``private`` or ``10.1.0.0/16``. ValueError."""
    return tuple(ip_network(each) for each in NETWORKS.get(text, (text,)))


def refusal(address: Address, allowed: Iterable[Network]) -> str | None:
    """Why nothing may be sent to ``address``, or None: it is public, or in an ``allowed`` network.

    An IPv4 address inside an IPv6 one is looked at as what it is, or refused where it cannot be told.
    """
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if any(address.version == network.version and address in network for network in allowed):
        return None
    public = address.is_global and not address.is_multicast and not address.is_reserved
    if isinstance(address, IPv6Address):
        public = public and not address.is_site_local
        public = public and not any(address in network for network in _EMBEDDING)
    return None if public else f"{address} is not a public address, and no setting allows it"


def literal_refusal(target: Target, allowed: Iterable[Network]) -> str | None:
    """:func:`refusal` of a host that is an address already; names are judged by what they resolve to."""
    try:
        address = ip_address(target.host)
    except ValueError:
        loopback = target.host.rstrip(".").lower() in ("localhost", "localhost.localdomain")
        if loopback and not any(network.is_loopback for network in allowed):
            return f"{target.host} is not a public address, and no setting allows it"
        return None
    return refusal(address, allowed)


# -- secrets


def decode_secret(text: str) -> bytes:
    """The key of ``whsec_...``. ValueError says what one looks like."""
    raw = b""
    if text.startswith(SECRET_PREFIX):
        try:
            raw = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
        except (binascii.Error, ValueError):
            raw = b""
    if not SECRET_MIN_BYTES <= len(raw) <= SECRET_MAX_BYTES:
        raise ValueError(f"must be whsec_ and the base64 of {SECRET_MIN_BYTES} to {SECRET_MAX_BYTES} bytes")
    return raw


def encode_secret(raw: bytes) -> str:
    """The text of a secret."""
    return SECRET_PREFIX + base64.b64encode(raw).decode("ascii")


def server_secret(id_secret: bytes) -> bytes:
    """The secret of a server without one of its own, from the secret of its store."""
    return hmac.digest(id_secret, b"titanic callback secret, version 1", hashlib.sha256)


def signatures(secrets: Iterable[bytes], message_id: str, timestamp_s: int, body: bytes) -> str:
    """``webhook-signature``: one per secret, so that a receiver may know the old or the new one."""
    signed = f"{message_id}.{timestamp_s}.".encode() + body
    digests = (hmac.digest(secret, signed, hashlib.sha256) for secret in secrets)
    return " ".join("v1," + base64.b64encode(digest).decode("ascii") for digest in digests)


# -- what is said


def message_id(status: JobStatus) -> str:
    """The same for every try; another one when the job was put back and ended again."""
    number = status.call.round + 1 if status.call is not None else 1
    return f"{status.key.hex()}.{number}"


def payload(status: JobStatus) -> bytes:
    """``{"type": "job.succeeded", "timestamp", "data"}``: the job as its status has it, never a body.

    The reply is fetched from ``data.links.reply``: a callback proves who sends it, not who receives it.
    """
    view = msgspec.to_builtins(job_view(status))
    for name in ("callback", "owner", "progress", "queued_before", "due_at"):
        del view[name]
    document = {"type": f"job.{status.state}", "timestamp": rfc3339(status.ended_ms), "data": view}
    return msgspec.json.encode(document)


def headers(
    status: JobStatus, secrets: Sequence[bytes], target: Target, body: bytes, now_s: int, agent: str
) -> dict[str, str]:
    """All headers of a delivery."""
    number = message_id(status)
    found = {
        "host": target.authority,
        "content-type": "application/json",
        "content-length": str(len(body)),
        "user-agent": agent,
        "accept": "*/*",
        "connection": "close",
        "webhook-id": number,
        "webhook-timestamp": str(now_s),
        "webhook-signature": signatures(secrets, number, now_s, body),
    }
    if status.traceparent:
        found["traceparent"] = status.traceparent
    return found
