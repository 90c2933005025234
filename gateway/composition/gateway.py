"""One gateway process: HTTP settings and the way to the node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from core.shell.curve import ClientKeys, load_client
from core.shell.dealer import NodeDealer, TraceLine
from gateway.composition.settings import Settings
from gateway.http import server
from gateway.http.settings import GatewaySettings
from gateway.pure import units


class NodeLink:
    """A connection to the node, with keys or with a trace of every message; made by the first call."""

    def __init__(self, nodes: Sequence[str], keys: ClientKeys | None, trace: TraceLine | None) -> None:
        self._nodes = tuple(nodes)
        self._keys = keys
        self._trace = trace
        self._dealer: NodeDealer | None = None

    async def call(self, service: bytes, body: Sequence[bytes], timeout_s: float) -> list[bytes]:
        """See NodeLink."""
        if self._dealer is None:
            self._dealer = NodeDealer(self._nodes, keys=self._keys, trace=self._trace)
            self._dealer.start()
        return await self._dealer.call(service, body, timeout_s)


def gateway_settings(settings: Settings) -> GatewaySettings:
    """What the HTTP side needs of all settings."""
    host, port = units.parse_host_port(settings.http)
    return GatewaySettings(
        http_host=host, http_port=port, nodes=settings.node_endpoints, max_body_bytes=settings.max_body
    )


def run(settings: Settings, *, trace: TraceLine | None, ready: Callable[[dict[str, Any]], None]) -> int:
    """Serve HTTP until SIGTERM or SIGINT; the exit code. ``ready`` gets the facts once requests are served.

    Raises ListenError for an address that cannot be had, and CurveError.
    """
    http = gateway_settings(settings)
    keys = load_client(settings.curve_dir) if settings.curve_dir is not None else None
    link = NodeLink(http.nodes, keys, trace) if keys is not None or trace is not None else None
    with server.bind(http) as listening:
        return server.run(
            http,
            sock=listening,
            link=link,
            started=lambda url: ready({"http": url, "nodes": ",".join(http.nodes)}),
        )
