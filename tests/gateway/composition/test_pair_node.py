"""A node of a pair that meets our own mistake ends rather than follow nobody for ever."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from core.pure.pair import State
from core.pure.twin import TwinOptions
from core.shell.node import NodeOptions
from gateway.composition.pair import Files
from gateway.composition.pair_node import PairNode, PairOptions
from tests.support.processes import free_port
from titanic_store import Options

OPTIONS = Options(chunk_bytes=1 << 20, floor_chunks=6, max_bytes=16 << 20)


def made(folder: Path) -> PairNode:
    """A backup that has not met its peer; inside a loop."""
    files = Files(folder, OPTIONS, lambda: None)
    return PairNode(
        files.open(accept_loss=False),
        NodeOptions(broker="tcp://127.0.0.1:0", version="0"),
        PairOptions(
            bind=f"tcp://127.0.0.1:{free_port()}",
            peer=f"tcp://127.0.0.1:{free_port()}",
            twin=TwinOptions(backup=True),
        ),
        again=files.again,
        aside=files.aside,
        report=files.report,
    )


@pytest.mark.parametrize("active", [False, True])
def test_a_message_that_cannot_be_dealt_with(
    active: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes again and again: a node that does not serve starts anew; one that serves loses it."""

    async def scene() -> None:
        node = made(tmp_path)
        node.start()

        def broken(frames: object, now_ms: int) -> None:
            raise RuntimeError("our own mistake")

        monkeypatch.setattr(node.twin, "on_message", broken)
        if active:
            node.twin.state = State.ALONE
            with pytest.raises(RuntimeError, match="our own"):
                node._on_peer([b"x"])
        else:
            node._on_peer([b"x"])
        assert node.halted is not active
        node.close()
        node.host.journal.abandon()

    asyncio.run(scene())
