"""What workers say while they work (MDP/0.2 PARTIAL), kept as the progress of durable jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from core.pure.events import EventLog, Step
from core.pure.jobs import AttemptMeta, Job, Kind, Now, Outcome, encode_meta
from core.pure.notes import Notes
from core.pure.ports import Port

PROGRESS_MAX_BYTES: Final = 1_024
RECORD_EVERY_MS: Final = 1_000


class Progress:
    """Keeps the last PARTIAL of each job in memory, and writes at most one a second to the journal.

    The record promises nothing: it rides with the next commit, and the newest may be lost in a crash.
    """

    def __init__(self, port: Port, events: EventLog) -> None:
        self._port = port
        self._events = events
        self._written_ms: dict[bytes, int] = {}

    def report(self, job: Job, frames: Sequence[bytes], notes: Notes, now: Now) -> None:
        """The last frame of the PARTIAL is the progress of ``job``; what is over the limit is cut off."""
        said = bytes(frames[-1][:PROGRESS_MAX_BYTES]) if frames else b""
        notes.progress[job.key] = said
        written_ms = self._written_ms.get(job.key)
        if written_ms is not None and now.mono_ms < written_ms + RECORD_EVERY_MS:
            return
        self._remember(job.key, now)
        meta = AttemptMeta(Outcome.PROGRESS, job.attempt, now.wall_ms, progress=said)
        number = self._port.append(Kind.ATTEMPT, job, encode_meta(meta), (), ())
        self._events.add(number, Step.PROGRESS, job, now.wall_ms, said.decode("utf-8", "replace"))

    def _remember(self, key: bytes, now: Now) -> None:
        """Oldest first; those that may write again anyway are forgotten."""
        written = self._written_ms
        written.pop(key, None)
        written[key] = now.mono_ms
        while written:
            oldest = next(iter(written))
            if written[oldest] + RECORD_EVERY_MS > now.mono_ms:
                return
            del written[oldest]
