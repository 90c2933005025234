"""The store as ``titanic.store`` and ``titanic.backup`` see it: the core's Protocol over the ring."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, Final

import msgspec

from core.pure.forecast import SAMPLE_MS, Growth, full_in_ms
from core.pure.jobs import (
    Job,
    Kind,
    decode_attempt,
    decode_close,
    decode_key,
    decode_reply,
    decode_request,
    decode_setting,
    decode_state,
)
from core.pure.store_heads import CHUNKS_MAX_COUNT, ChunkRow, Forecast, PinRow, StoreFacts
from titanic_store import Ring
from titanic_store.pure.layout import Layout
from titanic_store.pure.records import decode_origin
from titanic_store.shell.image import Backups, LiveImage
from titanic_store.shell.resting import Record, RestingStore

PIN_SEARCH_MAX_COUNT: Final = 20_000
"""Entries looked at for what pins the tail; they are the oldest ones, so it is nearly always among them."""


class RingStore:
    """A :class:`core.pure.store_heads.StorePort` on a ring."""

    def __init__(self, ring: Ring[Job]) -> None:
        """Made on the loop of the node, which looks at the ring every five seconds while this is kept."""
        self._ring = ring
        self._backups: Backups[Job] = Backups(ring)
        self._growth = Growth()
        _look(weakref.ref(self))

    def look(self) -> None:
        """Remember what the ring needs now, for the forecast."""
        self._growth.look(time.monotonic_ns() // 1_000_000, needed_bytes(self._ring.gauges))

    def forecast(self) -> Forecast:
        """How the ring grows, and when it will be full."""
        gauges = self._ring.gauges
        usable_bytes = gauges["capacity_bytes"]
        needed, per_minute = needed_bytes(gauges), self._growth.per_minute()
        return Forecast(needed, usable_bytes, per_minute, full_in_ms(needed, usable_bytes, per_minute))

    def begin_image(self) -> LiveImage:
        """See StorePort.begin_image."""
        return self._backups.begin()

    def facts(self, pins_max: int) -> StoreFacts:
        """See StorePort.facts."""
        ring, layout = self._ring, self._ring.layout()
        block = layout.block
        chunks = chunk_rows(layout)
        return StoreFacts(
            facts={
                "store": block.store_uuid.hex(),
                "durability": ring.durability,
                "chunk_bytes": block.chunk_bytes,
                "chunks": block.chunk_count,
                "free_chunks": sum(chunk.state == "free" for chunk in chunks),
                "floor_chunks": block.floor_chunks,
                "tail_turn": block.tail_turn,
                "head_turn": block.tail_turn + len(layout.order) - 1,
                "backup_pins_turn": ring.pinned_turn,
                "live": len(ring.index),
                "last_sequence": ring.last_seq,
                "durable_sequence": ring.durable_seq,
                "incarnation": ring.incarnation,
                "epoch": ring.epoch,
                **ring.gauges,
                **ring.counters,
            },
            chunks=chunks[:CHUNKS_MAX_COUNT],
            pins=tuple(islice(self._pins(layout), pins_max)),
            chunks_omitted=max(0, len(chunks) - CHUNKS_MAX_COUNT),
            forecast=self.forecast(),
        )

    def _pins(self, layout: Layout) -> list[PinRow]:
        """The entries among the oldest that have a record in the tail chunk."""
        begin = layout.offset_of(layout.order[0])
        end = begin + layout.block.chunk_bytes
        found = []
        for job in islice(self._ring.index.values(), PIN_SEARCH_MAX_COUNT):
            for part, at in (("request", job.request_at), ("reply", job.reply_at)):
                if begin <= at < end:
                    found.append(PinRow(job.key, part, at))
        return found


def needed_bytes(gauges: Mapping[str, int]) -> int:
    """What open jobs need, their endings included; the rest is free or will be."""
    return gauges["live_bytes"] + gauges["reserved_bytes"]


def _look(ref: weakref.ref[RingStore]) -> None:
    """Look now and again and again, until nobody keeps the store."""
    store = ref()
    if store is not None:
        store.look()
        asyncio.get_running_loop().call_later(SAMPLE_MS / 1000, _look, ref)


def chunk_rows(layout: Layout) -> tuple[ChunkRow, ...]:
    """A row per slot, in the order of the file."""
    return tuple(ChunkRow(cell.turn, cell.state.value, cell.alive_count) for cell in layout.cells())


def resting_facts(store: RestingStore, pins_max: int) -> StoreFacts:
    """The same of a file at rest; raises the store's errors."""
    layout, found = store.layout(), store.recovered
    block = layout.block
    chunks = chunk_rows(layout)
    return StoreFacts(
        facts={
            "store": block.store_uuid.hex(),
            "file_bytes": block.file_bytes,
            "chunk_bytes": block.chunk_bytes,
            "chunks": block.chunk_count,
            "free_chunks": sum(chunk.state == "free" for chunk in chunks),
            "floor_chunks": block.floor_chunks,
            "tail_turn": block.tail_turn,
            "head_turn": block.tail_turn + len(layout.order) - 1,
            "live": len(found.index),
            "last_sequence": block.durable_seq,
            "incarnation": block.incarnation,
            "epoch": block.epoch,
            "torn_bytes": found.torn_bytes,
        },
        chunks=chunks[:CHUNKS_MAX_COUNT],
        pins=tuple(PinRow(pin.key, pin.part, pin.offset) for pin in store.pins(pins_max)),
        chunks_omitted=max(0, len(chunks) - CHUNKS_MAX_COUNT),
    )


_DECODERS: Final[dict[int, Callable[[bytes], object]]] = {
    Kind.REQUEST: decode_request,
    Kind.ATTEMPT: decode_attempt,
    Kind.REPLY: decode_reply,
    Kind.CLOSE: decode_close,
    Kind.CANCEL: decode_close,
    Kind.KEY: decode_key,
    Kind.SETTING: decode_setting,
}


def describe(record: Record) -> dict[str, Any]:
    """What a record's meta says, in plain values; a meta that cannot be read is given as hex."""
    try:
        if record.kind != Kind.JOB:
            return _plain(_DECODERS[record.kind](record.meta)) if record.kind in _DECODERS else {}
        origin = decode_origin(record.meta)
        if origin is None:
            return {"meta": record.meta.hex()}
        replaced = _plain(_DECODERS[origin.kind](origin.meta)) if origin.kind in _DECODERS else {}
        state = _plain(decode_state(origin.state)) if origin.kind == Kind.REQUEST else {}
        kind = Kind(origin.kind).name.lower()
        return {"origin_sequence": origin.sequence, "replaces": kind, **replaced, "now": state}
    except (msgspec.MsgspecError, ValueError):
        return {"meta": record.meta.hex()}


def _plain(meta: object) -> dict[str, Any]:
    """The fields that say something: names, numbers, text; bytes as text where they are, else as hex."""
    assert isinstance(meta, msgspec.Struct), "metas are structs"
    values = msgspec.structs.asdict(meta)
    return {name: _readable(value) for name, value in values.items() if value not in ("", b"", (), 0, -1)}


def _readable(value: Any) -> Any:
    if not isinstance(value, bytes):
        return value
    return value.decode("ascii") if value.isascii() and value.decode("ascii").isprintable() else value.hex()
