"""More bugs: of catching up, which keep two nodes apart and lose nothing; and of closes during a split."""

from __future__ import annotations

import pytest

from core.pure.replication import Receiver
from gateway.composition.pair_host import PairHost
from tests.simulation.sabotage import BUGS, FAMILY_OF, bug, shown_by

__all__ = ["BUGS", "FAMILY_OF"]  # with those of here


@bug
@shown_by("rejoin")
def asks_only_once(patch: pytest.MonkeyPatch) -> None:
    """A question of the follower that is lost is not repeated."""
    patch.setattr(Receiver, "on_tick", lambda self, now_ms: None)


@bug
@shown_by("islands")
def a_close_of_the_other_islands_job_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A client that changed sides closes a job that is not there: it is told so, and nothing remembers."""
    patch.setattr(PairHost, "_set_apart", lambda self: None)
