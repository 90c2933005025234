"""The management services of a broker, RFC 8/MMI: ``mmi.service``, and ours beyond it.

| service | body in | answer |
|---|---|---|
| ``mmi.service`` | service | ``200`` if it is there, else ``404`` |
| ``mmi.workers`` (ours) | service | ``200``, workers, idle workers; or ``404`` if none is registered |
| ``mmi.services`` (ours) | prefix, optionally a name | ``200``, then one frame per service |
| any other ``mmi.*`` | | ``501`` |

Numbers are decimal text. A frame of ``mmi.services`` reads ``workers idle requests jobs name``; services
that begin with the prefix come in the order of their bytes, at most 256; those after the given name.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

PREFIX: Final = b"mmi."
SERVICE: Final = b"mmi.service"
WORKERS: Final = b"mmi.workers"
SERVICES: Final = b"mmi.services"
IMPLEMENTED: Final = frozenset((SERVICE, WORKERS, SERVICES))
ROWS_MAX_COUNT: Final = 256

FOUND: Final = b"200"
NOT_FOUND: Final = b"404"
NOT_IMPLEMENTED: Final = b"501"


class ServiceRow(msgspec.Struct, frozen=True, gc=False):
    """One service as it stands."""

    name: bytes
    workers: int
    idle: int
    requests: int  # transient ones that wait
    jobs: int  # durable ones that could run now


class Directory(Protocol):
    """What a broker tells about its services."""

    def available(self, service: bytes) -> bool:
        """Whether a request for it finds somebody: a worker, or the broker itself."""
        ...

    def row(self, service: bytes) -> ServiceRow | None:
        """Its numbers; None if it has neither workers nor waiting requests."""
        ...

    def names(self) -> Sequence[bytes]:
        """All that have a row, sorted."""
        ...


def answer(service: bytes, body: Sequence[bytes], directory: Directory) -> list[bytes]:
    """The body frames that answer a request for an ``mmi.`` service."""
    if service == SERVICE:
        return [FOUND if directory.available(body[0]) else NOT_FOUND]
    if service == WORKERS:
        row = directory.row(body[0])
        if row is None or not row.workers:
            return [NOT_FOUND]
        return [FOUND, b"%d" % row.workers, b"%d" % row.idle]
    if service == SERVICES:
        return [FOUND, *_rows(body[0], body[1] if len(body) > 1 else b"", directory)]
    return [NOT_IMPLEMENTED]


def _rows(prefix: bytes, after: bytes, directory: Directory) -> list[bytes]:
    names = directory.names()
    at = max(bisect_left(names, prefix), bisect_right(names, after))
    rows = []
    for name in names[at : at + ROWS_MAX_COUNT]:
        if not name.startswith(prefix):
            break
        row = directory.row(name)
        assert row is not None, "a name without a row"
        rows.append(b"%d %d %d %d %b" % (row.workers, row.idle, row.requests, row.jobs, name))
    return rows
