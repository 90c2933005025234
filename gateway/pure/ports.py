"""What the gateway needs of a node, owned by the side that calls it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol


class NodeLink(Protocol):
    """A pipelined way to the node's ``titanic.*`` services (docs/internals/tsp.md).

    Any number of calls may be under way at once. A cancelled call leaves the link usable. ``told``, set
    before the first call, is given the body frames of each ``titanic.told``.
    """

    told: Callable[[list[bytes]], None] | None

    @property
    def patient(self) -> bool:
        """Whether a call waits and is repeated by itself while no node serves."""
        ...

    @property
    def failovers_count(self) -> int:
        """Times that calls went on at another node."""
        ...

    async def call(self, service: bytes, body: Sequence[bytes], timeout_s: float) -> list[bytes]:
        """The body frames of the answer, status first.

        Raises :class:`core.errors.ServerUnreachableError` when none came within ``timeout_s`` seconds: the
        node may or may not have acted on the request.
        """
        ...

    async def ask_all(
        self, service: bytes, body: Sequence[bytes], timeout_s: float
    ) -> list[tuple[str, list[bytes] | str]]:
        """Of every node known, in their order: where it is, and the body frames of its answer or why none."""
        ...
