"""What is written and synced together: runs of bytes, barriers between them, and who waits."""

from __future__ import annotations

import threading
from typing import Any


class Run:
    """Bytes that lie one behind the other in the file."""

    __slots__ = ("end", "offset", "parts")

    def __init__(self, offset: int) -> None:
        self.offset = self.end = offset
        self.parts: list[bytes | bytearray] = []


class Batch:
    """Runs and barriers in the order in which they reach the disk, and who waits for them."""

    __slots__ = (
        "drops", "flushed", "freed", "last_seq", "run", "steps", "tokens", "touched", "truncate", "waiting",
    )  # fmt: skip

    def __init__(self) -> None:
        self.steps: list[Run | None] = []
        self.run: Run | None = None  # the last step, if records may be added to it
        self.tokens: list[object] = []
        self.drops: list[Any] = []  # entries closed by this batch
        self.freed: list[int] = []  # positions replaced by this batch
        self.touched: set[bytes] = set()  # keys of entries with a record here that did not open them
        self.last_seq = 0
        self.waiting = False
        self.truncate = 0  # last: the file shall have so many bytes
        self.flushed: threading.Event | None = None  # set when all of this is synced, whatever the policy

    @property
    def queued_bytes(self) -> int:
        """How much of this lies in memory."""
        return sum(step.end - step.offset for step in self.steps if step is not None)

    def begin(self, offset: int) -> Run:
        """A run that records may be added to."""
        self.run = run = Run(offset)
        self.steps.append(run)
        return run

    def write(self, offset: int, *parts: bytes | bytearray) -> None:
        """A run of its own."""
        run = Run(offset)
        run.parts.extend(parts)
        run.end += sum(map(len, parts))
        self.steps.append(run)
        self.run = None

    def barrier(self) -> None:
        """Everything before is synced before anything behind is written."""
        self.steps.append(None)
        self.run = None
