"""Where a backup comes from (a gateway, a node, a file), and how it reaches its place whole or not at all."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec

from core.errors import ServerUnreachableError
from core.pure import store_heads, tsp
from core.shell.client import Client
from core.shell.curve import ClientKeys
from gateway.cli.api import problem_line
from gateway.cli.errors import CliError, ExitCode

PART_BYTES: Final = 1 << 20
ANSWER_S: Final = 30.0
CONNECT_S: Final = 5.0
DIGEST_S: Final = 3_600.0
RETRIES_MAX_COUNT: Final = 5
HOLE_BYTES: Final = 64 << 10
_ZEROS: Final = bytes(HOLE_BYTES)


class Sink:
    """A file that is written front to back; zeros become holes. ``digest`` is over everything.

    Only its owner may read it: a copy holds the secrets of the store.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        self.digest = hashlib.sha256()
        self.size_bytes = 0

    def write(self, data: bytes) -> None:
        """The next bytes."""
        self.digest.update(data)
        view = memoryview(data)
        for start in range(0, len(view), HOLE_BYTES):
            piece = view[start : start + HOLE_BYTES]
            if piece == _ZEROS[: len(piece)]:
                self._file.seek(len(piece), os.SEEK_CUR)
            else:
                self._file.write(piece)
        self.size_bytes += len(data)

    def zeros(self, count: int) -> None:
        """So many zeros."""
        while count:
            self.write(_ZEROS[: min(count, HOLE_BYTES)])
            count -= min(count, HOLE_BYTES)

    def finish(self) -> None:
        """All bytes are on the disk."""
        self._file.truncate(self.size_bytes)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def close(self) -> None:
        """Let go of the file, finished or not."""
        self._file.close()


@contextmanager
def arriving(target: Path) -> Iterator[tuple[Path, Sink]]:
    """A sink beside ``target`` that takes its name, durably, when the block ends well, and is gone if not.

    Never replaces a file: CliError if ``target`` is there already.
    """
    if target.exists():
        raise CliError(f"{target} is there already; nothing was changed")
    part = target.with_name(target.name + ".part")
    part.unlink(missing_ok=True)
    sink = Sink(part)
    try:
        yield part, sink
        os.link(part, target)  # unlike a rename, never replaces what came into being meanwhile
        part.unlink()
        _sync_folder(target.parent)
    except BaseException:
        sink.close()
        part.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def proved(path: Path) -> dict[str, Any]:
    """The facts of a store that a check finds clean. CliError 3 if it does not."""
    from core.pure.jobs import unreadable
    from titanic_store import check

    report = check(path, judge=unreadable)
    if not report.clean:
        raise CliError(
            f"{path} is damaged at {report.problems[0].offset}: {report.problems[0].text}",
            ExitCode.DAMAGED_STORE,
        )
    return report.facts


# -- sources


def from_gateway(url: str, token: str | None, sink: Sink) -> None:
    """The image that ``GET /v1/store/backup`` streams, its digest proved."""
    request = _request(url, "/v1/store/backup", token)
    with _reaching(url, lambda: f"; {sink.size_bytes} bytes had arrived"), httpx.Client() as client:
        answer = client.send(request, stream=True)
        with closing(answer):
            if answer.status_code != 200:
                answer.read()
                raise CliError(problem_line(answer))
            for data in answer.iter_bytes(PART_BYTES):
                sink.write(data)
    wanted = answer.headers.get("repr-digest", "")
    arrived = f"sha-256=:{base64.b64encode(sink.digest.digest()).decode()}:"
    if wanted and wanted != arrived:
        raise CliError(f"the backup arrived changed: {wanted} was sent, {arrived} arrived")


def gateway_facts(url: str, token: str | None) -> dict[str, Any]:
    """What ``GET /v1/store`` answers."""
    with _reaching(url, str), httpx.Client() as client:
        answer = client.send(_request(url, "/v1/store", token))
    if answer.status_code != 200:
        raise CliError(problem_line(answer))
    document: dict[str, Any] = answer.json()
    return document


def _request(url: str, path: str, token: str | None) -> httpx.Request:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    timeout = httpx.Timeout(DIGEST_S, connect=CONNECT_S).as_dict()
    return httpx.Request("GET", url.rstrip("/") + path, headers=headers, extensions={"timeout": timeout})


@contextmanager
def _reaching(url: str, more: Callable[[], str]) -> Iterator[None]:
    """Errors of the connection as a line that says where it led."""
    try:
        yield
    except httpx.TransportError as error:
        reason = str(error) or type(error).__name__
        raise CliError(f"{url} does not answer ({reason}){more()}", ExitCode.UNREACHABLE) from None


def from_node(endpoint: str, keys: ClientKeys | None, sink: Sink) -> None:
    """The image that ``titanic.backup`` gives in parts; a part that is lost is asked for again."""

    async def copy() -> None:
        async with Client([endpoint], timeout_s=ANSWER_S, keys=keys) as client:
            async for data, zero_bytes in _parts(client, sink):
                sink.write(data)
                sink.zeros(zero_bytes)

    asyncio.run(copy())


async def _parts(client: Client, sink: Sink) -> AsyncIterator[tuple[bytes, int]]:
    head = store_heads.BackupHead(limit=PART_BYTES, digest=True)
    try:
        while True:
            status, part, data = await _ask(client, head)
            head = msgspec.structs.replace(head, token=part.token)
            if status == tsp.PENDING:
                continue
            yield data, part.zero_bytes
            head = msgspec.structs.replace(head, offset=part.next_offset)
            if part.next_offset == part.total_bytes:
                break
        if sink.digest.digest() != part.sha256:
            raise CliError("the backup arrived changed: its digest is another one")
    finally:
        if head.token:
            await _ask(client, msgspec.structs.replace(head, end=True))


async def _ask(client: Client, head: store_heads.BackupHead) -> tuple[bytes, store_heads.BackupPart, bytes]:
    """One question; asked again if no answer came, once the image has a name."""
    for left in range(RETRIES_MAX_COUNT, -1, -1):
        try:
            answer = await client.call(store_heads.BACKUP, tsp.encode_head(head))
            break
        except ServerUnreachableError:
            if not left or not head.token:
                raise
    status = tsp.status_of(answer)
    if status not in (tsp.OK, tsp.PENDING) or len(answer) < 3:
        detail = tsp.decode_error(answer[1]).detail if len(answer) > 1 else "without a reason"
        raise CliError(f"the node answered {status.decode()}: {detail}")
    return status, store_heads.decode_part(answer[1]), answer[2]


async def node_facts(endpoint: str, keys: ClientKeys | None, pins_max: int) -> store_heads.StoreFacts:
    """What ``titanic.store`` answers."""
    async with Client([endpoint], timeout_s=ANSWER_S, keys=keys) as client:
        head = tsp.encode_head(store_heads.StoreHead(pins_max))
        answer = await client.call(store_heads.STORE, head)
    status = tsp.status_of(answer)
    if status != tsp.OK:
        raise CliError(f"the node answered {status.decode()}: {tsp.decode_error(answer[1]).detail}")
    return store_heads.decode_facts(answer[1])


def from_file(path: Path, sink: Sink) -> None:
    """A store at rest, as if it had been closed in order. Raises the store's errors."""
    from titanic_store.shell.resting import RestingStore

    with RestingStore(path) as store:
        image, offset = store.image(), 0
        while offset < image.total_bytes:
            data, zero_bytes = image.read(offset, PART_BYTES)
            sink.write(data)
            sink.zeros(zero_bytes)
            offset += len(data) + zero_bytes
