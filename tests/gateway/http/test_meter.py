"""Rates that several processes count together."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from gateway.http.meter import PROBES_MAX, SLOTS_COUNT, Meter
from gateway.pure.rates import Bucket

KEY = "0123456789abcdef"


def test_two_meters_are_one(tmp_path: Path) -> None:
    """What one takes is gone for the other; the fields say what is left for both."""
    one, other = Meter(tmp_path), Meter(tmp_path)
    mine, theirs = Bucket(1.0, 4, 0.0), Bucket(1.0, 4, 0.0)
    assert one.take(KEY, mine, 100.0, 3) == 0.0
    assert other.take(KEY, theirs, 100.0, 1) == 0.0
    assert theirs.fields()[1][1].startswith(b'"key";r=0')
    assert one.take(KEY, mine, 100.0, 1) == 1.0
    assert other.take(KEY, theirs, 102.0, 2) == 0.0
    one.close()
    other.close()


def test_keys_do_not_share(tmp_path: Path) -> None:
    """Each has a slot of its own, also when their places collide."""
    meter = Meter(tmp_path)
    keys = [(number * SLOTS_COUNT + 5).to_bytes(8, "little").hex() for number in range(PROBES_MAX)]
    for key in keys:
        assert meter.take(key, Bucket(1.0, 1, 0.0), 100.0, 1) == 0.0
    assert all(meter.take(key, Bucket(1.0, 1, 100.0), 100.0, 1) > 0 for key in keys)
    crowded = (PROBES_MAX * SLOTS_COUNT + 5).to_bytes(8, "little").hex()
    assert meter.take(crowded, Bucket(1.0, 1, 0.0), 100.0, 1) == 0.0, "without a slot it counts for itself"
    meter.close()


def test_a_process_that_dies_leaves_no_lock(tmp_path: Path) -> None:
    """The kernel lets go for it."""
    meter = Meter(tmp_path)
    code = f"import fcntl, time; f = open({str(tmp_path / 'rates')!r}, 'r+'); fcntl.flock(f, fcntl.LOCK_EX)"
    code += "; print('locked', flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        holder.kill()
    assert meter.take(KEY, Bucket(1.0, 1, 0.0), 1.0, 1) == 0.0
    meter.close()
