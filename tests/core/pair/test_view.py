"""What a node of a pair says of itself: where the active is, why it is silent, its steps in words."""

import itertools
from collections.abc import Callable

import msgspec
import pytest

from core.pure import tsp
from core.pure.events import EventLog, Step
from core.pure.jobs import Job
from core.pure.jobs import State as JobState
from core.pure.pair import TABLE, State
from core.pure.pair_story import NOW, WHY
from core.pure.pair_view import reachable_endpoint
from core.pure.receipts import REPLICATED, worth

ACK = tsp.SubmitAck(b"k" * 16, "queued", 1, REPLICATED, 4)
BATCH = tsp.BatchAck((tsp.BatchLine(200, b"k" * 16, "queued"),), 1, REPLICATED, 4)


@pytest.mark.parametrize(
    ("broker", "link", "found"),
    [
        ("tcp://10.0.0.2:5555", "tcp://10.1.0.2:5600", "tcp://10.0.0.2:5555"),
        ("tcp://0.0.0.0:5555", "tcp://10.1.0.2:5600", "tcp://10.1.0.2:5555"),
        ("tcp://*:5555", "tcp://[fd00::2]:5600", "tcp://[fd00::2]:5555"),
        ("ipc:///run/titanic", "tcp://127.0.0.1:5600", "ipc:///run/titanic"),
        ("", "tcp://127.0.0.1:5600", ""),
    ],
)
def test_where_a_node_is_found(broker: str, link: str, found: str) -> None:
    """A node that listens everywhere is found at the host of its link; any other says it itself."""
    assert reachable_endpoint(broker, link) == found


def test_every_step_of_the_table_has_words() -> None:
    """No step of a node is told in names of events only."""
    steps = [(state, event) for (state, event), (after, _) in TABLE.items() if after is not state]
    assert steps
    assert not [event for _, event in steps if event not in WHY]
    for state in State:
        assert "{" not in NOW[state].format(peer="tcp://b:5555", epoch=7)


@pytest.mark.parametrize(
    ("service", "ack", "decode"),
    [
        (tsp.SUBMIT, ACK, tsp.decode_ack),
        (tsp.BATCH, BATCH, tsp.decode_batch_ack),
        (tsp.PACK, tsp.PackAck("queued", 1, REPLICATED, 4), tsp.decode_pack_ack),
    ],
)
def test_an_acknowledgement_says_what_it_is_worth_when_it_leaves(
    service: bytes, ack: msgspec.Struct, decode: Callable[[bytes], msgspec.Struct]
) -> None:
    """*replicated* that leaves after the other disk was lost says *fsync*; everything else stays."""
    status, head = worth(service, (tsp.OK, tsp.encode_head(ack)), "fsync")
    assert status == tsp.OK
    assert decode(head) == msgspec.structs.replace(ack, durability="fsync")


@pytest.mark.parametrize(
    ("service", "frames"),
    [
        (tsp.SUBMIT, (tsp.OK, tsp.encode_head(tsp.SubmitAck(b"k" * 16, "queued", 1, "fsync", 4)))),
        (tsp.SUBMIT, (tsp.ERROR, b"replicated")),
        (tsp.FETCH, (tsp.OK, b"replicated")),
        (tsp.FETCH, (tsp.OK, b"head", b"replicated")),
    ],
)
def test_other_answers_are_left_alone(service: bytes, frames: tuple[bytes, ...]) -> None:
    """A reply whose bytes happen to say *replicated* is nobody's business."""
    assert worth(service, frames, "fsync") is frames


def test_a_step_is_an_event_without_job_and_service() -> None:
    """Who follows all events sees it; who follows one service or owner does not."""
    log = EventLog(10)
    log.add(11, Step.PAIR, Job(b"", state=JobState.BINDING), 5, "backup: claiming -> taken: stored, epoch 5")
    (event,), next_since, gap = log.after(10, 11, 100)
    assert (event.id, event.kind, event.key, event.service) == (11, "pair", b"", "")
    assert (next_since, gap) == (11, -1)
    for service, owner in itertools.product((b"", b"echo"), ("", "someone")):
        if service or owner:
            assert log.after(10, 11, 100, service, owner)[0] == ()
