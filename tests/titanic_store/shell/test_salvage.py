"""Damage is refused with what an operator needs; accepted, it costs what is damaged and nothing else."""

import re
from dataclasses import replace
from pathlib import Path
from random import Random
from uuid import UUID

import pytest

from tests.titanic_store.rig import CHUNK, Keeper, Pebble, bodies, options, request
from titanic_store import DamagedStoreError, Kind, NetworkFileSystemError, Ring, check, open_ring
from titanic_store.shell.file import NETWORK_KINDS, file_system_of

MANY = options(max_chunks=40)


def made(path: Path, count: int = 120) -> tuple[dict[bytes, list[int]], Ring[Pebble]]:
    """A store of several chunks: requests, some replied, some closed; key -> positions of the open ones."""
    ring = open_ring(path, Keeper(), MANY)
    random = Random(7)
    for number in range(1, count + 1):
        pebble = request(ring, number, bytes([number]) * random.randrange(1, 5000))
        if number % 3 == 0:
            ring.append(Kind.REPLY, pebble, b"r", (b"reply %d" % number,))
        if number % 5 == 0:
            ring.append(Kind.CLOSE, pebble, b"")
        ring.flush()
        ring.completed()
    places = {pebble.key: [pebble.request_at, pebble.reply_at] for pebble in ring.index.values()}
    ring.close()
    return places, ring


def spoil(path: Path, offset: int, size: int = 8) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xee" * size)


def headless(path: Path, ring: Ring[Pebble]) -> int:
    """The last sealed chunk loses its digest and a record: a hole the log cannot cross. Its offset."""
    layout = ring.layout()
    base = layout.offset_of(layout.order[-2])
    spoil(path, base + CHUNK - 96)
    return base


def test_a_refusal_says_where_whom_and_what_to_do(tmp_path: Path) -> None:
    """Exit code 3, the offset, the ids of the jobs that are touched, and the ways out (R2)."""
    path = tmp_path / "titanic.ring"
    places, ring = made(path)
    base = headless(path, ring)
    victim = next(name for name, (at, _) in places.items() if base < at < base + CHUNK)
    spoil(path, places[victim][0] + 200)
    with pytest.raises(DamagedStoreError) as caught:
        open_ring(path, Keeper(), MANY)
    assert caught.value.exit_code == 3
    assert 0 <= places[victim][0] - caught.value.offset < 4096, "where the log ends, before the next batch"
    assert caught.value.keys == (victim,)
    for word in (str(UUID(bytes=victim)), "titanic store check", "--accept-loss", "restore"):
        assert word in str(caught.value)


@pytest.mark.parametrize("what", ["body", "header"])
def test_accepting_loss_loses_what_is_damaged_and_no_more(tmp_path: Path, what: str) -> None:
    """Every other open job is there with its bytes, in order; a report names the one; the old file stays."""
    path = tmp_path / "titanic.ring"
    places, ring = made(path)
    before = open_ring(path, Keeper(), MANY)
    expected, secret, last_seq = bodies(before), before.id_secret, before.last_seq
    before.close()
    base = headless(path, ring)
    victim = next(name for name, (at, _) in places.items() if base < at < base + CHUNK)
    spoil(path, places[victim][0] + (200 if what == "body" else 30))
    damaged = path.read_bytes()
    ring = open_ring(path, Keeper(), MANY, accept_loss=True)
    if what == "body":
        with pytest.raises(DamagedStoreError, match="before it came here"):
            ring.read(ring.index[victim].request_at)
        del ring.index[victim]
    assert {name: parts for name, parts in expected.items() if name != victim} == bodies(ring)
    assert [name for name in expected if name != victim] == list(ring.index)
    assert ring.id_secret == secret
    assert ring.first_seq > last_seq, "no sequence is used twice"
    request(ring, 5000)
    ring.flush()
    ring.close()
    assert check(path).clean
    (report,) = tmp_path.glob("titanic.ring.loss-*.txt")
    text = report.read_text(encoding="utf-8")
    (offset,) = map(int, re.findall(r"^damage .*offset (\d+)", text, re.MULTILINE))
    assert 0 <= places[victim][0] - offset < 4096
    if what == "body":
        assert str(UUID(bytes=victim)) in text
    else:
        assert "gone" in text
    (aside,) = tmp_path.glob("titanic.ring.damaged-*")
    assert aside.read_bytes() == damaged
    assert len(open_ring(path, Keeper(), MANY).index) in (len(expected), len(expected) + 1)


def test_accepting_loss_of_a_healthy_store_changes_nothing(tmp_path: Path) -> None:
    """The flag may stay in a script: without damage there is no report and no second file."""
    path = tmp_path / "titanic.ring"
    places, _ = made(path)
    ring = open_ring(path, Keeper(), MANY, accept_loss=True)
    assert set(ring.index) == set(places)
    ring.close()
    assert [file.name for file in tmp_path.iterdir()] == ["titanic.ring"]


def test_a_missing_chunk_costs_its_own_jobs(tmp_path: Path) -> None:
    """A whole chunk turns to garbage: everything in the others is kept."""
    path = tmp_path / "titanic.ring"
    places, ring = made(path)
    layout = ring.layout()
    base = layout.offset_of(layout.order[len(layout.order) // 2])
    with path.open("r+b") as file:
        file.seek(base)
        file.write(Random(1).randbytes(CHUNK))
    with pytest.raises(DamagedStoreError):
        open_ring(path, Keeper(), MANY)
    ring = open_ring(path, Keeper(), MANY, accept_loss=True)
    elsewhere = {name for name, (at, _) in places.items() if not base <= at < base + CHUNK}
    assert elsewhere <= set(ring.index)
    for name in elsewhere:
        assert ring.read(ring.index[name].request_at)[1] == bytes([name[-1]]) * len(
            ring.read(ring.index[name].request_at)[1]
        )
    ring.close()


def test_without_any_superblock_nothing_can_be_told(tmp_path: Path) -> None:
    """The salt is gone, so no record can be told from a forgery: refused, whatever is accepted."""
    path = tmp_path / "titanic.ring"
    made(path, 5)
    spoil(path, 100, 100)
    spoil(path, 4196, 100)
    with pytest.raises(DamagedStoreError, match="neither superblock"):
        open_ring(path, Keeper(), MANY, accept_loss=True)
    assert [file.name for file in tmp_path.iterdir()] == ["titanic.ring"]


MOUNTS = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:30 / /data rw - nfs4 host:/export rw
31 30 0:31 / /data/local\\040disk rw,relatime shared:1 - xfs /dev/vdb rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/x", "ext4"), ("/data/a/b", "nfs4"), ("/data/local disk/a", "xfs"), ("/database", "ext4")],
)
def test_the_nearest_mount_decides(path: str, kind: str) -> None:
    """Names that only begin alike are other folders; blanks are written as octal."""
    assert file_system_of(Path(path), MOUNTS) == kind


def test_a_network_file_system_is_refused_unless_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file system at hand is declared a network file system: refused before anything is made (R14)."""
    here = file_system_of(tmp_path.resolve(), Path("/proc/self/mountinfo").read_text(encoding="utf-8"))
    assert here not in NETWORK_KINDS
    monkeypatch.setattr("titanic_store.shell.file.NETWORK_KINDS", frozenset((here,)))
    with pytest.raises(NetworkFileSystemError, match="network file system"):
        open_ring(tmp_path / "titanic.ring", Keeper(), options())
    assert not list(tmp_path.iterdir())
    insisting = replace(options(), network_fs=True)
    open_ring(tmp_path / "titanic.ring", Keeper(), insisting).close()
