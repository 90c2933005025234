"""What Prometheus may read of a pair: both nodes, as each says itself, so that one may be gone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from core.pure.pair import State
from core.pure.pair_heads import PairStatus
from gateway.pure.node_views import NodeAnswer

_GAUGES: Final = {
    "active": "1 if this node serves.",
    "in_sync": "1 if it holds every acknowledged job, as far as it can know.",
    "epoch": "The epoch it is in.",
    "sequence": "The last record of its journal.",
    "lag_records": "Records that its follower is not known to have on disk; -1: no follower counts.",
    "held_answers": "Answers that wait for the other disk.",
    "link_up": "1 if its connection to the other node is there.",
    "peer_heard_seconds": "Since it heard of the other node; -1: never.",
}


def pair_families(answers: Sequence[NodeAnswer]) -> Iterator[Metric]:
    """Families with the label ``node``: primary or backup. Nothing for a single node."""
    pairs = [answer.pair for answer in answers if answer.pair is not None]
    if not pairs:
        return
    up = GaugeMetricFamily("titanic_pair_up", "1 if the node answered this scrape.", labels=("endpoint",))
    for answer in answers:
        up.add_metric((answer.endpoint,), int(answer.hello is not None))
    yield up
    for name, text in _GAUGES.items():
        gauge = GaugeMetricFamily(f"titanic_pair_{name}", text, labels=("node",))
        for pair in pairs:
            gauge.add_metric((pair.role,), _values(pair)[name])
        yield gauge
    yield from _steps(pairs)


def _values(pair: PairStatus) -> dict[str, float]:
    return {
        "active": int(pair.active),
        "in_sync": int(pair.in_sync),
        "epoch": pair.epoch,
        "sequence": pair.last_seq,
        "lag_records": pair.lag,
        "held_answers": pair.held,
        "link_up": int(pair.peer_up),
        "peer_heard_seconds": pair.peer_heard_ms / 1000 if pair.peer_heard_ms >= 0 else -1,
    }


def _steps(pairs: Sequence[PairStatus]) -> Iterator[Metric]:
    state = GaugeMetricFamily("titanic_pair_state", "1 for the state it is in.", labels=("node", "state"))
    changes = CounterMetricFamily(
        "titanic_pair_state_changes", "Changes of state since its start, by cause.", labels=("node", "cause")
    )
    failovers = CounterMetricFamily(
        "titanic_pair_failovers", "Times that it became active since its start.", labels=("node",)
    )
    for pair in pairs:
        for each in State:
            state.add_metric((pair.role, each.value), int(pair.state == each.value))
        for cause, count in sorted(pair.causes.items()):
            changes.add_metric((pair.role, cause), count)
        failovers.add_metric((pair.role,), pair.counters.get("pair_takeovers", 0))
    yield from (state, changes, failovers)
