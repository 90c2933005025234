"""Where two logs agree: by the epochs of their records alone (P1, P6)."""

from __future__ import annotations

from collections.abc import Sequence

Epochs = Sequence[tuple[int, int]]
"""(epoch, first sequence with it), oldest first."""


def epoch_at(epochs: Epochs, seq: int) -> int:
    """The epoch of the record ``seq``, 0 if it is not covered."""
    found = 0
    for epoch, first in epochs:
        if first > seq:
            break
        found = epoch
    return found


def last_common(ours: Epochs, our_last: int, theirs: Epochs, their_last: int) -> int:
    """The last sequence up to which two logs agree; -1 if nothing shows that they ever did."""
    mine = {epoch: _span(ours, at, our_last) for at, (epoch, _) in enumerate(ours)}
    for at in range(len(theirs) - 1, -1, -1):
        span = mine.get(theirs[at][0])
        if span is None:
            continue
        first, last = _span(theirs, at, their_last)
        common = min(last, span[1])
        if common >= max(first, span[0]):
            return common
    return -1


def _span(epochs: Epochs, at: int, last_seq: int) -> tuple[int, int]:
    """First and last sequence of the epoch at ``at``."""
    last = epochs[at + 1][1] - 1 if at + 1 < len(epochs) else last_seq
    return epochs[at][1], last
