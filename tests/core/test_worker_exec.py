"""Handlers of the command line, and the whole worker process under signals."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.pure.mdp import NOT_STARTED
from core.pure.worker_job import AttemptFailedError, WorkerJob, is_async, to_frames
from core.shell.exec_worker import HandlerNameError, echo_handler, exec_handler, python_handler
from tests.support.raw_router import RawRouter, until

BEAT = b"\x04"
JOB = WorkerJob("echo", [b"one two", b" three"], b"J", id="ab" * 16, attempt=7)


def do(handler: Callable[[WorkerJob], Any], job: WorkerJob = JOB) -> list[bytes]:
    if is_async(handler):
        return to_frames(asyncio.run(handler(job)))
    return to_frames(handler(job))


@pytest.mark.parametrize(
    ("cmd", "reason"),
    [
        ("exit 3", "^exit code 3$"),
        ("echo first >&2; echo ' last ' >&2; exit 1", "^exit code 1: last$"),
        ("kill -9 $$", "^killed by SIGKILL$"),
        ("no-such-command-here", "^exit code 127: .*not found"),
        ("printf '\\377\\n' >&2; false", "^exit code 1: \ufffd$"),
        ("cat /dev/zero", "longer than 1000000 bytes"),
    ],
)
def test_a_command_that_fails_says_why_in_one_line(cmd: str, reason: str) -> None:
    """Exit code or signal, and the last line of stderr; a reply without end is a failure too."""
    with pytest.raises(AttemptFailedError, match=reason):
        do(exec_handler(cmd, reply_max_bytes=1_000_000))


def test_the_body_is_stdin_and_stdout_the_reply() -> None:
    """All frames as one; id and attempt in the environment; a command need not read its stdin."""
    assert do(exec_handler("wc -w")) == [b"3\n"]
    assert do(exec_handler("echo $TITANIC_JOB_ID $TITANIC_ATTEMPT")) == [b"ab" * 16 + b" 7\n"]
    assert do(exec_handler("true"), WorkerJob("echo", [b"x" * 5_000_000], b"c")) == [b""]


def test_big_bodies_flow_both_ways_without_deadlock() -> None:
    """A command that writes while it reads, far beyond every pipe buffer, on stderr as well."""
    body = os.urandom(1 << 20) * 8
    assert do(exec_handler("tee /dev/null"), WorkerJob("echo", [body], b"c")) == [body]
    with pytest.raises(AttemptFailedError, match="exit code 1"):
        do(exec_handler("head -c 300000 /dev/zero | tr '\\0' 'e' >&2; false"))


def test_an_attempt_given_up_kills_the_whole_process_group(tmp_path: Path) -> None:
    """The shell and what it started."""
    pid_file = tmp_path / "pid"

    async def main() -> None:
        handler = exec_handler(f"sleep 600 & echo $! > {pid_file}; wait")
        task = asyncio.create_task(handler(JOB))
        await until(lambda: pid_file.exists() and pid_file.read_text().endswith("\n"))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        status = Path(f"/proc/{int(pid_file.read_text())}/stat")
        await until(lambda: not status.exists() or ") Z " in status.read_text())

    asyncio.run(main())


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "MODULE:FUNCTION"),
        ("module", "MODULE:FUNCTION"),
        (":function", "MODULE:FUNCTION"),
        ("no_such_module_x:function", "cannot import 'no_such_module_x': ModuleNotFoundError"),
        ("broken_handlers_x:function", "cannot import 'broken_handlers_x': SyntaxError"),
        ("json:no_such", "has no 'no_such'"),
        ("sys:maxsize", "not a function but int"),
    ],
)
def test_a_wrong_python_name_says_which_part_is_wrong(
    name: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One typed error before anything connects."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "broken_handlers_x.py").write_text("def (:\n")
    with pytest.raises(HandlerNameError, match=reason):
        python_handler(name)


def test_python_functions_are_found_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Functions of bytes, of a job, async ones, and methods."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "good_handlers_x.py").write_text(
        textwrap.dedent(
            """
            from core.shell.worker import WorkerJob
            def upper(body): return body.upper()
            def named(job: "WorkerJob") -> str: return f"{job.id} {job.attempt}"
            async def later(body: bytes) -> list[bytes]: return [body, body]
            class Tools:
                @staticmethod
                def lower(body: bytes) -> bytes: return body.lower()
            """
        )
    )
    assert do(python_handler("good_handlers_x:upper")) == [b"ONE TWO THREE"]
    assert do(python_handler("good_handlers_x:named")) == [b"ab" * 16 + b" 7"]
    assert do(python_handler("good_handlers_x:later")) == [b"one two three"] * 2
    assert do(python_handler("good_handlers_x:Tools.lower")) == [b"one two three"]
    assert do(echo_handler) == [b"one two", b" three"]


def start(endpoint: str, handler: str) -> subprocess.Popen[str]:
    code = f"""
        import sys
        from core.shell.exec_worker import *
        sys.exit(run_worker("echo", {handler}, ["{endpoint}"], trace=lambda line: print(line, flush=True)))
    """
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def begun(broker: RawRouter) -> bytes:
    """The worker has said READY and been given a job."""
    identity, *frames = await broker.receive_but(BEAT)
    assert frames == [b"", b"MDPW01", b"\x01", b"echo"]
    broker.send(identity, b"", b"MDPW01", b"\x02", b"client", b"", b"hi")
    return identity


async def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = await asyncio.to_thread(process.communicate, timeout=20)
    return process.returncode, out, err


def test_sigterm_finishes_the_job_at_hand_and_exits_0(tmp_path: Path) -> None:
    """The reply arrives, then DISCONNECT; the trace shows the dialogue decoded."""
    go, at_work = tmp_path / "go", tmp_path / "at_work"

    async def main() -> None:
        with RawRouter() as broker:
            command = f"touch {at_work}; until [ -e {go} ]; do sleep 0.01; done; cat"
            process = start(broker.endpoint, f"exec_handler('{command}')")
            try:
                await begun(broker)
                await until(at_work.exists)
                process.send_signal(signal.SIGTERM)
                assert process.poll() is None
                go.touch()
                assert (await broker.receive_but(BEAT))[3:] == [b"\x03", b"client", b"", b"hi"]
                assert (await broker.receive_but(BEAT))[3:] == [b"\x05", NOT_STARTED.encode()]
                code, out, err = await ended(process)
            finally:
                process.kill()
                process.communicate()
            assert (code, err) == (0, "finishing the work at hand; a second signal aborts it\n")
            lines = out.splitlines()
            assert lines[0].startswith("> MDPW01 READY")
            assert any(line.startswith("< MDPW01 REQUEST") for line in lines)
            assert any(line.startswith("> MDPW01 REPLY") for line in lines)
            assert lines[-1].startswith("> MDPW01 DISCONNECT")

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["exec", "thread"])
def test_the_second_signal_aborts_whatever_is_at_hand(kind: str, tmp_path: Path) -> None:
    """A command is killed with its group, a thread abandoned; exit code 1."""
    at_work = tmp_path / "at_work"
    handler = (
        f"exec_handler('echo $$ > {at_work}; sleep 600')"
        if kind == "exec"
        else f"lambda job: (open('{at_work}', 'w').write('1\\n'), __import__('time').sleep(600))"
    )

    async def main() -> None:
        with RawRouter() as broker:
            process = start(broker.endpoint, handler)
            try:
                await begun(broker)
                await until(lambda: at_work.exists() and at_work.read_text().endswith("\n"))
                process.send_signal(signal.SIGINT)
                assert process.stderr is not None
                assert "a second signal aborts" in await asyncio.to_thread(process.stderr.readline)
                process.send_signal(signal.SIGINT)
                code, _, err = await ended(process)
            finally:
                process.kill()
                process.communicate()
            assert (code, err) == (1, "")
            if kind == "exec":
                status = Path(f"/proc/{int(at_work.read_text())}/stat")
                await until(lambda: not status.exists() or ") Z " in status.read_text())

    asyncio.run(main())
