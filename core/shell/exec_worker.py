"""Handlers for the command line: a shell command, a Python function, an echo; and the worker around them."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from core.errors import CoreError
from core.pure.worker_job import AttemptFailedError, Handler, Memory, WorkerJob, adapt
from core.shell.curve import ClientKeys
from core.shell.link import TraceLine
from core.shell.worker import Worker

REPLY_MAX_BYTES: Final = 256 * 1024 * 1024
STDERR_KEPT_BYTES: Final = 4096
DISCARD_S: Final = 1.0
READ_BYTES: Final = 256 * 1024


class HandlerNameError(CoreError):
    """There is no such function; the message says which part of MODULE:FUNCTION is wrong."""


async def echo_handler(job: WorkerJob) -> Sequence[bytes]:
    """The reply is the request."""
    return job.frames


def exec_handler(cmd: str, *, reply_max_bytes: int = REPLY_MAX_BYTES) -> Handler:
    """A handler that runs the shell command ``cmd`` for each job.

    The body is its stdin and its stdout the reply; ``TITANIC_JOB_ID`` (empty for a plain request) and
    ``TITANIC_ATTEMPT`` are in its environment, and ``TRACEPARENT`` if the job has one. A non-zero exit, a
    signal or a reply over the limit is a failed attempt with the last line of stderr as reason; stderr also
    goes to ours. The command is the leader of its own process group, which is killed when the attempt is
    given up.
    """

    async def run(job: WorkerJob) -> bytes:
        process = await _start(cmd, job)
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        tasks = (
            asyncio.create_task(_read_reply(process.stdout, reply_max_bytes)),
            asyncio.create_task(_read_stderr(process.stderr)),
            asyncio.create_task(_feed(process.stdin, job.frames)),
        )
        try:
            reply, complaint, _ = await asyncio.gather(*tasks)
            code = await process.wait()
        except BaseException:
            _kill_group(process.pid)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            process.stdin.close()
            await asyncio.gather(_discard(process.stdout), _discard(process.stderr))
            with contextlib.suppress(TimeoutError):  # it ends with its pipes, which something may still hold
                await asyncio.wait_for(process.wait(), DISCARD_S)
            raise
        if code:
            raise AttemptFailedError(_exit_reason(code, complaint))
        return reply

    return run


async def _start(cmd: str, job: WorkerJob) -> asyncio.subprocess.Process:
    """The command in a session of its own.

    Cancelled halfway, asyncio would wait for ever for pipes it had not yet connected, and would kill the
    shell without its children: so starting is seen through, and what was started is killed.
    """
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_shell(
            cmd,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **_variables(job)},
            start_new_session=True,
        )
    )
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        process = await starting
        _kill_group(process.pid)
        await process.communicate()
        raise


def _variables(job: WorkerJob) -> dict[str, str]:
    """What the command may know besides the body."""
    found = {"TITANIC_JOB_ID": job.id, "TITANIC_ATTEMPT": str(job.attempt)}
    return {**found, "TRACEPARENT": job.traceparent} if job.traceparent else found


async def _feed(stdin: asyncio.StreamWriter, frames: Sequence[bytes]) -> None:
    """Write the body; a command need not read it."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        for frame in frames:
            stdin.write(frame)
            await stdin.drain()
    stdin.close()  # not awaited: cancelling wait_closed() would cancel a future asyncio itself still sets


async def _read_reply(stdout: asyncio.StreamReader, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    size_bytes = 0
    while part := await stdout.read(READ_BYTES):
        size_bytes += len(part)
        if size_bytes > max_bytes:
            raise AttemptFailedError(f"the reply is longer than {max_bytes} bytes")
        parts.append(part)
    return b"".join(parts)


async def _discard(stream: asyncio.StreamReader) -> None:
    """Read to the end, soon there for a killed group, unless something that left it holds the pipe."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DISCARD_S):
            while await stream.read(READ_BYTES):
                pass


async def _read_stderr(stderr: asyncio.StreamReader) -> bytes:
    """The end of what the command complained; all of it goes on to our stderr."""
    tail = b""
    while part := await stderr.read(READ_BYTES):
        sys.stderr.write(part.decode("utf-8", "replace"))
        sys.stderr.flush()
        tail = (tail + part)[-STDERR_KEPT_BYTES:]
    return tail


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _exit_reason(code: int, complaint: bytes) -> str:
    if code < 0:
        try:
            what = f"killed by {signal.Signals(-code).name}"
        except ValueError:
            what = f"killed by signal {-code}"
    else:
        what = f"exit code {code}"
    lines = complaint.decode("utf-8", "replace").strip().splitlines()
    return f"{what}: {lines[-1].strip()}" if lines else what


def python_handler(name: str) -> Handler:
    """The function named ``module:function``, found from the working directory as well.

    It gets the body as bytes, or the :class:`WorkerJob` if annotated so. Raises HandlerNameError.
    """
    module_name, colon, function_name = name.partition(":")
    if not (module_name and colon and function_name):
        raise HandlerNameError(f"{name!r} is not of the form MODULE:FUNCTION")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: object = importlib.import_module(module_name)
    except Exception as error:
        raise HandlerNameError(f"cannot import {module_name!r}: {type(error).__name__}: {error}") from error
    for part in function_name.split("."):
        if not hasattr(found, part):
            raise HandlerNameError(f"module {module_name!r} has no {function_name!r}")
        found = getattr(found, part)
    if not callable(found):
        raise HandlerNameError(f"{name!r} is not a function but {type(found).__name__}")
    return adapt(found)


def run_worker(
    service: str,
    handler: Handler,
    nodes: Sequence[str],
    concurrency: int = 1,
    identity: str = "",
    trace: TraceLine | None = None,
    keys: ClientKeys | None = None,
    *,
    version: int = 1,
    memory: Memory | None = None,
    by_libzmq: bool = False,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> int:
    """Serve until SIGTERM or SIGINT; 0 after the jobs at hand are finished, 1 if aborted by a second signal.

    Raises ValueError for an endpoint, a name or a number that cannot be.
    """
    worker = Worker(
        nodes,
        concurrency=concurrency,
        identity=identity,
        version=version,
        memory=memory,
        keys=keys,
        trace=trace,
        by_libzmq=by_libzmq,
    )
    worker.add(service, handler)
    return worker.run(loop_factory)
