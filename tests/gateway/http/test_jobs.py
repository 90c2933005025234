"""Status, reply, waiting and close over TCP: every status of the contract."""

import base64
import threading

import httpx
import pytest

from core.pure import tsp
from gateway.pure.negotiate import FRAMES_TYPE
from tests.gateway.conftest import ISSUED, STRANGER, LiveGateway, check_problem
from tests.support.processes import until

FRAMES = FRAMES_TYPE.decode()


def when_waited_for(live: LiveGateway, key: bytes, *frames: bytes) -> threading.Thread:
    """Finishes the job as soon as somebody waits for it."""

    def finish() -> None:
        until("somebody waits", lambda: live.node.waiting(key))
        live.node.finish(key, *frames)

    thread = threading.Thread(target=finish)
    thread.start()
    return thread


# -- reply


@pytest.mark.parametrize("path", ["/v1/jobs/{}", "/v1/jobs/{}/reply"])
@pytest.mark.parametrize("bad", ["xyz", STRANGER[:-1], STRANGER + "0", "%00", "g" * 32, "\u00e9" * 16])
def test_malformed_id(live: LiveGateway, path: str, bad: str) -> None:
    """What is no id is 400 on every route that takes one."""
    check_problem(live.client.get(path.format(bad)), 400, "malformed-id")
    if path.endswith("}"):
        check_problem(live.client.delete(path.format(bad)), 400, "malformed-id")


@pytest.mark.parametrize("path", ["/v1/jobs/{}", "/v1/jobs/{}/reply"])
def test_404_and_410(live: LiveGateway, path: str) -> None:
    """An id that was never issued is told from one whose job is closed."""
    check_problem(live.client.get(path.format(STRANGER)), 404, "never-issued")
    check_problem(live.client.get(path.format(ISSUED)), 410, "job-gone")


def test_pending(live: LiveGateway) -> None:
    """202 with the job's status and Retry-After; not to be cached."""
    key = live.submit(b"1234", content_type="text/plain")
    answer = live.client.get(f"/v1/jobs/{key.hex()}/reply", headers={"X-Request-ID": "r"})
    assert answer.status_code == 202
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-request-id"] == "r"
    document = answer.json()
    assert (document["id"], document["state"], document["request_bytes"]) == (key.hex(), "queued", 4)


def test_reply(live: LiveGateway) -> None:
    """200 with the bytes and type that were stored, again and again, and safe in a browser."""
    key = live.submit()
    live.node.finish(key, b"<b>\x00\xff", content_type="text/html")
    for name in (key.hex(), key.hex().upper()):
        answer = live.client.get(f"/v1/jobs/{name}/reply")
        assert answer.status_code == 200
        assert answer.content == b"<b>\x00\xff"
        assert answer.headers["content-type"] == "text/html"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in answer.headers["content-security-policy"]


def test_reply_without_type_and_head(live: LiveGateway) -> None:
    """A reply without a type is application/octet-stream; HEAD has the headers of GET and no body."""
    key = live.submit()
    live.node.finish(key, b"done")
    answer = live.client.head(f"/v1/jobs/{key.hex()}/reply")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-length"] == "4"
    assert answer.content == b""


@pytest.mark.parametrize(
    ("frames", "accept", "status"),
    [
        ((b"a",), "text/plain", 200),
        ((b"a",), FRAMES, 200),
        ((b"a", b"b"), "*/*", 200),
        ((b"a", b"b"), FRAMES, 200),
        ((b"a", b"b"), "text/plain", 406),
        ((), "*/*", 200),
    ],
)
def test_reply_frames(live: LiveGateway, frames: tuple[bytes, ...], accept: str, status: int) -> None:
    """One frame is raw unless the frames type is named; several are frames, or 406."""
    key = live.submit()
    live.node.finish(key, *frames)
    answer = live.client.get(f"/v1/jobs/{key.hex()}/reply", headers={"Accept": accept})
    if status == 406:
        check_problem(answer, 406, "not-acceptable")
    elif len(frames) == 1 and accept != FRAMES:
        assert answer.content == b"a"
    else:
        assert answer.headers["content-type"] == FRAMES
        assert [base64.b64decode(frame) for frame in answer.json()["frames"]] == list(frames)


def test_failed_and_cancelled(live: LiveGateway) -> None:
    """409 with attempts and last error; a cancelled job is another kind."""
    failed, cancelled = live.submit(), live.submit()
    live.node.fail(failed, "exit status 1", 25)
    live.node.cancel(cancelled)
    document = check_problem(live.client.get(f"/v1/jobs/{failed.hex()}/reply"), 409, "job-failed")
    assert (document["attempts"], document["last_error"], document["state"]) == (
        25,
        "exit status 1",
        "failed",
    )
    check_problem(live.client.get(f"/v1/jobs/{cancelled.hex()}/reply"), 409, "job-cancelled")


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_unknown_parameters_elsewhere(live: LiveGateway, method: str) -> None:
    """Routes without options refuse parameters by name as well."""
    answer = live.client.request(method, f"/v1/jobs/{ISSUED}?wait=5")
    assert check_problem(answer, 400, "bad-parameter")["errors"] == [
        {"parameter": "wait", "detail": "unknown; this request takes none"}
    ]
    check_problem(live.client.get(f"/v1/jobs/{ISSUED}/reply?wait=5"), 400, "bad-parameter")


