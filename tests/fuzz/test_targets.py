"""The fuzz targets under Hypothesis: a few hundred inputs each, in CI."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import FIRST_WORD, TARGETS, WORDS, frames_of, messages_of

INPUTS = st.lists(
    st.integers(FIRST_WORD, 255).map(lambda byte: bytes((byte,))) | st.binary(max_size=12), max_size=120
).map(b"".join)


@pytest.mark.parametrize("target", TARGETS.values(), ids=list(TARGETS))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=INPUTS)
def test_any_bytes_end_in_an_answer_or_a_counted_drop(target: Callable[[bytes], None], data: bytes) -> None:
    """The target's own assertions hold and nothing unexpected is raised."""
    target(data)
    assert isinstance(messages_of(data), list)


def test_the_inputs_reach_the_protocols() -> None:
    """The words the inputs are made of are whole commands: a fuzzer need not guess six letters."""
    ready = bytes(FIRST_WORD + WORDS.index(word) for word in (b"", b"MDPW01", b"\x01", b"echo"))
    assert frames_of(ready) == [b"", b"MDPW01", b"\x01", b"echo"]
    assert frames_of(b"\x03abc\x00") == [b"abc", b""]
    assert frames_of(b"\x09short") == [b"short"]
