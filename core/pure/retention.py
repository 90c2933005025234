"""Closing what has been kept long enough: a walk over the ids, a few at a time, that never stalls the node.

Nothing is kept per job for it: the walk starts when the first end of a retention has come, looks at up to a
thousand jobs each 50 ms, and closes up to a hundred of them. So a job is closed within a second of its time
while there are up to 20,000, within a minute with a million.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from core.pure.jobs import ENDED, Job, Now
from core.pure.roster import Roster

LOOKS_MAX_COUNT: Final = 1_000
CLOSES_MAX_COUNT: Final = 100
STEP_MS: Final = 50
CLOSING_STEP_MS: Final = 10
REST_MS: Final = 1_000


class Retention:
    """Told of every end; ``keep_until(job)`` is wall time, 0 for ever; ``close`` writes the close."""

    def __init__(
        self,
        index: Mapping[bytes, Job],
        roster: Roster,
        keep_until: Callable[[Job], int],
        close: Callable[[Job, Now], None],
    ) -> None:
        self._index = index
        self._roster = roster
        self._keep_until = keep_until
        self._close = close
        self._first_ms = 0  # wall time before which no retention ends; 0: nothing is kept with an end
        self._look_at_ms: int | None = None
        self._walking = False
        self._at = b""
        self._next_ms = 0  # the first end seen on this walk that is still to come

    def ended(self, job: Job, now: Now) -> None:
        """The job succeeded, failed or was cancelled."""
        until_ms = self._keep_until(job)
        if until_ms and (not self._first_ms or until_ms < self._first_ms):
            self._first_ms = until_ms
            if not self._walking:
                self._rest(now)

    def _rest(self, now: Now) -> None:
        self._look_at_ms = (
            now.mono_ms + max(REST_MS, self._first_ms - now.wall_ms) if self._first_ms else None
        )

    def on_tick(self, now: Now) -> None:
        """Walk on, if it is time."""
        if self._look_at_ms is None or now.mono_ms < self._look_at_ms:
            return
        if not self._walking:
            self._walking, self._at, self._next_ms, self._first_ms = True, b"", 0, 0
        keys = self._roster.after(self._at, LOOKS_MAX_COUNT)
        closed_count = 0
        for key in keys:
            self._at = key
            job = self._index.get(key)
            if job is None or job.state not in ENDED:
                continue
            until_ms = self._keep_until(job)
            if not until_ms:
                continue
            if until_ms > now.wall_ms:
                self._next_ms = min(self._next_ms or until_ms, until_ms)
                continue
            self._close(job, now)
            closed_count += 1
            if closed_count == CLOSES_MAX_COUNT:
                self._look_at_ms = now.mono_ms + CLOSING_STEP_MS
                return
        if len(keys) == LOOKS_MAX_COUNT:
            self._look_at_ms = now.mono_ms + STEP_MS
            return
        self._walking = False
        if self._next_ms:
            self._first_ms = min(self._first_ms or self._next_ms, self._next_ms)
        self._rest(now)

    def next_deadline(self) -> int | None:
        """Monotonic milliseconds of the next :meth:`on_tick`, or None."""
        return self._look_at_ms
