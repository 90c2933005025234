"""``titanic store check``: every byte of the ring under a checksum is proved, nothing is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from uuid import UUID
from zlib import crc32

from titanic_store.errors import DamagedStoreError
from titanic_store.pure.chunks import TRAILER_BYTES, decode_seal
from titanic_store.pure.kinds import EFFECT_OF, Effect, Kind
from titanic_store.pure.records import ROW
from titanic_store.pure.recovery import Chain, Chunk, Reader, Recovered, unreadable
from titanic_store.pure.seams import Judge, Storage
from titanic_store.pure.superblock import SUPERBLOCK_BYTES, Flag, decode_superblock
from titanic_store.shell.file import open_file
from titanic_store.shell.opening import Recovery
from titanic_store.shell.resting import Census, Placeholder


@dataclass(frozen=True, slots=True)
class Problem:
    """Bytes that are not as they were written."""

    offset: int
    text: str


@dataclass(slots=True)
class Report:
    """What a check found. ``facts`` has plain values only, for ``--json``."""

    path: str
    problems: list[Problem] = field(default_factory=list)
    facts: dict[str, object] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        """Whether nothing is damaged; a torn tail is no damage."""
        return not self.problems

    def lines(self) -> list[str]:
        """The report for a person; the last line is the verdict."""
        shown = [f"{name.replace('_', ' '):<18} {_plain(value)}" for name, value in self.facts.items()]
        damage = [f"damage at {problem.offset:<9} {problem.text}" for problem in self.problems]
        count = len(self.problems)
        verdict = "clean" if self.clean else f"damaged: {count} problem{'s' if count > 1 else ''}"
        return [f"{'file':<18} {self.path}", *shown, *damage, verdict]


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {count}" for name, count in value.items()) or "none"
    return str(value)


class _Check:
    """One check of one file."""

    def __init__(self, storage: Storage, report: Report, judge: Judge) -> None:
        self._storage = storage
        self._report: Final = report
        self._judge: Final = judge
        self._kinds: Counter[str] = Counter()
        self._sealed_count = 0

    def run(self, progress: Callable[[int, int], None] | None) -> None:
        """Fill the report."""
        self._superblocks()
        try:
            found = Recovery(self._storage, Census(), self._report.path).run()
        except DamagedStoreError as error:
            self._problem(error.offset, error.reason)
            return
        block, space = found.superblock, found.space
        reader = Reader(crc32(block.salt), block.align_bytes, block.incarnation, block.durable_seq)
        chain = Chain(found.chunks[0].header.first_seq - 1, found.chunks[0].header.prev_crc)
        for number, chunk in enumerate(found.chunks):
            chain = self._chunk(reader, space.offset_of(chunk.slot), chunk, chain, found)
            if progress is not None:
                progress(number + 1, len(found.chunks))
        self._facts(found)

    def _problem(self, offset: int, text: str) -> None:
        self._report.problems.append(Problem(offset, text))

    def _superblocks(self) -> None:
        """A half that is neither valid nor empty was torn or rotted; the other one is enough to go on."""
        for offset in (0, SUPERBLOCK_BYTES):
            raw = self._storage.read_at(offset, SUPERBLOCK_BYTES)
            if any(raw) and decode_superblock(raw) is None:
                self._problem(offset, "a superblock fails its checksum")

    def _chunk(
        self, reader: Reader, base: int, chunk: Chunk, chain: Chain, found: Recovered[Placeholder]
    ) -> Chain:
        """Read one chunk record by record and compare it with its digest; where the next one begins."""
        size, turn = found.superblock.chunk_bytes, chunk.header.turn
        image = self._storage.read_at(base, size)
        scan = reader.scan(image, base, turn, chain)
        start = 0
        for kind, _, _, meta_bytes, _, sequence, at, key in ROW.iter_unpack(scan.rows):
            meta, start = bytes(scan.metas[start : start + meta_bytes]), start + meta_bytes
            why = unreadable(kind, meta, self._judge)
            if why:
                self._problem(at, f"the meta of record {sequence} of {UUID(bytes=key)} cannot be read: {why}")
            self._kinds[Kind(kind).name.lower() if EFFECT_OF[kind] is not Effect.UNKNOWN else str(kind)] += 1
        if chunk.slot == found.head.slot:
            return scan.chain
        seal = decode_seal(image[-TRAILER_BYTES:], base + size - TRAILER_BYTES, turn, base, reader.salt)
        if seal is None or not reader.seal_continues(seal, chain):
            self._problem(base + size - TRAILER_BYTES, f"turn {turn} has no valid trailer")
            return scan.chain
        self._sealed_count += 1
        if scan.chain.sequence != seal.last_seq:
            self._problem(base + scan.end, f"record {scan.chain.sequence + 1} of turn {turn}: {scan.why}")
        at = seal.digest_offset - base
        digest = image[at : at + seal.rows_bytes + seal.metas_bytes]
        if not reader.digest_intact(digest, seal):
            self._problem(seal.digest_offset, f"the digest of turn {turn} fails its checksum")
        elif scan.chain.sequence == seal.last_seq and digest != bytes(scan.rows + scan.metas):
            self._problem(seal.digest_offset, f"the digest of turn {turn} does not agree with its records")
        return Chain(seal.last_seq, seal.last_crc, seal.incarnation, seal.epoch)

    def _facts(self, found: Recovered[Placeholder]) -> None:
        block, space = found.superblock, found.space
        live: Counter[str] = Counter(Kind(entry.kind).name.lower() for entry in found.index.values())
        self._report.facts.update(
            store=block.store_uuid.hex(),
            file_bytes=self._storage.size(),
            chunk_bytes=block.chunk_bytes,
            chunks=block.chunk_count,
            free_chunks=len(space.free),
            sealed_chunks=self._sealed_count,
            turns=f"{found.chunks[0].header.turn} to {found.head.header.turn}",
            records=dict(sorted(self._kinds.items())),
            last_sequence=found.chain.sequence,
            live=dict(sorted(live.items())),
            tail_offset=found.head_end,
            torn_bytes=found.torn_bytes,
            incarnation=block.incarnation,
            epoch=block.epoch,
            closed_in_order=bool(block.flags & Flag.CLEAN),
        )


def check(
    path: Path,
    progress: Callable[[int, int], None] | None = None,
    judge: Judge = Census().unreadable,
) -> Report:
    """Prove every checksum in the store at ``path`` and take its inventory; the file stays as it is.

    ``judge`` says which metas cannot be read although their checksums are right (see Owner.unreadable).
    Raises StoreMissingError, StoreInUseError, StoreUnwritableError, NotAStoreError, UnknownVersionError;
    damage is in the report. ``progress`` is called with (chunks read, chunks to read).
    """
    storage = open_file(path, read_only=True)
    try:
        return check_storage(storage, str(path), progress, judge)
    finally:
        storage.close()


def check_storage(
    storage: Storage,
    path: str,
    progress: Callable[[int, int], None] | None = None,
    judge: Judge = Census().unreadable,
) -> Report:
    """:func:`check` of an open file; ``path`` is its name in the report."""
    report = Report(path)
    _Check(storage, report, judge).run(progress)
    return report
