"""Many jobs as one message to the node, and what the node says of them (``titanic.pack``)."""

from __future__ import annotations

from collections.abc import Sequence
from struct import pack

import msgspec

from core.pure import tsp
from core.pure.jobs import RequestMeta


class Stored(msgspec.Struct, frozen=True, gc=False):
    """What became of jobs that were sent together: without ``lines`` all are stored, new, under ``keys``.

    With ``lines`` each says for itself what became of it; the rest is true of those that are stored.
    """

    keys: Sequence[bytes]
    state: str
    created_ms: int
    durability: str
    epoch: int
    replayed: bool = False
    lines: tuple[tsp.BatchLine, ...] = ()

    @classmethod
    def of(cls, ack: tsp.SubmitAck) -> Stored:
        """One job, which may have been there before."""
        return cls((ack.key,), ack.state, ack.created_ms, ack.durability, ack.epoch, ack.replayed)

    @classmethod
    def of_batch(cls, keys: Sequence[bytes], ack: tsp.BatchAck) -> Stored:
        """Lines that were judged one by one."""
        return cls(keys, "", ack.created_ms, ack.durability, ack.epoch, lines=ack.lines)

    def ack(self, key: bytes) -> tsp.SubmitAck:
        """What is said of the job stored under ``key``."""
        return tsp.SubmitAck(key, self.state, self.created_ms, self.durability, self.epoch, self.replayed)

    def with_state(self, state: str) -> Stored:
        """The same for one of the lines, which is in this state."""
        return msgspec.structs.replace(self, state=state, lines=())


def pack_frames(meta: RequestMeta, keys: Sequence[bytes], bodies: Sequence[bytes]) -> list[bytes]:
    """The body of a ``titanic.pack``: one job per key, of one frame each."""
    sizes = pack(f"<{len(bodies)}I", *map(len, bodies))
    return [tsp.encode_head(tsp.PackHead(b"".join(keys), sizes, meta)), b"".join(bodies)]
