"""Open jobs and bytes of each owner."""

from __future__ import annotations

from core.pure import tsp
from core.pure.owners import Owners, counted_bytes
from tests.support.titanic_rig import Rig


def test_sizes_are_counted_rounded_up_a_little() -> None:
    """By a sixteenth at most, beyond the least; and few different ones."""
    sizes = [1, 64, 65, 100, 1_000, 4_097, 65_537, 8 << 20, (8 << 20) + 1, 1 << 30]
    for size in sizes:
        counted = counted_bytes(size)
        assert size <= counted <= max(64, size * 17 / 16), size
        assert counted_bytes(counted) == counted
    assert len({counted_bytes(size) for size in range(1, 1 << 20, 97)}) < 300


def test_jobs_share_one_object_and_leave_nothing() -> None:
    """Whoever has no open job is not known."""
    owners = Owners()
    first, second = owners.opened("a", 101), owners.opened("a", 103)
    assert first is second
    owners.opened("a", 10_000, 3)
    assert owners.open_counts == {"a": 5}
    assert owners.open_bytes == {"a": 2 * 104 + 3 * counted_bytes(10_000)}
    assert not owners.opened("", 100).name
    for share, count in ((first, 2), (owners.opened("a", 10_000, 0), 3)):
        owners.closed(share, count)
    assert not owners.open_counts
    assert not owners.open_bytes
    assert not owners._shares


def test_the_node_says_what_each_owner_has_open_after_a_restart_too() -> None:
    """Submits, a batch and a pack; what is closed no longer counts."""
    rig = Rig()
    key = rig.submit(b"echo", b"x" * 1_000, owner="shop")
    rig.submit(b"echo", b"x" * 500)
    keys = tuple(rig.key() for _ in range(2))
    rig.synced(tsp.BATCH, tsp.BatchHead(keys, rig.meta(owner="shop")), b"y" * 200, b"y" * 400)
    wanted = counted_bytes(1_000) + counted_bytes(200) + counted_bytes(400)
    for each in (rig, rig.restart()):
        assert each.titanic.life.owners.open_counts == {"shop": 3}
        assert each.titanic.life.owners.open_bytes == {"shop": wanted}
    again = rig.restart()
    again.ask(tsp.CLOSE, key.hex().encode())
    again.sync()
    assert again.titanic.life.owners.open_bytes == {"shop": wanted - counted_bytes(1_000)}
