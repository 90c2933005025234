"""``titanic.store`` and ``titanic.backup`` of a node whose journal is a file (``docs/internals/tsp.md``).

Everything is decided on the loop; the disk is read in threads, a part at a time, so a backup of any size
takes a few megabytes of memory and never stalls the node.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

import msgspec

from core.pure import tsp
from core.pure.ports import Effect, Path
from core.pure.store_heads import (
    BACKUP,
    IMAGE_IDLE_MS,
    IMAGES_MAX_COUNT,
    PART_MAX_BYTES,
    PINS_MAX_COUNT,
    STORE,
    BackupHead,
    BackupPart,
    Image,
    StoreHead,
    StorePort,
    decode_backup,
    decode_store,
)

log = logging.getLogger("titanic.store")

TOKEN_BYTES: Final = 16
DIGEST_WAIT_S: Final = 5.0
"""A digest that takes longer is asked for again (300)."""

Reply = Callable[[Path, bytes, Sequence[bytes]], None]


class ImageDue(Effect, frozen=True, gc=False):
    """Everything that the image of ``token`` shows is in the file."""

    token: bytes


class Backup:
    """One image and who waits for its first part."""

    def __init__(self, token: bytes, image: Image, asker: Path, head: BackupHead) -> None:
        self.token, self.image = token, image
        self.asker, self.head = asker, head
        self.ready = False
        self.sha256 = b""
        self.digesting: asyncio.Task[bytes] | None = None
        self.expiry: asyncio.TimerHandle | None = None


class StoreServices:
    """Answers both services over ``port``; without one (a journal in memory) it refuses."""

    services: Final = (STORE, BACKUP)

    def __init__(
        self, port: StorePort | None, barrier: Callable[[tuple[Effect, ...]], None], reply: Reply
    ) -> None:
        self._port = port
        self._barrier = barrier
        self._reply = reply
        self._backups: dict[bytes, Backup] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def handle(self, service: bytes, path: Path, body: Sequence[bytes]) -> None:
        """Answer now or later; JournalFailedError."""
        if self._port is None:
            self._refuse(path, service, tsp.UNAVAILABLE, "this node keeps no store file")
            return
        try:
            if service == STORE:
                self._facts(self._port, path, decode_store(body[0]) if body else StoreHead())
            else:
                self._backup(self._port, path, decode_backup(body[0]) if body else BackupHead())
        except msgspec.MsgspecError as error:
            self._refuse(path, service, tsp.UNKNOWN, f"the head is malformed: {error}")

    def _refuse(self, path: Path, service: bytes, status: bytes, detail: str) -> None:
        self._reply(path, service, (status, tsp.encode_head(tsp.ErrorHead(detail))))

    def _facts(self, port: StorePort, path: Path, head: StoreHead) -> None:
        facts = port.facts(max(0, min(head.pins_max, PINS_MAX_COUNT)))
        self._reply(path, STORE, (tsp.OK, tsp.encode_head(facts)))

    # -- images

    def _backup(self, port: StorePort, path: Path, head: BackupHead) -> None:
        if not head.token:
            self._begin(port, path, head)
            return
        backup = self._backups.get(head.token)
        if backup is None or not backup.ready:
            self._refuse(path, BACKUP, tsp.GONE, "there is no such image (any more): begin again")
        elif head.end:
            self._let_go(backup)
            self._answer(tsp.OK, path, backup, head.offset, b"", 0)
        elif not 0 <= head.offset <= backup.image.total_bytes or head.limit < 1:
            self._refuse(path, BACKUP, tsp.UNKNOWN, f"the image has {backup.image.total_bytes} bytes")
        else:
            self._spawn(self._part(backup, path, head))

    def _begin(self, port: StorePort, path: Path, head: BackupHead) -> None:
        if len(self._backups) >= IMAGES_MAX_COUNT:
            self._refuse(path, BACKUP, tsp.CONFLICT, f"{IMAGES_MAX_COUNT} images are being read already")
            return
        token = secrets.token_bytes(TOKEN_BYTES)
        self._barrier((ImageDue(token),))
        backup = Backup(token, port.begin_image(), path, head)
        self._backups[token] = backup
        self._touch(backup)

    def on_image_due(self, effect: ImageDue) -> None:
        """The image can be read now: send its first part to whoever began it."""
        backup = self._backups.get(effect.token)
        if backup is None:
            return  # it expired before the disk was done
        backup.ready = True
        if backup.head.digest:
            backup.digesting = asyncio.create_task(self._digest(backup))
        self._spawn(self._part(backup, backup.asker, backup.head))

    async def _part(self, backup: Backup, path: Path, head: BackupHead) -> None:
        self._touch(backup)
        try:
            if backup.digesting is not None and not backup.sha256:
                done, _ = await asyncio.wait((backup.digesting,), timeout=DIGEST_WAIT_S)
                if not done:
                    self._answer(tsp.PENDING, path, backup, head.offset, b"", 0)
                    return
                backup.sha256 = b"" if backup.digesting.cancelled() else backup.digesting.result()
            size = min(head.limit, PART_MAX_BYTES)
            data, zero_bytes = await asyncio.to_thread(backup.image.read, head.offset, size)
        except OSError as error:
            self._let_go(backup)
            self._refuse(path, BACKUP, tsp.ERROR, f"the store's file cannot be read: {error}")
            return
        if backup.token not in self._backups or not backup.image.intact:
            self._let_go(backup)
            self._refuse(path, BACKUP, tsp.GONE, "the store needed the room of this image: begin again")
        else:
            self._answer(tsp.OK, path, backup, head.offset, data, zero_bytes)

    def _answer(
        self, status: bytes, path: Path, backup: Backup, offset: int, data: bytes, zero_bytes: int
    ) -> None:
        image = backup.image
        part = BackupPart(
            token=backup.token,
            total_bytes=image.total_bytes,
            offset=offset,
            next_offset=offset + len(data) + zero_bytes,
            zero_bytes=zero_bytes,
            last_seq=image.last_seq,
            jobs=image.job_count,
            sha256=backup.sha256,
        )
        self._reply(path, BACKUP, (status, tsp.encode_head(part), data))

    async def _digest(self, backup: Backup) -> bytes:
        """SHA-256 of the whole image; the image is asked for again at every slice, so it does not expire."""
        image, digest, offset = backup.image, hashlib.sha256(), 0

        def next_slice(offset: int) -> int:
            data, zero_bytes = image.read(offset, PART_MAX_BYTES)
            digest.update(data)
            for begin in range(0, zero_bytes, PART_MAX_BYTES):
                digest.update(bytes(min(PART_MAX_BYTES, zero_bytes - begin)))
            return offset + len(data) + zero_bytes

        while offset < image.total_bytes and image.intact:
            offset = await asyncio.to_thread(next_slice, offset)
            self._touch(backup)
        return digest.digest()

    def _touch(self, backup: Backup) -> None:
        """The image lives on for a while."""
        if backup.expiry is not None:
            backup.expiry.cancel()
        if backup.token in self._backups:
            loop = asyncio.get_running_loop()
            backup.expiry = loop.call_later(IMAGE_IDLE_MS / 1000, self._let_go, backup)

    def _let_go(self, backup: Backup) -> None:
        self._backups.pop(backup.token, None)
        backup.image.release()
        if backup.expiry is not None:
            backup.expiry.cancel()
        if (
            backup.digesting is not None
            and not backup.digesting.cancel()
            and not backup.digesting.cancelled()
        ):
            backup.digesting.exception()  # taken, so that nobody reports it as lost

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a part of a backup could not be sent", exc_info=task.exception())
