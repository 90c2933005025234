"""A file that is of no use to a follower as it is: cut at a hole, or put aside for an empty one."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from titanic_store.errors import DamagedStoreError
from titanic_store.pure.options import Options
from titanic_store.pure.superblock import BASE_BYTES, Flag, encode_superblock, newest_superblock
from titanic_store.shell.file import open_file
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
