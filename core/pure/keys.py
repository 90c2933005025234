"""Idempotency keys: one job per key, for as long as the key lives, whatever becomes of the job (X1).

A binding is a KEY record whose entry is in the journal's index like a job's; what it binds is read from
the disk when somebody asks. A request carries its key too, so that a crash between the two records of one
submit cannot leave a job without its key: it is bound again at the next start.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from hashlib import blake2s
from typing import Final

from core.errors import JournalFullError
from core.pure.jobs import (
    CloseMeta,
    Job,
    KeyMeta,
    Kind,
    Now,
    RequestMeta,
    State,
    encode_meta,
)
from core.pure.notes import Binding, Notes
from core.pure.ports import Effect, Port

KEY_BYTES: Final = 16
FINGERPRINT_MAX_BYTES: Final = 64
SLOT_MS: Final = 10_000
CLOSES_MAX_COUNT: Final = 100
STEP_MS: Final = 10
RETRY_MS: Final = 10_000
MEMORY_BYTES: Final = 360
"""What one key costs the process: entry, id, position, time, its places in index and slot (measured)."""


def line_key(key: bytes, line: int) -> bytes:
    """The key of line ``line`` of a batch that has the key ``key``."""
    return blake2s(key + line.to_bytes(4, "big"), digest_size=KEY_BYTES, person=b"line").digest()


class Keys:
    """All bindings of a node, by the slot of ten seconds in which they end."""

    def __init__(
        self, index: Mapping[bytes, Job], port: Port, *, lifetime_ms: int, lifetime_max_ms: int
    ) -> None:
        self._index = index
        self._port = port
        self._lifetime_ms = lifetime_ms
        self._lifetime_max_ms = lifetime_max_ms
        self._slots: dict[int, list[Job]] = {}
        self._order: list[int] = []  # a heap of the slots
        self._unbound: dict[bytes, Binding] = {}
        self._look_at_ms: int | None = None
        self.count = 0
        self.expired_count = 0

    # -- binding

    def find(self, key: bytes, now: Now) -> Job | None:
        """The entry that binds ``key`` now, or None."""
        entry = self._index.get(key)
        if entry is None or entry.state != State.BINDING or entry.due_ms <= now.wall_ms:
            return None
        return entry

    def unbound(self, key: bytes, now: Now) -> Binding | None:
        """The binding of a key whose record could not be written yet since the start, or None."""
        binding = self._unbound.get(key)
        return binding if binding is not None and binding.expires_ms > now.wall_ms else None

    def lifetime_ms(self, meta: RequestMeta) -> int:
        """How long the key of this request lives: as asked, within the node's limit."""
        return min(meta.key_lifetime_ms or self._lifetime_ms, self._lifetime_max_ms)

    def bind_job(self, job: Job, meta: RequestMeta, after_sync: tuple[Effect, ...], now: Now) -> None:
        """Bind the key that a stored request asks for. Raises JournalFullError."""
        expires_ms = meta.accepted_ms + meta.key_lifetime_ms
        self.bind(meta.idempotency, Binding(job.key, meta.fingerprint, expires_ms), after_sync, now)

    def bind(self, key: bytes, binding: Binding, after_sync: tuple[Effect, ...], now: Now) -> None:
        """Write the KEY record. Raises JournalFullError; nothing has changed then."""
        replaced = key in self._index
        entry = Job(key, state=State.BINDING, due_ms=binding.expires_ms)
        meta = KeyMeta(binding.job, binding.fingerprint, binding.expires_ms)
        self._port.append(Kind.KEY, entry, encode_meta(meta), (), after_sync)
        self.count += not replaced
        self._keep(entry, now)

    def restore(self, entries: list[Job], notes: Notes, now: Now) -> None:
        """Take over the entries found in the journal, and bind what a crash left unbound."""
        for entry in entries:
            self.count += 1
            self._keep(entry, now)
        for key, binding in notes.asked.items():
            if key not in self._index and binding.job in self._index and binding.expires_ms > now.wall_ms:
                self._unbound[key] = binding
        notes.asked.clear()
        self._bind_again(now)

    def _bind_again(self, now: Now) -> None:
        for key, binding in list(self._unbound.items())[:CLOSES_MAX_COUNT]:
            try:
                self.bind(key, binding, (), now)
            except JournalFullError:
                break
            del self._unbound[key]
        if self._unbound:
            self._look_by(now.mono_ms + RETRY_MS)

    # -- ending

    def _keep(self, entry: Job, now: Now) -> None:
        slot = entry.due_ms // SLOT_MS + 1
        kept = self._slots.get(slot)
        if kept is None:
            kept = self._slots[slot] = []
            heapq.heappush(self._order, slot)
            self._look_by(now.mono_ms + max(0, self._order[0] * SLOT_MS - now.wall_ms))
        kept.append(entry)

    def _look_by(self, mono_ms: int) -> None:
        if self._look_at_ms is None or mono_ms < self._look_at_ms:
            self._look_at_ms = mono_ms

    def on_tick(self, now: Now) -> None:
        """Close keys whose time is over, a hundred at a time."""
        if self._look_at_ms is None or now.mono_ms < self._look_at_ms:
            return
        self._look_at_ms = None
        for _ in range(CLOSES_MAX_COUNT):
            if not self._order or self._order[0] * SLOT_MS > now.wall_ms:
                break
            kept = self._slots[self._order[0]]
            self._end(kept.pop(), now)
            if not kept:
                del self._slots[heapq.heappop(self._order)]
        if self._order:
            self._look_by(now.mono_ms + max(STEP_MS, self._order[0] * SLOT_MS - now.wall_ms))
        if self._unbound:
            self._bind_again(now)

    def _end(self, entry: Job, now: Now) -> None:
        if self._index.get(entry.key) is not entry:
            return  # its key was bound again after its time, before this look
        self.count -= 1
        self.expired_count += 1
        self._port.append(Kind.CLOSE, entry, encode_meta(CloseMeta(now.wall_ms, "retention")), (), ())

    def next_deadline(self) -> int | None:
        """Monotonic milliseconds of the next :meth:`on_tick`, or None."""
        return self._look_at_ms
