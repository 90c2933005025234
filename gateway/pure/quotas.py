"""How many jobs each key has open: what the node last said, and what was submitted here since."""

from __future__ import annotations

from collections.abc import Mapping


class Quotas:
    """Counts of one gateway process; told what the node says and what it accepted.

    Between two readings, several gateways may together pass a quota by what they accept in that time: the
    limit guards the store from a runaway client, it is no ledger.
    """

    def __init__(self) -> None:
        self._known: dict[str, int] = {}
        self._since: dict[str, int] = {}
        self.read_at_ms = -1

    def update(self, owners: Mapping[str, int], now_ms: int) -> None:
        """The node said how many jobs each owner has open."""
        self._known = dict(owners)
        self._since = {}
        self.read_at_ms = now_ms

    def accepted(self, owner: str, count: int = 1) -> None:
        """So many jobs of the owner were stored just now."""
        self._since[owner] = self._since.get(owner, 0) + count

    def open_count(self, owner: str) -> int:
        """Jobs the owner has open, as far as is known here."""
        return self._known.get(owner, 0) + self._since.get(owner, 0)
