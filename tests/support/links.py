"""Both ways of connecting: our own DEALER, and libzmq's for everybody."""

from __future__ import annotations

import pytest

from core.shell import link


@pytest.fixture(autouse=True, params=["own", "libzmq"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every test of a file that imports it holds for both."""
    if request.param == "libzmq":
        monkeypatch.setattr(link, "plain_address", lambda endpoint: None)
    way: str = request.param
    return way
