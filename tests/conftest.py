"""Fixtures for every test folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from core.compiled import COMPILED
from tests.support.processes import Processes, processes


@pytest.fixture
def family(tmp_path: Path) -> Iterator[Processes]:
    """Starts real processes; all of them are gone when the test ends."""
    with processes(tmp_path) as started:
        yield started


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long come first, so that no process is left alone with one at the end.

    Tests that put a method of their own in the place of one of ours need the interpreted build.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow") is not None}
    items.sort(key=lambda item: (item.path.parent.name != "native", item.path not in slow))
    if not COMPILED:
        return
    skip = pytest.mark.skip(reason="replaces a method, which a compiled class does not allow")
    for item in items:
        if item.get_closest_marker("interpreted") is not None:
            item.add_marker(skip)
