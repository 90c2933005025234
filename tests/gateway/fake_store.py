"""The store of the fake node: canned facts, and an image that is read in parts."""

from __future__ import annotations

import base64
import hashlib

from core.errors import ServerUnreachableError
from core.pure import tsp
from core.pure.store_heads import (
    BackupPart,
    ChunkRow,
    PinRow,
    StoreFacts,
    decode_backup,
    decode_store,
)

PART = 100_000


class FakeStore:
    """Answers titanic.store and titanic.backup; a test may turn the public attributes."""

    def __init__(self, job: bytes) -> None:
        self.image = bytes(range(256)) * 1500 + bytes(2 << 20) + b"end" * 50_000
        digest = hashlib.sha256(self.image).digest()
        self.repr_digest = f"sha-256=:{base64.b64encode(digest).decode()}:"
        self.ended = 0
        self.pending = 2  # so often the digest is not there yet
        self.refuse = b""  # every beginning gets this status
        self.break_at = 0  # the part at which ``fault`` happens
        self.fault = ""
        self._digest = digest
        self._job = job
        self._part = 0

    def facts(self, raw: bytes) -> list[bytes]:
        """See store_heads.STORE."""
        decode_store(raw)
        facts = StoreFacts(
            {"file_bytes": 4096, "durability": "fsync"},
            (ChunkRow(1, "head", 1),),
            (PinRow(self._job, "request", 7),),
        )
        return [tsp.OK, tsp.encode_head(facts)]

    def backup(self, raw: bytes) -> list[bytes]:
        """See store_heads.BACKUP."""
        head = decode_backup(raw)
        if head.end:
            self.ended += 1
            return [tsp.OK, tsp.encode_head(BackupPart(b"t", 0, 0, 0)), b""]
        if not head.token and self.refuse:
            return [self.refuse, tsp.encode_head(tsp.ErrorHead("no image"))]
        if head.digest and self.pending:
            self.pending -= 1
            return [tsp.PENDING, tsp.encode_head(BackupPart(b"t", len(self.image), 0, 0)), b""]
        self._part += 1
        if self._part == self.break_at:
            if self.fault == "down":
                raise ServerUnreachableError("gone")
            if self.fault == "gone":
                return [tsp.GONE, tsp.encode_head(tsp.ErrorHead("the ring needed the room"))]
            part = BackupPart(b"t", len(self.image), head.offset, head.offset + 5)
            return [tsp.OK, tsp.encode_head(part), b"xx"]
        body = self.image[head.offset : head.offset + min(PART, head.limit)]
        end = head.offset + len(body)
        filled = body.rstrip(b"\0")
        part = BackupPart(
            b"t", len(self.image), head.offset, end, len(body) - len(filled), 9, 1, self._digest
        )
        return [tsp.OK, tsp.encode_head(part), filled]
