"""RFC 9/TSP, every MUST and SHOULD by name; frames are written down from the RFC."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence

import pytest

from core.errors import DamagedRecordError
from core.pure import tsp
from core.shell.client import Client, JobUnknownError
from tests.support.raw_router import RawRouter
from tests.support.titanic_rig import Rig

UNKNOWN = b"0" * 32
STATUSES = {b"200", b"300", b"400", b"500"}
JOB = "0123456789abcdef0123456789abcdef"


def answer(rig: Rig, service: bytes, *body: bytes) -> list[bytes]:
    """The one answer, after what it needs is on disk."""
    count = len(rig.answers)
    rig.ask(service, *body)
    rig.sync()
    assert len(rig.answers) == count + 1
    return list(rig.answers[-1][2])


def stored(rig: Rig) -> bytes:
    """The UUID of a stored request for echo."""
    return answer(rig, b"titanic.request", b"echo", b"hello")[1]


def replied(rig: Rig) -> bytes:
    """The UUID of a request with its reply."""
    uuid = stored(rig)
    rig.titanic.done(rig.must_take().address, [b"good", b"bye"], rig.now)
    rig.sync()
    return uuid


@pytest.mark.parametrize("service", [b"titanic.request", b"titanic.reply", b"titanic.close"])
def test_rfc9_01_the_server_must_implement_these_services(service: bytes) -> None:
    """Each answers with a status."""
    assert answer(Rig(), service, b"echo", b"body")[0][:3] in STATUSES


def test_rfc9_02_request_must_reply_with_a_status_and_the_uuid_if_ok() -> None:
    """Two frames if OK; anything else has no UUID."""
    status, uuid = answer(Rig(), b"titanic.request", b"echo", b"hello")
    assert status == b"200"
    assert len(uuid) == 32
    assert answer(Rig(), b"titanic.request", b"no/such name", b"x")[0][:3] == b"400"


@pytest.mark.parametrize(
    ("service", "body"),
    [
        (b"titanic.request", []),
        (b"titanic.request", [b"echo"]),
        (b"titanic.request", [b"", b"x"]),
        (b"titanic.request", [b"\xff", b"x"]),
        (b"titanic.reply", []),
        (b"titanic.reply", [UNKNOWN]),
        (b"titanic.reply", [b"zz"]),
        (b"titanic.close", []),
        (b"titanic.close", [UNKNOWN]),
        (b"titanic.close", [UNKNOWN, b"more"]),
    ],
)
def test_rfc9_03_the_status_must_be_one_of_the_listed_codes(service: bytes, body: Sequence[bytes]) -> None:
    """Three digits of a closed set, alone or with a space and text behind them."""
    status = answer(Rig(), service, *body)[0]
    assert re.fullmatch(rb"(200|300|400|500)( .*)?", status)


def test_rfc9_04_the_uuid_must_be_32_hexadecimal_characters() -> None:
    """We write lower case and accept either."""
    rig = Rig()
    uuid = replied(rig)
    assert re.fullmatch(rb"[0-9a-f]{32}", uuid)
    assert answer(rig, b"titanic.reply", uuid.upper())[0] == b"200"


def test_rfc9_05_reply_must_answer_with_a_status_and_the_body_if_ok() -> None:
    """All frames of the worker's reply; only the status while there is none."""
    rig = Rig()
    assert answer(rig, b"titanic.reply", stored(rig)) == [b"300"]
    rig = Rig()
    assert answer(rig, b"titanic.reply", replied(rig)) == [b"200", b"good", b"bye"]


def test_rfc9_06_reply_must_not_delete_and_should_give_the_same_answer() -> None:
    """As often as it is asked, also after a restart."""
    rig = Rig()
    uuid = replied(rig)
    for _ in range(3):
        assert answer(rig, b"titanic.reply", uuid) == [b"200", b"good", b"bye"]
    assert answer(rig.restart(), b"titanic.reply", uuid) == [b"200", b"good", b"bye"]


def test_rfc9_07_close_must_reply_with_one_status_frame_and_delete() -> None:
    """Request and reply are gone; a request that has not run does not run any more."""
    rig = Rig()
    uuid = replied(rig)
    assert answer(rig, b"titanic.close", uuid) == [b"200"]
    assert answer(rig, b"titanic.reply", uuid)[0][:3] == b"400"
    waiting = stored(rig)
    assert answer(rig, b"titanic.close", waiting) == [b"200"]
    assert rig.take() is None


def test_rfc9_08_close_must_return_200_if_the_uuid_is_not_known() -> None:
    """Never issued, or closed already."""
    rig = Rig()
    uuid = replied(rig)
    for _ in range(2):
        assert answer(rig, b"titanic.close", uuid) == [b"200"]
    assert answer(rig, b"titanic.close", UNKNOWN) == [b"200"]


def test_rfc9_09_requests_run_as_and_when_services_are_available() -> None:
    """Stored without any worker; handed out when one takes it; pending until its reply is stored."""
    rig = Rig()
    uuid = stored(rig)
    work = rig.must_take()
    assert list(work.frames) == [b"hello"]
    assert answer(rig, b"titanic.reply", uuid) == [b"300"]


def test_rfc9_10_an_internal_error_is_500() -> None:
    """A reply that cannot be read is not returned, and not called unknown."""
    rig = Rig()
    uuid = replied(rig)

    def damaged(_: object) -> tuple[bytes, bytes]:
        raise DamagedRecordError("here")

    rig.journal.read_reply = damaged  # type: ignore[method-assign, assignment]  # a damaged disk
    assert answer(rig, b"titanic.reply", uuid)[0][:3] == b"500"


def test_rfc9_11_a_client_must_not_treat_the_text_as_significant() -> None:
    """Only the three digits count."""
    for text in (b"", b" OK", b" 400 UNKNOWN", b"00", b"\xff"):
        assert tsp.status_of([b"200" + text]) == b"200"


def dialogue(*statuses: list[bytes]) -> tuple[list[bytes] | None, int]:
    """What ``Client.wait`` made of these answers to titanic.reply, and how often it asked."""

    async def run() -> tuple[list[bytes] | None, int]:
        asked = 0
        with RawRouter() as router:
            async with Client([router.endpoint], timeout_s=5) as client:
                waiting = asyncio.ensure_future(client.wait(JOB, 5))
                for status in statuses:
                    *path, _, header, service, uuid = await router.receive()
                    assert (header, service, uuid) == (b"MDPC01", b"titanic.reply", JOB.encode())
                    asked += 1
                    router.send(*path, b"", b"MDPC01", b"titanic.reply", *status)
                return await waiting, asked

    return asyncio.run(run())


def test_rfc9_12_the_client_should_retry_a_pending_request_later() -> None:
    """Until there is a reply."""
    assert dialogue([b"300"], [b"300 PENDING"], [b"200 OK", b"done"]) == ([b"done"], 3)


def test_rfc9_13_the_client_should_not_retry_an_unknown_uuid() -> None:
    """It is told at once."""
    with pytest.raises(JobUnknownError):
        dialogue([b"400 UNKNOWN"])
