"""What Prometheus may read: the counts of the gateway processes, and the node's from ``titanic.stats``.

Labels are bounded: the process, the route template, the method if it is a known one, the status, and the
first ``SERVICES_MAX`` services of the node. The counts are plain numbers that a collector makes into families
when it is asked; prometheus_client's own Counter and Histogram take a lock and cost microseconds each.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from core.pure.tsp import Stats
from gateway.http.guard import Guard
from gateway.http.hot import HotPath
from gateway.http.node import Node
from gateway.http.pair_metrics import pair_families
from gateway.http.settings import GatewaySettings
from gateway.http.shelf import Shelf
from gateway.http.waiting import Waits
from gateway.pure.counts import BUCKETS_S, Cell, Counts
from gateway.pure.node_views import NodeAnswer

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
SERVICES_MAX: Final = 200
UNMATCHED: Final = "unmatched"

_NAME: Final = re.compile(r"[^a-z0-9_]+")
_GAUGES: Final = {
    "requests_underway": "Requests being served.",
    "waits": "Long-polls under way.",
    "event_streams": "Event streams open.",
}
_COUNTERS: Final = {
    "submitted_bytes": "Body bytes of accepted jobs.",
    "submits_grouped": "Submits that travelled to the node in one message with others.",
    "submit_groups": "Messages with several submits.",
    "submit_repeats": "Submits sent again, under the same id.",
    "node_timeouts": "Calls that no node answered in time.",
    "failovers": "Times that calls went on at the other node of a pair.",
    "slow_senders": "Connections cut because their request did not arrive in time.",
    "requests_fast": "Requests that took the fast path (docs/decisions/0052).",
    "keys_refused": "Requests without a key that is known.",
    "cpu_seconds": "Processor time of the process.",
}


class Metrics(Collector):
    """Counts of this process; :meth:`render` is what ``GET /metrics`` answers."""

    def __init__(
        self, node: Node, hot: HotPath, waits: Waits, guard: Guard, settings: GatewaySettings
    ) -> None:
        self._node, self._hot, self._waits, self._guard = node, hot, waits, guard
        self._cells: dict[tuple[str, str, int], Cell] = {}
        self._stats: Stats | None = None
        self._pairs: Sequence[NodeAnswer] = ()
        self._process = settings.process
        self.shelf = Shelf(settings.metrics_dir, settings.process) if settings.metrics_dir else None
        self.underway_count = 0
        self.slow_count = 0
        self.fast_count = 0
        self._registry = CollectorRegistry()
        self._registry.register(self)
        if self.shelf is None:  # these speak of the process that is asked, and would be taken for all
            ProcessCollector(registry=self._registry)
            GCCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one finished request. ``route`` is a template, never a path as sent."""
        cell = self._cells.get((method, route, status))
        if cell is None:
            known = method if method in METHODS else "other"
            cell = self._cells.setdefault((known, route, status), Cell(known, route, status))
        cell.observe(seconds)

    def counts(self) -> Counts:
        """What this process has counted so far."""
        return Counts(
            self._process,
            list(self._cells.values()),
            {
                "requests_underway": self.underway_count,
                "waits": self._waits.count,
                "event_streams": self._waits.streams_count,
            },
            {
                "submitted_bytes": self._hot.submitted_bytes,
                "submits_grouped": self._node.coalescer.grouped_count,
                "submit_groups": self._node.coalescer.groups_count,
                "submit_repeats": self._node.repeats_count,
                "node_timeouts": self._node.unreachable_count,
                "failovers": self._node.failovers_count,
                "slow_senders": self.slow_count,
                "requests_fast": self.fast_count,
                "keys_refused": self._guard.refused_count,
                "cpu_seconds": time.process_time(),
            },
        )

    def render(self, stats: Stats | None, pairs: Sequence[NodeAnswer] = ()) -> bytes:
        """The exposition text; ``stats`` is what the node said just now, None if it said nothing.

        ``pairs`` is what both nodes of a pair said.
        """
        self._stats, self._pairs = stats, pairs
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client: called while :meth:`render` runs, and once empty at registration."""
        processes = [self.counts(), *(self.shelf.others() if self.shelf is not None else ())]
        processes.sort(key=lambda counts: counts.process)
        yield _requests(processes)
        for name, text in _GAUGES.items():
            gauge = GaugeMetricFamily(f"titanic_gateway_{name}", text, labels=("process",))
            for counts in processes:
                gauge.add_metric((str(counts.process),), counts.gauges.get(name, 0.0))
            yield gauge
        for name, text in _COUNTERS.items():
            counter = CounterMetricFamily(f"titanic_gateway_{name}", text, labels=("process",))
            for counts in processes:
                counter.add_metric((str(counts.process),), counts.counters.get(name, 0.0))
            yield counter
        up = int(self._stats is not None)
        yield GaugeMetricFamily("titanic_node_up", "1 if the node answered this scrape.", value=up)
        yield from pair_families(self._pairs)
        if self._stats is not None:
            yield from _of_node(self._stats)


def _requests(processes: list[Counts]) -> Metric:
    requests = HistogramMetricFamily(
        "titanic_gateway_request_seconds",
        "Time from request to last byte of the answer, long-polls included.",
        labels=("process", "method", "route", "status"),
    )
    for counts in processes:
        for cell in sorted(counts.cells, key=lambda cell: (cell.method, cell.route, cell.status)):
            total, buckets = 0, []
            for bound, count in zip((*map(str, BUCKETS_S), "+Inf"), cell.buckets, strict=True):
                total += count
                buckets.append((bound, total))
            labels = (str(counts.process), cell.method, cell.route, str(cell.status))
            requests.add_metric(labels, buckets, cell.seconds)
    return requests


def _words(name: str) -> str:
    """What the node calls it, as words."""
    return _plain(name).replace("_", " ").capitalize()


def _plain(name: str) -> str:
    return _NAME.sub("_", name.lower()).strip("_")


def _of_node(stats: Stats) -> Iterator[Metric]:
    for name, count in sorted(stats.counters.items()):
        text = f"{_words(name)}, since the node started."
        yield CounterMetricFamily(f"titanic_node_{_plain(name)}", text, value=count)
    for name, value in sorted(stats.gauges.items()):
        yield GaugeMetricFamily(f"titanic_node_{_plain(name)}", f"{_words(name)}, now.", value=value)
    shown = sorted(stats.services)[:SERVICES_MAX]
    omitted = len(stats.services) - len(shown)
    bound = "Services not shown here, to bound labels."
    yield GaugeMetricFamily("titanic_node_services_omitted", bound, value=omitted)
    jobs = GaugeMetricFamily("titanic_service", "Numbers of each service, now.", labels=("service", "what"))
    for service in shown:
        for what, count in sorted(stats.services[service].items()):
            jobs.add_metric((service, _plain(what)), count)
    yield jobs
