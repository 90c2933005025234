"""Who serves the peers of a bound endpoint."""

from __future__ import annotations

import asyncio

import pytest

from core.shell.clock import Clock
from core.shell.door import Door
from core.shell.pump import SocketPump
from core.shell.router import Router


@pytest.mark.parametrize(
    ("by_libzmq", "endpoint", "kind"),
    [
        (False, "tcp://127.0.0.1:0", Router),
        (True, "tcp://127.0.0.1:0", SocketPump),
        (False, "ipc://{folder}/broker", SocketPump),
    ],
    ids=["own", "chosen", "ipc"],
)
def test_our_own_router_serves_plain_tcp_unless_libzmq_is_chosen(
    by_libzmq: bool, endpoint: str, kind: type, tmp_path: object
) -> None:
    """The setting ``zmtp`` decides for plain TCP; everything else is libzmq's anyway."""

    async def opened() -> object:
        door = Door(
            *(Clock(), lambda frames: None, lambda name, now: None, lambda name, now: None, lambda: None),
            message_max_bytes=1 << 20,
            frames_max=100,
            by_libzmq=by_libzmq,
        )
        try:
            door.open(endpoint.format(folder=tmp_path))
            return door._pump
        finally:
            door.close()

    assert type(asyncio.run(opened())) is kind
