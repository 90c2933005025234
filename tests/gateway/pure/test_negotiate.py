"""Prefer, Accept and If-None-Match."""

import pytest

from gateway.pure import negotiate

F = negotiate.FRAMES_TYPE


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        ([], None),
        ([b""], None),
        ([b"wait"], None),
        ([b"wait="], None),
        ([b"wait=-1"], None),
        ([b"wait=1.5"], None),
        ([b"wait=9999999999"], None),
        ([b"wait=\xb2"], None),
        ([b"waiting=5"], None),
        ([b"wait=x, wait=5"], None),
        ([b"wait=0"], 0),
        ([b"wait=10"], 10),
        ([b'WAIT = "10"'], 10),
        ([b"respond-async, wait=10;strict=1"], 10),
        ([b"respond-async", b"foo; a=b, wait=7"], 7),
        ([b"wait=3, wait=9"], 3),
    ],
)
def test_wait(values: list[bytes], seconds: int | None) -> None:
    """The first wait preference counts; what is malformed or unknown is ignored (RFC 7240)."""
    assert negotiate.wait_s(values) == seconds


@pytest.mark.parametrize(
    ("values", "named", "accepted"),
    [
        ([], False, True),
        ([b""], False, True),
        ([b"*/*"], False, True),
        ([b"application/*"], False, True),
        ([F], True, True),
        ([F.upper()], True, True),
        ([b"text/plain, " + F + b";q=0.5"], True, True),
        ([b"text/plain"], False, False),
        ([b"text/plain", b"*/*;q=0.1"], False, True),
        ([b"*/*, " + F + b";q=0"], False, False),
        ([b"*/*;q=0.000"], False, False),
        ([b"application/*;q=0, */*"], False, False),
    ],
)
def test_accept(values: list[bytes], named: bool, accepted: bool) -> None:
    """Frames are sent when named; they are allowed unless the most specific range says no (RFC 9110)."""
    assert negotiate.names_frames(values) is named
    assert negotiate.accepts_frames(values) is accepted


def test_etag() -> None:
    """A tag is strong, quoted, and depends on every byte."""
    tag = negotiate.etag(b"abc")
    assert tag.startswith(b'"')
    assert tag.endswith(b'"')
    assert negotiate.etag(b"abd") != tag
    assert negotiate.etag_matches([b'"x", W/' + tag], tag)
    assert negotiate.etag_matches([b"*"], tag)
    assert not negotiate.etag_matches([tag[:-1]], tag)
    assert not negotiate.etag_matches([], tag)


def test_durability_is_ordered() -> None:
    """Each level is stronger than the one before; parameters do not matter; others are none."""
    ranks = [negotiate.durability_rank(v) for v in ("memory", "interval; ms=50", "FSYNC", "replicated")]
    assert ranks == sorted(set(ranks))
    assert negotiate.durability_rank("paper") == -1
