"""Fixtures for every test folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import Processes, processes


@pytest.fixture
def family(tmp_path: Path) -> Iterator[Processes]:
    """Starts real processes; all of them are gone when the test ends."""
    with processes(tmp_path) as started:
        yield started
