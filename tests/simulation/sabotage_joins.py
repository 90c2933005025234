"""Bugs of catching up that lose nothing and keep two nodes apart: found by liveness alone."""

from __future__ import annotations

import pytest

from core.pure.replication import Receiver
from tests.simulation.sabotage import BUGS, FAMILY_OF, bug, shown_by

__all__ = ["BUGS", "FAMILY_OF"]  # with those of here


@bug
@shown_by("rejoin")
def asks_only_once(patch: pytest.MonkeyPatch) -> None:
    """A question of the follower that is lost is not repeated."""
    patch.setattr(Receiver, "on_tick", lambda self, now_ms: None)
