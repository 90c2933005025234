"""Waiting in a running loop: for a condition with a deadline, or as long as something must not happen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

DEADLINE_S: Final = 30.0
STEP_S: Final = 0.01


async def until_true(what: str, condition: Callable[[], object], *, deadline_s: float = DEADLINE_S) -> None:
    """The condition holds. AssertionError with ``what`` after the deadline."""
    loop = asyncio.get_running_loop()
    end = loop.time() + deadline_s
    while not condition():
        assert loop.time() < end, f"not within {deadline_s} s: {what}"
        await asyncio.sleep(STEP_S)


async def check_never(
    what: str, condition: Callable[[], object], *, for_s: float, meanwhile: Callable[[], None] = lambda: None
) -> None:
    """The condition does not hold once in ``for_s`` seconds; ``meanwhile`` is done at every look."""
    loop = asyncio.get_running_loop()
    end = loop.time() + for_s
    while loop.time() < end:
        meanwhile()
        assert not condition(), what
        await asyncio.sleep(STEP_S)
