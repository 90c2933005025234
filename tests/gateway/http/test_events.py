"""Server-sent events over TCP: what is refused, resuming, gaps, and how a stream ends."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import httpx
import pytest

from gateway.http import routes_events
from tests.gateway.conftest import ISSUED, SETTINGS, LiveGateway, check_problem
from tests.gateway.fake_node import FakeNode
from tests.support.fair import FairClock
from tests.support.processes import until

KEY = bytes.fromhex(ISSUED)


class Sent(NamedTuple):
    """One event as EventSource would dispatch it."""

    id: str
    kind: str
    data: dict[str, object]


def parse(lines: Iterator[str]) -> Iterator[Sent]:
    """Events of a stream, WHATWG HTML 9.2.6; comments and events without data are left out."""
    id_, kind, data = "", "", ""
    for line in lines:
        if not line:
            if data:
                yield Sent(id_, kind, json.loads(data))
            kind, data = "", ""
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        id_ = value if name == "id" else id_
        kind = value if name == "event" else kind
        data = value if name == "data" else data


@contextmanager
def stream(live: LiveGateway, query: str = "", since: int | None = None) -> Iterator[Iterator[Sent]]:
    headers = {} if since is None else {"Last-Event-ID": str(since)}
    with live.client.stream("GET", f"/v1/events{query}", headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        yield parse(answer.iter_lines())


@pytest.mark.parametrize("id_", ["x", "-1", "1.5", "9" * 20, "9223372036854775808"])
def test_ids_that_no_event_had(live: LiveGateway, id_: str) -> None:
    """A Last-Event-ID that is no sequence is 400."""
    answer = live.client.get("/v1/events", headers={"Last-Event-ID": id_})
    check_problem(answer, 400, "bad-header")


def test_events_that_are_refused(live: LiveGateway) -> None:
    """Unknown parameters, and a node that is not there, are problems and no streams."""
    check_problem(live.client.get("/v1/events?state=failed"), 400, "bad-parameter")
    live.node.down = True
    check_problem(live.client.get("/v1/events"), 503, "node-unreachable")


def test_from_now(live: LiveGateway) -> None:
    """Without an id the stream begins now."""
    live.node.happen("accepted", KEY)
    with stream(live) as events:
        number = live.node.happen("started", KEY, "echo", "a\nb: c")
        event = next(events)
    assert (event.id, event.kind) == (str(number), "started")
    assert event.data == {
        "at": "2025-11-23T13:53:00.123Z",
        "kind": "started",
        "job": ISSUED,
        "service": "echo",
        "attempt": 1,
        "detail": "a\nb: c",
    }


def test_resume(live: LiveGateway) -> None:
    """With the id of the last event seen, the stream goes on behind it, and lasts."""
    numbers = [live.node.happen("accepted", KEY) for _ in range(5)]
    with stream(live, since=numbers[1]) as events:
        seen = [next(events).id for _ in range(3)]
        numbers.append(live.node.happen("closed", KEY))
        seen.append(next(events).id)
    assert seen == [str(number) for number in numbers[2:]]


def test_gap(live: LiveGateway) -> None:
    """What the node does not know any more is told, and the rest follows."""
    live.node.events_from = 100
    number = live.node.happen("accepted", KEY)
    with stream(live, since=7) as events:
        gap, event = next(events), next(events)
    assert (gap.kind, gap.id, gap.data) == ("gap", "100", {"after": 7, "to": 100})
    assert event.id == str(number)


def test_one_service(live: LiveGateway) -> None:
    """Only the events of the service that was asked for are sent."""
    with stream(live, "?service=b") as events:
        live.node.happen("accepted", KEY, "a")
        live.node.happen("accepted", KEY, "b")
        assert next(events).data["service"] == "b"


def test_more_than_a_page(live: LiveGateway) -> None:
    """Nothing is lost between pages."""
    numbers = [live.node.happen("accepted", KEY) for _ in range(2 * routes_events.PAGE + 7)]
    with stream(live, since=0) as events:
        assert [int(next(events).id) for _ in numbers] == numbers


def test_a_stream_outlives_its_node(live: LiveGateway) -> None:
    """While the node is away the stream lasts, and goes on where it was."""
    first = live.node.happen("accepted", KEY)
    with stream(live, since=first - 1) as events:
        assert next(events).id == str(first)
        live.node.down = True
        second = live.node.happen("closed", KEY)
        live.node.down = False
        assert next(events).id == str(second)


def test_streams_are_counted_and_end_with_their_clients(live: LiveGateway) -> None:
    """A client that leaves frees its place."""
    with stream(live):
        until("the stream is counted", lambda: live.app.waits.streams_count == 1)
    until("the place is free", lambda: live.app.waits.streams_count == 0)
    assert live.app.waits.count == 0


def test_streams_are_bounded_and_end_with_the_server() -> None:
    """More streams than allowed are 503 with Retry-After; a stopping server ends all of them cleanly."""
    live = LiveGateway(SETTINGS.replacing(streams_max=1), FakeNode())
    ended = threading.Event()

    def follow() -> None:
        with httpx.stream("GET", f"{live.url}/v1/events", timeout=10) as answer:
            for _ in answer.iter_raw():
                pass
        ended.set()

    thread = threading.Thread(target=follow)
    thread.start()
    until("the stream is there", lambda: live.app.waits.streams_count == 1)
    answer = live.client.get("/v1/events")
    check_problem(answer, 503, "too-many-streams")
    assert "retry-after" in answer.headers
    with FairClock() as clock:
        live.stop()
        thread.join(10)
        assert clock.elapsed_s < 3
    assert ended.is_set(), "the stream ended with its last chunk, not with a reset"
