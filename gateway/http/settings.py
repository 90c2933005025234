"""The gateway's configuration: a frozen value, checked when built. Whoever builds it reads the sources."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from gateway.errors import SettingsError
from gateway.pure.webhooks import Network

MAX_BODY_LIMIT_BYTES: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """Everything the gateway can be told. Raises SettingsError for what cannot work.

    ``wait_max_s`` bounds ``Prefer: wait``; ``node_timeout_s`` one call to the node; ``patience_s`` a whole
    submit with its repeats; ``shutdown_s`` the time that requests under way get when the server stops;
    ``request_deadline_s`` the time a client has to send a request, see protocol.py. ``waits_max`` bounds the
    long-polls and ``streams_max`` the event streams of one process. ``keys`` is the file of API keys: while
    there is none, everybody may do everything. ``metrics_dir`` is where the processes of one port keep their
    counts for each other (``shares_port``); each has its own ``process`` number. ``cors_origins`` may use the
    API from a browser. ``callbacks``: this process delivers callbacks; ``callback_allow`` are networks they
    may go to though they are not public, ``callback_secret`` signs those of keys that have none (b"": it
    follows from the store's), ``callback_ca`` are the certificates to trust. ``access_log`` logs a line per
    request to ``titanic.access``: never a body, a query or a secret.
    """

    http_host: str = "127.0.0.1"
    http_port: int = 8080
    nodes: tuple[str, ...] = ("tcp://127.0.0.1:5555",)
    max_body_bytes: int = 8 * 1024 * 1024
    wait_max_s: float = 60.0
    node_timeout_s: float = 5.0
    patience_s: float = 12.0
    shutdown_s: float = 5.0
    backlog: int = 2_048
    request_deadline_s: float = 30.0
    waits_max: int = 10_000
    streams_max: int = 1_000
    keys: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    cors_origins: tuple[str, ...] = ()
    metrics_dir: Path | None = None
    process: int = 0
    shares_port: bool = False
    access_log: bool = False
    callbacks: bool = False
    callback_allow: tuple[Network, ...] = ()
    callback_secret: bytes = b""
    callback_timeout_s: float = 15.0
    callback_ca: Path | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        if not 0 <= self.http_port <= 65_535:
            raise SettingsError("http_port", "must be from 0 to 65535")
        if not self.nodes:
            raise SettingsError("nodes", "at least one node endpoint is needed")
        if not 0 < self.max_body_bytes <= MAX_BODY_LIMIT_BYTES:
            raise SettingsError("max_body_bytes", f"must be from 1 to {MAX_BODY_LIMIT_BYTES}")
        if not 0 <= self.wait_max_s <= 3_600:
            raise SettingsError("wait_max_s", "must be from 0 to 3600 seconds")
        if self.node_timeout_s <= 0:
            raise SettingsError("node_timeout_s", "must be more than 0 seconds")
        if self.patience_s < self.node_timeout_s:
            raise SettingsError("patience_s", "must be at least node_timeout_s")
        if self.shutdown_s <= 0:
            raise SettingsError("shutdown_s", "must be more than 0 seconds")
        if self.backlog < 1:
            raise SettingsError("backlog", "must be at least 1")
        self._check_limits()

    def replacing(self, **changes: Any) -> GatewaySettings:
        """A copy with other values, checked like any other."""
        return replace(self, **changes)

    def _check_limits(self) -> None:
        if not 1 <= self.request_deadline_s <= 3_600:
            raise SettingsError("request_deadline_s", "must be from 1 to 3600 seconds")
        if self.waits_max < 0:
            raise SettingsError("waits_max", "must not be negative")
        if self.streams_max < 0:
            raise SettingsError("streams_max", "must not be negative")
        if not 0.1 <= self.callback_timeout_s <= 120:
            raise SettingsError("callback_timeout_s", "must be from 0.1 to 120 seconds")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise SettingsError("tls_cert", "needs tls_key, and tls_key needs tls_cert")
        if any("://" not in origin or origin != origin.rstrip("/") for origin in self.cors_origins):
            raise SettingsError("cors_origins", "an origin is SCHEME://HOST[:PORT] and nothing more")
