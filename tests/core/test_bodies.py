"""Bodies kept in memory: what is stored later is never hidden by what was kept before."""

from __future__ import annotations

from core.pure.fresh import Fresh
from core.shell.bodies import Bodies
from tests.support.titanic_rig import Rig

KEY = b"k" * 16


def test_a_later_reply_ends_one_that_was_kept() -> None:
    """Kept for who waited, never read, then followed by one nobody waited for: that one is read."""
    bodies = Bodies(Rig().journal)
    bodies.replied(KEY, b"meta", [b"first"])
    bodies.superseded(KEY)
    assert len(bodies._replies) == 0


def test_what_is_taken_is_gone_and_counted() -> None:
    """Once each; the bytes are given back."""
    fresh = Fresh()
    fresh.put(KEY, b"meta", [b"12345"])
    fresh.put(KEY, b"later", [b"12"])
    assert (len(fresh), fresh.size_bytes) == (1, 2)
    assert fresh.take(KEY) == (b"later", [b"12"])
    assert fresh.take(KEY) is None
    assert fresh.size_bytes == 0
