"""A clock that stands still while the machine gives the tests no turn, for promises in seconds."""

from __future__ import annotations

import threading
import time
from typing import Final, Self

TICK_S: Final = 0.01


class FairClock:
    """Seconds since the block began, without those in which a thread that only sleeps was not woken.

    A promise like "noticed within a second" is about a machine that runs its processes. On one that does
    not (busy neighbours), a bound in wall time fails by luck. Here a thread sleeps ``TICK_S`` at a time; each
    sleep counts as what it took, at the most twice what was asked for. On an idle machine this is wall time
    within a percent.
    """

    def __init__(self) -> None:
        self.elapsed_s = 0.0
        """Fair seconds since the block began."""
        self.stolen_s = 0.0
        """The others."""
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fair-clock", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        before = time.monotonic()
        while not self._done.wait(TICK_S):
            now = time.monotonic()
            fair_s = min(now - before, 2 * TICK_S)
            self.elapsed_s += fair_s
            self.stolen_s += now - before - fair_s
            before = now
