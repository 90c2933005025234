"""Where the gateway processes of one port leave their counts for each other: a folder, a file per process.

A scrape reaches one of them, whichever the kernel picks, and must see all. Each writes its file once a
second, under another name first; the one that is asked reads the others'. prometheus_client's own mode for
several processes was refused: it maps a file per metric into memory and costs each count a lock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gateway.pure import counts
from gateway.pure.counts import Counts

SAVE_S: Final = 1.0
"""How old the counts of another process may be."""
FILE_MAX_BYTES: Final = 16 * 1024 * 1024


class Shelf:
    """The folder as process number ``process`` sees it."""

    def __init__(self, folder: Path, process: int) -> None:
        self._folder = folder
        self._path = folder / f"gateway-{process}.json"

    def save(self, mine: Counts) -> None:
        """Replace this process's file. OSError when the folder is gone: the processes are ending then."""
        fresh = self._path.with_suffix(".new")
        fresh.write_bytes(counts.encode(mine))
        fresh.replace(self._path)

    def others(self) -> list[Counts]:
        """The counts of all other processes, as far as they can be read."""
        found = []
        for path in sorted(self._folder.glob("gateway-*.json")):
            if path != self._path:
                try:
                    with path.open("rb") as file:
                        read = counts.decode(file.read(FILE_MAX_BYTES))
                except OSError:
                    continue  # it ended just now
                if read is not None:
                    found.append(read)
        return found

    async def keep(self, mine: Callable[[], Counts]) -> None:
        """Save for ever, as long as there is a folder."""
        while True:
            try:
                self.save(mine())
            except OSError:
                return
            await asyncio.sleep(SAVE_S)
