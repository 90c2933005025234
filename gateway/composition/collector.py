"""The cycle collector, set for processes whose many objects form no cycles, or stay for ever."""

from __future__ import annotations

import gc
from typing import Final

YOUNG_COUNT: Final = 20_000
MIDDLE_COUNT: Final = 20
OLD_COUNT: Final = 100


def calm_collector() -> None:
    """What exists now is never looked at again, and young objects are looked at rarely.

    On the path of a job almost everything dies by its reference count; with the default thresholds the
    collector was up to a third of the time of a submit. Cycles (tracebacks, mostly) are still found.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_COUNT, MIDDLE_COUNT, OLD_COUNT)
