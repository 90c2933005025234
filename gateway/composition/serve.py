"""``titanic serve``: one node and one gateway as child processes, started, watched and stopped together.

With ``--pair`` two nodes, see serve_pair.py.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.composition.leash import LEASH_VARIABLE
from gateway.composition.settings import Settings, refuse_open_address
from gateway.http.server import bind
from gateway.http.settings import GatewaySettings
from gateway.pure import units

STOP_MS: Final = 15_000
"""A child that has not stopped by then is killed, and that is said."""
READY_MS: Final = 30_000
"""How long a gateway that listens may take to reach its node."""
READY_POLL_MS: Final = 50
LINE_MAX_BYTES: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Program:
    """A child to run: a name for people and the arguments of ``titanic``."""

    name: str
    arguments: Sequence[str]


@dataclass(slots=True)
class Child:
    """A running program. ``ready`` holds the facts it printed once it served."""

    name: str
    process: asyncio.subprocess.Process
    leash_fd: int
    ready: dict[str, Any] = field(default_factory=dict)


class ChildEndedError(Exception):
    """A child ended that should serve; its own line on stderr says why if it ended before it was ready."""

    def __init__(self, child: Child, status: int) -> None:
        how = f"exit code {status}" if status >= 0 else f"signal {signal.Signals(-status).name}"
        super().__init__(f"the {child.name} ended with {how}")
        self.child = child
        self.said_why = not child.ready and status > 0
        self.code = status if status > 0 else 1


def node_program(settings: Settings, verbose: int) -> Program:
    """The node of these settings."""
    flags = {
        "--data": str(settings.data),
        "--broker": settings.broker,
        "--fsync": settings.fsync,
        "--store-max": units.format_size(settings.store_max),
        "--max-body": units.format_size(settings.max_body),
        "--retention": units.format_duration(settings.retention),
        "--dead-letter-retention": units.format_duration(settings.dead_letter_retention),
        "--attempts": str(settings.attempts),
        "--attempt-timeout": units.format_duration(settings.attempt_timeout),
        "--key-lifetime": units.format_duration(settings.key_lifetime),
    }
    more = [*["--accept-loss"] * settings.accept_loss, *["--network-fs"] * settings.network_fs]
    return Program("node", ["node", *_flags(flags, settings, verbose), *more])


def gateway_program(
    settings: Settings, nodes: str, verbose: int, http: str, process: int = 0, metrics: str = ""
) -> Program:
    """The gateway number ``process`` of these settings, at ``http`` and for ``nodes``."""
    flags = {
        "--nodes": nodes,
        "--http": http,
        "--max-body": units.format_size(settings.max_body),
        "--keys": str(settings.keys_file),
        "--gateways": str(settings.gateways),
        "--request-deadline": units.format_duration(settings.request_deadline),
        "--log-format": settings.log_format,
        "--failover-wait": units.format_duration(settings.failover_wait),
    }
    if settings.tls_cert is not None and settings.tls_key is not None:
        flags |= {"--tls-cert": str(settings.tls_cert), "--tls-key": str(settings.tls_key)}
    if settings.cors_origins:
        flags["--cors-origins"] = ",".join(settings.cors_origins)
    if settings.callback_allow:
        flags["--callback-allow"] = ",".join(settings.callback_allow)
    if metrics:
        flags |= {"--process": str(process), "--metrics-dir": metrics}
    name = f"gateway {process}" if settings.gateways > 1 else "gateway"
    return Program(name, ["gateway", *_flags(flags, settings, verbose)])


@contextmanager
def shared_port(settings: Settings) -> Iterator[tuple[str, str]]:
    """(the address of all gateways, a folder for their counts) while they run; nothing special for one.

    The port is kept bound here, so that a port that was chosen by the system stays the same for all. The
    gateways share it with SO_REUSEPORT: the kernel spreads connections over them by their addresses.
    """
    if settings.gateways == 1:
        yield settings.http, ""
        return
    host, port = units.parse_host_port(settings.http)
    http = GatewaySettings(http_host=host, http_port=port, shares_port=True)
    with bind(http, listen=False) as reserved, tempfile.TemporaryDirectory(prefix="titanic-") as metrics:
        yield units.format_host_port(host, reserved.getsockname()[1]), metrics


def _flags(flags: Mapping[str, str], settings: Settings, verbose: int) -> list[str]:
    pairs = [part for flag, value in flags.items() for part in (flag, value)]
    if settings.curve_dir is not None:
        pairs += ["--curve-dir", str(settings.curve_dir)]
    return [*pairs, "--json", *["--insecure"] * settings.insecure, *["--verbose"] * verbose]


class Supervisor:
    """Starts programs one after the other and stops them in reverse; none of them outlives this process."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._children: list[Child] = []

    async def restart(self, ended: Child, program: Program) -> Child:
        """See :meth:`start`; in the place of a child that has ended."""
        assert ended.process.returncode is not None, "what runs is not replaced"
        return await self.start(program, instead_of=ended)

    async def start(self, program: Program, *, instead_of: Child | None = None) -> Child:
        """The child, once it printed its ready line. Raises ChildEndedError if it never does."""
        reading_fd, leash_fd = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "gateway.cli", *program.arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                env={**os.environ, LEASH_VARIABLE: str(reading_fd)},
                pass_fds=(reading_fd,),
                start_new_session=True,  # a Ctrl-C reaches this process only, which then stops in order
                limit=LINE_MAX_BYTES,
            )
        finally:
            os.close(reading_fd)
        child = Child(program.name, process, leash_fd)
        if instead_of in self._children:
            os.close(instead_of.leash_fd)
            self._children[self._children.index(instead_of)] = child
        else:
            self._children.append(child)
        assert process.stdout is not None
        line = await process.stdout.readline()
        if not line:
            raise ChildEndedError(child, await process.wait())
        child.ready = json.loads(line)
        return child

    async def watch(self) -> None:
        """Never returns; raises ChildEndedError as soon as any child ends."""
        waits = {asyncio.ensure_future(child.process.wait()): child for child in self._children}
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        first = next(iter(done))
        raise ChildEndedError(waits[first], first.result())

    async def stop(self) -> None:
        """Every child has ended: asked with SIGTERM, last started first, and killed if it does not."""
        for child in reversed(self._children):
            await self._stop_one(child)
            os.close(child.leash_fd)
        self._children.clear()

    async def _stop_one(self, child: Child) -> None:
        if child.process.returncode is not None:
            return
        child.process.terminate()
        try:
            await asyncio.wait_for(child.process.wait(), STOP_MS / 1000)
        except TimeoutError:
            self._note(f"the {child.name} did not stop within {units.format_duration(STOP_MS)}; killing it")
            child.process.kill()
            await child.process.wait()


