"""Deadlines in order: a heap whose cancelled entries are swept once they are the majority."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from typing import Final, Generic, Protocol, TypeVar

T = TypeVar("T")

SWEEP_MIN: Final = 64


class Clocked(Protocol):
    """Something that must be looked at again at a time of its own."""

    def next_deadline(self) -> int | None:
        """Milliseconds of the caller's clock, or None."""
        ...


def earliest(clocked: Iterable[Clocked]) -> int | None:
    """The first deadline of all these, or None if there is none."""
    first = None
    for one in clocked:
        deadline = one.next_deadline()
        if deadline is not None and (first is None or deadline < first):
            first = deadline
    return first


class Timer(Generic[T]):
    """One armed deadline; ``item`` is None once it has fired or was cancelled."""

    __slots__ = ("deadline_ms", "item", "order")

    def __init__(self, deadline_ms: int, order: int, item: T) -> None:
        self.deadline_ms = deadline_ms
        self.order = order
        self.item: T | None = item

    def __lt__(self, other: Timer[T]) -> bool:
        return (self.deadline_ms, self.order) < (other.deadline_ms, other.order)


class Timers(Generic[T]):
    """A set of deadlines in milliseconds of the caller's clock. Cost is O(log n) to arm, O(1) to cancel."""

    def __init__(self) -> None:
        self._heap: list[Timer[T]] = []
        self._order = 0
        self._stale = 0

    def __len__(self) -> int:
        return len(self._heap) - self._stale

    def arm(self, deadline_ms: int, item: T) -> Timer[T]:
        """From now on ``item`` is due at ``deadline_ms``."""
        self._order += 1
        timer = Timer(deadline_ms, self._order, item)
        heapq.heappush(self._heap, timer)
        return timer

    def cancel(self, timer: Timer[T]) -> None:
        """The timer will not fire; cancelling twice is harmless."""
        if timer.item is None:
            return
        timer.item = None
        self._stale += 1
        if self._stale > SWEEP_MIN and 2 * self._stale > len(self._heap):
            self._heap = [entry for entry in self._heap if entry.item is not None]
            heapq.heapify(self._heap)
            self._stale = 0

    def pop_due(self, now_ms: int) -> T | None:
        """The earliest item due at ``now_ms``, removed; None when nothing is due."""
        heap = self._heap
        while heap and (heap[0].item is None or heap[0].deadline_ms <= now_ms):
            timer = heapq.heappop(heap)
            item, timer.item = timer.item, None
            if item is not None:
                return item
            self._stale -= 1
        return None

    def pop_some(self, now_ms: int, max_count: int) -> Iterator[T]:
        """At most ``max_count`` items due at ``now_ms``, each removed when it is given."""
        for _ in range(max_count):
            item = self.pop_due(now_ms)
            if item is None:
                return
            yield item

    def next_deadline(self) -> int | None:
        """When the caller must look again, or None if nothing is armed."""
        heap = self._heap
        while heap and heap[0].item is None:
            heapq.heappop(heap)
            self._stale -= 1
        return heap[0].deadline_ms if heap else None
