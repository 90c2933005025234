"""The worker library: ``@worker.service("resize")`` on a function, and ``worker.run()``.

Works at any MDP/0.1 broker (RFC 7). An MDP worker handles one request at a time, so concurrency is that
many registrations, each over its own DEALER socket and each a :class:`core.pure.peer_worker.WorkerPeer`;
all sockets live in one event loop. Handlers run beside it (a thread each, a task if they are async), so
heartbeats go on however long the work takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

from core.pure import peer_worker as machine
from core.pure.worker_job import (
    AttemptFailedError,
    Handler,
    Memory,
    ReplyMemory,
    WorkerJob,
    adapt,
    is_async,
    job_of,
    memory_key,
    reason_of,
)
from core.shell.curve import ClientKeys
from core.shell.handling import HandlerThread, plain, recall, remember, waiting
from core.shell.link import Link, TraceLine, open_link

__all__ = ["AttemptFailedError", "Worker", "WorkerJob"]

CONCURRENCY_MAX: Final = 500  # a socket each; libzmq allows 1023 per context
WATCHED_MAX_COUNT: Final = 16  # of libzmq's sockets see their connection end; it takes two more each
FINAL_LINGER_MS: Final = 1_000

_log = logging.getLogger("titanic.worker")
_Function = TypeVar("_Function", bound=Callable[..., Any])


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


class Worker:
    """Handlers for one or more services, registered at the first of ``nodes`` that answers.

    Every service gets ``concurrency`` registrations. With ``identity`` they are durable sockets by that name
    (``NAME``, ``NAME-2``, ...). Replies to durable jobs are remembered, so that a job delivered again is
    answered without being done again: while the process lives, or in a file with ``memory`` a
    :class:`core.shell.sqlite_memory.SqliteReplyMemory`. With ``version`` 2 it speaks MDP/0.2 (RFC 18), and
    ``job.progress(...)`` is heard; the broker must know that version.
    """

    def __init__(
        self,
        nodes: Sequence[str],
        *,
        concurrency: int = 1,
        identity: str = "",
        heartbeat_ms: int = machine.HEARTBEAT_MS,
        version: int = 1,
        memory: Memory | None = None,
        keys: ClientKeys | None = None,
        trace: TraceLine | None = None,
        by_libzmq: bool = False,
    ) -> None:
        if isinstance(nodes, str) or not nodes:
            raise ValueError("nodes is a sequence of at least one endpoint, such as ['tcp://127.0.0.1:5555']")
        if not 1 <= concurrency <= CONCURRENCY_MAX:
            raise ValueError(f"concurrency is 1 to {CONCURRENCY_MAX}, not {concurrency}")
        if version not in (1, 2):
            raise ValueError(f"version is 1 for MDP/0.1 or 2 for MDP/0.2, not {version}")
        self.nodes = tuple(nodes)
        self.version = version
        self.memory: Memory = memory if memory is not None else ReplyMemory()
        self.done_count = 0
        self.failed_count = 0
        self._concurrency = concurrency
        self._identity = identity
        self.heartbeat_ms = heartbeat_ms
        self.keys = keys
        self.trace = trace
        self.by_libzmq = by_libzmq
        self._handlers: dict[str, Handler] = {}
        self._slots: list[_Slot] = []
        self.running: dict[bytes, _Slot] = {}  # durable jobs at hand, by memory key
        self._silent_count = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped: asyncio.Event | None = None

    def service(self, name: str) -> Callable[[_Function], _Function]:
        """Decorator: this function answers requests for the service ``name``.

        A plain function runs in a thread, an async one in the event loop. It gets the body as bytes, or the
        :class:`WorkerJob` if its parameter is annotated so, and returns bytes, str or a sequence of bytes.
        Raising fails the attempt.
        """

        def register(function: _Function) -> _Function:
            self.add(name, adapt(function))
            return function

        return register

    def add(self, name: str, handler: Handler) -> None:
        """``handler`` answers requests for ``name``; it gets the :class:`WorkerJob`."""
        if not name or name in self._handlers:
            raise ValueError(f"the service name {name!r} is empty or has a handler already")
        self._handlers[name] = handler

    def run(self, loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None) -> int:
        """Serve until SIGTERM or SIGINT: finish the jobs at hand, take no new one, leave. 0; 1 if aborted.

        The second signal aborts: async handlers are cancelled, threads abandoned, children killed.
        ``loop_factory`` makes another event loop than asyncio's, such as uvloop's.
        """
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(self._run())

    async def serve(self) -> None:
        """Serve until :meth:`drain` is done; cancelling aborts. Raises ValueError for a bad endpoint."""
        if not self._handlers:
            raise ValueError("no service: decorate a function with @worker.service(NAME) first")
        self._loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        for name, handler in self._handlers.items():
            for _ in range(self._concurrency):
                number = len(self._slots) + 1
                identity = f"{self._identity}-{number}" if self._identity and number > 1 else self._identity
                watched = number <= WATCHED_MAX_COUNT  # the others notice by their next heartbeat
                self._slots.append(_Slot(self, name, handler, identity, watched=watched))
        try:
            for slot in self._slots:
                slot.open()
            await self._stopped.wait()
        finally:
            await asyncio.gather(*(slot.abort() for slot in self._slots))
            self._slots.clear()
            self._loop = None

    def drain(self) -> None:
        """Finish the jobs at hand, take no other and leave; callable from any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        for slot in list(self._slots):
            slot.drain()

    async def _run(self) -> int:
        serving = asyncio.create_task(self.serve())
        signal_count = 0

        def on_signal() -> None:
            nonlocal signal_count
            signal_count += 1
            if signal_count == 1:
                if any(slot.working for slot in self._slots):
                    _log.warning("finishing the work at hand; a second signal aborts it")
                self._drain()
            else:
                serving.cancel()

        with _signals(on_signal):
            try:
                await serving
            except asyncio.CancelledError:
                if signal_count < 2:
                    raise
                return 1
        return 0

    # ---- told by the slots ----

    def slot_stopped(self) -> None:
        """One registration has left; the last one ends :meth:`serve`."""
        if self._stopped is not None and all(slot.stopped for slot in self._slots):
            self._stopped.set()

    def slot_silent(self, is_silent: bool, endpoint: str) -> None:
        """Complain once however many registrations wait, and once say that it is over."""
        self._silent_count += 1 if is_silent else -1
        if is_silent and self._silent_count == 1:
            _log.warning("no broker answers at %s; waiting for one", endpoint)
        elif not is_silent and self._silent_count == 0:
            _log.warning("the broker at %s is there", endpoint)


