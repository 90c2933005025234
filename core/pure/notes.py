"""What is known of some jobs beside their index entries: one object, shared by the fold and the lifecycle.

Most jobs have no note at all, so a note costs memory only where there is something to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from core.pure.jobs import CallMeta, SettingMeta


class Ending(NamedTuple):
    """The state a job will be in once the record on its way is durable."""

    state: int
    reason: str = ""


class Binding(NamedTuple):
    """An idempotency key that a stored request asked for."""

    job: bytes
    fingerprint: bytes
    expires_ms: int


class Notes:
    """Keyed by job or setting. Filled by :class:`core.pure.fold.Fold`, then kept by the lifecycle."""

    def __init__(self) -> None:
        self.reasons: dict[bytes, str] = {}  # last error, of failed jobs
        self.expiries: dict[bytes, int] = {}  # wall ms, of jobs that were never started and may expire
        self.progress: dict[bytes, bytes] = {}  # last PARTIAL, of jobs that have not ended
        self.endings: dict[bytes, Ending] = {}  # of jobs with an end (or a retry) on its way to the disk
        self.settings: dict[bytes, SettingMeta] = {}
        self.calls: dict[bytes, CallMeta] = {}  # of all jobs with a callback, until they are closed
        self.asked: dict[bytes, Binding] = {}  # while opening: keys asked for by requests still there

    def keep_only(self, index: Mapping[bytes, object]) -> None:
        """Jobs that are not in ``index`` are gone."""
        for noted in (self.reasons, self.expiries, self.progress, self.calls):
            for key in noted.keys() - index.keys():
                self.forget(key)
                self.calls.pop(key, None)

    def forget(self, key: bytes) -> None:
        """Nothing is to be said of the job any more, except how far its callback is."""
        for noted in (self.reasons, self.expiries, self.progress, self.endings):
            if noted:
                noted.pop(key, None)
