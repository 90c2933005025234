"""The vote in a greeting: an epoch and a stamp, or the epoch alone, or no vote."""

import pytest

from core.pure.pair_heads import Vote, encode_vote, maybe_vote


def test_a_vote_is_read_as_it_was_said() -> None:
    """Both numbers, up to the last bit; without a stamp it is 0, which never sends an active on alone."""
    for epoch, stamp_ms in ((0, 0), (7, 123_456), (2**64 - 1, 2**64 - 1)):
        assert maybe_vote((encode_vote(epoch, stamp_ms),)) == Vote(epoch, stamp_ms)
    assert maybe_vote(((7).to_bytes(8, "big"),)) == Vote(7, 0)


@pytest.mark.parametrize("body", [(), (b"",), (b"1234567",), (b"x" * 15,), (b"x" * 17,), (b"x" * 8, b"y")])
def test_anything_else_is_no_vote(body: tuple[bytes, ...]) -> None:
    """A greeting of a client that knows nothing of pairs is a greeting."""
    assert maybe_vote(body) is None
