"""A file that is of no use as it is: its hole mended, cut there, or all of it put aside for an empty one."""

from __future__ import annotations

import time
from pathlib import Path
from zlib import crc32

import msgspec

from titanic_store.errors import DamagedStoreError
from titanic_store.pure.chunks import align_up, decode_chunk_header
from titanic_store.pure.options import Options
from titanic_store.pure.records import HEADER_BYTES, Header, decode_header, padded
from titanic_store.pure.recovery import Chain, Reader
from titanic_store.pure.seams import Foreign, Storage
from titanic_store.pure.superblock import BASE_BYTES, Flag, Superblock, encode_superblock, newest_superblock
from titanic_store.shell.file import open_file
from titanic_store.shell.mending import Neighbours, fits, guessed, written
from titanic_store.shell.opening import format_store


def replace_store(
    path: Path,
    options: Options,
    *,
    aside: Path,
    first_seq: int,
    id_secret: bytes,
    epoch: int,
    flags: Flag,
    role: int,
) -> None:
    """An empty store is at ``path``, with these flags; the one that was there is kept as ``aside``.

    At every moment there is one or the other: nobody who starts in between makes a store of a new pair.
    """
    aside.hardlink_to(path)
    fresh = open_file(path.with_name(path.name + ".new"), create=True)
    try:
        wall_ms = time.time_ns() // 1_000_000
        format_store(
            fresh, options, wall_ms,
            first_seq=first_seq, id_secret=id_secret, epoch=epoch, flags=flags, role=role,
        )  # fmt: skip
        fresh.publish(path)
    finally:
        fresh.close()


def mend_hole(path: Path, damage: DamagedStoreError, record: Foreign) -> bool:
    """``record`` is there again where the log has a hole, durably; False if it is not the one that was there.

    Nor if it is there as it is: a meta that nobody can read is not mended by writing it once more.

    The file is open nowhere. What is behind the hole was never touched, so the log goes on as before.
    """
    if record.sequence - 1 != damage.last_seq:
        return False
    storage = open_file(path)
    try:
        block = newest_superblock(storage.read_at(0, BASE_BYTES), str(path))
        salt = crc32(block.salt)
        for at in sorted({damage.offset, align_up(damage.offset, block.align_bytes)}):
            header = decode_header(storage.read_at(at, HEADER_BYTES), 0, at, salt)
            if header is None or header.sequence != record.sequence:
                header = _lost_header(storage, block, at, record)
            if header is not None and fits(header, record, salt):
                raw = written(header, record)
                if storage.read_at(at, len(raw)) == raw:
                    return False  # it is there, and whole: what is wrong with it, the peer's has too
                storage.write_at(at, (raw,))
                storage.sync()
                return True
    finally:
        storage.close()
    return False


def _lost_header(storage: Storage, block: Superblock, at: int, record: Foreign) -> Header | None:
    """The header that was at ``at``, from the records around it; None if they do not tell."""
    salt, align = crc32(block.salt), block.align_bytes
    base = BASE_BYTES + (at - BASE_BYTES) // block.chunk_bytes * block.chunk_bytes
    image = storage.read_at(base, block.chunk_bytes)
    chunk = decode_chunk_header(image, base, block.store_uuid, salt)
    if chunk is None:
        return None
    before = Reader(salt, align, block.incarnation, block.durable_seq).scan(
        image, base, chunk.turn, Chain(chunk.first_seq - 1, chunk.prev_crc)
    )
    end = at - base + padded(HEADER_BYTES + len(record.meta) + sum(map(len, record.body)))
    for place in (end, align_up(end, align)):
        behind = decode_header(image, place, base + place, salt)
        if behind is not None and behind.sequence == record.sequence + 1:
            first = (before.chain.crc, before.durable_seq, before.chain.incarnation)
            last = (behind.prev_crc, behind.durable_seq, behind.incarnation)
            return guessed(record, at, chunk.turn, Neighbours(first, last), salt)
    return None


def cut_at_hole(path: Path, damage: DamagedStoreError, *, set_flags: Flag, clear_flags: Flag) -> bool:
    """The log ends before the hole, durably, and the superblock says so; False if it cannot be cut there.

    What lies behind is no part of the log any more (R3), as after :meth:`Ring.cut_after`; it is refused for
    the same reason: space was used again because of records behind the hole.
    """
    if damage.last_seq is None:
        return False
    storage = open_file(path)
    try:
        block = newest_superblock(storage.read_at(0, BASE_BYTES), str(path))
        if damage.last_seq < block.tail_seq:
            return False
        cut = msgspec.structs.replace(
            block,
            generation=block.generation + 1,
            incarnation=block.incarnation + 1,
            durable_seq=damage.last_seq,
            flags=int(Flag(block.flags) & ~clear_flags & ~Flag.CLEAN | set_flags),
        )
        storage.write_at(cut.offset, (encode_superblock(cut),))
        storage.sync()
    finally:
        storage.close()
    return True
