"""The table of rules and the tests of the RFCs are the same list."""

from __future__ import annotations

import re

import pytest

from tests.support import sources

TABLE = (sources.ROOT / "docs" / "reference" / "rfc-conformance.md").read_text()


@pytest.mark.parametrize("rfc", [7, 18, 8, 9])
def test_no_rule_without_a_test_and_no_test_without_a_rule(rfc: int) -> None:
    """Every test of an RFC stands in its section once, and nothing else does."""
    path = sources.ROOT / "tests" / "core" / f"test_rfc{rfc}.py"
    tests = [function.name for function in sources.functions(path) if function.name.startswith("test_")]
    listed = re.findall(rf"`(test_rfc{rfc}_\w+)`", TABLE)
    assert sorted(tests) == sorted(listed)
    assert len(set(tests)) == len(tests)
