"""A pair without a gateway: whoever else asks the passive node votes (P3)."""

from pathlib import Path

import pytest
import zmq

from tests.support.pair import SERVICE, Pair
from tests.support.processes import Processes, until

SILENCE_S = 12.0


def asked(broker: str, service: bytes, text: str) -> bytes:
    """The first frame of a plain client's answer; empty if there was none within a second."""
    context = zmq.Context()
    try:
        with context.socket(zmq.DEALER) as client:
            client.linger = 0
            client.connect(broker)
            client.send_multipart([b"", b"MDPC01", service, text.encode()])
            return client.recv_multipart()[3] if client.poll(1_000) else b""
    finally:
        context.term()


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_workers_alone_make_an_idle_pair_fail_over(family: Processes, tmp_path: Path) -> None:
    """Nobody submits anything, no gateway is there; the worker that finds no active node votes."""
    pair = Pair(family, tmp_path)
    active = pair.until_paired()
    family.start(
        *("worker", SERVICE, "--python", "tests.support.timed_worker:work"),
        *("--nodes", pair.both, "--concurrency", "8"),  # eight that ask, each in its own time
        env={"TITANIC_TEST_LOG": str(pair.log)},
    )
    until("the worker is registered", lambda: asked(pair.brokers[active], b"mmi.service", SERVICE) == b"200")
    pair.kill(active)
    pair.until_active(1 - active)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_request_of_a_plain_client_is_a_vote(family: Processes, tmp_path: Path) -> None:
    """As in the guide: it gets no answer from the passive node, and makes it active."""
    pair = Pair(family, tmp_path)
    active = pair.until_paired()
    pair.kill(active)
    context = zmq.Context()
    try:
        with context.socket(zmq.DEALER) as client:
            client.linger = 0
            client.connect(pair.brokers[1 - active])

            def asks() -> bool:
                client.send_multipart([b"", b"MDPC01", b"somebody", b"anything"])
                return pair.active() == 2 - active

            until("the passive is active", asks, deadline_s=SILENCE_S, pause_s=0.1)
    finally:
        context.term()


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_nobody_asks_and_nobody_takes_over(family: Processes, tmp_path: Path) -> None:
    """Silence alone promotes nobody, and a status is no question: the window ends, and it is outdated."""
    pair = Pair(family, tmp_path)
    active = pair.until_paired()
    pair.kill(active)
    until("outdated", lambda: pair.status()[1 - active].get("state") == "outdated", deadline_s=SILENCE_S)
