"""Durable sockets: answers kept for a named client that is away (the guide's *durable sockets*).

A peer that sets ``ZMQ_ROUTING_ID`` has a name that outlives its connection; libzmq's ROUTER nevertheless
drops what is sent while it is away. Here such an answer waits until the name speaks again. A peer without
a name gets an identity from libzmq that begins with a zero byte and never comes back: nothing is kept for it.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Final

import msgspec

from core.pure.jobs import Now
from core.pure.mdp import WORKER_1, WORKER_2

COUNTERS: Final = (
    "kept",  # answers that could not be delivered and wait
    "kept_delivered",  # handed over when their peer spoke again
    "kept_expired",
    "kept_dropped",  # the oldest, to make room; or larger than all the room there is
)


class KeepLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept for peers that are away; ValueError if a number is not positive."""

    messages_max_count: int = 10_000
    per_peer_max_count: int = 1_000
    kept_max_bytes: int = 64 << 20
    age_ms: int = 3_600_000

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")


class Kept(msgspec.Struct, frozen=True, gc=False):
    """One answer that waits."""

    frames: Sequence[bytes]
    size_bytes: int
    expires_ms: int


def is_durable(identity: bytes) -> bool:
    """Whether the peer chose this name itself: ZeroMQ keeps those beginning with a zero byte for its own."""
    return identity[:1] not in (b"", b"\0")


def is_answer(frames: Sequence[bytes]) -> bool:
    """Whether this message of the broker is for a client. A worker's work goes to another worker instead."""
    return frames[1] != WORKER_2 and not (not frames[1] and frames[2] == WORKER_1)


class Keeping:
    """Answers by the identity they wait for; oldest first, everywhere.

    The owner calls :meth:`failed` for what could not be sent, asks :meth:`waits_for` before it sends and
    when a peer speaks, then :meth:`behind` or :meth:`take`. While something is kept for a peer, what
    follows goes behind it, so that order is kept.
    """

    def __init__(self, limits: KeepLimits | None = None) -> None:
        self.counters = dict.fromkeys(COUNTERS, 0)
        self.kept_bytes = 0
        self._limits = limits or KeepLimits()
        self._number = 0
        self._all: OrderedDict[int, tuple[bytes, Kept]] = OrderedDict()  # by number, so by age
        self._boxes: dict[bytes, deque[int]] = {}
        self.waits_for = self._boxes.__contains__

    def __len__(self) -> int:
        return len(self._all)

    def failed(self, frames: Sequence[bytes], now: Now) -> bool:
        """True if this undeliverable message is kept, or was counted as dropped for its size."""
        if not is_durable(frames[0]) or not is_answer(frames):
            return False
        self._keep(frames, now)
        return True

    def behind(self, frames: Sequence[bytes], now: Now) -> bool:
        """True if this answer was put behind others for the same peer; False: it may be sent."""
        if frames[0] not in self._boxes or not is_answer(frames):
            return False
        self._keep(frames, now)
        return True

    def take(self, identity: bytes) -> list[Sequence[bytes]]:
        """All that waited for this peer, oldest first; it waits no longer."""
        numbers = self._boxes.pop(identity, ())
        taken = [self._all.pop(number)[1] for number in numbers]
        self.kept_bytes -= sum(kept.size_bytes for kept in taken)
        self.counters["kept_delivered"] += len(taken)
        return [kept.frames for kept in taken]

    def expire(self, now: Now) -> None:
        """What has waited for ``age_ms`` is dropped."""
        while self._all:
            number, (identity, kept) = next(iter(self._all.items()))
            if kept.expires_ms > now.mono_ms:
                return
            self._drop(number, identity, "kept_expired")

    def next_deadline(self) -> int | None:
        """Monotonic milliseconds when :meth:`expire` has something to do, or None."""
        return next(iter(self._all.values()))[1].expires_ms if self._all else None

    def _keep(self, frames: Sequence[bytes], now: Now) -> None:
        limits, identity = self._limits, frames[0]
        size_bytes = sum(map(len, frames))
        if size_bytes > limits.kept_max_bytes:
            self.counters["kept_dropped"] += 1
            return
        box = self._boxes.get(identity)
        if box is not None and len(box) >= limits.per_peer_max_count:
            self._drop(box[0], identity, "kept_dropped")
        while self._all and (
            len(self._all) >= limits.messages_max_count
            or self.kept_bytes + size_bytes > limits.kept_max_bytes
        ):
            number, (oldest, _) = next(iter(self._all.items()))
            self._drop(number, oldest, "kept_dropped")
        self._number += 1
        self._all[self._number] = (identity, Kept(frames, size_bytes, now.mono_ms + limits.age_ms))
        self._boxes.setdefault(identity, deque()).append(self._number)
        self.kept_bytes += size_bytes
        self.counters["kept"] += 1

    def _drop(self, number: int, identity: bytes, why: str) -> None:
        """The oldest of its peer goes; a peer for whom nothing waits is forgotten."""
        _, kept = self._all.pop(number)
        box = self._boxes[identity]
        assert box[0] == number, "a peer's answers are as old as their numbers"
        box.popleft()
        if not box:
            del self._boxes[identity]
        self.kept_bytes -= kept.size_bytes
        self.counters[why] += 1
