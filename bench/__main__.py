"""``python -m bench``: run every contender in turn, several rounds, and print rates and ratios."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median

import zmq

from bench import broker, http, store
from bench.load import LoadResult
from core.compiled import BUILD

Results = dict[str, list[LoadResult]]


def machine() -> str:
    """What the figures were measured on."""
    import os

    model = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    packages = ", ".join(f"{name} {version(name)}" for name in ("uvicorn", "fastapi", "pyzmq", "uvloop"))
    return (
        f"{os.cpu_count()} cores ({model}), Linux {platform.release()}, Python {platform.python_version()}, "
        f"{packages}, libzmq {zmq.zmq_version()}; titanic {BUILD}"
    )


def measure(runs: dict[str, Callable[[], LoadResult]], rounds: int) -> Results:
    """Alternate: every contender once a round; the first round warms up and is thrown away."""
    results: Results = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            print(f"\rround {number}/{rounds}  {name:<40}", end="", file=sys.stderr, flush=True)
            result = run()
            if number:
                results[name].append(result)
    print("\r" + " " * 60 + "\r", end="", file=sys.stderr)
    return results


def _spread(values: list[float], digits: int) -> str:
    low, middle, high = min(values), median(values), max(values)
    return f"{middle:,.{digits}f} ({low:,.{digits}f}-{high:,.{digits}f})"


def table(results: Results) -> str:
    """Both tables in Markdown: figures, then ratios pair by pair."""
    lines = ["| what | per second | p50 ms | p99 ms | errors |", "|---|---|---|---|---|"]
    for name, runs in results.items():
        rate = _spread([run.per_second for run in runs], 0)
        p50 = _spread([run.p50_ms for run in runs], 3)
        p99 = _spread([run.p99_ms for run in runs], 2)
        lines.append(f"| {name} | {rate} | {p50} | {p99} | {sum(run.errors for run in runs)} |")
    lines += ["", "| ratio | median (min-max) |", "|---|---|"]
    for ours, theirs, kind in http.RATIOS:
        if ours not in results or theirs not in results:
            continue
        if kind == "rate":
            ratios = [
                a.per_second / b.per_second for a, b in zip(results[ours], results[theirs], strict=True)
            ]
            label = f"{ours} ÷ {theirs}"
        else:
            ratios = [a.p50_ms / b.p50_ms for a, b in zip(results[ours], results[theirs], strict=True)]
            label = f"{ours}, p50 ÷ {theirs}, p50"
        lines.append(f"| {label} | {_spread(ratios, 3)} |")
    return "\n".join(lines)


def main() -> None:
    """Parse, measure, print; ``--json FILE`` keeps the raw figures. ``broker`` and ``store`` are others."""
    if sys.argv[1:2] == ["broker"]:
        broker.main(sys.argv[2:], machine)
        return
    if sys.argv[1:2] == ["store"]:
        store.main(sys.argv[2:], machine)
        return
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*http.PARTS, []], help="of HTTP; without any: all")
    parser.add_argument("--rounds", type=int, default=5, help="counted rounds after one warm-up")
    parser.add_argument("--seconds", type=float, default=3, help="of each run")
    parser.add_argument("--json", type=Path, help="write every run's figures here")
    options = parser.parse_args()
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, {machine()}; {options.rounds} rounds of {options.seconds:g} s; "
        "256-byte bodies\n"
    )
    rows: dict[str, list[dict[str, float]]] = {}
    for part in options.parts or http.PARTS:
        with ExitStack() as stack:
            results = measure(http.PARTS[part](stack, options.seconds), options.rounds)
        print(f"### {part}\n\n{table(results)}\n", flush=True)
        rows |= {f"{part}: {name}": [vars_of(run) for run in runs] for name, runs in results.items()}
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "results": rows}, indent=1))


def vars_of(run: LoadResult) -> dict[str, float]:
    """One run as a JSON object."""
    return {"per_second": run.per_second, "p50_ms": run.p50_ms, "p99_ms": run.p99_ms, "errors": run.errors}


if __name__ == "__main__":
    main()
