"""``titanic top``: services, workers, queues and rates of a node, live in the terminal."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from msgspec import structs

from core.errors import ServerUnreachableError
from core.pure import tsp
from core.shell.client import Client
from gateway.cli.console import Json, Verbose, fact, tracer
from gateway.cli.curve import CurveDir, client_keys
from gateway.cli.errors import CliError, ExitCode
from gateway.composition import settings as config
from gateway.pure import units

if TYPE_CHECKING:
    from rich.console import RenderableType

TIMEOUT_S: Final = 5.0
ROWS_SPARE: Final = 6
"""Lines of the terminal that are not rows: head, table frame, foot."""
COLUMNS: Final = (
    "service", "workers", "idle", "sched-\nuled", "queued", "running", "failed", "kept", "oldest", "in\n/min",
    "done\n/min", "lost\n/min",
)  # fmt: skip
PIPE_COLUMNS: Final = 300
"""How wide a line may be where nobody's terminal ends it: a service has its whole name."""


def top(
    nodes: Annotated[
        str | None,
        typer.Option(help="Where the node is [tcp://127.0.0.1:5555].", metavar="ENDPOINT[,ENDPOINT]"),
    ] = None,
    every: Annotated[str, typer.Option(help="Time between two looks.", metavar="DURATION")] = "1s",
    prefix: Annotated[str, typer.Option(help="Only services that begin so.", metavar="TEXT")] = "",
    once: Annotated[bool, typer.Option("--once", help="One look, then end.")] = False,
    curve_dir: CurveDir = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Watch the services of a node until Ctrl-C: busiest first.

    With --json every look is one line.
    """
    try:
        every_s = units.parse_duration_ms(every) / 1000
    except units.UnitError as error:
        raise CliError(f"--every: {error}", ExitCode.WRONG_USE) from None
    settings = config.load({"nodes": nodes, "curve_dir": curve_dir})
    endpoints, keys = settings.node_endpoints, client_keys(settings)
    watch = _watch_lines if as_json or once or not sys.stdout.isatty() else _watch_screen

    async def run() -> None:
        async with Client(endpoints, timeout_s=TIMEOUT_S, keys=keys, trace=tracer(verbose)) as client:
            await watch(client, prefix, every_s, once=once, as_json=as_json)

    asyncio.run(run())


async def _look(client: Client, prefix: str) -> tuple[tsp.Hello, tsp.Stats, list[tsp.ServiceRow]]:
    return await client.hello(), await client.stats(), await client.services(prefix)


async def _watch_lines(client: Client, prefix: str, every_s: float, *, once: bool, as_json: bool) -> None:
    """A look at a time on stdout: for scripts, pipes and ``--once``."""
    while True:
        hello, stats, rows = await _look(client, prefix)
        if as_json:
            fact(json.dumps(_facts(hello, stats, rows), separators=(",", ":")))
        else:
            from rich.console import Console

            console = Console(width=None if sys.stdout.isatty() else PIPE_COLUMNS)
            console.print(_screen(hello, stats, rows, len(rows)))
        if once:
            return
        await asyncio.sleep(every_s)


async def _watch_screen(client: Client, prefix: str, every_s: float, *, once: bool, as_json: bool) -> None:
    """The whole terminal; a node that is away is said and waited for."""
    del once, as_json
    from rich.live import Live
    from rich.text import Text

    with Live(Text("asking the node"), screen=True, auto_refresh=False) as live:
        while True:
            try:
                hello, stats, rows = await _look(client, prefix)
                shown = max(1, live.console.size.height - ROWS_SPARE)
                live.update(_screen(hello, stats, rows, shown), refresh=True)
            except ServerUnreachableError as error:
                live.update(Text(f"{error}"), refresh=True)
            await asyncio.sleep(every_s)


def _facts(hello: tsp.Hello, stats: tsp.Stats, rows: Sequence[tsp.ServiceRow]) -> dict[str, Any]:
    """One look as JSON."""
    return {
        "version": hello.version,
        "role": hello.role,
        "epoch": hello.epoch,
        "durability": hello.durability,
        "gauges": stats.gauges,
        "services": [structs.asdict(row) for row in rows],
    }


def _screen(hello: tsp.Hello, stats: tsp.Stats, rows: Sequence[tsp.ServiceRow], shown: int) -> RenderableType:
    """One look as text; the busiest ``shown`` services."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    now_ms = time.time_ns() // 1_000_000
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(COLUMNS[0], overflow="ellipsis")  # the one that gives way in a narrow terminal
    for name in COLUMNS[1:]:
        width = max(map(len, name.split("\n")))
        table.add_column(name, justify="right", vertical="bottom", no_wrap=True, min_width=width)
    for row in sorted(rows, key=_busy)[:shown]:
        table.add_row(*_cells(row, now_ms))
    up = units.format_duration(max(0, now_ms - hello.started_ms) // 1000 * 1000)
    head = (
        f"titanic {hello.version} {hello.role}, epoch {hello.epoch}, {hello.durability}, up {up}; "
        f"{stats.gauges.get('jobs_open', 0):.0f} jobs, {stats.gauges.get('attempts_running', 0):.0f} running"
    )
    hidden = len(rows) - shown
    return Group(Text(head), Text(""), table, Text(f"and {hidden} more" if hidden > 0 else ""))


def _busy(row: tsp.ServiceRow) -> tuple[float, float, str]:
    return -(row.queued + row.running), -row.accepted_per_minute, row.name


def _cells(row: tsp.ServiceRow, now_ms: int) -> list[str]:
    """The row as text, in the order of COLUMNS."""
    oldest = units.format_duration(max(0, now_ms - row.oldest_ms) // 1000 * 1000) if row.oldest_ms else "-"
    counts = (row.workers, row.workers_idle, row.scheduled, row.queued, row.running, row.failed)
    kept = row.succeeded + row.cancelled
    rates = (row.accepted_per_minute, row.succeeded_per_minute, row.failed_per_minute)
    name = f"{row.name} (paused)" if row.paused else row.name
    return [name, *map(str, counts), str(kept), oldest, *(f"{rate:.0f}" for rate in rates)]


def add_to(app: typer.Typer) -> None:
    """The command is in ``app``."""
    app.command(epilog="Example: titanic top --every 2s --prefix image")(top)
