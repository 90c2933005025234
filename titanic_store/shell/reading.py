"""Reading records back: from the file, or from memory while they are on their way to it; always checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from zlib import crc32

from titanic_store.errors import DamagedStoreError
from titanic_store.pure.chunks import TRAILER_BYTES, Seal, decode_seal
from titanic_store.pure.kinds import Kind
from titanic_store.pure.records import HEADER_BYTES, LOST, Header, decode_header, decode_origin
from titanic_store.pure.seams import Storage
from titanic_store.pure.space import charge_of
from titanic_store.shell.batch import Run
from titanic_store.shell.committer import Committer

READ_FIRST_BYTES: Final = 4096
"""The first read of a record; most records need no second."""


class RecordReader:
    """Reads single records and digests. Every byte returned passed its checksum (R18).

    ``damaged_count`` counts reads that did not.
    """

    def __init__(self, storage: Storage, committer: Committer, salt: int) -> None:
        self._storage = storage
        self._committer = committer
        self._salt: Final = salt
        self.damaged_count = 0
        self.noticed: Callable[[int], None] = lambda at: None  # told of every damage, with its offset
        self.hopeful = False  # see Mender

    def read(self, at: int) -> tuple[bytes, bytes]:
        """(meta, body) of the record at ``at``; of a relocated one, as it was first written."""
        header, meta, body = self._whole(at)
        return self._original(header, meta), body

    def read_meta(self, at: int) -> tuple[bytes, int]:
        """(meta, length of the body) of the record at ``at``; the body is not read."""
        header, raw = self._header(at)
        return self._original(header, self._meta(header, raw)), header.body_bytes

    def read_record(self, at: int) -> tuple[Header, bytes, bytes]:
        """Header, meta and body of the record at ``at`` as they are in the file."""
        return self._whole(at)

    def read_head(self, at: int) -> tuple[Header, bytes]:
        """Header and meta of the record at ``at`` as they are in the file."""
        header, raw = self._header(at)
        return header, self._meta(header, raw)

    def read_header(self, at: int) -> Header:
        """The header of the record at ``at``."""
        return self._header(at)[0]

    def charge_at(self, at: int, chunk_bytes: int) -> int:
        """What the record at ``at`` is charged; 0 if it cannot be read. Damage is no matter of the dead."""
        try:
            raw = self._pending(at)[:HEADER_BYTES] or self._storage.read_at(at, HEADER_BYTES)
        except OSError:
            return 0
        header = decode_header(raw, 0, at, self._salt)
        return charge_of(header.meta_bytes, header.body_bytes, chunk_bytes) if header is not None else 0

    def read_seal(self, base: int, chunk_bytes: int, turn: int) -> Seal | None:
        """The trailer of the chunk at ``base``, if it is sealed."""
        at = base + chunk_bytes - TRAILER_BYTES
        return decode_seal(self.raw(at, TRAILER_BYTES), at, turn, base, self._salt)

    def read_digest(self, seal: Seal) -> tuple[bytes, bytes] | None:
        """(rows, metas) of a sealed chunk; None if they fail their checksum."""
        digest = self.raw(seal.digest_offset, seal.rows_bytes + seal.metas_bytes)
        if len(digest) != seal.rows_bytes + seal.metas_bytes or crc32(digest, self._salt) != seal.digest_crc:
            self.damaged_count += 1
            return None
        return digest[: seal.rows_bytes], digest[seal.rows_bytes :]

    def ahead(self, offset: int, size: int) -> bytes:
        """Unchecked bytes of the file; empty if the disk has an error: a read of each record will say so."""
        try:
            return self._storage.read_at(offset, size)
        except OSError:
            return b""

    def raw(self, offset: int, size: int) -> bytes:
        """Unchecked bytes, none of which may be both in memory and in the file."""
        return self._pending(offset)[:size] or self._file(offset, size)

    def _whole(self, at: int) -> tuple[Header, bytes, bytes]:
        header, raw = self._header(at)
        total = HEADER_BYTES + header.meta_bytes + header.body_bytes
        if len(raw) < total:
            raw += self._file(at + len(raw), total - len(raw))
        meta = self._meta(header, raw)
        body = raw[HEADER_BYTES + header.meta_bytes : total]
        if len(body) != header.body_bytes or crc32(body, self._salt) != header.body_crc:
            raise self._damage(at, "the body fails its checksum")
        if header.flags & LOST:
            raise self._damage(at, "the body was damaged before it came here")
        return header, meta, body

    def _header(self, at: int) -> tuple[Header, bytes]:
        """The record's header and the first bytes of the record."""
        raw = self._pending(at) or self._file(at, READ_FIRST_BYTES)
        header = decode_header(raw, 0, at, self._salt)
        if header is None:
            raise self._damage(at, "no valid record header")
        return header, raw

    def _meta(self, header: Header, raw: bytes) -> bytes:
        meta = raw[HEADER_BYTES : HEADER_BYTES + header.meta_bytes]
        if len(meta) < header.meta_bytes:
            meta += self._file(header.offset + HEADER_BYTES + len(meta), header.meta_bytes - len(meta))
        if len(meta) != header.meta_bytes or crc32(meta, self._salt) != header.meta_crc:
            raise self._damage(header.offset, "the meta fails its checksum")
        return meta

    def _original(self, header: Header, meta: bytes) -> bytes:
        if header.kind != Kind.JOB:
            return meta
        origin = decode_origin(meta)
        if origin is None:
            raise self._damage(header.offset, "a relocated job without its origin")
        return origin.meta

    def _damage(self, at: int, reason: str) -> DamagedStoreError:
        self.damaged_count += 1
        self.noticed(at)
        return DamagedStoreError(at, reason)

    def _file(self, offset: int, size: int) -> bytes:
        try:
            return self._storage.read_at(offset, size)
        except OSError as error:
            raise self._damage(offset, f"the disk says: {error.strerror or error}") from error

    def _pending(self, at: int) -> bytes:
        """The bytes from ``at`` on of a run that may not be in the file yet; empty if there is none."""
        committer = self._committer
        with committer.mutex:
            batches = (committer.writing, committer.batch)
            for batch in batches:
                for step in batch.steps if batch is not None else ():
                    if isinstance(step, Run) and step.offset <= at < step.end:
                        return b"".join(step.parts)[at - step.offset :]
        return b""
