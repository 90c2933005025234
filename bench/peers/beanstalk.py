"""beanstalkd with a binlog that is synced after every job: ``-b DIR -f0``."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Final

from bench.processes import free_port, process

BODY: Final = b"b" * 256
PUT: Final = b"put 0 0 60 %d\r\n%b\r\n" % (len(BODY), BODY)


def found() -> bool:
    """Whether it is installed (Debian: apt-get install beanstalkd)."""
    return shutil.which("beanstalkd") is not None


def version() -> str:
    """For the heading."""
    if not found():
        return "no beanstalkd"
    return subprocess.run(["beanstalkd", "-v"], capture_output=True, text=True, check=False).stdout.strip()


def _connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _answers(port: int) -> bool:
    try:
        _connect(port).close()
    except OSError:
        return False
    return True


def rate(folder: Path, writers: int, seconds: float) -> float:
    """Jobs per second; every connection waits for its INSERTED before it puts the next job."""
    port, data = free_port(), folder / "beanstalkd"
    data.mkdir()
    command = ["beanstalkd", "-l", "127.0.0.1", "-p", str(port), "-b", str(data), "-f0"]
    with process(command, lambda: _answers(port), folder / "log"):
        connections = [_connect(port) for _ in range(writers)]
        count = 0
        started = time.perf_counter()
        deadline = started + seconds
        while time.perf_counter() < deadline:
            for connection in connections:
                connection.sendall(PUT)
            for connection in connections:
                answer = connection.recv(64)
                if not answer.startswith(b"INSERTED"):
                    raise SystemExit(f"bench: beanstalkd answered {answer!r}")
            count += writers
        took = time.perf_counter() - started
        for connection in connections:
            connection.close()
    shutil.rmtree(data)
    return count / took
