"""Sizes, durations and addresses: what is refused, what is read, and that writing reads back."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.pure import units

NO_SIZES = [
    "",
    " ",
    "MiB",
    "-1",
    "1.5MiB",
    "1e9",
    "8 M i B",
    "8XiB",
    "٣MiB",
    "9" * 20,
    "1" * 5000,
    "8MiB\0",
    "9999999TiB",
]
NO_DURATIONS = [
    "",
    "s",
    "-1s",
    "30",
    "30 s",
    "1y",
    "P",
    "PT",
    "P1DT",
    "P1M",
    "P1Y",
    "1s-1ms",
    "1.s",
    ".5s",
    "1.2345s",
    "٣s",
    "9" * 16 + "s",
    "1" * 9999,
    "999999999w",
    "P1W1D",
    "30S30",
]
NO_ADDRESSES = [
    "",
    ":",
    "8080",
    "host",
    "host:",
    ":80",
    "host:65536",
    "host:-1",
    "host:8x",
    "::1:80",
    "a b:80",
    "http://host:80",
    "host:٣",
]
NO_ENDPOINTS = [
    "",
    "tcp",
    "tcp://",
    "tcp://host",
    "tcp://host:99999",
    "udp://host:1",
    "127.0.0.1:5555",
    "ipc://",
    "ipc://" + "x" * 200,
    "inproc://x",
    "tcp://a b:1",
]


@pytest.mark.parametrize("text", NO_SIZES)
def test_no_size(text: str) -> None:
    """What is no size is refused with an example of one."""
    with pytest.raises(units.UnitError, match=r"8MiB|is more than"):
        units.parse_size(text)


@pytest.mark.parametrize("text", NO_DURATIONS)
def test_no_duration(text: str) -> None:
    """What is no duration is refused with an example of one."""
    with pytest.raises(units.UnitError, match=r"250ms|is more than"):
        units.parse_duration_ms(text)


@pytest.mark.parametrize("text", NO_ADDRESSES)
def test_no_address(text: str) -> None:
    """What is no HOST:PORT is refused with an example of one."""
    with pytest.raises(units.UnitError, match=r"127\.0\.0\.1:8080"):
        units.parse_host_port(text)


@pytest.mark.parametrize("text", NO_ENDPOINTS)
def test_no_endpoint(text: str) -> None:
    """What ZeroMQ could not bind is refused with an example of what it can."""
    with pytest.raises(units.UnitError, match="tcp://"):
        units.check_endpoint(text)


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0", 0),
        ("4096", 4096),
        ("64MiB", 64 << 20),
        ("8mib", 8 << 20),
        ("10 MB", 10**7),
        ("1kB", 1000),
        ("2TiB", 2 << 40),
        ("7B", 7),
    ],
)
def test_size(text: str, size_bytes: int) -> None:
    """A size is a whole number and a unit of 1000 or 1024."""
    assert units.parse_size(text) == size_bytes


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("250ms", 250),
        ("30s", 30_000),
        ("1.5s", 1500),
        ("1h30m", 5_400_000),
        ("7d", 604_800_000),
        ("0s", 0),
        ("PT30S", 30_000),
        ("pt0.25s", 250),
        ("P7D", 604_800_000),
        ("P1DT1H", 90_000_000),
        ("P2W", 1_209_600_000),
    ],
)
def test_duration(text: str, ms: int) -> None:
    """A duration is amounts with units, or ISO 8601 up to weeks."""
    assert units.parse_duration_ms(text) == ms


@given(st.integers(0, units.SIZE_MAX_BYTES))
def test_size_reads_back(size_bytes: int) -> None:
    """A formatted size is the same size."""
    assert units.parse_size(units.format_size(size_bytes)) == size_bytes


@given(st.integers(0, units.DURATION_MAX_MS))
def test_duration_reads_back(ms: int) -> None:
    """A formatted duration is the same duration."""
    assert units.parse_duration_ms(units.format_duration(ms)) == ms


@given(st.text(max_size=70))
def test_any_text(text: str) -> None:
    """No text makes a parser fail in any other way than its own error."""
    for parse in (units.parse_size, units.parse_duration_ms, units.parse_host_port, units.check_endpoint):
        with contextlib.suppress(units.UnitError):
            assert parse(text) not in (None, "")
    assert units.is_loopback(text) in {True, False}


@pytest.mark.parametrize("text", ["127.0.0.1:8080", "[::1]:80", "localhost:1", "0.0.0.0:0"])
def test_address_reads_back(text: str) -> None:
    """An address survives being taken apart and put together."""
    assert units.format_host_port(*units.parse_host_port(text)) == text


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1", True),
        ("127.0.0.1:80", True),
        ("127.1.2.3:80", True),
        ("localhost", True),
        ("::1", True),
        ("[::1]:80", True),
        ("tcp://127.0.0.1:5555", True),
        ("tcp://[::1]:*", True),
        ("ipc:///run/x", True),
        ("0.0.0.0:80", False),
        ("*", False),
        ("tcp://*:5555", False),
        ("tcp://0.0.0.0:5555", False),
        ("::", False),
        ("127.0.0.1.example.org:80", False),
        ("localhost.example.org", False),
        ("10.0.0.1", False),
        ("", False),
    ],
)
def test_loopback(address: str, local: bool) -> None:
    """Only addresses nobody else can reach count as loopback."""
    assert units.is_loopback(address) is local
