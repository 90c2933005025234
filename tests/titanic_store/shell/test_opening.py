"""Opening a real file: made once, one opener, each refusal with its own error."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.titanic_store.rig import Keeper, Waiting, bodies, key, open_on, options, request
from titanic_store import (
    DamagedStoreError,
    Kind,
    NotAStoreError,
    StoreFailedError,
    StoreInUseError,
    StoreMissingError,
    StoreUnwritableError,
    UnknownVersionError,
    check,
    open_ring,
)
from titanic_store.shell.faulty import FaultyDisk

OTHER_PROCESS = """
import sys
from pathlib import Path
from tests.titanic_store.rig import Keeper
from titanic_store import StoreError, open_ring
try:
    open_ring(Path(sys.argv[1]), Keeper())
except StoreError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def test_a_new_store_is_whole_and_empty(tmp_path: Path) -> None:
    """Folder and file are made; nothing half-made is left; the secrets differ from store to store."""
    secrets = set()
    for name in ("a", "b"):
        path = tmp_path / name / "data" / "titanic.ring"
        ring = open_ring(path, Keeper(), options())
        secrets |= {ring.id_secret, ring.store_uuid}
        assert (ring.incarnation, ring.epoch, dict(ring.index)) == (1, 1, {})
        ring.close()
        assert [file.name for file in path.parent.iterdir()] == ["titanic.ring"]
        assert path.stat().st_size == options().max_bytes
        assert path.stat().st_mode & 0o077 == 0
    assert len(secrets) == 4


def test_a_half_made_store_is_made_again(tmp_path: Path) -> None:
    """A crash while making a store leaves a file that nobody takes for one."""
    (tmp_path / "titanic.ring.new").write_bytes(bytes(100))
    open_ring(tmp_path / "titanic.ring", Keeper(), options()).close()
    assert [file.name for file in tmp_path.iterdir()] == ["titanic.ring"]


def test_a_second_opener_is_refused(tmp_path: Path) -> None:
    """In this process and in another: in use, exit code 4; afterwards the file is free (R14)."""
    path = tmp_path / "titanic.ring"
    first = open_ring(path, Keeper(), options())
    for attempt in (lambda: open_ring(path, Keeper()), lambda: check(path)):
        with pytest.raises(StoreInUseError, match="in use by another process"):
            attempt()
    other = subprocess.run(
        [sys.executable, "-c", OTHER_PROCESS, str(path)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (other.returncode, other.stderr) == (4, "")
    assert "in use" in other.stdout
    first.close()
    open_ring(path, Keeper()).close()


def test_a_forked_child_cannot_write(tmp_path: Path) -> None:
    """The child of a fork is told off, and its parent goes on (R14)."""
    waiting = Waiting(tmp_path / "titanic.ring")
    child = os.fork()
    if child == 0:
        try:
            request(waiting.ring, 1)
        except StoreFailedError:
            os._exit(17)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 17
    request(waiting.ring, 2)
    assert waiting.wait(1) == [2]
    waiting.ring.close()


def test_missing_and_foreign_files_are_named(tmp_path: Path) -> None:
    """No file, an empty file, another file, a folder: one clear line each, and nothing is touched."""
    with pytest.raises(StoreMissingError, match="does not exist"):
        open_ring(tmp_path / "none", Keeper(), create=False)
    with pytest.raises(StoreMissingError):
        check(tmp_path / "none")
    for content in (b"", b"hello\n" * 5000):
        path = tmp_path / "foreign"
        path.write_bytes(content)
        with pytest.raises(NotAStoreError, match="not a titanic store"):
            open_ring(path, Keeper())
        assert path.read_bytes() == content
    with pytest.raises(StoreUnwritableError):
        open_ring(tmp_path, Keeper())


def test_a_data_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """The message has the path and the system's reason."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreUnwritableError, match="file"):
        open_ring(tmp_path / "file" / "titanic.ring", Keeper(), options())
    error = StoreUnwritableError("x", os.strerror(errno.EACCES))
    assert "Permission denied" in str(error)


def test_a_later_version_is_not_damage(tmp_path: Path) -> None:
    """Exit 5 and the versions, not exit 3 (R15)."""
    from zlib import crc32

    path = tmp_path / "titanic.ring"
    open_ring(path, Keeper(), options()).close()
    raw = bytearray(path.read_bytes())
    for at in (0, 4096):
        raw[at + 8] = 2
        raw[at + 4092 : at + 4096] = crc32(raw[at : at + 4092]).to_bytes(4, "little")
    path.write_bytes(raw)
    with pytest.raises(UnknownVersionError, match="version 2") as caught:
        open_ring(path, Keeper())
    assert caught.value.exit_code == 5


def test_a_shortened_file_is_damage(tmp_path: Path) -> None:
    """Exit 3 with the offset at which bytes are missing."""
    path = tmp_path / "titanic.ring"
    open_ring(path, Keeper(), options()).close()
    os.truncate(path, 100_000)
    with pytest.raises(DamagedStoreError, match="offset 100000") as caught:
        open_ring(path, Keeper())
    assert caught.value.exit_code == 3


def test_everything_is_there_again(tmp_path: Path) -> None:
    """Many jobs over many chunks; opened with and without an orderly close; progress is told."""
    path = tmp_path / "titanic.ring"
    waiting = Waiting(path, options(max_chunks=40))
    ring = waiting.ring
    for number in range(300):
        pebble = request(ring, number, bytes([number % 256]) * (number * 7), b"m%d" % number)
        if number % 3 == 0:
            ring.append(Kind.ATTEMPT, pebble, b"try")
        if number % 5 == 0:
            ring.append(Kind.REPLY, pebble, b"done", (b"reply %d" % number,), None)
        if number % 7 == 0:
            ring.append(Kind.CLOSE, pebble, b"", (), None)
    ring.barrier("all")
    waiting.wait(301)
    expected = bodies(ring)
    ring.abandon()
    steps: list[tuple[int, int]] = []
    ring = open_ring(path, Keeper(), options(max_chunks=40), progress=lambda *done: steps.append(done))
    assert bodies(ring) == expected
    assert [entry.key for entry in ring.index.values()] == [key(n) for n in range(300) if n % 7]
    assert steps[-1][0] + 1 == steps[-1][1] > 5
    assert ring.incarnation == 2
    assert [kind for kind, _, _ in ring.index[key(15)].told] == [Kind.REQUEST, Kind.ATTEMPT, Kind.REPLY]
    ring.close()
    report = check(path)
    assert report.clean, report.lines()


def test_the_incarnation_is_durable_before_the_first_append() -> None:
    """Opening syncs, reads, writes one superblock and syncs it; then records may come (R3, R14)."""
    disk = FaultyDisk()
    open_on(disk).abandon()
    start = len(disk.calls)
    ring = open_on(disk)
    calls = disk.calls[start:]
    assert calls[0] == "sync"
    assert calls[-2:] == ["write_at", "sync"]
    assert calls.count("write_at") == 1
    assert ring.incarnation == 2


def test_one_bad_superblock_is_survived() -> None:
    """The other one opens the store, and no incarnation is used twice."""
    for half in (0, 4096):
        disk = FaultyDisk()
        ring = open_on(disk)
        request(ring, 1)
        ring.commit()
        before = ring.incarnation
        ring.close()
        disk.flip(half + 200)
        ring = open_on(disk)
        assert list(ring.index) == [key(1)]
        assert ring.incarnation > before
        ring.close()
