"""The client libraries against a broker that speaks RFC 7 and RFC 9 by hand."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest
import zmq

from core.errors import CoreError, PeerError, ServerUnreachableError
from core.shell.client import (
    BlockingClient,
    Client,
    JobFailedError,
    JobUnknownError,
    ReplyPendingError,
    RequestRefusedError,
    TitanicFailedError,
)

JOB = "0123456789abcdef0123456789abcdef"
Answers = Callable[[bytes, list[bytes]], list[bytes]]


class Broker:
    """Answers every client request by ``answers(service, body)``; in a thread of its own."""

    def __init__(self) -> None:
        self.answers: Answers = lambda service, body: [service, *body]
        self.seen: list[tuple[bytes, list[bytes]]] = []
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
        self._socket.set(zmq.LINGER, 0)
        self.endpoint = f"tcp://127.0.0.1:{self._socket.bind_to_random_port('tcp://127.0.0.1')}"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while not self._stop.is_set():
            if self._socket.poll(20):
                frames = self._socket.recv_multipart()
                at = frames.index(b"MDPC01")
                service, body = frames[at + 1], frames[at + 2 :]
                self.seen.append((service, body))
                answer = self.answers(service, body)
                if answer:
                    self._socket.send_multipart([*frames[: at + 2], *answer])
        self._socket.close(0)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture
def broker() -> Iterator[Broker]:
    """A foreign broker with a Titanic service whose answers the test writes."""
    broker = Broker()
    yield broker
    broker.close()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ([b"400"], RequestRefusedError),
        ([b"400 bad name"], RequestRefusedError),
        ([b"500"], TitanicFailedError),
        ([b"200"], PeerError),
        ([b"200", b"not an id"], PeerError),
        ([b"999"], PeerError),
        ([b"ok"], PeerError),
        ([b""], PeerError),
    ],
)
def test_every_answer_to_a_submit_but_an_id_is_a_typed_error(
    broker: Broker, answer: list[bytes], error: type[CoreError]
) -> None:
    """RFC 9's statuses, and what it does not know."""
    broker.answers = lambda service, body: answer
    with BlockingClient([broker.endpoint]) as client, pytest.raises(error):
        client.submit("echo", "hi")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ([b"400"], JobUnknownError),
        ([b"500"], JobFailedError),
        ([b"999"], PeerError),
    ],
)
def test_every_bad_answer_to_a_reply_is_a_typed_error(
    broker: Broker, answer: list[bytes], error: type[CoreError]
) -> None:
    """Unknown and failed are told apart."""
    broker.answers = lambda service, body: answer
    with BlockingClient([broker.endpoint]) as client, pytest.raises(error):
        client.reply(JOB)


def test_the_way_of_a_job_in_the_frames_of_rfc_9(broker: Broker) -> None:
    """request, reply pending, reply there, close: exactly the RFC's frames, the UUID in lower case."""
    script = iter(
        [[b"200", JOB.upper().encode()], [b"300"], [b"300 still"], [b"200 fine", b"ho", b"ha"], [b"200"]]
    )
    broker.answers = lambda service, body: next(script)
    with BlockingClient([broker.endpoint]) as client:
        job = client.submit("echo", "hi", b"\xff")
        assert job == JOB
        assert client.reply(job) is None
        assert client.wait(job, 10) == [b"ho", b"ha"]
        client.close(job)
    assert broker.seen == [
        (b"titanic.request", [b"echo", b"hi", b"\xff"]),
        (b"titanic.reply", [JOB.encode()]),
        (b"titanic.reply", [JOB.encode()]),
        (b"titanic.reply", [JOB.encode()]),
        (b"titanic.close", [JOB.encode()]),
    ]


def test_the_asyncio_client_is_the_same_and_concurrent(broker: Broker) -> None:
    """Plain calls, many at once over one connection; an empty body is one empty frame."""

    async def main() -> None:
        async with Client([broker.endpoint]) as client:
            answers = await asyncio.gather(*(client.call("echo", str(number)) for number in range(100)))
            assert answers == [[b"echo", str(number).encode()] for number in range(100)]
            assert await client.call("echo") == [b"echo", b""]

    asyncio.run(main())


def test_waiting_ends_with_an_error_that_says_it_is_only_pending(broker: Broker) -> None:
    """A job that takes longer is not lost, and the error says so by its class."""
    broker.answers = lambda service, body: [b"300"]
    with BlockingClient([broker.endpoint]) as client, pytest.raises(ReplyPendingError, match=JOB):
        client.wait(JOB, 0.1)
    assert len(broker.seen) > 2


def test_close_of_no_id_is_an_error(broker: Broker) -> None:
    """400 to a close means malformed."""
    broker.answers = lambda service, body: [b"400"]
    with BlockingClient([broker.endpoint]) as client, pytest.raises(JobUnknownError):
        client.close("nonsense")


def test_a_silent_broker_is_unreachable_and_the_client_still_works_afterwards(broker: Broker) -> None:
    """The timeout is the call's own."""
    broker.answers = lambda service, body: []
    with BlockingClient([broker.endpoint]) as client:
        with pytest.raises(ServerUnreachableError, match="tcp://"):
            client.call("echo", "hi", timeout_s=0.1)
        broker.answers = lambda service, body: [b"here"]
        assert client.call("echo", "hi") == [b"here"]


def test_disconnecting_ends_calls_of_other_threads(broker: Broker) -> None:
    """Nobody hangs: the call under way raises, a later one too."""
    broker.answers = lambda service, body: []
    client = BlockingClient([broker.endpoint])
    client.connect()
    errors: list[BaseException] = []

    def call() -> None:
        try:
            client.call("echo", "hi")
        except ServerUnreachableError as error:
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    while not broker.seen:
        thread.join(0.005)
    client.disconnect()
    client.disconnect()
    thread.join(10)
    assert len(errors) == 1
    with pytest.raises(ServerUnreachableError, match="not connected"):
        client.call("echo", "hi")


def test_wrong_endpoints_are_refused_at_once() -> None:
    """A string is not a list of endpoints, and a bad endpoint does not leave a thread behind."""
    with pytest.raises(ValueError, match="sequence"):
        Client("tcp://127.0.0.1:1")
    before = threading.active_count()
    with pytest.raises(ValueError, match="cannot connect"):
        BlockingClient(["nonsense"]).connect()
    assert threading.active_count() == before
