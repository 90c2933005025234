"""Options are checked when built."""

import pytest

from titanic_store import Options, Policy, Sync


@pytest.mark.parametrize(
    "text", ["", "Always", "interval", "interval:0ms", "interval:5s", "interval:-1ms", " never"]
)
def test_unknown_policies_are_refused(text: str) -> None:
    """The message names the words that are known."""
    with pytest.raises(ValueError, match="neither 'always', 'interval:50ms' nor 'never'"):
        Policy.parse(text)


def test_policies_say_what_they_are_worth() -> None:
    """Each acknowledgement has its label (R12)."""
    assert Policy.parse("always") == Policy(Sync.ALWAYS)
    assert Policy.parse("always").durability == "fsync"
    assert Policy.parse("interval:50ms").durability == "interval; ms=50"
    assert Policy.parse("never").durability == "memory"
    with pytest.raises(ValueError, match="1 to 60000"):
        Policy.parse("interval:60001ms")


@pytest.mark.parametrize(
    "wrong",
    [
        {"chunk_bytes": 65535},
        {"chunk_bytes": 65536 + 512},
        {"chunk_bytes": 2 << 30},
        {"align_bytes": 100},
        {"floor_chunks": 3},
        {"max_bytes": 1 << 20},
    ],
)
def test_impossible_sizes_are_refused(wrong: dict[str, int]) -> None:
    """No store is made that could not work."""
    with pytest.raises(ValueError):
        Options(**wrong)  # type: ignore[arg-type]
