"""Every socket that binds gets the same limits, here and nowhere else."""

from __future__ import annotations

import errno
import re
import socket as plain
from collections.abc import Callable
from typing import Final

import zmq

from core.pure import mdp, zap

MESSAGE_MAX_BYTES: Final = 64 * 1024 * 1024
HANDSHAKE_MS: Final = 5_000
ZMTP_HEARTBEAT_MS: Final = 15_000
ZMTP_TIMEOUT_MS: Final = 30_000
SEND_HWM: Final = 10_000
RECEIVE_HWM: Final = 256  # whole messages a peer may have waiting in libzmq; TCP holds it back after that
BACKLOG_COUNT: Final = 100  # connections the kernel may have accepted for us
LIBZMQ_MIN: Final = (4, 3, 5)

_TCP: Final = re.compile(r"tcp://(\*|localhost|[0-9.]+|\[[0-9a-fA-F:.]+\]):(\*|[0-9]{1,5})")


def bind_router(
    context: zmq.Context[zmq.Socket[bytes]],
    endpoint: str,
    *,
    message_max_bytes: int = MESSAGE_MAX_BYTES,
    secret_key: bytes = b"",
) -> tuple[zmq.Socket[bytes], str]:
    """A bound ROUTER that refuses oversized frames and reports unreachable peers, and its real endpoint.

    With ``secret_key`` it speaks CURVE only, with whom the context's ZAP handler knows: without a handler,
    with nobody (ZMQ_ZAP_ENFORCE_DOMAIN). Port ``*`` or ``0`` picks a free one. Raises zmq.ZMQError when
    the address is taken or wrong.
    """
    if zmq.zmq_version_info() < LIBZMQ_MIN:
        wanted = ".".join(map(str, LIBZMQ_MIN))
        raise RuntimeError(f"libzmq {zmq.zmq_version()} is too old: {wanted} or newer is needed")
    socket: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
    socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
    socket.setsockopt(zmq.MAXMSGSIZE, message_max_bytes)
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    socket.setsockopt(zmq.HEARTBEAT_IVL, ZMTP_HEARTBEAT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, ZMTP_TIMEOUT_MS)
    socket.setsockopt(zmq.SNDHWM, SEND_HWM)
    socket.setsockopt(zmq.RCVHWM, RECEIVE_HWM)
    socket.setsockopt(zmq.BACKLOG, BACKLOG_COUNT)
    socket.setsockopt(zmq.LINGER, 0)
    if secret_key:
        socket.setsockopt(zmq.ZAP_DOMAIN, zap.DOMAIN.encode())
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, secret_key)
    try:
        socket.bind(endpoint)
    except zmq.ZMQError:
        socket.close()
        raise
    return socket, socket.getsockopt_string(zmq.LAST_ENDPOINT)


def listen_tcp(endpoint: str) -> tuple[plain.socket, str] | None:
    """A socket that listens at this address, and its real endpoint; None if that is no plain TCP address.

    ``*`` is every IPv4 address, port ``*`` or ``0`` a free one. OSError when the address is taken or not
    ours.
    """
    match = _TCP.fullmatch(endpoint)
    if match is None:
        return None
    host, port = match[1].strip("[]"), match[2]
    family = plain.AF_INET6 if ":" in host else plain.AF_INET
    listener = plain.socket(family, plain.SOCK_STREAM)
    try:
        listener.setsockopt(plain.SOL_SOCKET, plain.SO_REUSEADDR, 1)
        listener.bind(("" if host == "*" else host, 0 if port == "*" else int(port)))
        listener.listen(BACKLOG_COUNT)
    except OSError as error:
        listener.close()
        raise OSError(error.errno, error.strerror, endpoint) from error
    except OverflowError as error:
        listener.close()
        raise OSError(errno.EINVAL, "a port is at most 65535", endpoint) from error
    address, bound_port = listener.getsockname()[:2]
    return listener, f"tcp://{f'[{address}]' if ':' in address else address}:{bound_port}"


def trace_received(trace: Callable[[str], None] | None) -> Callable[[str, list[bytes]], None] | None:
    """A bound socket's pump trace that writes one decoded line per message: ``<`` in, ``>`` out."""
    if trace is None:
        return None
    return lambda way, frames: trace(
        f"{'<' if way == 'in' else '>'} {mdp.explain(frames, to_broker=way == 'in')}"
    )
