"""Sizes, durations and network addresses as people write them.

    size      | digits | B KiB MiB GiB TiB kB MB GB TB or nothing (bytes)   |   64MiB
    duration  | digits, up to 3 decimals | ms s m h d w | ... again         |   250ms  30s  1h30m  7d
              | or ISO 8601 with weeks, days and times, PnW or PnDTnHnMnS   |   PT30S  P7D

Months and years are refused: nobody knows how long they are.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

SIZE_MAX_BYTES: Final = 1 << 62
DURATION_MAX_MS: Final = 10 * 365 * 86_400_000
TEXT_MAX_CHARS: Final = 64

_SIZES: Final = {
    "": 1,
    "b": 1,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
    "tib": 1 << 40,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
}
_DURATIONS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_BINARY: Final = (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))
_SHOWN: Final = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1))
assert max(_DURATIONS.values()) < DURATION_MAX_MS, "every unit fits into the limit"

_SIZE: Final = re.compile(r"([0-9]{1,19}) ?([A-Za-z]{0,3})", re.ASCII)
_AMOUNT: Final = r"[0-9]{1,15}(?:[.,][0-9]{1,3})?"
_PART: Final = re.compile(rf"({_AMOUNT})(ms|s|m|h|d|w)", re.ASCII)
_PARTS: Final = re.compile(rf"(?:{_AMOUNT}(?:ms|s|m|h|d|w))+", re.ASCII)
_ISO: Final = re.compile(
    rf"P(?:({_AMOUNT})W|(?:({_AMOUNT})D)?(?:T(?:({_AMOUNT})H)?(?:({_AMOUNT})M)?(?:({_AMOUNT})S)?)?)", re.ASCII
)
_ISO_MS: Final = (604_800_000, 86_400_000, 3_600_000, 60_000, 1000)
_HOST: Final = re.compile(r"\[[0-9A-Fa-f:.%]{2,60}\]|[A-Za-z0-9._-]{1,253}", re.ASCII)
_LOOPBACK: Final = re.compile(r"127\.[0-9.]{5,11}|localhost|\[?::1\]?", re.ASCII)


class UnitError(ValueError):
    """The text is no size, duration or address; the message shows what one looks like."""


def parse_size(text: str) -> int:
    """Bytes of ``64MiB``, ``10 MB`` or ``4096``; upper and lower case mean the same. Raises UnitError."""
    found = _SIZE.fullmatch(text.strip()) if len(text) <= TEXT_MAX_CHARS else None
    factor = _SIZES.get(found[2].lower()) if found else None
    if found is None or factor is None:
        raise UnitError(f"{_quoted(text)} is not a size: write 8MiB, 10GB or 4096")
    size_bytes = int(found[1]) * factor
    if size_bytes > SIZE_MAX_BYTES:
        raise UnitError(f"{_quoted(text)} is more than {format_size(SIZE_MAX_BYTES)}")
    return size_bytes


def format_size(size_bytes: int) -> str:
    """The shortest exact text that :func:`parse_size` reads back: ``8MiB``, ``1500B``."""
    for unit, factor in _BINARY:
        if size_bytes >= factor and size_bytes % factor == 0:
            return f"{size_bytes // factor}{unit}"
    return f"{size_bytes}B"


def parse_duration_ms(text: str) -> int:
    """Milliseconds of ``250ms``, ``1h30m`` or ISO 8601's ``PT30S``, rounded down. Raises UnitError."""
    stripped = text.strip() if len(text) <= TEXT_MAX_CHARS else ""
    iso = _ISO.fullmatch(stripped.upper())
    if iso is not None and any(iso.groups()) and not stripped.upper().endswith("T"):
        parts = [(amount, ms) for amount, ms in zip(iso.groups(), _ISO_MS, strict=True) if amount]
    elif _PARTS.fullmatch(stripped):
        parts = [(amount, _DURATIONS[unit]) for amount, unit in _PART.findall(stripped)]
    else:
        raise UnitError(f"{_quoted(text)} is not a duration: write 250ms, 30s, 5m, 2h, 7d or PT30S")
    total_ms = int(sum(Decimal(amount.replace(",", ".")) * ms for amount, ms in parts))
    if total_ms > DURATION_MAX_MS:
        raise UnitError(f"{_quoted(text)} is more than ten years")
    return total_ms


def format_duration(duration_ms: int) -> str:
    """Exact text that :func:`parse_duration_ms` reads back: ``1h30m``, ``250ms``; nothing is ``0s``."""
    text, rest = "", duration_ms
    for unit, factor in _SHOWN:
        count, rest = divmod(rest, factor)
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def parse_host_port(text: str) -> tuple[str, int]:
    """(host, port) of ``127.0.0.1:8080`` or ``[::1]:8080``; the brackets are taken off. Raises UnitError."""
    host, colon, port = text.strip().rpartition(":")
    if not colon or not _HOST.fullmatch(host) or not _is_port(port):
        raise UnitError(f"{_quoted(text)} is not an address: write 127.0.0.1:8080 or [::1]:8080")
    return host.strip("[]"), int(port)


def format_host_port(host: str, port: int) -> str:
    """The text :func:`parse_host_port` reads back."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def check_endpoint(text: str) -> str:
    """The ZeroMQ endpoint itself, if it is one that can be bound or connected to. Raises UnitError."""
    scheme, separator, rest = text.strip().partition("://")
    if separator and scheme == "ipc" and 0 < len(rest) <= 100:
        return text.strip()
    host, colon, port = rest.rpartition(":")
    known = scheme == "tcp" and colon and (host == "*" or _HOST.fullmatch(host))
    if not known or not (port == "*" or _is_port(port)):
        raise UnitError(
            f"{_quoted(text)} is not an endpoint: write tcp://127.0.0.1:5555 or ipc:///run/titanic.sock"
        )
    return text.strip()


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach the host, ``HOST:PORT`` or endpoint (``ipc`` counts as such)."""
    scheme, separator, rest = address.partition("://")
    if separator and scheme == "ipc":
        return True
    rest = rest if separator else address
    host, colon, port = rest.rpartition(":")
    if colon and (port == "*" or _is_port(port)) and (host.startswith("[") or ":" not in host):
        rest = host
    return _LOOPBACK.fullmatch(rest) is not None


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535


def _quoted(text: str) -> str:
    return repr(text if len(text) <= TEXT_MAX_CHARS else text[:TEXT_MAX_CHARS] + "...")
