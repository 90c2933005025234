"""The routes of the store: how it stands, and an image of it while it goes on working."""

from __future__ import annotations

import asyncio
import base64
import logging
from typing import Any, Final

import msgspec
from fastapi import FastAPI, Request, Response
from starlette.types import Receive, Scope, Send

from core.errors import PeerError, ServerUnreachableError
from core.pure import store_heads, tsp
from gateway.errors import ClientGoneError, ProblemError
from gateway.http import operations_server as operations
from gateway.http.guard import unbound
from gateway.http.node import Node, wall_ms
from gateway.http.parts import Parts, admitted
from gateway.pure import problems
from gateway.pure.answers import RETRY_FULL, problem_of
from gateway.pure.keys import Scope as KeyScope
from gateway.pure.query import no_options
from gateway.pure.views import store_view

PART_BYTES: Final = 1 << 20
ZEROS: Final = bytes(1 << 18)
DIGEST_POLL_S: Final = 0.1
DIGEST_MAX_S: Final = 900.0
STALL_S: Final = 50.0
"""A client that takes nothing for so long is let go: the node lets go of an idle image after 60 s."""
assert STALL_S * 1000 < store_heads.IMAGE_IDLE_MS, "the image lives as long as its reader"

_LOG: Final = logging.getLogger("titanic.gateway")
_NO_STORE: Final = {"cache-control": "no-store"}


class StoreRoutes:
    """Endpoints over the shared parts; :meth:`add_to` makes routes of them."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._node = parts.node

    def add_to(self, api: FastAPI) -> None:
        """The routes."""
        api.add_api_route("/v1/store", self.get, methods=["GET"], **operations.STORE)
        api.add_api_route("/v1/store/backup", self.backup, methods=["GET"], **operations.BACKUP)

    async def get(self, request: Request) -> Response:
        """``store.get``: usage, what pins the ring, and the chunks as they lie in the file."""
        unbound(admitted(request, KeyScope.READ))
        no_options(request.scope["query_string"])
        facts = await self._node.ask(store_heads.STORE, store_heads.StoreHead(), store_heads.decode_facts)
        document: dict[str, Any] = store_view(facts, wall_ms())
        return Response(msgspec.json.encode(document), media_type="application/json", headers=_NO_STORE)

    async def backup(self, request: Request) -> Response:
        """``store.backup``: the first part and the digest are asked for before the answer begins."""
        unbound(admitted(request, KeyScope.ADMIN))
        no_options(request.scope["query_string"])
        await request.body()
        part, frame = await self._begun(request.receive)
        return ImageResponse(self._node, part, frame)

    async def _begun(self, receive: Receive) -> tuple[store_heads.BackupPart, bytes]:
        found = await self._parts.waits.until(self._digested(), receive)
        if found is None:
            raise ProblemError(problems.TOO_MANY_BACKUPS, "The server is stopping.", headers=RETRY_FULL)
        return found

    async def _digested(self) -> tuple[store_heads.BackupPart, bytes]:
        head = store_heads.BackupHead(limit=PART_BYTES, digest=True)
        try:
            async with asyncio.timeout(DIGEST_MAX_S):
                while True:
                    pending, part, frame = await part_of(self._node, head)
                    if not pending:
                        return part, frame
                    head = msgspec.structs.replace(head, token=part.token)
                    await asyncio.sleep(DIGEST_POLL_S)
        except BaseException:
            await let_go(self._node, head.token)
            raise


async def part_of(node: Node, head: store_heads.BackupHead) -> tuple[bool, store_heads.BackupPart, bytes]:
    """(whether the digest is still being computed, the part, its bytes). Raises ProblemError."""
    answer = await node.call(store_heads.BACKUP, (tsp.encode_head(head),))
    if answer[0] in (tsp.CONFLICT, tsp.GONE):
        detail = tsp.decode_error(answer[1]).detail
        raise ProblemError(problems.TOO_MANY_BACKUPS, detail, headers=RETRY_FULL)
    if answer[0] not in (tsp.OK, tsp.PENDING):
        raise problem_of(answer)
    part = store_heads.decode_part(answer[1])
    frame = answer[2] if len(answer) > 2 else b""
    if answer[0] == tsp.OK and part.offset + len(frame) + part.zero_bytes != part.next_offset:
        raise PeerError(f"a part of a backup does not fit: {part.offset} to {part.next_offset}")
    return answer[0] == tsp.PENDING, part, frame


async def let_go(node: Node, token: bytes) -> None:
    """The node need not keep the image; it lets go of it by itself if this does not reach it."""
    if token:
        head = store_heads.BackupHead(token=token, end=True)
        try:
            await node.call(store_heads.BACKUP, (tsp.encode_head(head),))
        except (ServerUnreachableError, PeerError):
            return  # it forgets an idle image after a minute


class ImageResponse(Response):
    """The image as a body of known length; it is cut, not completed, when the node cannot go on."""

    def __init__(self, node: Node, part: store_heads.BackupPart, frame: bytes) -> None:
        super().__init__()
        self._node, self._part, self._frame = node, part, frame

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all parts; a client that leaves or does not read ends the image."""
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self._image_headers()})
            if scope["method"] != "HEAD":
                await self._send_parts(send)
            await send({"type": "http.response.body", "body": b""})
        except TimeoutError as error:
            raise ClientGoneError("the client did not read its backup") from error
        except (ProblemError, PeerError, ServerUnreachableError) as error:
            # The status is sent: an answer that is not completed is how HTTP says that it is not whole.
            _LOG.error("a backup of %d bytes ends early: %s", self._part.total_bytes, error)
        finally:
            await let_go(self._node, self._part.token)

    def _image_headers(self) -> list[tuple[bytes, bytes]]:
        digest = base64.b64encode(self._part.sha256)
        return [
            (b"content-type", b"application/octet-stream"),
            (b"content-length", b"%d" % self._part.total_bytes),
            (b"content-disposition", b'attachment; filename="titanic.ring"'),
            (b"repr-digest", b"sha-256=:%b:" % digest),
            (b"titanic-sequence", b"%d" % self._part.last_seq),
            (b"cache-control", b"no-store"),
            (b"accept-ranges", b"none"),
        ]

    async def _send_parts(self, send: Send) -> None:
        part, frame = self._part, self._frame
        while True:
            await _send(send, frame)
            left = part.zero_bytes
            while left:
                await _send(send, ZEROS[: min(left, len(ZEROS))])
                left -= min(left, len(ZEROS))
            if part.next_offset >= part.total_bytes:
                return
            head = store_heads.BackupHead(part.token, part.next_offset, PART_BYTES)
            before = part.next_offset
            _, part, frame = await part_of(self._node, head)
            if part.offset != before or part.next_offset <= before:
                raise PeerError(f"a part of a backup begins at {part.offset}, not at {before}")


async def _send(send: Send, body: bytes) -> None:
    if body:
        async with asyncio.timeout(STALL_S):
            await send({"type": "http.response.body", "body": body, "more_body": True})
