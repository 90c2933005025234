"""Clock, wall clock and randomness of the store, decided by a seed, so that a history can be told again."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from random import Random
from types import SimpleNamespace

import pytest

import titanic_store.shell


class Clock:
    """Seconds that pass only when somebody says so."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def monotonic(self) -> float:
        """As ``time.monotonic``."""
        return self.now_s

    def time_ns(self) -> int:
        """As ``time.time_ns``, far in the past."""
        return int(self.now_s * 1e9)

    def sleep(self, seconds: float) -> None:
        """As ``time.sleep``, in no time."""
        self.now_s += seconds


@contextmanager
def decided_by(seed: int) -> Iterator[Clock]:
    """Every module of the store's shell has its clock and its secrets from here while the block runs."""
    clock, random = Clock(), Random(f"sources {seed}")
    replaced: dict[str, object] = {
        "monotonic": clock.monotonic,
        "time_ns": clock.time_ns,
        "time": SimpleNamespace(time_ns=clock.time_ns, monotonic=clock.monotonic, sleep=clock.sleep),
        "secrets": SimpleNamespace(token_bytes=random.randbytes),
    }
    with pytest.MonkeyPatch.context() as patch:
        for found in pkgutil.iter_modules(titanic_store.shell.__path__):
            module = import_module(f"titanic_store.shell.{found.name}")
            for name, fake in replaced.items():
                if hasattr(module, name):
                    patch.setattr(module, name, fake)
        yield clock
