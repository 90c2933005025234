"""Running a user's handler: in a thread or as a task, and remembering what it replied before it is sent."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Sequence

from core.pure.worker_job import Handler, Memory, ReplyMemoryError, WorkerJob, memory_key, to_frames

_log = logging.getLogger("titanic.worker")


def plain(handler: Handler, memory: Memory) -> Handler:
    """``handler``, giving reply frames that a blocking memory has already."""

    def run(job: WorkerJob) -> Sequence[bytes]:
        frames = to_frames(handler(job))
        if memory.blocking:
            remember(memory, memory_key(job), frames)
        return frames

    return run


def waiting(handler: Handler, memory: Memory) -> Handler:
    """The same for a handler that is awaited; a blocking memory is written in a thread."""

    async def run(job: WorkerJob) -> Sequence[bytes]:
        frames = to_frames(await handler(job))
        if memory.blocking:
            await asyncio.to_thread(remember, memory, memory_key(job), frames)
        return frames

    return run


def remember(memory: Memory, key: bytes, frames: Sequence[bytes]) -> None:
    """Keep the reply; if that fails it is said, and the reply goes out all the same: the work is done."""
    if not key:
        return
    try:
        memory.put(key, frames)
    except ReplyMemoryError as error:
        _log.error("%s; a job delivered again may be done again", error)


def recall(memory: Memory, key: bytes) -> Sequence[bytes] | None:
    """The reply given before, if the memory has it and can be read."""
    if not key:
        return None
    try:
        return memory.get(key)
    except ReplyMemoryError as error:
        _log.error("%s; a job delivered again may be done again", error)
        return None


class HandlerThread:
    """One daemon thread that runs a plain handler; daemon, so that an abort does not wait for user code."""

    def __init__(
        self,
        handler: Handler,
        loop: asyncio.AbstractEventLoop,
        on_done: Callable[[object, BaseException | None], None],
        name: str,
    ) -> None:
        self._handler, self._loop, self._on_done = handler, loop, on_done
        self._jobs: queue.SimpleQueue[WorkerJob | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, name=f"titanic-{name}", daemon=True).start()

    def put(self, job: WorkerJob) -> None:
        """Run the handler on this job; ``on_done`` follows in the loop."""
        self._jobs.put(job)

    def leave(self) -> None:
        """The thread ends after the job at hand."""
        self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            result, error = None, None
            try:
                result = self._handler(job)
            except BaseException as raised:  # whatever user code raises fails the attempt, not the worker
                error = raised
            try:
                self._loop.call_soon_threadsafe(self._on_done, result, error)
            except RuntimeError:  # the loop was closed by an abort while the handler ran
                return
            del job, result, error