# -- waiting


def test_wait_on_submit(live: LiveGateway) -> None:
    """200 with the reply itself, if it comes in time; the receipt is there too."""

    def work() -> None:
        until("somebody waits", lambda: bool(live.node.jobs) and live.node.waiting(live.node.only().key))
        live.node.finish(live.node.only().key, b"reply")

    worker = threading.Thread(target=work)
    worker.start()
    answer = live.client.post("/v1/services/echo/jobs", content=b"x", headers={"Prefer": "wait=3"})
    worker.join()
    assert (answer.status_code, answer.content) == (200, b"reply")
    assert answer.headers["preference-applied"] == "wait=3"
    assert answer.headers["location"] == f"/v1/jobs/{live.node.only().key.hex()}"
    assert answer.headers["titanic-durability"] == "fsync"


def test_wait_on_submit_in_vain(live: LiveGateway) -> None:
    """202 as without waiting, when the time is over."""
    answer = live.client.post("/v1/services/echo/jobs", content=b"x", headers={"Prefer": "wait=1"})
    assert answer.status_code == 202
    assert answer.headers["preference-applied"] == "wait=1"
    assert answer.json()["id"] == live.node.only().key.hex()


def test_wait_on_submit_that_fails(live: LiveGateway) -> None:
    """A job that fails within the wait is 409, with its Location."""

    def work() -> None:
        until("somebody waits", lambda: bool(live.node.jobs) and live.node.waiting(live.node.only().key))
        live.node.fail(live.node.only().key, "no", 1)

    worker = threading.Thread(target=work)
    worker.start()
    headers = {"Prefer": "wait=3", "X-Request-ID": "r"}
    answer = live.client.post("/v1/services/echo/jobs", content=b"x", headers=headers)
    worker.join()
    check_problem(answer, 409, "job-failed")
    assert answer.headers["location"] == f"/v1/jobs/{live.node.only().key.hex()}"
    assert answer.headers.get_list("x-request-id") == ["r"], "once"


@pytest.mark.parametrize("path", ["/v1/jobs/{}", "/v1/jobs/{}/reply"])
def test_long_poll(live: LiveGateway, path: str) -> None:
    """Reply and status wait for the end of the job, and say for how long they would have."""
    key = live.submit()
    worker = when_waited_for(live, key, b"reply")
    answer = live.client.get(path.format(key.hex()), headers={"Prefer": "respond-async, wait=100"})
    worker.join()
    assert answer.status_code == 200
    assert answer.headers["preference-applied"] == "wait=3", "the server's own limit"
    assert answer.content == b"reply" or answer.json()["state"] == "succeeded"


@pytest.mark.parametrize("prefer", ["wait=0", "wait=x", "respond-async", "handling=strict"])
def test_no_wait(live: LiveGateway, prefer: str) -> None:
    """Other preferences change nothing, and nothing is said to have been applied."""
    key = live.submit()
    answer = live.client.get(f"/v1/jobs/{key.hex()}/reply", headers={"Prefer": prefer})
    assert answer.status_code == 202
    assert "preference-applied" not in answer.headers


def test_a_client_that_leaves_ends_its_wait(live: LiveGateway) -> None:
    """A long-poll without client is given up at once."""
    key = live.submit()
    with httpx.Client(base_url=live.url, timeout=0.2) as client, pytest.raises(httpx.ReadTimeout):
        client.get(f"/v1/jobs/{key.hex()}/reply", headers={"Prefer": "wait=3"})
    until("the wait is over", lambda: live.app.waits.count == 0, deadline_s=1.5)
    assert not live.node.waiting(key)


# -- status and close


def test_status_and_etag(live: LiveGateway) -> None:
    """200 with ETag; 304 while nothing changes; another tag when it does. HEAD works alike."""
    key = live.submit()
    path = f"/v1/jobs/{key.hex()}"
    first = live.client.get(path)
    assert first.status_code == 200
    assert first.json()["state"] == "queued"
    tag = first.headers["etag"]
    again = live.client.get(path, headers={"If-None-Match": f'"other", W/{tag}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert live.client.head(path).headers["etag"] == tag
    live.node.finish(key, b"x")
    changed = live.client.get(path, headers={"If-None-Match": tag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != tag


def test_close(live: LiveGateway) -> None:
    """204, then 410; closing again, or what never was, is 204."""
    key = live.submit()
    for name in (key.hex(), key.hex(), STRANGER):
        answer = live.client.delete(f"/v1/jobs/{name}", headers={"X-Request-ID": "r"})
        assert (answer.status_code, answer.content) == (204, b"")
        assert answer.headers["x-request-id"] == "r"
    check_problem(live.client.get(f"/v1/jobs/{key.hex()}/reply"), 410, "job-gone")


def test_close_that_is_not_stored(live: LiveGateway) -> None:
    """A close that the node could not store is no 204."""
    live.node.refusal = (tsp.ERROR, "disk on fire")
    assert (
        check_problem(live.client.delete(f"/v1/jobs/{ISSUED}"), 500, "node-error")["detail"] == "disk on fire"
    )
