"""Making a store and opening one: which bytes are read, in which order, and what is made of them.

Steps are numbered in ``docs/internals/data-file.md``, "Opening".
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic
from zlib import crc32

from titanic_store.errors import DamagedStoreError, StoreMissingError, StoreUnwritableError
from titanic_store.pure.chunks import (
    CHUNK_HEADER_BYTES,
    TRAILER_BYTES,
    ChunkHeader,
    Seal,
    decode_chunk_header,
    decode_seal,
    encode_chunk_header,
)
from titanic_store.pure.options import MIB, Options
from titanic_store.pure.recovery import Chain, Chunk, Reader, Rebuild, Recovered, Scan
from titanic_store.pure.seams import E, Owner, Storage
from titanic_store.pure.space import Space
from titanic_store.pure.superblock import BASE_BYTES, Flag, Superblock, encode_superblock, newest_superblock
from titanic_store.shell.file import open_file
from titanic_store.shell.ring import Ring

log = logging.getLogger("titanic_store")

Progress = Callable[[int, int], None]
"""Called with (chunks read, chunks to read) while the index is rebuilt."""


def format_store(storage: Storage, options: Options, wall_ms: int) -> Superblock:
    """An empty store in an empty file; durable afterwards, the superblocks last."""
    block = Superblock(
        generation=1,
        store_uuid=secrets.token_bytes(16),
        salt=secrets.token_bytes(32),
        id_secret=secrets.token_bytes(32),
        chunk_bytes=options.chunk_bytes,
        chunk_count=options.floor_chunks,
        align_bytes=options.align_bytes,
        floor_chunks=options.floor_chunks,
        tail_turn=1,
        incarnation=0,
        flags=Flag.CLEAN | Flag.PAIR_NEW,
        epoch=1,
        durable_seq=0,
        created_ms=wall_ms,
        written_ms=wall_ms,
    )
    zeros = memoryview(bytes(MIB))
    storage.allocate(block.file_bytes)
    for offset in range(0, block.file_bytes, MIB):
        storage.write_at(offset, (zeros[: block.file_bytes - offset],))
    first = ChunkHeader(1, BASE_BYTES, 1, 0, block.epoch, 0, 0, block.store_uuid)
    storage.write_at(BASE_BYTES, (encode_chunk_header(first, crc32(block.salt)),))
    storage.sync()
    storage.write_at(block.offset, (encode_superblock(block),))
    storage.sync()
    storage.sync_dir()
    return block


class Recovery(Generic[E]):
    """Reads one store from its file; :meth:`run` once."""

    def __init__(
        self, storage: Storage, owner: Owner[E], path: str, progress: Progress | None = None
    ) -> None:
        self._storage = storage
        self._path = path
        self._progress = progress
        self._rebuild = Rebuild(owner)
        self._warnings: list[str] = []

    def run(self) -> Recovered[E]:
        """Steps 1 to 6. Raises NotAStoreError, UnknownVersionError, DamagedStoreError."""
        self._storage.sync()
        self._block = block = newest_superblock(self._storage.read_at(0, BASE_BYTES), self._path)
        if self._storage.size() < block.file_bytes:
            raise DamagedStoreError(
                self._storage.size(), f"the file is shorter than its {block.chunk_count} chunks"
            )
        self._reader = Reader(crc32(block.salt), block.align_bytes)
        space = Space(block.chunk_bytes, block.chunk_count)
        chunks = self._chunks(space)
        chain = Chain(chunks[0].header.first_seq - 1, chunks[0].header.prev_crc)
        for number, chunk in enumerate(chunks):
            last = number == len(chunks) - 1
            found = self._read(space.offset_of(chunk.slot), chunk, chain, last=last)
            self._fold(found)
            chain = found.chain
            if last or not self._follows(chunks[number + 1].header, chain):
                break
            if self._progress is not None:
                self._progress(number + 1, len(chunks))
        leftover = chunks[number + 1 :]
        torn_bytes = self._judge_end(space, chunk, found, leftover)
        index = self._rebuild.finish()
        self._lay_out(space, chunks[: number + 1], leftover, index)
        return Recovered(
            superblock=block,
            space=space,
            index=index,
            chain=chain,
            chunks=chunks[: number + 1],
            head=chunk,
            head_end=space.offset_of(chunk.slot) + found.end,
            rows=found.rows,
            metas=found.metas,
            record_count=self._rebuild.record_count,
            torn_bytes=torn_bytes,
            warnings=self._warnings,
        )

    def _chunks(self, space: Space) -> list[Chunk]:
        """Step 3: the chunks that count, tail first."""
        block, by_turn = self._block, dict[int, Chunk]()
        for slot in range(block.chunk_count):
            offset = space.offset_of(slot)
            header = decode_chunk_header(
                self._storage.read_at(offset, 128), offset, block.store_uuid, self._reader.salt
            )
            if header is None or header.turn < block.tail_turn:
                continue
            if header.turn in by_turn:
                raise DamagedStoreError(offset, f"turn {header.turn} is there twice")
            by_turn[header.turn] = Chunk(slot, header)
        top = max(by_turn, default=block.tail_turn)
        for turn in range(block.tail_turn, top + 1):
            if turn not in by_turn:
                raise DamagedStoreError(0, f"the chunk of turn {turn} is missing (turns to {top} exist)")
        return [by_turn[turn] for turn in sorted(by_turn)]

    def _read(self, offset: int, chunk: Chunk, chain: Chain, *, last: bool) -> Scan:
        """Step 4: from the digest if there is a good one, else record by record."""
        size = self._block.chunk_bytes
        trailer = offset + size - TRAILER_BYTES
        seal = decode_seal(
            self._storage.read_at(trailer, TRAILER_BYTES),
            trailer,
            chunk.header.turn,
            offset,
            self._reader.salt,
        )
        if seal is not None and self._reader.seal_continues(seal, chain):
            if last:
                raise DamagedStoreError(
                    trailer, f"turn {chunk.header.turn} is sealed, but the chunk behind it is missing"
                )
            found = self._from_digest(seal)
            if found is not None:
                return found
            self._warnings.append(
                f"the digest of turn {chunk.header.turn} at {seal.digest_offset} is damaged"
            )
        return self._reader.scan(self._storage.read_at(offset, size), offset, chunk.header.turn, chain)

    def _from_digest(self, seal: Seal) -> Scan | None:
        digest = self._storage.read_at(seal.digest_offset, seal.rows_bytes + seal.metas_bytes)
        if not self._reader.digest_intact(digest, seal):
            return None
        return Scan(
            chain=Chain(seal.last_seq, seal.last_crc, seal.incarnation, seal.epoch),
            end=seal.records_end,
            rows=bytearray(digest[: seal.rows_bytes]),
            metas=bytearray(digest[seal.rows_bytes :]),
        )

    def _fold(self, found: Scan) -> None:
        self._rebuild.fold(found.rows, bytes(found.metas))

    def _follows(self, header: ChunkHeader, chain: Chain) -> bool:
        """Whether the log goes on into the chunk with ``header``."""
        return (header.first_seq, header.prev_crc) == (chain.sequence + 1, chain.crc)

    def _judge_end(self, space: Space, chunk: Chunk, found: Scan, leftover: list[Chunk]) -> int:
        """Steps 5 and 6: torn bytes behind the end of the log; DamagedStoreError if it is a hole (R2).

        What an earlier incarnation left behind the end was judged when the superblock was written.
        """
        since = self._block.incarnation
        base = space.offset_of(chunk.slot)
        end, last_seq = base + found.end, found.chain.sequence
        known = {self._block.durable_seq: "the superblock"}
        for later in leftover:
            if later.header.incarnation < since:
                continue
            known[later.header.durable_seq] = f"the chunk of turn {later.header.turn}"
        torn_to = end
        for place, start in [(chunk, found.end), *((later, CHUNK_HEADER_BYTES) for later in leftover)]:
            offset = space.offset_of(place.slot)
            image = self._storage.read_at(offset, self._block.chunk_bytes)
            for header in self._reader.later(image, offset, start, last_seq):
                if header.incarnation < since:
                    continue
                known[header.durable_seq] = f"the record at {header.offset}"
                if place is chunk:
                    torn_to = max(torn_to, header.offset + header.size)
        durable_seq = max(known)
        if durable_seq > last_seq:
            raise DamagedStoreError(
                end,
                f"record {last_seq + 1} is missing ({found.why}), but"
                f" {known[durable_seq]} says that everything up to {durable_seq} was durable",
            )
        if torn_to > end:
            log.warning("cut a torn tail of %d bytes at offset %d", torn_to - end, end)
        return torn_to - end

    def _lay_out(
        self, space: Space, chunks: list[Chunk], leftover: list[Chunk], index: dict[bytes, E]
    ) -> None:
        """The ring of ``space``: its order, what is alive, what is free; leftovers are used next."""
        space.tail_turn = self._block.tail_turn
        space.order.extend(chunk.slot for chunk in chunks)
        used = set(space.order)
        first = [chunk.slot for chunk in leftover]
        space.free.extend(first)
        space.free.extend(slot for slot in range(space.chunk_count) if slot not in used.union(first))
        for entry in index.values():
            space.retain(entry.request_at)
            if entry.reply_at:
                space.retain(entry.reply_at)
        space.reclaim()


def open_ring(
    path: Path,
    owner: Owner[E],
    options: Options | None = None,
    *,
    create: bool = True,
    notify: Callable[[], None] = lambda: None,
    progress: Progress | None = None,
) -> Ring[E]:
    """The ring in the file at ``path``, with its commit thread; made first if it is missing and ``create``.

    ``notify`` is called from the commit thread when :meth:`Ring.completed` has something to say.
    Raises StoreInUseError, StoreUnwritableError, NotAStoreError, UnknownVersionError, DamagedStoreError,
    StoreMissingError (without ``create``).
    """
    options = options or Options()
    if create and not path.exists():
        _create(path, options)
    storage = open_file(path)
    try:
        recovered = Recovery(storage, owner, str(path), progress).run()
        for warning in recovered.warnings:
            log.warning("%s: %s", path, warning)
        return Ring(storage, owner, options, recovered, notify)
    except BaseException:
        storage.close()
        raise


def _create(path: Path, options: Options) -> None:
    """A new store under a temporary name, then under its own: nobody sees a half-made one."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        storage = open_file(path.with_name(path.name + ".new"), create=True)
    except OSError as error:
        raise StoreUnwritableError(str(path.parent), error.strerror or str(error)) from error
    except StoreMissingError as error:
        raise StoreUnwritableError(str(path.parent), "the folder went away") from error
    try:
        if not path.exists():
            format_store(storage, options, time.time_ns() // 1_000_000)
            storage.publish(path)
    except OSError as error:
        raise StoreUnwritableError(str(path), error.strerror or str(error)) from error
    finally:
        storage.close()