@contextlib.contextmanager
def _signals(on_signal: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and SIGINT call ``on_signal`` in the loop; not in other threads, which have no signals."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT) if threading.current_thread() is threading.main_thread() else ()
    for number in numbers:
        loop.add_signal_handler(number, on_signal)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


class _Slot:
    """One registration: a socket, its state machine, its timer, and the job at hand."""

    def __init__(
        self, worker: Worker, service: str, handler: Handler, identity: str, *, watched: bool
    ) -> None:
        self._worker = worker
        self._watched = watched
        self._service = service
        self._handler = (waiting if is_async(handler) else plain)(handler, worker.memory)
        self._identity = identity
        self._is_async = is_async(handler)
        self._loop = asyncio.get_running_loop()
        self._peer = machine.WorkerPeer(
            service.encode(),
            heartbeat_ms=worker.heartbeat_ms,
            version=worker.version,
            spread=random.uniform(0.75, 1.25),
        )
        self._endpoint = worker.nodes[0]
        self._link: Link | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at_ms = 0
        self._thread: HandlerThread | None = None
        self._task: asyncio.Task[Any] | None = None
        self._job: WorkerJob | None = None
        self._key = b""
        self.twins: list[_Slot] = []  # slots that were given the job this one is working on
        self._aborted = False

    @property
    def stopped(self) -> bool:
        return self._peer.stopped

    @property
    def working(self) -> bool:
        return self._peer.working

    def open(self) -> None:
        self._perform(self._peer.open(_now_ms()))

    def drain(self) -> None:
        self._perform(self._peer.drain(_now_ms()))

    async def abort(self) -> None:
        """Let go of everything at once."""
        self._aborted = True
        if self._timer is not None:
            self._timer.cancel()
        self._disconnect(0)
        if self._thread is not None:
            self._thread.leave()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _perform(self, actions: Sequence[machine.Action]) -> None:
        for action in actions:
            if isinstance(action, machine.Send):
                assert self._link is not None, "Send without a socket"
                self._link.send(action.frames)
            elif isinstance(action, machine.Run):
                self._start(action)
            elif isinstance(action, machine.Connect):
                self._connect(action.number)
            elif isinstance(action, machine.Close):
                assert self._link is not None, "Close without a socket"
                self._disconnect(FINAL_LINGER_MS if action.deliver else 0)
            elif isinstance(action, machine.Abandon):
                if self._task is not None and not self.twins:
                    self._task.cancel()
            else:
                self._worker.slot_silent(isinstance(action, machine.Silent), self._endpoint)
        self._set_timer()
        if self._peer.stopped:
            self._worker.slot_stopped()

    def _connect(self, number: int) -> None:
        self._endpoint = self._worker.nodes[number % len(self._worker.nodes)]
        worker = self._worker
        self._link = open_link(
            self._endpoint,
            self._on_message,
            identity=self._identity,
            keys=worker.keys,
            trace=worker.trace,
            on_lost=self._on_lost,
            # nobody listens there: the other node is asked, and takes the READY for a vote (P3)
            on_refused=self._on_lost if len(worker.nodes) > 1 else None,
            by_libzmq=worker.by_libzmq,
            watched=self._watched,
        )
        self._link.start()

    def _disconnect(self, linger_ms: int) -> None:
        if self._link is not None:
            self._link.close(linger_ms)
            self._link = None

    def _on_lost(self) -> None:
        self._perform(self._peer.lost(_now_ms()))

    def _on_message(self, frames: list[bytes]) -> None:
        self._perform(self._peer.receive(frames, _now_ms()))

    def _set_timer(self) -> None:
        """Wake at the next deadline; a timer that is due earlier stays and looks again."""
        at_ms = self._peer.next_deadline()
        if at_ms is None or (self._timer is not None and self._timer_at_ms <= at_ms):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at_ms = at_ms
        self._timer = self._loop.call_later(max(0, at_ms - _now_ms()) / 1000 + 0.001, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._perform(self._peer.on_tick(_now_ms()))

    # ---- the job at hand ----

    def _start(self, run: machine.Run) -> None:
        job = job_of(self._service, run.address, run.body, self._reporter(run.address))
        key = memory_key(job)
        self._job, self._key = job, key
        kept = recall(self._worker.memory, key)
        if kept is not None:
            self.finish(kept, "")
            return
        twin = self._worker.running.get(key) if key else None
        if twin is not None:  # redelivered while we still work on it: wait for that result
            twin.twins.append(self)
            return
        if key:
            self._worker.running[key] = self
        if self._is_async:
            self._task = self._loop.create_task(self._handler(job))
            self._task.add_done_callback(self._task_done)
            return
        if self._thread is None:
            self._thread = HandlerThread(self._handler, self._loop, self._done, self._service)
        self._thread.put(job)

    def _reporter(self, address: bytes) -> Callable[[bytes], None] | None:
        """What sends a PARTIAL of this attempt, from any thread, while it is the one at hand."""
        if self._worker.version == 1:
            return None

        def send(said: bytes) -> None:
            if self._job is not None and self._job.address == address:
                self._perform(self._peer.progress([said], _now_ms()))

        def report(said: bytes) -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed by an abort while the handler ran
                self._loop.call_soon_threadsafe(send, said)

        return report

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self._task = None
        if task.cancelled():
            self._done(None, AttemptFailedError("the attempt was given up"))
        else:
            error = task.exception()
            self._done(None if error else task.result(), error)

    def _done(self, result: object, error: BaseException | None) -> None:
        """The handler ended; in the loop's thread."""
        if self._aborted:
            return
        frames: Sequence[bytes] | None = None
        reason = reason_of(error) if error is not None else ""
        if error is not None:
            self._report(error, reason)
        else:
            assert isinstance(result, Sequence), "handlers are wrapped by core.shell.handling"
            frames = result
            if not self._worker.memory.blocking:
                remember(self._worker.memory, self._key, frames)
        self._worker.running.pop(self._key, None)
        twins, self.twins = self.twins, []
        self.finish(frames, reason, owed=not twins)
        for twin in twins:
            twin.finish(frames, reason, owed=twin is twins[-1])

    def finish(self, frames: Sequence[bytes] | None, reason: str, *, owed: bool = True) -> None:
        """The job at hand has this reply, or failed (None) for this reason; see WorkerPeer.finished."""
        self._job, self._key = None, b""
        if frames is None:
            self._worker.failed_count += 1
        else:
            self._worker.done_count += 1
        self._perform(self._peer.finished(frames, _now_ms(), reason=reason, owed=owed))

    def _report(self, error: BaseException, reason: str) -> None:
        job = self._job
        what = f"job {job.id} attempt {job.attempt}" if job is not None and job.id else "a request"
        _log.warning(
            "%s of %s failed: %s",
            what,
            self._service,
            reason,
            exc_info=None if isinstance(error, AttemptFailedError) else error,
        )
