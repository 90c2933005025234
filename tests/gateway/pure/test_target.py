"""Paths: which requests are of the hot path, and what they point at."""

import pytest

from gateway.pure import target
from gateway.pure.target import BadServiceError, ServiceNames, classify, job_key

HEX = "019aa8e1f2e58d4c9b7a3f0d5c21e88a"
UUID = "019AA8E1-F2E5-8D4C-9B7A-3F0D5C21E88A"


@pytest.mark.parametrize(
    ("method", "path", "found"),
    [
        ("POST", b"/v1/services/echo/jobs", (target.SUBMIT, b"echo")),
        ("POST", b"/v1/services/a%2Fb/jobs", (target.SUBMIT, b"a%2Fb")),
        ("POST", b"/v1/services//jobs", (target.SUBMIT, b"")),
        ("POST", b"/v1/services/jobs", None),
        ("POST", b"/v1/services/a/b/jobs", None),
        ("POST", b"/v1/services/echo/jobs/", None),
        ("GET", b"/v1/services/echo/jobs", None),
        ("GET", b"/v1/jobs/x/reply", (target.REPLY, b"x")),
        ("HEAD", b"/v1/jobs/x/reply", (target.REPLY, b"x")),
        ("GET", b"/v1/jobs//reply", (target.REPLY, b"")),
        ("GET", b"/v1/jobs/reply", None),
        ("DELETE", b"/v1/jobs/x/reply", None),
        ("DELETE", b"/v1/jobs/x", (target.CLOSE, b"x")),
        ("DELETE", b"/v1/jobs/", (target.CLOSE, b"")),
        ("GET", b"/v1/jobs/x", None),
        ("GET", b"/", None),
        ("GET", b"", None),
    ],
)
def test_classify(method: str, path: bytes, found: tuple[str, bytes] | None) -> None:
    """The prefix check takes exactly the three operations; everything else is the framework's."""
    assert classify(method, path) == found


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"x",
        HEX[:-1].encode(),
        (HEX + "0").encode(),
        b"g" * 32,
        b"%",
        b"%30" * 33,
        b"\xff" * 32,
        b"a" * 999,
    ],
)
def test_no_id(raw: bytes) -> None:
    """What is no id is None, whatever its bytes."""
    assert job_key(raw) is None


@pytest.mark.parametrize("raw", [HEX, HEX.upper(), UUID, UUID.lower(), "%30" + HEX[1:]])
def test_id(raw: str) -> None:
    """Either case, dashes and percent-encoding lead to the same 16 bytes."""
    assert job_key(raw.encode()) == bytes.fromhex(HEX)


@pytest.mark.parametrize(
    "raw",
    [b"", b"a%2Fb", b"mmi.service", b"titanic.request", b"%6dmi.x", b"a" * 256, b"%C3%A9", b"%00", b"\xff"],
)
def test_bad_service(raw: bytes) -> None:
    """Names outside the rule are refused, however they are written."""
    with pytest.raises(BadServiceError):
        ServiceNames().find(raw)


def test_good_service_is_remembered() -> None:
    """A name is decoded once and comes in the forms that answers need."""
    names = ServiceNames()
    service = names.find(b"say%20%22hi%22")
    assert service.name == b'say "hi"'
    assert service.json == rb'"say \"hi\""'
    assert names.find(b"say%20%22hi%22") is service


def test_the_memory_of_names_is_bounded() -> None:
    """A flood of names does not grow the memory beyond its limit."""
    names = ServiceNames()
    for number in range(target.NAMES_MAX + 10):
        names.find(b"s%d" % number)
    assert len(names._known) <= target.NAMES_MAX
