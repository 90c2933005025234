"""Answers of the Titanic services that several of them give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from core.pure import tsp
from core.pure.ids import Mint
from core.pure.jobs import Job, State
from core.pure.ports import Answer, Path, Port

STATE_NAMES: Final[dict[int, str]] = {
    State.ACCEPTING: "queued",
    State.SCHEDULED: "scheduled",
    State.QUEUED: "queued",
    State.RUNNING: "running",
    State.ENDING: "running",
    State.SUCCEEDED: "succeeded",
    State.FAILED: "failed",
    State.CANCELLED: "cancelled",
    State.CLOSING: "closed",
}


def error(status: bytes, detail: str) -> tuple[bytes, bytes]:
    """The frames of an answer with an ErrorHead."""
    return status, tsp.encode_head(tsp.ErrorHead(detail))


class Answering:
    """Finds jobs for those who may see them, and answers for those that are not there."""

    def __init__(self, index: Mapping[bytes, Job], port: Port, mint: Mint) -> None:
        self._index = index
        self._port = port
        self._mint = mint

    def answer(self, path: Path, service: bytes, *frames: bytes) -> None:
        """Send these frames now."""
        self._port.perform(Answer(path, service, frames))

    def maybe_find(self, path: Path, service: bytes, key: bytes, owner: str) -> Job | None:
        """The job, if it is there and not closing; None: the question is answered.

        A job of another owner is answered as one that never was; a close on its way once it is durable.
        """
        job = self._index.get(key)
        if job is None or job.state == State.BINDING:
            if self._mint.issued(key):
                self.answer(path, service, *error(tsp.GONE, "the job is closed"))
            else:
                self._never(path, service)
        elif owner and job.owner.name != owner:
            self._never(path, service)
        elif job.state == State.CLOSING:
            self._port.barrier((Answer(path, service, error(tsp.GONE, "the job is closed")),))
        else:
            return job
        return None

    def _never(self, path: Path, service: bytes) -> None:
        self.answer(path, service, *error(tsp.NOT_FOUND, "this id was never issued here"))
