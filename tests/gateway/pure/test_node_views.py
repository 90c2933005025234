"""What ``/v1/nodes`` says of a pair: both sides, whoever answers."""

from typing import Any

import msgspec

from core.pure.pair_heads import PairStatus
from core.pure.tsp import Hello
from gateway.pure.node_views import NodeAnswer, nodes_view

HELLO = Hello("1", "active", 4, True, "", "replicated", b"", 1, 1_000, 7)
ACTIVE = PairStatus(
    role="primary", state="paired", epoch=4, last_seq=100, durable_seq=100, lag=3, outdated=False,
    why="stored", replication="sync", held=0, peer="tcp://b:5600", peer_up=True, peer_state="passive",
    peer_heard_ms=12, merged={}, changes=(), broker="tcp://a:5555", active=True, in_sync=True,
    peer_epoch=4, peer_seq=97,
    peer_broker="tcp://b:5555",
)  # fmt: skip
PASSIVE = msgspec.structs.replace(
    ACTIVE, role="backup", state="passive", last_seq=97, lag=-1, peer_state="paired", broker="tcp://b:5555",
    active=False, peer_seq=100, peer_broker="tcp://a:5555",
)  # fmt: skip


def rows(*answers: NodeAnswer) -> list[dict[str, Any]]:
    return nodes_view(answers)


def answer(status: PairStatus) -> NodeAnswer:
    role = "active" if status.active else "passive"
    hello = msgspec.structs.replace(HELLO, role=role, ready=status.active)
    return NodeAnswer(status.broker, hello, status)


def test_both_nodes_answer() -> None:
    """The lag stands at the node that lags; the active one has none."""
    active, passive = rows(answer(ACTIVE), answer(PASSIVE))
    assert [active[key] for key in ("name", "role", "state", "lag", "in_sync")] == [
        "primary", "active", "paired", 0, True,
    ]  # fmt: skip
    assert [passive[key] for key in ("name", "role", "state", "lag", "in_sync")] == [
        "backup", "passive", "passive", 3, True,
    ]  # fmt: skip
    assert active["reachable"] is passive["reachable"] is True


def test_a_node_that_joins_is_not_in_sync() -> None:
    """Its lag is what its own journal is short of while the active does not count it yet."""
    joining = msgspec.structs.replace(PASSIVE, state="joining", in_sync=False, last_seq=40)
    alone = msgspec.structs.replace(ACTIVE, state="alone", lag=-1)
    _, row = rows(answer(alone), answer(joining))
    assert (row["lag"], row["in_sync"]) == (60, False)


def test_a_silent_node_is_told_as_its_peer_saw_it() -> None:
    """Name, state, epoch and sequence from the last beat; in sync only if the active says so."""
    _, row = rows(answer(ACTIVE), NodeAnswer("tcp://b:5555", error="no answer in time"))
    assert [row[key] for key in ("name", "reachable", "role", "state", "sequence", "in_sync")] == [
        "backup", False, "unknown", "passive", 97, True,
    ]  # fmt: skip
    assert (row["reason"], row["heard_ms_ago"]) == ("no answer in time", 12)
    alone = msgspec.structs.replace(ACTIVE, state="alone", lag=-1)
    assert rows(answer(alone), NodeAnswer("tcp://b:5555", error="gone"))[1]["in_sync"] is False
    held = msgspec.structs.replace(ACTIVE, state="suspended")
    assert rows(answer(held), NodeAnswer("tcp://b:5555", error="gone"))[1]["in_sync"] is None
    assert rows(NodeAnswer("tcp://a:5555", error="gone"), answer(PASSIVE))[0]["in_sync"] is None


def test_a_gateway_with_one_address_shows_the_other_node_too() -> None:
    """Where it is comes from the node itself."""
    known, other = rows(answer(ACTIVE))
    assert (known["endpoint"], other["endpoint"], other["name"]) == ("tcp://a:5555", "tcp://b:5555", "backup")


def test_a_single_node_has_no_other_side() -> None:
    """One row; what only pairs have is null."""
    hello = msgspec.structs.replace(HELLO, role="single")
    (row,) = rows(NodeAnswer("tcp://a:5555", hello, None, 4711))
    assert (row["name"], row["state"], row["lag"], row["in_sync"], row["sequence"]) == (
        None, None, None, None, 4711,
    )  # fmt: skip


def test_nobody_answers() -> None:
    """Two rows that say why."""
    found = rows(NodeAnswer("tcp://a:5555", error="gone"), NodeAnswer("tcp://b:5555", error="away"))
    assert [row["reason"] for row in found] == ["gone", "away"]
    assert not any(row["reachable"] for row in found)
