"""Both nodes of a pair, asked directly: what operators' commands and ``serve --pair`` want to know."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

import msgspec

from core.errors import ServerUnreachableError
from core.pure.pair_heads import PAIR, PairCommand, decode_pair_status
from core.pure.tsp import UNAVAILABLE, decode_error, encode_head
from core.shell.curve import ClientKeys, load_client
from core.shell.dealer import NodeDealer
from core.shell.link import TraceLine

TIMEOUT_S: Final = 3.0
ANSWERED: Final = (b"200", b"409")
Answers = dict[str, dict[str, Any]]


async def ask_one(
    endpoint: str,
    command: PairCommand,
    *,
    keys: ClientKeys | None = None,
    trace: TraceLine | None = None,
    timeout_s: float = TIMEOUT_S,
) -> dict[str, Any]:
    """PairStatus as plain values, and whether the command was ``done``; or the ``error``."""
    dealer = NodeDealer((endpoint,), keys=keys, trace=trace)
    dealer.start()
    try:
        answer = await dealer.call(PAIR, (encode_head(command),), timeout_s)
    except ServerUnreachableError as error:
        return {"error": str(error)}
    finally:
        dealer.close()
    if answer[0] == UNAVAILABLE:
        return {"error": decode_error(answer[1]).detail, "state": "not ready"}
    if answer[0] not in ANSWERED:
        return {"error": "this node is not one of a pair"}
    status = decode_pair_status(answer[1])
    changes = [msgspec.structs.asdict(change) for change in status.changes]
    return {"done": answer[0] == b"200", **msgspec.structs.asdict(status), "changes": changes}


async def ask_all(
    nodes: tuple[str, ...],
    command: PairCommand,
    *,
    keys: ClientKeys | None = None,
    trace: TraceLine | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Answers:
    """Endpoint -> what :func:`ask_one` says."""
    answers = await asyncio.gather(
        *(ask_one(node, command, keys=keys, trace=trace, timeout_s=timeout_s) for node in nodes)
    )
    return dict(zip(nodes, answers, strict=True))


def ask(
    nodes: tuple[str, ...],
    curve_dir: Path | None,
    action: str,
    *,
    force: bool = False,
    trace: TraceLine | None = None,
) -> Answers:
    """See :func:`ask_all`; for plain code. Raises CurveError."""
    keys = load_client(curve_dir) if curve_dir is not None else None
    return asyncio.run(ask_all(nodes, PairCommand(action, force), keys=keys, trace=trace))