async def until_ready(url: str) -> None:
    """``/readyz`` answered 200. Raises TimeoutError with the last answer when it does not in time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + READY_MS / 1000
    while (answer := await asyncio.to_thread(_probe, f"{url}/readyz")) is not None:
        if loop.time() > deadline:
            raise TimeoutError(f"{url}/readyz is not ready after {units.format_duration(READY_MS)}: {answer}")
        await asyncio.sleep(READY_POLL_MS / 1000)


def _probe(url: str) -> str | None:
    """None if ``url`` answers 200, else what it says instead."""
    try:
        # Our own URL on this machine: the question is whether it answers, not who it is.
        context = ssl._create_unverified_context() if url.startswith("https:") else None  # noqa: S323, SLF001
        with urllib.request.urlopen(url, timeout=2, context=context) as answer:  # noqa: S310
            return None if answer.status == 200 else f"status {answer.status}"
    except urllib.error.HTTPError as error:
        with error:
            return f"status {error.code}"
    except OSError as error:
        return str(error)


async def serve(
    settings: Settings,
    *,
    verbose: int = 0,
    more: Sequence[Callable[[dict[str, Any]], Program]] = (),
    note: Callable[[str], None],
    ready: Callable[[dict[str, Any]], None],
) -> int:
    """Run until SIGTERM, SIGINT or the end of a child; the exit code.

    ``more`` are further programs, made from the facts once ``/readyz`` is 200; ``ready`` is called
    with the facts when everything runs. Raises SettingsError before anything is started.
    """
    has_api_keys = settings.keys_file.exists()
    refuse_open_address("http", settings.http, insecure=settings.insecure, curve=has_api_keys)
    has_keys = settings.curve_dir is not None
    refuse_open_address("broker", settings.broker, insecure=settings.insecure, curve=has_keys)
    supervisor = Supervisor(note)
    work = asyncio.ensure_future(_run_sharing(supervisor, settings, verbose, more, ready, note))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, work.cancel)
    try:
        await work
    except asyncio.CancelledError:
        note("stopping")
        code = 0
    except ChildEndedError as error:
        if not error.said_why:
            note(f"{error}; stopping the rest")
        code = error.code
    except TimeoutError as error:
        note(str(error))
        code = 1
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, lambda: note("still stopping; please wait"))
    await supervisor.stop()
    if code == 0:
        note("stopped")
    return code


async def _run_sharing(
    supervisor: Supervisor,
    settings: Settings,
    verbose: int,
    more: Sequence[Callable[[dict[str, Any]], Program]],
    ready: Callable[[dict[str, Any]], None],
    note: Callable[[str], None],
) -> None:
    from gateway.composition import serve_pair

    if not settings.pair:
        serve_pair.refuse_pairs_folder(settings)
    with shared_port(settings) as (http, metrics):
        if settings.pair:
            await serve_pair.run_pair(supervisor, settings, verbose, note, ready, http=http, metrics=metrics)
        else:
            await _run(supervisor, settings, verbose, more, ready, http=http, metrics=metrics)


async def _run(
    supervisor: Supervisor,
    settings: Settings,
    verbose: int,
    more: Sequence[Callable[[dict[str, Any]], Program]],
    ready: Callable[[dict[str, Any]], None],
    *,
    http: str,
    metrics: str,
) -> None:
    node = await supervisor.start(node_program(settings, verbose))
    facts = dict(node.ready)
    for process in range(settings.gateways):
        program = gateway_program(settings, node.ready["broker"], verbose, http, process, metrics)
        facts |= (await supervisor.start(program)).ready
    watch = asyncio.ensure_future(supervisor.watch())
    probe = asyncio.ensure_future(until_ready(facts["http"]))
    try:
        await asyncio.wait((watch, probe), return_when=asyncio.FIRST_COMPLETED)
        if watch.done():
            watch.result()
        await probe
    finally:
        probe.cancel()
        watch.cancel()
    for make in more:
        await supervisor.start(make(facts))
    ready(facts)
    await supervisor.watch()
