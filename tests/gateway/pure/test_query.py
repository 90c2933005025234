"""Options as query parameters."""

import pytest

from gateway.pure.query import BadParametersError, SubmitOptions, no_options, submit_options


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
        (b"delay=5s", ["delay"]),
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
