"""``python -m bench broker``: this project's MDP broker beside one written the guide's way, in one run."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import msgspec

from bench.load import LoadResult, data_folder
from bench.mdp_load import Load
from bench.processes import free_port, process

ECHO = b"echo"
IN_FLIGHT = 100
WORKERS_COUNT = 4
MANY_WORKERS = 1_000
MANY_SERVICES = 10_000
IDLE_S = 20.0
CALM_S = 0.25
CALM_WAIT_S = 10.0
TRIES = 4
TICK = os.sysconf("SC_CLK_TCK")
GUIDE, FORWARDER, BROKER, NODE = "the guide's broker", "bare forwarder", "titanic broker", "titanic node"
"""The forwarder is no broker: it moves the same frames over pyzmq and does nothing else: the floor there."""


class Contender(msgspec.Struct):
    """A broker that runs."""

    name: str
    pid: int
    endpoint: str


class Cost(msgspec.Struct):
    """What the broker's process used for one message in and one out, in microseconds."""

    few_us: float
    many_us: float
    spread_us: float


def cpu_seconds(pid: int) -> float:
    """User and system time of the process so far, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def busy_seconds() -> float:
    """What all processors of the machine have done so far, kernel included."""
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:8]]
    user, nice, system, _, _, irq, softirq = fields
    return (user + nice + system + irq + softirq) / TICK


def calm(others_max: float) -> None:
    """Wait, for a while, until nobody else uses the machine."""
    deadline = time.monotonic() + CALM_WAIT_S
    while time.monotonic() < deadline:
        before = busy_seconds()
        time.sleep(CALM_S)
        if (busy_seconds() - before) / CALM_S <= others_max:
            return


def start(stack: ExitStack, names: Sequence[str]) -> list[Contender]:
    """Every broker, ready."""
    folder = data_folder()
    stack.callback(shutil.rmtree, folder)
    ours = [sys.executable, "-m", "gateway.cli"]
    found = []
    for name in names:
        endpoint = f"tcp://127.0.0.1:{free_port()}"
        argv = {
            GUIDE: [sys.executable, "-m", "bench.peers.guide_broker", endpoint],
            FORWARDER: [sys.executable, "-m", "bench.peers.forwarder", endpoint],
            BROKER: [*ours, "broker", "--bind", endpoint],
            NODE: [*ours, "node", "--broker", endpoint, "--data", str(folder / "data")],
        }[name]
        child = stack.enter_context(process(argv, lambda: True, folder / "log"))
        found.append(Contender(name, child.pid, endpoint))
    return found


@contextmanager
def load(contender: Contender, workers: int = WORKERS_COUNT) -> Iterator[Load]:
    """A client and workers of ``echo`` at this broker."""
    peers = Load(contender.endpoint, ECHO)
    try:
        peers.work(workers)
        peers.until_served()
        yield peers
    finally:
        peers.close()


class Rate(msgspec.Struct):
    """Throughput, and what the processor gave for it: µs per request of the broker's process and the load.

    ``others`` is what everything else on the machine took meanwhile, in cores.
    """

    per_second: float
    broker_us: float
    load_us: float
    others: float


def throughput(contender: Contender, seconds: float) -> Rate:
    """100 in flight, four workers."""
    with load(contender) as peers:
        used, ours, all_used = cpu_seconds(contender.pid), time.process_time(), busy_seconds()
        started = time.monotonic()
        result = peers.closed_loop(IN_FLIGHT, seconds)
        used, ours = cpu_seconds(contender.pid) - used, time.process_time() - ours
        others = (busy_seconds() - all_used - used - ours) / (time.monotonic() - started)
        count = result.per_second * seconds
        return Rate(result.per_second, used / count * 1e6, ours / count * 1e6, max(0.0, others))


def latency(contender: Contender, per_second: float, seconds: float) -> LoadResult:
    """Open-loop arrivals at this rate, four workers."""
    with load(contender) as peers:
        return peers.open_loop(per_second, seconds)


def cost(contender: Contender, seconds: float) -> Cost:
    """CPU per message with one service, beside 10,000 services and 1,000 workers, and spread over those."""

    def per_message(peers: Load) -> float:
        before = cpu_seconds(contender.pid)
        result = peers.closed_loop(IN_FLIGHT, seconds)
        used = cpu_seconds(contender.pid) - before
        return used / (result.per_second * seconds * 2) * 1e6

    with load(contender) as peers:
        few = per_message(peers)
        names = [b"service-%d" % number for number in range(MANY_SERVICES)]
        peers.stand_by(names[: MANY_WORKERS - WORKERS_COUNT])
        peers.wait_for(names[MANY_WORKERS - WORKERS_COUNT :])
        peers.until_served()
        many = per_message(peers)
    with load(contender, MANY_WORKERS) as peers:
        spread = per_message(peers)
    return Cost(few, many, spread)


def idle(contender: Contender) -> float:
    """Share of a core with 1,000 workers that only beat, in per cent."""
    with load(contender, 1) as peers:
        peers.stand_by([b"service-%d" % number for number in range(MANY_WORKERS - 1)])
        peers.until_served()
        _rest(peers, 3.0)
        before = cpu_seconds(contender.pid)
        _rest(peers, IDLE_S)
        return (cpu_seconds(contender.pid) - before) / IDLE_S * 100


def _rest(peers: Load, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        peers.turn(0.2, lambda _: None)


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Median, minimum and maximum."""
    return f"{median(values):,.{digits}f} ({min(values):,.{digits}f}-{max(values):,.{digits}f})"


