"""What libzmq does not bound by itself, watched from beside: descriptors and memory.

*Descriptors.* When they are used up libzmq 4.3.5 does not abort (``tcp_listener_t::accept`` lets EMFILE
pass), but the listening socket stays readable and its IO thread turns at full speed until somebody
leaves. So before that point the listener is given a socket filter that drops every new connection
request, which peers repeat by themselves, and a reserve of descriptors is let go into which the requests
that had already been queued by the kernel are accepted. ``zmq_unbind`` was refused: it ends all connections.

*Memory.* ``ZMQ_MAXMSGSIZE`` bounds a frame and ``ZMQ_RCVHWM`` counts whole messages, so a peer that never
sends its last frame is held by libzmq without any bound, and nobody above ever sees it; ``ZMQ_SNDHWM``
counts messages too, so a peer that asks for large answers and never reads fills memory with them. If the
process has grown by more than anybody accounts for, connections are shut down: all whose peer has
acknowledged nothing of what waits for it since the last look, or else the one that brought most bytes.

Both need Linux's ``/proc``; elsewhere :meth:`Guard.look` finds nothing to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import logging
import os
import resource
import socket
import struct
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from core.shell.sockets import BACKLOG_COUNT

LOOK_S: Final = 0.25
RESERVE_SHARE: Final = 4  # at most this fraction (1/n) of a small descriptor limit is held in reserve
SWELL_MAX_BYTES: Final = 512 << 20
RAISED_MAX_BYTES: Final = 1 << 30  # of what did not come back after connections were ended
SETTLE_LOOKS: Final = 8  # after a connection was shut down, before another is
LISTENING_MAX_FD: Final = 4_096  # the listener is looked for below this, once, at start

_FDS: Final = Path("/proc/self/fd")
_STATM: Final = Path("/proc/self/statm")
_PAGE_BYTES: Final = resource.getpagesize()
_SO_ATTACH_FILTER: Final = 26  # asm-generic/socket.h
_SO_DETACH_FILTER: Final = 27
_DROP_ALL: Final = struct.pack("HBBI", 0x06, 0, 0, 0)  # BPF: return 0 bytes of the packet
_TCP_INFO: Final = struct.Struct("=120xQQ")  # tcpi_bytes_acked, tcpi_bytes_received (linux/tcp.h)

log = logging.getLogger("titanic.guard")


def raise_descriptor_limit() -> int:
    """The soft limit of open files is the hard limit now (at most 1,048,576); returns it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, 1 << 20) if hard != resource.RLIM_INFINITY else 1 << 20
    if wanted > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return soft


def resident_bytes() -> int:
    """Memory this process has now; 0 where there is no /proc."""
    try:
        return int(_STATM.read_bytes().split()[1]) * _PAGE_BYTES
    except OSError:  # no descriptor is left, or no /proc: the next look may know
        return 0


class Traffic(NamedTuple):
    """What the kernel counts of one connection."""

    acknowledged_bytes: int
    received_bytes: int
    unsent_bytes: int


def culprits(before: dict[int, Traffic], after: dict[int, Traffic]) -> list[int]:
    """Connections to end, by descriptor: all that do not read what waits for them, or who brought most."""
    known = [fd for fd in after if fd in before]
    deaf = [
        fd
        for fd in known
        if after[fd].unsent_bytes
        and before[fd].unsent_bytes
        and after[fd].acknowledged_bytes == before[fd].acknowledged_bytes
    ]
    return deaf or sorted(known, key=lambda fd: after[fd].received_bytes - before[fd].received_bytes)[-1:]


