"""What Prometheus may read: the gateway's own counts, and the node's from ``titanic.stats``.

Labels are bounded: the route template, the method if it is a known one, the status, and the first
``SERVICES_MAX`` services of the node. The counts are plain numbers that a collector turns into families when
it is asked; prometheus_client's own Counter and Histogram take a lock and cost several microseconds each.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from core.pure.tsp import Stats
from gateway.http.hot import HotPath
from gateway.http.node import Node
from gateway.http.waiting import Waits

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
BUCKETS_S: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
SERVICES_MAX: Final = 200
UNMATCHED: Final = "unmatched"

_NAME: Final = re.compile(r"[^a-z0-9_]+")


class _Cell:
    """One (method, route, status): how often, how long, and in which buckets."""

    __slots__ = ("buckets", "seconds")

    def __init__(self) -> None:
        self.buckets = [0] * (len(BUCKETS_S) + 1)
        self.seconds = 0.0


class Metrics(Collector):
    """Counts of this process; :meth:`render` is what ``GET /metrics`` answers."""

    def __init__(self, node: Node, hot: HotPath, waits: Waits) -> None:
        self._node, self._hot, self._waits = node, hot, waits
        self._cells: dict[tuple[str, str, int], _Cell] = {}
        self._stats: Stats | None = None
        self.underway_count = 0
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one finished request. ``route`` is a template, never a path as sent."""
        cell = self._cells.get((method, route, status))
        if cell is None:
            known = method if method in METHODS else "other"
            cell = self._cells.setdefault((known, route, status), _Cell())
        cell.seconds += seconds
        cell.buckets[bisect_left(BUCKETS_S, seconds)] += 1

    def render(self, stats: Stats | None) -> bytes:
        """The exposition text; ``stats`` is what the node said just now, None if it said nothing."""
        self._stats = stats
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client: called while :meth:`render` runs, and once empty at registration."""
        yield from self._requests()
        yield _gauge("titanic_gateway_requests_underway", "Requests being served.", self.underway_count)
        yield _gauge("titanic_gateway_waits", "Long-polls under way.", self._waits.count)
        yield CounterMetricFamily(
            "titanic_gateway_submitted_bytes", "Body bytes of accepted jobs.", value=self._hot.submitted_bytes
        )
        yield CounterMetricFamily(
            "titanic_gateway_submit_repeats",
            "Submits sent again, under the same id.",
            value=self._node.repeats_count,
        )
        yield CounterMetricFamily(
            "titanic_gateway_node_timeouts",
            "Calls that no node answered in time.",
            value=self._node.unreachable_count,
        )
        yield _gauge("titanic_node_up", "1 if the node answered this scrape.", int(self._stats is not None))
        if self._stats is not None:
            yield from _of_node(self._stats)

    def _requests(self) -> Iterator[Metric]:
        requests = HistogramMetricFamily(
            "titanic_gateway_request_seconds",
            "Time from request to last byte of the answer, long-polls included.",
            labels=("method", "route", "status"),
        )
        for (method, route, status), cell in sorted(self._cells.items()):
            total, buckets = 0, []
            for bound, count in zip((*map(str, BUCKETS_S), "+Inf"), cell.buckets, strict=True):
                total += count
                buckets.append((bound, total))
            requests.add_metric((method, route, str(status)), buckets, cell.seconds)
        yield requests


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _plain(name: str) -> str:
    return _NAME.sub("_", name.lower()).strip("_")


def _of_node(stats: Stats) -> Iterator[Metric]:
    for name, count in sorted(stats.counters.items()):
        yield CounterMetricFamily(f"titanic_node_{_plain(name)}", "See the node's reference.", value=count)
    for name, value in sorted(stats.gauges.items()):
        yield _gauge(f"titanic_node_{_plain(name)}", "See the node's reference.", value)
    shown = sorted(stats.services)[:SERVICES_MAX]
    omitted = len(stats.services) - len(shown)
    yield _gauge("titanic_node_services_omitted", "Services not shown here, to bound labels.", omitted)
    jobs = GaugeMetricFamily("titanic_service", "Numbers of each service, now.", labels=("service", "what"))
    for service in shown:
        for what, count in sorted(stats.services[service].items()):
            jobs.add_metric((service, _plain(what)), count)
    yield jobs