def main(arguments: Sequence[str], machine: Callable[[], str]) -> None:
    """Parse, measure by turns, print."""
    parser = argparse.ArgumentParser(prog="python -m bench broker", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="counted rounds after one warm-up")
    parser.add_argument("--seconds", type=float, default=3, help="of each run")
    parser.add_argument(
        "--others",
        type=float,
        default=0.0,
        help="count only rounds in which everything else took less than this share of a core; wait for calm",
    )
    parser.add_argument("--short", action="store_true", help="throughput and latency only")
    parser.add_argument("--rest", action="store_true", help="the rest only")
    options = parser.parse_args(arguments)
    rates: dict[str, list[Rate]] = {}
    tails: dict[str, list[LoadResult]] = {}
    costs: list[Cost] = []
    with ExitStack() as stack:
        contenders = start(stack, (GUIDE, FORWARDER, BROKER, NODE))
        # The load keeps to one core from here on. Not before: children inherit it, and would share that core.
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        tries = 0 if options.rest else options.rounds * (TRIES if options.others else 1) + 1
        for number in range(tries):
            counted = len(rates.get(GUIDE, ()))
            if counted == options.rounds:
                break
            note(f"round {number}, {counted}/{options.rounds} counted")
            if options.others:
                calm(options.others)
            results = {one.name: throughput(one, options.seconds) for one in contenders}
            half = results[GUIDE].per_second / 2
            late = {one.name: latency(one, half, options.seconds) for one in contenders}
            disturbed = options.others and max(one.others for one in results.values()) > options.others
            for name, result in results.items() if number and not disturbed else ():
                rates.setdefault(name, []).append(result)
                tails.setdefault(name, []).append(late[name])
        for _ in range(0 if options.short else options.rounds):
            costs += [cost(contenders[2], options.seconds)]
        idles = [] if options.short else [idle(one) for one in contenders[2:]]
    note("")
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, {machine()}; {options.rounds} rounds of {options.seconds:g} s; "
        "256-byte bodies; client and workers in one process that keeps to one core\n"
    )
    print(report(rates, tails, costs, idles))


def report(
    rates: dict[str, list[Rate]],
    tails: dict[str, list[LoadResult]],
    costs: list[Cost],
    idles: list[float],
) -> str:
    """The tables in Markdown."""
    lines = [
        "| broker | requests/s | µs each: broker | load | at half: p50 ms | p99 ms | unanswered | others |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, values in rates.items():
        rate = spread([one.per_second for one in values])
        ours, load_us = (
            spread([one.broker_us for one in values], 1),
            spread([one.load_us for one in values], 1),
        )
        p50 = spread([result.p50_ms for result in tails[name]], 2)
        p99 = spread([result.p99_ms for result in tails[name]], 2)
        errors = sum(result.errors for result in tails[name])
        others = spread([one.others for one in values], 2)
        lines.append(f"| {name} | {rate} | {ours} | {load_us} | {p50} | {p99} | {errors} | {others} |")
    lines += ["", "| ratio | median (min-max) |", "|---|---|"]
    for name in (FORWARDER, BROKER, NODE) if rates else ():
        lines += ratios(name, rates, tails)
    if costs:
        lines += ["", "| cost of a message to `titanic broker`, all threads | µs |", "|---|---|"]
        for label, prices in (
            ("one service, 4 workers", [one.few_us for one in costs]),
            ("the same, beside 10,000 services and 996 idle workers", [one.many_us for one in costs]),
            ("one service, 1,000 workers in turn", [one.spread_us for one in costs]),
        ):
            lines.append(f"| {label} | {spread(prices, 1)} |")
    for name, share in zip((BROKER, NODE), idles, strict=False):
        lines.append(f"\n`{name}` with 1,000 idle workers: {share:.2f} % of a core.")
    return "\n".join(lines)


def ratios(name: str, rates: dict[str, list[Rate]], tails: dict[str, list[LoadResult]]) -> list[str]:
    """Formed round by round."""
    rows = []
    for other in (GUIDE, FORWARDER):
        if name != other:
            pairs = list(zip(rates[name], rates[other], strict=True))
            faster = spread([a.per_second / b.per_second for a, b in pairs], 2)
            rows.append(f"| requests/s, {name} ÷ {other} | {faster} |")
            saved = spread([b.broker_us / a.broker_us for a, b in pairs], 2)
            rows.append(f"| processor time a request, {other} ÷ {name} | {saved} |")
    lower = [b.p99_ms / a.p99_ms for a, b in zip(tails[name], tails[GUIDE], strict=True)]
    rows.append(f"| p99 at half the guide's rate, {GUIDE} ÷ {name} | {spread(lower, 2)} |")
    return rows


def note(text: str) -> None:
    """Where we are, on stderr."""
    print(f"\r{text:<40}", end="\n" if not text else "", file=sys.stderr, flush=True)
