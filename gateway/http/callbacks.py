"""Delivers callbacks: takes those that are due from the node, posts them, and reports what became of each.

Every gateway process does; the node's leases see to it that one delivery is in one hand at a time
(docs/decisions/0050). Nothing is kept here: a process that dies loses its leases and nothing else.

A target is resolved once, its address is judged, and the connection goes to that address: a name that
resolves to something else a moment later (DNS rebinding) gains nothing. Redirects are not followed, proxies
from the environment are not used, and connections are not kept: one was verified for one host name.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from pathlib import Path
from socket import SOCK_STREAM, gaierror
from typing import TYPE_CHECKING, Final

import msgspec

from core.errors import PeerError, ServerUnreachableError
from core.pure import tsp
from gateway.errors import ProblemError
from gateway.http.node import Node
from gateway.pure import webhooks
from gateway.pure.webhooks import Network, Target

if TYPE_CHECKING:
    import httpx

POLL_MS: Final = 30_000
CONCURRENT_MAX: Final = 16
LEASE_SPARE_MS: Final = 5_000
REST_S: Final = 1.0
"""After a question that the node did not answer."""
REPORTS_MAX: Final = 5
GONE: Final = 410

_LOG: Final = logging.getLogger("titanic.gateway")

SecretsOf = Callable[[str], Sequence[bytes] | None]


class RefusedTargetError(Exception):
    """Nothing may be sent there; the message says why."""


class Deliverer:
    """One gateway process's hands. ``secrets_of(owner)`` is () for the server's own, None: no such key."""

    def __init__(
        self,
        node: Node,
        secrets_of: SecretsOf,
        *,
        allowed: Sequence[Network] = (),
        secret: bytes = b"",
        timeout_s: float,
        agent: str,
        ca: Path | None = None,
    ) -> None:
        self._node = node
        self._secrets_of = secrets_of
        self._allowed = allowed
        self._secret = secret
        self._timeout_s = timeout_s
        self._agent = agent
        self._ca = ca
        self._client: httpx.AsyncClient | None = None
        self._running: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Take and deliver until cancelled; what is under way then is tried again after its lease."""
        try:
            while True:
                try:
                    await self._turn()
                except Exception as error:  # a defect of ours must not end all callbacks of this process
                    _LOG.exception("callbacks could not be taken; trying again", exc_info=error)
                    await asyncio.sleep(REST_S)
        finally:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)
            if self._client is not None:
                await self._client.aclose()

    async def _turn(self) -> None:
        room = CONCURRENT_MAX - len(self._running)
        if not room:
            await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
            return
        head = tsp.CallbacksHead(room, POLL_MS, self._lease_ms)
        try:
            page = await self._node.ask(tsp.CALLBACKS, head, tsp.decode_calls, POLL_MS / 1000)
            await self._node.introduced()
        except (ServerUnreachableError, PeerError, ProblemError, msgspec.MsgspecError):
            await asyncio.sleep(REST_S)  # readyz says that there is no node
            return
        for status in page.calls:
            task = asyncio.create_task(self._deliver(status))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    @property
    def _lease_ms(self) -> int:
        """As long as a delivery and its report usually take: when it is over, another one delivers again."""
        return int(self._timeout_s * 1000) + LEASE_SPARE_MS

    async def _deliver(self, status: tsp.JobStatus) -> None:
        try:
            ok, final, reason = await self._tried(status)
        except Exception as error:  # a defect of ours must not stop the others; the lease brings it back
            _LOG.exception("the callback of job %s was not delivered", status.key.hex(), exc_info=error)
            return
        call_round = status.call.round if status.call is not None else 0
        await self._report(tsp.CalledHead(status.key, call_round, ok, reason, final))

    async def _tried(self, status: tsp.JobStatus) -> tuple[bool, bool, str]:
        """(delivered, whether another try is useless, why not)."""
        secrets = self._secrets_of(status.owner)
        if secrets is None:
            return False, True, "the key that submitted the job is revoked"
        try:
            target = webhooks.parse_target(status.callback)
        except ValueError as error:
            return False, True, f"the URL {error}"
        body = webhooks.payload(status)
        headers = webhooks.headers(
            status, secrets or (self._server_secret,), target, body, int(time.time()), self._agent
        )
        try:
            async with asyncio.timeout(self._timeout_s):
                code = await self._post(target, headers, body)
        except TimeoutError:
            return False, False, f"no answer within {self._timeout_s:g} s"
        except RefusedTargetError as error:
            return False, False, str(error)
        except self._http_errors as error:
            return False, False, f"{type(error).__name__}: {error}"
        return 200 <= code < 300, code == GONE, f"HTTP {code}"

    @property
    def _server_secret(self) -> bytes:
        if self._secret:
            return self._secret
        hello = self._node.hello
        assert hello is not None, "introduced before the first delivery"
        return webhooks.server_secret(hello.id_secret)

    async def _post(self, target: Target, headers: dict[str, str], body: bytes) -> int:
        """The status of the answer; its body is not read."""
        address = await self.resolve(target)
        client = self._client
        if client is None:
            client = self._client = self._new_client()
        host = f"[{address}]" if ":" in address else address
        url = f"{target.scheme}://{host}:{target.port}{target.path}"
        extensions = {"sni_hostname": target.host} if target.scheme == "https" else {}
        request = client.build_request("POST", url, headers=headers, content=body, extensions=extensions)
        answer = await client.send(request, stream=True, follow_redirects=False)
        await answer.aclose()
        return answer.status_code

    async def resolve(self, target: Target) -> str:
        """The one address to connect to. RefusedTargetError if there is none that is allowed."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(target.host, target.port, type=SOCK_STREAM)
        except (gaierror, UnicodeError) as error:
            raise RefusedTargetError(f"{target.host} cannot be resolved: {error}") from error
        why = f"{target.host} has no address"
        for entry in found:
            address = ip_address(entry[4][0])
            refused = webhooks.refusal(address, self._allowed)
            if refused is None:
                return str(address)
            why = refused
        raise RefusedTargetError(why)

    def _new_client(self) -> httpx.AsyncClient:
        """Imported with the first callback: most gateways never deliver one."""
        import httpx

        context = ssl.create_default_context(cafile=self._ca) if self._ca else httpx.create_ssl_context()
        limits = httpx.Limits(max_connections=CONCURRENT_MAX, max_keepalive_connections=0)
        return httpx.AsyncClient(verify=context, limits=limits, timeout=self._timeout_s, trust_env=False)

    @property
    def _http_errors(self) -> tuple[type[Exception], ...]:
        import httpx

        return (httpx.HTTPError, httpx.InvalidURL, OSError)

    async def _report(self, head: tsp.CalledHead) -> None:
        for _ in range(REPORTS_MAX):
            try:
                await self._node.ask(tsp.CALLED, head, tsp.decode_deleted)
                return
            except (ServerUnreachableError, PeerError, ProblemError, msgspec.MsgspecError):
                await asyncio.sleep(REST_S)
        _LOG.warning("what became of the callback of job %s could not be reported", head.key.hex())
