"""What an acknowledgement says of its own worth, corrected when the world changed before it left (P2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from core.pure import tsp

REPLICATED: Final = "replicated"
_NAME: Final = REPLICATED.encode()


def worth(service: bytes, frames: Sequence[bytes], durability: str) -> Sequence[bytes]:
    """The frames of an answer; an acknowledgement that says *replicated* says ``durability`` instead."""
    if len(frames) != 2 or frames[0] != tsp.OK or _NAME not in frames[1]:
        return frames
    ack: tsp.SubmitAck | tsp.BatchAck | tsp.PackAck
    if service == tsp.SUBMIT:
        ack = tsp.decode_ack(frames[1])
    elif service == tsp.BATCH:
        ack = tsp.decode_batch_ack(frames[1])
    elif service == tsp.PACK:
        ack = tsp.decode_pack_ack(frames[1])
    else:
        return frames
    return frames[0], tsp.encode_head(msgspec.structs.replace(ack, durability=durability))
