"""What the commands say: facts on stdout, everything else on stderr."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import typer

PATIENCE_S: Final = 1.0
"""Nobody is told to wait before this."""

Verbose = Annotated[
    int, typer.Option("--verbose", "-v", count=True, help="Trace every message; twice: library logs too.")
]
Json = Annotated[bool, typer.Option("--json", help="Print facts as JSON.")]
File = Annotated[str, typer.Argument(help="File with the body; - is standard input.", metavar="[FILE|-]")]


def note(line: str) -> None:
    """A line for a person, on stderr."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def fact(line: str) -> None:
    """A line of result, on stdout."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def facts(values: Mapping[str, Any], as_json: bool, *, title: str = "") -> None:
    """Results on stdout: one JSON object on one line, or a small table."""
    if as_json:
        fact(json.dumps(values, separators=(",", ":"), default=str))
        return
    if title:
        fact(title)
    width = max(map(len, values), default=0)
    for key, value in values.items():
        fact(f"  {key.replace('_', ' '):{width}}  {value}")


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Rows on stdout under a line of titles; what there is not is a dash."""
    cells = [
        [name.replace("_", " ") for name in columns],
        *([_cell(row.get(name)) for name in columns] for row in rows),
    ]
    widths = [max(len(line[at]) for line in cells) for at in range(len(columns))]
    for line in cells:
        fact("  ".join(f"{text:{width}}" for text, width in zip(line, widths, strict=True)).rstrip())


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else " ".join(str(value).split()) or "-"


def raw(body: bytes) -> None:
    """Bytes as they are, on stdout; a terminal gets a line end if the bytes lack one."""
    sys.stdout.buffer.write(body)
    if sys.stdout.isatty() and not body.endswith(b"\n"):
        sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()


def read_body(file: str) -> bytes:
    """The whole of ``file``, or of standard input for ``-``."""
    return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()


def stamped(line: str) -> None:
    """A line on stderr with the time it was said."""
    now = time.time()
    stamp = time.strftime("%H:%M:%S", time.localtime(now))
    note(f"{stamp}.{int(now * 1000) % 1000:03d} {line}")


def start_logging(verbose: int, *, as_json: bool = False) -> None:
    """Library logs on stderr: what went wrong always, everything at ``-vv``. Only the first call counts."""
    level = logging.DEBUG if verbose >= 2 else logging.WARNING
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if as_json else logging.Formatter("%(asctime)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
    if as_json:
        logging.getLogger("titanic.access").setLevel(logging.INFO)


EXTRAS: Final = ("request_id", "method", "path", "route", "status", "ms", "key")
"""Attributes of a log record that become members of its JSON."""


class JsonLines(logging.Formatter):
    """One JSON object per record: time, level, logger, message, and what of :data:`EXTRAS` it has."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "at": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name in EXTRAS if (value := getattr(record, name, None)) is not None}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def tracer(verbose: int) -> Callable[[str], None] | None:
    """A sink for decoded messages, a line each; None when nobody asked for ``-v``."""
    start_logging(verbose)
    return stamped if verbose else None


@contextmanager
def patience(what: str) -> Iterator[Callable[[], None]]:
    """While the block runs longer than a second, a spinner with ``what`` turns on a terminal's stderr.

    Yields a callable that ends the spinner early.
    """
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console

    status = Console(stderr=True).status(what)
    timer = threading.Timer(PATIENCE_S, status.start)
    timer.daemon = True
    timer.start()

    def done() -> None:
        timer.cancel()
        timer.join()
        status.stop()

    try:
        yield done
    finally:
        done()
