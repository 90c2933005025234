"""The request headers that choose an answer: Prefer (RFC 7240), Accept and If-None-Match (RFC 9110)."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2s
from typing import Final

FRAMES_TYPE: Final = b"application/vnd.titanic.frames+json"
WAIT_DIGITS_MAX: Final = 9

DURABILITIES: Final = ("memory", "interval", "fsync", "replicated")
"""Levels of ``Titanic-Durability``, weakest first."""


def wait_s(values: Iterable[bytes]) -> int | None:
    """The seconds of the first ``wait`` preference in these Prefer header values, or None.

    Preferences that are unknown or malformed are ignored, as RFC 7240 demands. ``respond-async`` is
    what happens anyway, and with a wait it means: wait that long, then answer 202.
    """
    for value in values:
        for element in value.split(b","):
            name, _, rest = element.partition(b"=")
            if name.strip().lower() != b"wait":
                continue
            digits = rest.partition(b";")[0].strip().strip(b'"')
            if digits.isdigit() and len(digits) <= WAIT_DIGITS_MAX:
                return int(digits)
            return None
    return None


def responds_async(values: Iterable[bytes]) -> bool:
    """Whether ``respond-async`` is among the preferences of these Prefer header values."""
    elements = (element for value in values for element in value.split(b","))
    return any(element.partition(b";")[0].strip().lower() == b"respond-async" for element in elements)


def _ranges(values: Iterable[bytes]) -> Iterable[tuple[bytes, bool]]:
    """(media range, whether it is wanted at all) of each element of these Accept header values."""
    for value in values:
        for element in value.lower().split(b","):
            range_, *parameters = (part.strip() for part in element.split(b";"))
            if range_:
                yield range_, not any(_zero(parameter) for parameter in parameters)


def _zero(parameter: bytes) -> bool:
    name, _, value = parameter.partition(b"=")
    return name.strip() == b"q" and value.strip().rstrip(b"0") in (b"", b"0.", b".")


def names_frames(values: Iterable[bytes]) -> bool:
    """Whether Accept names our frames type itself: then even a one-frame reply is sent that way."""
    return any(range_ == FRAMES_TYPE and wanted for range_, wanted in _ranges(values))


def accepts_frames(values: Iterable[bytes]) -> bool:
    """Whether Accept allows our frames type; the most specific range decides (RFC 9110, 12.5.1)."""
    ranges = dict(_ranges(values))
    if not ranges:
        return True
    return next((ranges[r] for r in (FRAMES_TYPE, b"application/*", b"*/*") if r in ranges), False)


def etag(body: bytes) -> bytes:
    """A strong entity tag of these bytes, with its quotes."""
    return b'"' + blake2s(body, digest_size=8).hexdigest().encode() + b'"'


def etag_matches(values: Iterable[bytes], tag: bytes) -> bool:
    """Whether If-None-Match names ``tag``; weak comparison, as RFC 9110, 13.1.2 has it."""
    for value in values:
        for element in value.split(b","):
            candidate = element.strip()
            if candidate == b"*" or candidate.removeprefix(b"W/") == tag:
                return True
    return False


def durability_rank(value: str) -> int:
    """How strong a ``Titanic-Durability`` value is (higher is stronger); -1 if it is none of ours."""
    level = value.partition(";")[0].strip().lower()
    return DURABILITIES.index(level) if level in DURABILITIES else -1
