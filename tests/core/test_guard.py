"""Whose connection the guard ends when memory runs away, and what it looks at."""

from __future__ import annotations

import os
import resource
import socket

import pytest

from core.shell.guard import Guard, Traffic, culprits, raise_descriptor_limit, resident_bytes


def test_who_does_not_read_is_ended_first() -> None:
    """All that have something to read and acknowledged nothing since the last look, nobody else."""
    before = {1: Traffic(10, 0, 500), 2: Traffic(10, 0, 500), 3: Traffic(10, 0, 0), 4: Traffic(9, 0, 500)}
    after = {1: Traffic(10, 0, 900), 2: Traffic(99, 0, 500), 3: Traffic(10, 9_000, 0), 4: Traffic(9, 0, 500)}
    assert culprits(before, after) == [1, 4]


def test_else_who_brought_most() -> None:
    """One connection, by what it brought since the last look, not by what it ever did."""
    before = {1: Traffic(0, 1_000_000, 0), 2: Traffic(0, 10, 0)}
    after = {1: Traffic(0, 1_000_100, 0), 2: Traffic(0, 5_000, 0), 3: Traffic(0, 9_999, 0)}
    assert culprits(before, after) == [2]


def test_newcomers_are_not_judged() -> None:
    """A connection has to be there at two looks."""
    assert culprits({}, {1: Traffic(0, 1_000_000, 500)}) == []


def test_the_descriptor_limit_is_raised_to_what_is_allowed() -> None:
    """Soft becomes hard, within a million."""
    limit = raise_descriptor_limit()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert limit == soft
    assert soft == hard or soft >= 1 << 20


def test_a_look_at_a_quiet_process_changes_nothing() -> None:
    """Nothing is shut, nobody is ended, and the listener still accepts."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        guard = Guard(port, int)
        for _ in range(3):
            guard.look()
        assert (guard.shut_count, guard.ended_count, guard.is_shut) == (0, 0, False)
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            assert _accepts(listener)
        guard.close()
    assert resident_bytes() > 1 << 20


def test_a_listener_that_does_not_block_is_left_so() -> None:
    """The guard's own descriptor is the same open file: making it blocking would stop the owner's thread."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        guard = Guard(listener.getsockname()[1], int)
        with pytest.raises(BlockingIOError):
            listener.accept()
        assert not os.get_blocking(listener.fileno())
        guard.close()
        assert not os.get_blocking(listener.fileno())


def _accepts(listener: socket.socket) -> bool:
    connection, _ = listener.accept()
    connection.close()
    return True
