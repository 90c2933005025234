"""The tables of recovery: complete, printed, and what the code really does with a file of each kind."""

from itertools import product
from pathlib import Path
from zlib import crc32

import msgspec
import pytest

from tests.titanic_store.rig import key, open_on, options, request
from titanic_store import DamagedStoreError, NotAStoreError, UnknownVersionError
from titanic_store.pure.decisions import (
    ENDS,
    STARTS,
    Evidence,
    Half,
    Later,
    Place,
    Sealed,
    Start,
    Verdict,
    render,
)
from titanic_store.pure.superblock import SUPERBLOCK_BYTES, encode_superblock
from titanic_store.shell.faulty import FaultyDisk

PAGE = Path(__file__).parents[3] / "docs/internals/recovery.md"
MANY = options(max_chunks=30)


def test_the_page_is_printed_from_the_tables() -> None:
    """docs/internals/recovery.md says what the code decides."""
    assert render() in PAGE.read_text(encoding="utf-8")


def test_damage_never_passes() -> None:
    """Whatever else: a durable sequence that is not reached, or a seal without its successor, is refused."""
    for (place, sealed, evidence, later), verdict in ENDS.items():
        if evidence is Evidence.BEYOND or sealed is Sealed.HERE:
            assert verdict is Verdict.DAMAGE
        elif sealed is Sealed.BEYOND:
            assert verdict is (Verdict.DAMAGE if place is Place.LAST else Verdict.CUT)
        else:
            assert verdict is (Verdict.CUT if later is Later.YES else Verdict.END)


# -- superblocks


def _half(half: Half, valid: bytes) -> bytes:
    if half is Half.VALID:
        return valid
    if half is Half.BROKEN:
        return valid[:200] + b"\xff" + valid[201:]
    if half is Half.OTHER:
        body = valid[:8] + (2).to_bytes(4, "little") + valid[12:-4]
        return body + crc32(body).to_bytes(4, "little")
    return bytes(SUPERBLOCK_BYTES)


@pytest.mark.parametrize(("first", "second"), list(product(Half, Half)))
def test_every_pair_of_superblocks(first: Half, second: Half) -> None:
    """A file with these two halves opens, or is refused with the error of its kind."""
    disk = FaultyDisk()
    ring = open_on(disk)
    request(ring, 1)
    ring.close()
    block = ring.superblock
    newer = msgspec.structs.replace(block, generation=block.generation + 1)
    by_offset = {old.offset: encode_superblock(old) for old in (block, newer)}
    for half, offset in ((first, 0), (second, SUPERBLOCK_BYTES)):
        raw = _half(half, by_offset[offset])
        disk.durable[offset : offset + SUPERBLOCK_BYTES] = raw
        disk.cache[offset : offset + SUPERBLOCK_BYTES] = raw
    errors: dict[Start, type[Exception]] = {
        Start.DAMAGED: DamagedStoreError,
        Start.OTHER_VERSION: UnknownVersionError,
        Start.NOT_OURS: NotAStoreError,
    }
    start = STARTS[first, second]
    if start is Start.OPEN:
        assert list(open_on(disk).index) == [key(1)]
    else:
        with pytest.raises(errors[start]):
            open_on(disk)
