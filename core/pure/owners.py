"""How many jobs each owner has open; equal owners are one object."""

from __future__ import annotations


class Owners:
    """Counts open jobs by owner. The empty owner is nobody and not counted."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self.open_counts: dict[str, int] = {}

    def opened(self, owner: str, count: int = 1) -> str:
        """``count`` jobs more; the shared object of this name."""
        if not owner:
            return ""
        name = self._names.setdefault(owner, owner)
        self.open_counts[name] = self.open_counts.get(name, 0) + count
        return name

    def closed(self, owner: str, count: int = 1) -> None:
        """``count`` jobs less."""
        if not owner:
            return
        self.open_counts[owner] -= count
        if not self.open_counts[owner]:
            del self.open_counts[owner], self._names[owner]
