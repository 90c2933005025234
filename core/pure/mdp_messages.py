"""What the readers of :mod:`core.pure.mdp` make of frames: plain values, one class for each message."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from core.pure.ports import Path


class ClientRequest(msgspec.Struct, frozen=True, gc=False):
    """A client asks ``service``; answer to ``path`` with :func:`core.pure.mdp.to_client`."""

    path: Path
    service: bytes
    body: Sequence[bytes]
    version: int = 1


class WorkerReady(msgspec.Struct, frozen=True, gc=False):
    """A worker offers ``service``."""

    identity: bytes
    service: bytes
    version: int = 1


class WorkerReply(msgspec.Struct, frozen=True, gc=False):
    """A worker's REPLY or FINAL (``final``), or one of the PARTIALs before it."""

    identity: bytes
    address: bytes
    body: Sequence[bytes]
    final: bool = True
    version: int = 1


class Heartbeat(msgspec.Struct, frozen=True, gc=False):
    """The peer is there; ``identity`` is empty when the peer is the broker."""

    identity: bytes = b""
    version: int = 1


class Disconnect(msgspec.Struct, frozen=True, gc=False):
    """The peer ends the conversation; ``reason`` is what a worker of ours says about its failure."""

    identity: bytes = b""
    reason: tuple[bytes, ...] = ()
    version: int = 1


class ClientReply(msgspec.Struct, frozen=True, gc=False):
    """An answer as the client's DEALER reads it; ``final`` is False for a PARTIAL."""

    envelope: Path
    service: bytes
    body: Sequence[bytes]
    final: bool = True


class WorkerRequest(msgspec.Struct, frozen=True, gc=False):
    """Work for a worker; ``address`` goes back unchanged in the reply."""

    address: bytes
    body: Sequence[bytes]
    version: int = 1


FromPeer = ClientRequest | WorkerReady | WorkerReply | Heartbeat | Disconnect
FromBroker = WorkerRequest | Heartbeat | Disconnect
