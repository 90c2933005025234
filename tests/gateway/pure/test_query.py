"""Options as query parameters."""

import pytest

from gateway.pure.query import (
    BadParametersError,
    ListOptions,
    SubmitOptions,
    events_service,
    list_options,
    no_options,
    submit_options,
)


@pytest.mark.parametrize(
    ("query", "names"),
    [
        (b"retries=3", ["retries"]),
        (b"retries=3&colour=red&attempts=1", ["retries", "colour"]),
        (b"attempts=", ["attempts"]),
        (b"attempts=-1", ["attempts"]),
        (b"attempts=1001", ["attempts"]),
        (b"attempts=%C2%B2", ["attempts"]),
        (b"attempts=1&attempts=2", ["attempts"]),
        (b"timeout=30", ["timeout"]),
        (b"timeout=0s", ["timeout"]),
        (b"timeout=8d", ["timeout"]),
        (b"timeout", ["timeout"]),
        (b"delay=-5s", ["delay"]),
        (b"delay=400d", ["delay"]),
        (b"not_before=tomorrow", ["not_before"]),
        (b"not_before=2030-01-01T00:00:00", ["not_before"]),
        (b"not_before=0001-01-01T00:00:00Z", ["not_before"]),
        (b"not_before=9999-12-31T23:59:59Z", ["not_before"]),
        (b"expires=0s", ["expires"]),
        (b"expires=1m&delay=1m", ["expires"]),
        (b"retention=0s", ["retention"]),
        (b"priority=urgent&priority=low&priority=high", ["priority", "priority"]),
        (b"=", [""]),
        (b"\xff=1", [""]),
        (b"%ff=1", [""]),
        (b"&".join(b"a%d=1" % i for i in range(100)), [""]),
    ],
)
def test_refused(query: bytes, names: list[str]) -> None:
    """Every parameter that cannot be used is named."""
    with pytest.raises(BadParametersError) as caught:
        submit_options(query)
    assert [fault.parameter for fault in caught.value.faults] == names
    assert all(fault.detail for fault in caught.value.faults)


@pytest.mark.parametrize(
    ("query", "options"),
    [
        (b"", SubmitOptions()),
        (b"attempts=0", SubmitOptions(attempts_max=0)),
        (b"attempts=3&timeout=1m", SubmitOptions(60_000, 3)),
        (b"timeout=PT2S", SubmitOptions(2_000)),
        (b"timeout=1%6d", SubmitOptions(60_000)),
        (
            b"priority=high&delay=1m&expires=PT2M",
            SubmitOptions(priority=2, delay_ms=60_000, expires_after_ms=120_000),
        ),
        (b"not_before=2030-01-01T00:00:00Z", SubmitOptions(not_before_ms=1_893_456_000_000)),
        (b"not_before=2030-01-01T01:00:00.5+01:00", SubmitOptions(not_before_ms=1_893_456_000_500)),
        (b"retention=7d", SubmitOptions(retention_ms=7 * 86_400_000)),
    ],
)
def test_taken(query: bytes, options: SubmitOptions) -> None:
    """What is given is taken, what is not keeps the server's default."""
    assert submit_options(query) == options


def test_requests_without_options_take_none() -> None:
    """A misspelt option is refused where there are no options, too."""
    no_options(b"")
    no_options(b"&")
    with pytest.raises(BadParametersError) as caught:
        no_options(b"wait=5")
    assert caught.value.faults[0].parameter == "wait"


@pytest.mark.parametrize(
    ("query", "names"),
    [
        (b"limit=0", ["limit"]),
        (b"limit=501", ["limit"]),
        (b"limit=1e2", ["limit"]),
        (b"state=dead", ["state"]),
        (b"service=", ["service"]),
        (b"cursor=", ["cursor"]),
        (b"cursor=%00", ["cursor"]),
        (b"page=2", ["page"]),
    ],
)
def test_lists_that_are_refused(query: bytes, names: list[str]) -> None:
    """A list takes service, state, limit and cursor, each within its range."""
    with pytest.raises(BadParametersError) as caught:
        list_options(query)
    assert [fault.parameter for fault in caught.value.faults] == names


def test_lists_and_events() -> None:
    """What is not asked for is any."""
    assert list_options(b"") == ListOptions()
    assert list_options(b"service=a&state=failed&limit=7&cursor=00") == ListOptions("a", "failed", 7, "00")
    assert events_service(b"") == ""
    assert events_service(b"service=word%20count") == "word count"
    with pytest.raises(BadParametersError):
        events_service(b"state=failed")


def test_a_delay_is_said_in_one_way() -> None:
    """``delay`` and ``not_before`` together are refused: neither can be meant for sure."""
    with pytest.raises(BadParametersError) as refused:
        submit_options(b"delay=5s&not_before=2030-01-31T12:00:00Z")
    assert [fault.parameter for fault in refused.value.faults] == ["not_before"]
