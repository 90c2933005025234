"""Making a store and opening one: which bytes are read, in which order, and what is made of them.

Steps are numbered in ``docs/internals/data-file.md``, "Opening".
"""

from __future__ import annotations

import dataclasses
import logging
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from zlib import crc32

from titanic_store.errors import DamagedStoreError, StoreMissingError, StoreUnwritableError
from titanic_store.pure.chunks import ChunkHeader, encode_chunk_header
from titanic_store.pure.options import MIB, Options
from titanic_store.pure.seams import E, Foreign, Judge, Owner, Storage
from titanic_store.pure.superblock import BASE_BYTES, Flag, Superblock, encode_superblock, newest_superblock
from titanic_store.shell.file import open_file, refuse_network_fs
from titanic_store.shell.memory import give_back
from titanic_store.shell.recovering import Progress, Recovery
from titanic_store.shell.resting import Census
from titanic_store.shell.ring import Ring
from titanic_store.shell.salvage import Salvage, survey

__all__ = ["Progress", "Recovery", "create_store", "format_store", "open_ring", "peek"]

log = logging.getLogger("titanic_store")


def format_store(
    storage: Storage,
    options: Options,
    wall_ms: int,
    *,
    first_seq: int = 1,
    id_secret: bytes | None = None,
    epoch: int = 1,
    flags: Flag = Flag.CLEAN | Flag.PAIR_NEW,
    role: int = 0,
) -> Superblock:
    """An empty store in an empty file; durable afterwards, the superblocks last."""
    block = Superblock(
        generation=1,
        store_uuid=secrets.token_bytes(16),
        salt=secrets.token_bytes(32),
        id_secret=id_secret or secrets.token_bytes(32),
        chunk_bytes=options.chunk_bytes,
        chunk_count=options.floor_chunks,
        align_bytes=options.align_bytes,
        floor_chunks=options.floor_chunks,
        tail_turn=1,
        incarnation=0,
        flags=flags,
        role=role,
        epoch=epoch,
        durable_seq=first_seq - 1,
        created_ms=wall_ms,
        written_ms=wall_ms,
    )
    zeros = memoryview(bytes(MIB))
    storage.allocate(block.file_bytes)
    for offset in range(0, block.file_bytes, MIB):
        storage.write_at(offset, (zeros[: block.file_bytes - offset],))
    first = ChunkHeader(1, BASE_BYTES, first_seq, first_seq - 1, epoch, 0, 0, block.store_uuid)
    storage.write_at(BASE_BYTES, (encode_chunk_header(first, crc32(block.salt)),))
    storage.sync()
    storage.write_at(block.offset, (encode_superblock(block),))
    storage.sync()
    storage.sync_dir()
    return block


def peek(path: Path) -> Superblock:
    """The newest superblock of the store at ``path``, which may be open elsewhere: a moment's picture.

    Raises StoreMissingError, StoreUnwritableError, NotAStoreError, UnknownVersionError, DamagedStoreError.
    """
    try:
        with path.open("rb") as file:
            return newest_superblock(file.read(BASE_BYTES), str(path))
    except FileNotFoundError:
        raise StoreMissingError(str(path)) from None
    except OSError as error:
        raise StoreUnwritableError(str(path), error.strerror or str(error)) from error


def open_ring(
    path: Path,
    owner: Owner[E],
    options: Options | None = None,
    *,
    create: bool = True,
    accept_loss: bool = False,
    notify: Callable[[], None] = lambda: None,
    progress: Progress | None = None,
) -> Ring[E]:
    """The ring in the file at ``path``, with its commit thread; made first if it is missing and ``create``.

    ``notify`` is called from the commit thread when :meth:`Ring.completed` has something to say. With
    ``accept_loss`` a damaged store is salvaged: the file is set aside, what can be read is put into a new
    one, and a report beside it names what was lost. ``owner`` is told everything in the file.
    Raises StoreInUseError, StoreUnwritableError, NotAStoreError, UnknownVersionError, DamagedStoreError,
    NetworkFileSystemError, StoreMissingError (without ``create``).
    """
    options = options or Options()
    if not options.network_fs:
        refuse_network_fs(path)
    if create and not path.exists():
        create_store(path, options)
    storage = open_file(path)
    try:
        try:
            recovered = Recovery(storage, owner, str(path), progress).run()
        except DamagedStoreError as error:
            if not accept_loss:
                raise _explained(storage, error, owner.unreadable) from error
            _salvage(path, storage, options, error, owner.unreadable)
            storage.close()
            storage = open_file(path)
            recovered = Recovery(storage, owner, str(path), progress).run()
        for warning in recovered.warnings:
            log.warning("%s: %s", path, warning)
        storage.fill_holes()
        ring = Ring(storage, owner, options, recovered, notify)
        give_back()
        return ring
    except BaseException:
        storage.close()
        raise


def _salvage(path: Path, storage: Storage, options: Options, damage: DamagedStoreError, judge: Judge) -> None:
    """A new store of what can be read is at ``path`` afterwards; see :class:`Salvage`."""

    def fill(block: Superblock, first_seq: int, records: Iterator[Foreign]) -> None:
        fresh = open_file(path.with_name(path.name + ".new"), create=True)
        try:
            size = dataclasses.replace(
                options,
                chunk_bytes=block.chunk_bytes,
                floor_chunks=block.floor_chunks,
                align_bytes=block.align_bytes,
                max_bytes=max(options.max_bytes, block.file_bytes),
            )
            format_store(
                fresh,
                size,
                block.written_ms,
                first_seq=first_seq,
                id_secret=block.id_secret,
                epoch=block.epoch,
            )
            ring = Ring(fresh, Census(), size, Recovery(fresh, Census(), str(path)).run())
            for record in records:
                ring.append_foreign(record)
                if ring.gauges["queued_bytes"] > size.queue_max_bytes:
                    ring.flush()
            ring.flush()
            fresh.publish(path)
            ring.close()
        finally:
            fresh.close()

    Salvage(path, storage, damage, judge).run(fill, str(time.time_ns() // 1_000_000))


def _explained(storage: Storage, error: DamagedStoreError, judge: Judge) -> DamagedStoreError:
    """The same error, with the jobs that are touched, as far as the file still knows them."""
    keys = survey(storage, judge).touched
    return DamagedStoreError(error.offset, error.reason, keys, error.last_seq)


def create_store(
    path: Path,
    options: Options | None = None,
    *,
    first_seq: int = 1,
    id_secret: bytes | None = None,
    epoch: int = 1,
) -> None:
    """A new store under a temporary name, then under its own: nobody sees a half-made one.

    Its first record will have ``first_seq``; ids are tagged with ``id_secret``, a new one if it is None.
    Nothing happens if there is a file already.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        storage = open_file(path.with_name(path.name + ".new"), create=True)
    except OSError as error:
        raise StoreUnwritableError(str(path.parent), error.strerror or str(error)) from error
    except StoreMissingError as error:
        raise StoreUnwritableError(str(path.parent), "the folder went away") from error
    try:
        if not path.exists():
            format_store(
                storage,
                options or Options(),
                time.time_ns() // 1_000_000,
                first_seq=first_seq,
                id_secret=id_secret,
                epoch=epoch,
            )
            storage.publish(path)
    except OSError as error:
        raise StoreUnwritableError(str(path), error.strerror or str(error)) from error
    finally:
        storage.close()
