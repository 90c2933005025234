"""Runs one gateway process: a bound socket, uvicorn on uvloop, and a quiet end.

The socket is bound before anything else, so that a taken port is one clear line; it may also come from
outside, so that several processes share one port.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from math import ceil
from typing import TYPE_CHECKING, Any, Final, cast

import uvicorn

from gateway.errors import KeyFileError, ListenError
from gateway.http.app import Gateway, create_app
from gateway.http.protocol import GatewayProtocol, sweep
from gateway.http.settings import GatewaySettings
from gateway.pure.ports import NodeLink

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

EXIT_DONE: Final = 0
EXIT_FAILED: Final = 1
TICKS_PER_SWEEP: Final = 10
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def bind(settings: GatewaySettings, *, listen: bool = True) -> socket.socket:
    """A listening socket at ``http_host:http_port`` (0: any free port), inheritable. Raises ListenError.

    Without ``listen`` the port is only kept: with ``shares_port`` others may bind it too and listen.
    """
    host, port = settings.http_host, settings.http_port
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise ListenError(host, port, error.strerror or str(error)) from error
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if settings.shares_port:
            if not listen and address[1]:
                _refuse_taken(family, address)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
        if listen:
            sock.listen(settings.backlog)
    except OSError as error:
        sock.close()
        raise ListenError(host, port, os.strerror(error.errno) if error.errno else str(error)) from error
    sock.set_inheritable(True)
    return sock


def _refuse_taken(family: int, address: Any) -> None:
    """OSError if somebody has the port: one who shares it too would get half of our requests."""
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)


def url_of(sock: socket.socket, scheme: str = "http") -> str:
    """``http://host:port`` of a bound socket."""
    host, port = sock.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


class GatewayServer(uvicorn.Server):
    """uvicorn's server that ends long-polls when it stops, and does not raise its signals again."""

    def __init__(self, settings: GatewaySettings, gateway: Gateway) -> None:
        self.gateway = gateway
        super().__init__(
            uvicorn.Config(
                gateway,
                loop="uvloop",
                http=cast("type[GatewayProtocol]", partial(GatewayProtocol, fast=gateway.fast)),
                ws="none",
                lifespan="on",
                log_config=None,
                log_level=logging.ERROR,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                backlog=settings.backlog,
                timeout_graceful_shutdown=ceil(settings.shutdown_s),
                ssl_certfile=settings.tls_cert,
                ssl_keyfile=settings.tls_key,
            )
        )
        self._deadline_s = settings.request_deadline_s

    async def on_tick(self, counter: int) -> bool:
        """See uvicorn: ten times a second; once a second, slow senders are cut."""
        if counter % TICKS_PER_SWEEP == 0:
            now_s = asyncio.get_running_loop().time()
            self.gateway.metrics.slow_count += sweep(self.server_state.connections, now_s, self._deadline_s)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn: stop listening, finish what is under way, end."""
        self.gateway.drain()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM stop the server; uvicorn would kill the process with them once more."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class AnnouncingServer(GatewayServer):
    """Calls ``started`` with the address once requests are served."""

    def __init__(self, settings: GatewaySettings, gateway: Gateway, started: Callable[[str], None]) -> None:
        super().__init__(settings, gateway)
        self._announce = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        await super().startup(sockets)
        if self.started and sockets:
            self._announce(url_of(sockets[0], "https" if self.config.is_ssl else "http"))


def run(
    settings: GatewaySettings,
    *,
    sock: socket.socket | None = None,
    link: NodeLink | None = None,
    started: Callable[[str], None] | None = None,
    tracer: Tracer | None = None,
) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code (0 done, 1 failed, with one line on stderr).

    ``sock`` is a listening socket of the caller's, which may be shared by processes; without it one is bound.
    ``tracer`` makes a span of each request. ``link`` stands in for a connection to ``settings.nodes``.
    ``started`` is told ``http://host:port``.
    """
    try:
        gateway = create_app(settings, link, tracer)
        listening = sock if sock is not None else bind(settings)
    except (KeyFileError, ListenError) as error:
        print(f"titanic gateway: {error}", file=sys.stderr)
        return EXIT_FAILED
    server = AnnouncingServer(settings, gateway, started if started is not None else lambda _: None)
    try:
        server.run(sockets=[listening])
    except SystemExit as error:  # uvicorn's way to say that it could not start
        return error.code if isinstance(error.code, int) else EXIT_FAILED
    return EXIT_DONE if server.started else EXIT_FAILED
