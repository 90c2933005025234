"""How many jobs and bytes each key has open: what the node last said, and what was submitted here since."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple


class Open(NamedTuple):
    """What somebody has open, or is allowed to."""

    jobs: int
    size_bytes: int


NONE: Final = Open(0, 0)


class Quotas:
    """Counts of one gateway process; told what the node says and what it accepted.

    Between two readings, several gateways may together pass a quota by what they accept in that time: the
    limit guards the store from a runaway client, it is no ledger.
    """

    def __init__(self) -> None:
        self._known: dict[str, Open] = {}
        self._since: dict[str, Open] = {}
        self.read_at_ms = -1

    def update(self, counts: Mapping[str, int], sizes: Mapping[str, int], now_ms: int) -> None:
        """The node said how many jobs, and bytes of their requests, each owner has open."""
        self._known = {owner: Open(count, sizes.get(owner, 0)) for owner, count in counts.items()}
        self._since = {}
        self.read_at_ms = now_ms

    def accepted(self, owner: str, count: int = 1, size_bytes: int = 0) -> None:
        """So many jobs and bytes of the owner were stored just now."""
        before = self._since.get(owner, NONE)
        self._since[owner] = Open(before.jobs + count, before.size_bytes + size_bytes)

    def open(self, owner: str) -> Open:
        """What the owner has open, as far as is known here."""
        known, since = self._known.get(owner, NONE), self._since.get(owner, NONE)
        return Open(known.jobs + since.jobs, known.size_bytes + since.size_bytes)
