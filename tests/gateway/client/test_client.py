"""The Python client over TCP; every fact holds for both of its kinds."""

import asyncio
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from core.pure import tsp
from gateway.client import (
    Accepted,
    AsyncClient,
    Client,
    ClientError,
    JobFailedError,
    Options,
    Problem,
    ProblemError,
    Reply,
    UnreachableError,
    calls,
)
from tests.gateway.conftest import ISSUED, MAX_BODY_BYTES, STRANGER, LiveGateway

Do = Callable[..., Any]


@pytest.fixture(params=["sync", "async"])
def do(request: pytest.FixtureRequest, live: LiveGateway) -> Iterator[Do]:
    """Calls a method of either client by name."""
    if request.param == "sync":
        with Client(live.url) as client:
            yield lambda name, *args, **more: getattr(client, name)(*args, **more)
        return

    def call(name: str, *args: Any, **more: Any) -> Any:
        async def main() -> Any:
            async with AsyncClient(live.url) as client:
                return await getattr(client, name)(*args, **more)

        return asyncio.run(main())

    yield call


def test_both_clients_have_the_same_methods() -> None:
    """What one can do the other can, with the same parameters."""

    def shape(kind: type) -> dict[str, list[str]]:
        public = {name: value for name, value in vars(kind).items() if not name.startswith("_")}
        return {name: list(inspect.signature(value).parameters) for name, value in public.items()}

    assert shape(Client) == shape(AsyncClient)


def test_life_of_a_job(live: LiveGateway, do: Do) -> None:
    """Submit, look, wait, close."""
    options = Options(attempts=3, priority="high", delay="0s")
    accepted = do("submit", "word count", b"to be", content_type="text/plain", options=options)
    assert isinstance(accepted, Accepted)
    assert (accepted.service, accepted.durability, accepted.replayed) == ("word count", "fsync", False)
    job = live.node.only()
    assert (job.meta.attempts_max, job.meta.priority, job.frames) == (3, 2, [b"to be"])
    assert do("reply", accepted.id) is None
    assert do("job", accepted.id).state == "queued"
    live.node.finish(job.key, b"2", content_type="text/plain")
    assert do("wait", accepted.id) == Reply(b"2", "text/plain")
    assert [found.id for found in do("jobs", state="succeeded").jobs] == [accepted.id]
    do("close_job", accepted.id)
    with pytest.raises(ProblemError) as caught:
        do("job", accepted.id)
    assert caught.value.problem.status == 410


def test_a_submit_is_repeatable(live: LiveGateway, do: Do) -> None:
    """The same key is the same job."""
    one, two = (do("submit", "echo", b"x", idempotency_key="order 1") for _ in range(2))
    assert (two.id, two.replayed) == (one.id, True)
    assert len(live.node.jobs) == 1


def test_batch(live: LiveGateway, do: Do) -> None:
    """Each line's fate, in order."""
    fates = do("batch", "echo", [b"1", b"x" * (MAX_BODY_BYTES + 1), b"3"])
    assert [type(fate) for fate in fates] == [Accepted, Problem, Accepted]
    assert fates[1].status == 413
    assert fates[0].durability == "fsync"
    assert len(live.node.jobs) == 2


def test_cancel_and_retry(live: LiveGateway, do: Do) -> None:
    """A cancelled job has no reply; a dead letter is queued again."""
    cancelled, dead = do("submit", "echo", b"1"), do("submit", "echo", b"2")
    assert do("cancel", cancelled.id).state == "cancelled"
    with pytest.raises(JobFailedError):
        do("reply", cancelled.id)
    live.node.fail(bytes.fromhex(dead.id), "no", 25)
    with pytest.raises(JobFailedError, match="no"):
        do("wait", dead.id)
    assert do("retry", dead.id).state == "queued"


@pytest.mark.parametrize(("id_", "status"), [("x?y", 400), (STRANGER, 404), (ISSUED, 410)])
def test_problems(do: Do, id_: str, status: int) -> None:
    """What the server refuses is raised with its problem."""
    with pytest.raises(ProblemError) as caught:
        do("job", id_)
    assert caught.value.problem.status == status


def test_a_store_that_is_full_for_a_while(live: LiveGateway, do: Do, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal that says when to come again is obeyed, a bounded number of times."""
    monkeypatch.setattr(calls, "RETRY_AFTER_MAX_S", 0.01)
    live.client.get("/readyz")
    live.node.refusal = (tsp.FULL, "full")
    with pytest.raises(ProblemError) as caught:
        do("submit", "echo", b"x")
    assert caught.value.problem.status == 507
    assert live.node.calls.count(tsp.SUBMIT) == calls.RETRIES + 1


def test_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a server there is one clear error, after some attempts."""
    monkeypatch.setattr(calls, "BACKOFF_S", 0.001)
    with Client("http://127.0.0.1:1") as client, pytest.raises(UnreachableError, match="ConnectError"):
        client.job(ISSUED)


def test_another_server() -> None:
    """What is no gateway is told so."""
    for answer in (httpx.Response(200, text="hello"), httpx.Response(418, text="teapot")):
        transport = httpx.MockTransport(lambda _, answer=answer: answer)
        http = httpx.Client(transport=transport, base_url="http://x")
        with Client("", http=http) as client, pytest.raises(ClientError):
            client.job(ISSUED)
