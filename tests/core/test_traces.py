"""Trace contexts that travel behind the address of an attempt, to workers that may know nothing of them."""

from __future__ import annotations

import pytest

from core.pure.titanic import parse_address
from core.pure.traces import TRACE_BYTES, pack, unpack
from core.pure.worker_job import job_of
from tests.support.titanic_rig import Rig

TRACE = f"00-{'0123456789abcdef' * 2}-{'fedcba9876543210'}-01"


def test_a_context_is_there_and_back() -> None:
    """25 bytes, and the same text again."""
    assert len(pack(TRACE)) == TRACE_BYTES
    assert unpack(pack(TRACE)) == TRACE


@pytest.mark.parametrize("text", ["", "x", "00-1-2-3", TRACE[:-1], TRACE + "-more", TRACE.replace("f", "g")])
def test_what_is_no_context_is_nothing(text: str) -> None:
    """No bytes, and of other bytes no text."""
    assert pack(text) == b""
    assert unpack(b"x" * (TRACE_BYTES - 1)) == ""


def test_a_worker_gets_the_context_of_the_submit() -> None:
    """Behind the address, which is the attempt's all the same, and which comes back as it is."""
    rig = Rig()
    key = rig.submit(traceparent=TRACE)
    work = rig.must_take()
    assert parse_address(work.address) == (key, 1)
    job = job_of("echo", work.address, work.frames)
    assert (job.id, job.attempt, job.traceparent) == (key.hex(), 1, TRACE)
    rig.titanic.done(work.address, [b"reply"], rig.now)
    rig.sync()
    assert rig.state(key).state == "succeeded"


def test_without_a_context_the_address_is_as_ever() -> None:
    """21 bytes, as a worker of another implementation may have counted on."""
    rig = Rig()
    rig.submit()
    work = rig.must_take()
    assert len(work.address) == 21
    assert job_of("echo", work.address, work.frames).traceparent == ""
