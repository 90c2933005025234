"""The scrub: sealed chunks are read again, slowly, so that rot is known before it is needed (R19)."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple
from zlib import crc32

from titanic_store.pure.chunks import TRAILER_BYTES, decode_chunk_header, decode_seal
from titanic_store.pure.records import HEADER_BYTES, ROW, ROW_FROM, ROW_TO, decode_header
from titanic_store.pure.seams import Storage

log = logging.getLogger("titanic_store")

SLICE_BYTES: Final = 32 * 1024
"""Read and checked at a time: a fifth of a millisecond, so nobody waits long for the interpreter."""

REST_SECONDS: Final = 3600.0
"""Between one pass over the file and the next."""


class Extent(NamedTuple):
    """What there is to scrub: slots, and the turns from tail_turn to before end_turn. Read anew for each."""

    base_bytes: int
    chunk_bytes: int
    chunk_count: int
    tail_turn: int
    end_turn: int


class Scrub:
    """Walks over the chunks of one store with its own reads. :meth:`start` gives it a thread.

    Damage is counted once per pass, logged with its offset and ``noticed``, and never repaired here. A chunk
    that is used again while it is read is no damage.
    """

    def __init__(
        self,
        storage: Storage,
        extent: Callable[[], Extent],
        store_uuid: bytes,
        salt: int,
        bytes_per_second: int,
        noticed: Callable[[int], None] = lambda offset: None,
    ) -> None:
        self._storage = storage
        self._extent = extent
        self._store_uuid = store_uuid
        self._salt = salt
        self._noticed = noticed
        self._pause_seconds = SLICE_BYTES / bytes_per_second if bytes_per_second else 0.0
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.checked_bytes = 0
        self.pass_count = 0
        self.damaged_count = 0

    def start(self) -> None:
        """Scrub in the background until :meth:`stop`, if a rate was given."""
        if self._pause_seconds:
            self._thread = threading.Thread(target=self._run, name="titanic-store-scrub", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Nothing is read any more."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(self._pause_seconds):
            for _ in self.run():
                if self._stopping.wait(self._pause_seconds):
                    return
            if self._stopping.wait(REST_SECONDS):
                return

    def run(self) -> Iterator[None]:
        """One pass, a slice per step."""
        slot = 0
        while slot < self._extent().chunk_count:
            yield from self._chunk(slot)
            slot += 1
        self.pass_count += 1

    def _turn(self, slot: int) -> int | None:
        """The turn of a sealed chunk that counts; None if the slot is free or the head."""
        extent = self._extent()
        base = extent.base_bytes + slot * extent.chunk_bytes
        header = decode_chunk_header(self._read(base, 128), base, self._store_uuid, self._salt)
        if header is not None and extent.tail_turn <= header.turn < extent.end_turn:
            return header.turn
        return None

    def _chunk(self, slot: int) -> Iterator[None]:
        turn = self._turn(slot)
        if turn is None:
            return
        extent = self._extent()
        base, trailer = extent.base_bytes + slot * extent.chunk_bytes, extent.chunk_bytes - TRAILER_BYTES
        seal = decode_seal(self._read(base + trailer, TRAILER_BYTES), base + trailer, turn, base, self._salt)
        digest = (
            self._read(seal.digest_offset, seal.rows_bytes + seal.metas_bytes) if seal is not None else b""
        )
        if seal is None or crc32(digest, self._salt) != seal.digest_crc:
            self._damage(slot, turn, base + trailer, "the digest cannot be read")
            return
        seen_bytes = 0
        for at in range(0, seal.rows_bytes, ROW.size):
            row = digest[at : at + ROW.size]
            seen_bytes += self._record(slot, turn, row)
            if seen_bytes >= SLICE_BYTES:
                seen_bytes = 0
                yield

    def _record(self, slot: int, turn: int, row: bytes) -> int:
        """Check one record; how long it is."""
        size: int
        _, _, _, meta_bytes, body_bytes, _, offset, _ = ROW.unpack(row)
        size = HEADER_BYTES + meta_bytes + body_bytes
        raw = self._read(offset, size)
        self.checked_bytes += size
        header = decode_header(raw, 0, offset, self._salt)
        body = HEADER_BYTES + meta_bytes
        if (
            header is None
            or raw[ROW_FROM:ROW_TO] != row
            or crc32(raw[HEADER_BYTES:body], self._salt) != header.meta_crc
            or crc32(raw[body:], self._salt) != header.body_crc
        ):
            self._damage(slot, turn, offset, "a record fails its checksum")
        return size

    def _damage(self, slot: int, turn: int, offset: int, what: str) -> None:
        if self._turn(slot) == turn:  # else the chunk was given up meanwhile
            self.damaged_count += 1
            self._noticed(offset)
            log.error("scrub: %s at offset %d; run 'titanic store check'", what, offset)

    def _read(self, offset: int, size: int) -> bytes:
        try:
            return self._storage.read_at(offset, size)
        except OSError as error:
            log.error("scrub: the disk says %s at offset %d", error, offset)
            return b""
