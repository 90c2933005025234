"""A store at rest: its layout, its records and an image of it, from the file alone; nothing is written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self
from zlib import crc32

import msgspec

from titanic_store.errors import DamagedStoreError
from titanic_store.pure.chunks import CHUNK_HEADER_BYTES, TRAILER_BYTES, decode_chunk_header, decode_seal
from titanic_store.pure.kinds import Kind
from titanic_store.pure.layout import Layout
from titanic_store.pure.records import HEADER_BYTES, MOVED, ROW
from titanic_store.pure.recovery import Chain, Chunk, Reader, Recovered, Scan
from titanic_store.pure.seams import Storage
from titanic_store.pure.superblock import BASE_BYTES, Superblock, newest_superblock
from titanic_store.shell.file import open_file
from titanic_store.shell.image import Image
from titanic_store.shell.recovering import Recovery


class Placeholder:
    """An index entry of a store that is only looked at."""

    __slots__ = ("key", "kind", "reply_at", "request_at")

    def __init__(self, kind: int, key: bytes) -> None:
        self.kind, self.key = kind, key
        self.request_at = self.reply_at = 0


class Census:
    """The owner of placeholders: it needs no metas."""

    def begin(self) -> None:
        """See Owner.begin."""

    def unreadable(self, kind: int, meta: bytes) -> str:
        """See Owner.unreadable."""
        return ""

    def awaits_reply(self, entry: Placeholder) -> bool:
        """See Owner.awaits_reply."""
        return entry.kind == Kind.REQUEST

    def open(self, kind: int, key: bytes, request_at: int, meta: bytes, origin_seq: int) -> Placeholder:
        """See Owner.open."""
        entry = Placeholder(kind, key)
        entry.request_at = request_at
        return entry

    def open_all(self, kind: int, keys: Sequence[bytes], meta: bytes, origin_seq: int) -> list[Placeholder]:
        """See Owner.open_all."""
        return [Placeholder(kind, key) for key in keys]

    def new(self, kind: int, key: bytes) -> Placeholder:
        """See Owner.new."""
        return Placeholder(kind, key)

    def fold(self, entry: Placeholder, kind: int, meta: bytes, origin_seq: int) -> None:
        """See Owner.fold."""

    def snapshot(self, entry: Placeholder, max_bytes: int) -> bytes:
        """See Owner.snapshot."""
        return b""


class Record(NamedTuple):
    """A record of the log, its checksums proved. ``moved``: written by relocation."""

    sequence: int
    kind: int
    moved: bool
    key: bytes
    offset: int
    turn: int
    meta: bytes
    body: memoryview


class Gap(NamedTuple):
    """The log does not go on here, although there is more of it; what follows is from the next chunk."""

    offset: int
    reason: str


class Pin(NamedTuple):
    """An entry with a record in the oldest chunk."""

    key: bytes
    part: str  # request | reply
    offset: int


class RestingStore:
    """The store in the file at ``path``, locked against writers until :meth:`close`.

    Raises StoreMissingError, StoreInUseError, StoreUnwritableError, NotAStoreError, UnknownVersionError, and
    DamagedStoreError (not from :meth:`records`, which goes on behind damage).
    """

    def __init__(self, path: Path, storage: Storage | None = None) -> None:
        self.path: Final = path
        self._storage: Final[Storage] = storage or open_file(path, read_only=True)
        self._recovered: Recovered[Placeholder] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._storage.close()

    @property
    def recovered(self) -> Recovered[Placeholder]:
        """What an opening would find; read once."""
        if self._recovered is None:
            self._recovered = Recovery(self._storage, Census(), str(self.path)).run()
        return self._recovered

    def layout(self) -> Layout:
        """How the ring lies in the file."""
        found = self.recovered
        block, chain, space = found.superblock, found.chain, found.space
        block = msgspec.structs.replace(
            block,
            incarnation=max(block.incarnation, chain.incarnation),
            epoch=max(block.epoch, chain.epoch),
            tail_turn=space.tail_turn,
            durable_seq=chain.sequence,
        )
        return Layout(block, tuple(space.order), tuple(space.alive_counts), found.head_end)

    def image(self) -> Image:
        """The store without what an opening would cut: as if it had been closed in order."""
        return Image(self.layout(), self._storage.read_at, len(self.recovered.index))

    def pins(self, count: int) -> list[Pin]:
        """At most so many of the entries that keep the tail where it is, the oldest first."""
        layout, found = self.layout(), list[Pin]()
        begin = layout.offset_of(layout.order[0])
        end = begin + layout.block.chunk_bytes
        for entry in self.recovered.index.values():
            if len(found) >= count:
                break
            for part, at in (("request", entry.request_at), ("reply", entry.reply_at)):
                if begin <= at < end:
                    found.append(Pin(entry.key, part, at))
        return found[:count]

    def records(self) -> Iterator[Record | Gap]:
        """Every record from the tail to the end of the log, a chunk in memory at a time.

        Where the log breaks off although a later chunk counts there is a :class:`Gap`.
        """
        block = newest_superblock(self._storage.read_at(0, BASE_BYTES), str(self.path))
        reader = Reader(crc32(block.salt), block.align_bytes, block.incarnation, block.durable_seq)
        chain, sealed = Chain(0, 0), True
        for number, chunk in enumerate(self._chunks(block, reader)):
            header, base = chunk.header, chunk.header.offset
            if (header.first_seq, header.prev_crc) != (chain.sequence + 1, chain.crc):
                if number and not sealed and header.durable_seq <= chain.sequence:
                    return  # what a torn tail left behind: it was never promised (R2)
                if number:
                    yield Gap(base, f"turn {header.turn} does not follow the record before it")
                chain = Chain(header.first_seq - 1, header.prev_crc)
            image = self._storage.read_at(base, block.chunk_bytes)
            scan = reader.scan(image, base, header.turn, chain)
            yield from _records(image, header.turn, base, scan)
            trailer = base + block.chunk_bytes - TRAILER_BYTES
            seal = decode_seal(image[-TRAILER_BYTES:], trailer, header.turn, base, reader.salt)
            sealed = seal is not None and reader.seal_continues(seal, chain)
            chain = scan.chain
            if seal is not None and sealed and chain.sequence < seal.last_seq:
                yield Gap(base + scan.end, f"record {chain.sequence + 1}: {scan.why}")
                chain = Chain(seal.last_seq, seal.last_crc, seal.incarnation, seal.epoch)

    def _chunks(self, block: Superblock, reader: Reader) -> list[Chunk]:
        """The chunks with a valid header that count, tail first; some may be missing."""
        found = []
        for slot in range(block.chunk_count):
            offset = BASE_BYTES + slot * block.chunk_bytes
            raw = self._storage.read_at(offset, CHUNK_HEADER_BYTES)
            header = decode_chunk_header(raw, offset, block.store_uuid, reader.salt)
            if header is not None and header.turn >= block.tail_turn:
                found.append(Chunk(slot, header))
        if not found:
            raise DamagedStoreError(BASE_BYTES, "no chunk of this store is whole")
        return sorted(found, key=lambda chunk: chunk.header.turn)


def _records(image: bytes, turn: int, base: int, scan: Scan) -> Iterator[Record]:
    view, start = memoryview(image), 0
    for kind, flags, _zero, meta_bytes, body_bytes, sequence, offset, key in ROW.iter_unpack(scan.rows):
        meta = bytes(scan.metas[start : start + meta_bytes])
        start += meta_bytes
        body = offset - base + HEADER_BYTES + meta_bytes
        moved = bool(flags & MOVED)
        yield Record(sequence, kind, moved, key, offset, turn, meta, view[body : body + body_bytes])