class Guard:
    """Looks four times a second; ``accounted_bytes`` says how much of the process's growth is wanted."""

    def __init__(
        self, port: int, accounted_bytes: Callable[[], int], *, swell_max_bytes: int = SWELL_MAX_BYTES
    ) -> None:
        self.shut_count = 0  # times the listener was shut
        self.ended_count = 0  # connections that were shut down
        self.is_shut = False
        self._port = port
        self._accounted = accounted_bytes
        self._swell_max = swell_max_bytes
        self._limit = raise_descriptor_limit()
        self._reserve_max = min(BACKLOG_COUNT + 8, self._limit // RESERVE_SHARE)
        self._reserve: list[int] = []
        self._listeners = list(_listeners(port))
        self._base_bytes = resident_bytes() - accounted_bytes()
        self._traffic: dict[int, Traffic] = {}
        self._settling = 0
        self._raised_bytes = 0
        self._least_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._fill_reserve()

    def start(self) -> None:
        """Look from now on, in the running loop."""
        self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._on_timer)

    def close(self) -> None:
        """Nothing is looked at and nothing held any more."""
        if self._timer is not None:
            self._timer.cancel()
        self._let_go()
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()

    def _on_timer(self) -> None:
        self.look()
        self.start()

    def look(self) -> None:
        """Compare with the bounds and act; one call takes some tens of microseconds when all is well."""
        self._look_at_descriptors()
        self._look_at_memory()

    def _look_at_descriptors(self) -> None:
        try:
            free = self._limit - self._open_count()
        except OSError:
            free = 0
        if not self.is_shut:
            if free < max(8, self._reserve_max // 4):
                self._shut()
        elif free > 2 * self._reserve_max:
            self._reopen()

    def _open_count(self) -> int:
        """How many descriptors are open: from Linux 6.2 on the size of the folder, before it is counted."""
        return _FDS.stat().st_size or sum(1 for _ in _FDS.iterdir())

    def _shut(self) -> None:
        self.is_shut = True
        self.shut_count += 1
        log.warning("descriptors are used up (limit %d); no new connections for now", self._limit)
        program = ctypes.create_string_buffer(_DROP_ALL, len(_DROP_ALL))
        filter_ = struct.pack("HxxxxxxP", 1, ctypes.addressof(program))
        for listener in self._listeners:
            listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filter_)
        self._let_go()

    def _reopen(self) -> None:
        self.is_shut = False
        log.warning("descriptors are free again; connections are accepted")
        for listener in self._listeners:
            listener.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
        self._fill_reserve()

    def _fill_reserve(self) -> None:
        with contextlib.suppress(OSError):  # what there is, is the reserve
            while len(self._reserve) < self._reserve_max:
                self._reserve.append(os.open(os.devnull, os.O_RDONLY))

    def _let_go(self) -> None:
        for fd in self._reserve:
            os.close(fd)
        self._reserve.clear()

    def _look_at_memory(self) -> None:
        if self._settling:
            _trim()
        swell_bytes = resident_bytes() - self._accounted() - self._base_bytes
        if swell_bytes < self._swell_max // 2:
            self._traffic.clear()
            self._settling = 0
            return
        if self._settling:
            self._settling -= 1
            self._least_bytes = min(self._least_bytes, swell_bytes)
            if not self._settling:  # what the allocator keeps is not the next peer's fault, within limits
                raised_bytes = min(self._least_bytes, RAISED_MAX_BYTES - self._raised_bytes)
                self._raised_bytes += raised_bytes
                self._base_bytes += raised_bytes
            return
        before, self._traffic = self._traffic, _traffic(self._port)
        if swell_bytes < self._swell_max or not before:
            return
        for fd in culprits(before, self._traffic):
            self._end(fd, swell_bytes)
        self._traffic.clear()
        self._settling = SETTLE_LOOKS
        self._least_bytes = swell_bytes

    def _end(self, fd: int, swell_bytes: int) -> None:
        with contextlib.suppress(OSError), _borrowed(fd) as connection:
            peer = connection.getpeername()
            connection.shutdown(socket.SHUT_RDWR)
            self.ended_count += 1
            log.warning("%d MiB more than accounted for: ended the connection of %s", swell_bytes >> 20, peer)


def _trim() -> None:
    """What was freed goes back to the system: glibc keeps it in the arena of libzmq's IO thread."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


@contextlib.contextmanager
def _borrowed(fd: int) -> Iterator[socket.socket]:
    """The descriptor as a socket object that does not close it. OSError if it is none."""
    borrowed = socket.socket(fileno=fd)
    try:
        yield borrowed
    finally:
        borrowed.detach()


def _listeners(port: int) -> Iterator[socket.socket]:
    """Duplicates of this process's sockets that listen at ``port``."""
    if not port or not _FDS.exists():
        return
    for path in list(_FDS.iterdir()):
        if int(path.name) > LISTENING_MAX_FD:
            continue
        with contextlib.suppress(OSError), _borrowed(int(path.name)) as found:
            if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) and found.getsockname()[1] == port:
                # Not found.dup(): that would make the open file, which is the owner's too, blocking.
                yield socket.socket(fileno=os.dup(found.fileno()))


def _traffic(port: int) -> dict[int, Traffic]:
    """Descriptor -> traffic, of every connection to ``port``."""
    found: dict[int, Traffic] = {}
    try:
        fds = [int(path.name) for path in _FDS.iterdir()]
    except OSError:
        return found
    for fd in fds:
        with contextlib.suppress(OSError, struct.error), _borrowed(fd) as connection:
            if connection.family not in (socket.AF_INET, socket.AF_INET6):
                continue
            if connection.getsockname()[1] != port:
                continue
            info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
            unsent = fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(4))
            acknowledged_bytes, received_bytes = _TCP_INFO.unpack(info)
            found[fd] = Traffic(acknowledged_bytes, received_bytes, int.from_bytes(unsent, sys.byteorder))
    return found
