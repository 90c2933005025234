"""One gateway process: HTTP settings and the way to the node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.shell.curve import ClientKeys, load_client
from core.shell.dealer import NodeDealer
from core.shell.failover import PairDealer
from core.shell.link import TraceLine
from gateway.composition import telemetry
from gateway.composition.collector import calm_collector
from gateway.composition.settings import Settings
from gateway.http import server
from gateway.http.settings import GatewaySettings
from gateway.pure import units
from gateway.pure.webhooks import decode_secret, parse_network


class NodeLink:
    """A connection to the node, or to both of a pair, with keys or a trace; made by the first call."""

    def __init__(
        self,
        nodes: Sequence[str],
        keys: ClientKeys | None,
        trace: TraceLine | None,
        wait_s: float,
        *,
        by_libzmq: bool = False,
    ) -> None:
        self._wait_s = wait_s
        self._nodes = tuple(nodes)
        self._keys = keys
        self._trace = trace
        self._by_libzmq = by_libzmq
        self._dealer: NodeDealer | PairDealer | None = None
        self.told: Callable[[list[bytes]], None] | None = None

    @property
    def patient(self) -> bool:
        """See NodeLink."""
        return len(self._nodes) > 1

    @property
    def failovers_count(self) -> int:
        """See NodeLink."""
        return self._dealer.failovers_count if self._dealer is not None else 0

    async def call(self, service: bytes, body: Sequence[bytes], timeout_s: float) -> list[bytes]:
        """See NodeLink."""
        return await self._connected().call(service, body, timeout_s)

    async def ask_all(
        self, service: bytes, body: Sequence[bytes], timeout_s: float
    ) -> list[tuple[str, list[bytes] | str]]:
        """See NodeLink."""
        return await self._connected().ask_all(service, body, timeout_s)

    def _connected(self) -> NodeDealer | PairDealer:
        if self._dealer is None:
            if len(self._nodes) > 1:
                self._dealer = PairDealer(
                    self._nodes,
                    keys=self._keys,
                    trace=self._trace,
                    failover_wait_s=self._wait_s,
                    by_libzmq=self._by_libzmq,
                )
            else:
                self._dealer = NodeDealer(
                    self._nodes, keys=self._keys, trace=self._trace, by_libzmq=self._by_libzmq
                )
            self._dealer.told = self.told
            self._dealer.start()
        return self._dealer


@dataclass(frozen=True, slots=True)
class Seat:
    """Which of several processes on one port this is, and where they keep their counts for each other."""

    process: int = 0
    metrics_dir: Path | None = None


def gateway_settings(settings: Settings, seat: Seat = Seat()) -> GatewaySettings:
    """What the HTTP side needs of all settings."""
    host, port = units.parse_host_port(settings.http)
    secret = settings.callback_secret
    return GatewaySettings(
        http_host=host,
        http_port=port,
        nodes=settings.node_endpoints,
        max_body_bytes=settings.max_body,
        request_deadline_s=settings.request_deadline / 1000,
        keys=settings.keys_file,
        tls_cert=settings.tls_cert,
        tls_key=settings.tls_key,
        cors_origins=settings.cors_origins,
        metrics_dir=seat.metrics_dir,
        process=seat.process,
        shares_port=settings.gateways > 1,
        access_log=settings.log_format == "json",
        callbacks=True,
        callback_allow=tuple(net for text in settings.callback_allow for net in parse_network(text)),
        callback_secret=decode_secret(secret.get_secret_value()) if secret is not None else b"",
        callback_timeout_s=settings.callback_timeout / 1000,
        callback_ca=settings.callback_ca,
    )


def run(
    settings: Settings,
    *,
    trace: TraceLine | None,
    ready: Callable[[dict[str, Any]], None],
    seat: Seat = Seat(),
) -> int:
    """Serve HTTP until SIGTERM or SIGINT; the exit code. ``ready`` gets the facts once requests are served.

    Raises ListenError for an address that cannot be had, and CurveError.
    """
    http = gateway_settings(settings, seat)
    keys = load_client(settings.curve_dir) if settings.curve_dir is not None else None
    link, by_libzmq = None, settings.zmtp == "libzmq"
    if keys is not None or trace is not None or by_libzmq or len(http.nodes) > 1:
        link = NodeLink(http.nodes, keys, trace, settings.failover_wait / 1000, by_libzmq=by_libzmq)

    def started(url: str) -> None:
        calm_collector()  # the application, with all its models and routes, is never looked at again
        ready({"http": url, "nodes": ",".join(http.nodes)})

    with server.bind(http) as listening:
        return server.run(
            http,
            sock=listening,
            link=link,
            tracer=telemetry.tracer(settings, "gateway"),
            started=started,
        )
