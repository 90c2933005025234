"""What the store may expect of a file: the same of the real one and of the faulty one."""

import errno
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from titanic_store import Storage
from titanic_store.pure.options import MIB
from titanic_store.shell.faulty import FaultyDisk
from titanic_store.shell.file import open_file


@pytest.fixture(params=["file", "faulty"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    """Every test in this file holds for both implementations."""
    made: Storage = (
        open_file(tmp_path / "data", create=True) if request.param == "file" else FaultyDisk().open()
    )
    yield made
    made.close()


def test_reading_ends_at_the_end(storage: Storage) -> None:
    """Fewer bytes only at the end of the file; none behind it."""
    storage.write_at(0, (b"0123456789",))
    assert storage.read_at(0, 100) == b"0123456789"
    assert storage.read_at(7, 100) == b"789"
    assert storage.read_at(10, 1) == b""
    assert storage.read_at(5000, 5) == b""


def test_parts_lie_one_behind_the_other(storage: Storage) -> None:
    """Any number of parts of any type and size, in order, at the place."""
    parts = [bytes([number % 256]) * (number % 7) for number in range(3000)]
    storage.write_at(9, (b"a", bytearray(b"bc"), memoryview(b"def"), b"", *parts))
    expected = b"abcdef" + b"".join(parts)
    assert storage.read_at(9, len(expected)) == expected
    assert storage.size() == 9 + len(expected)
    assert storage.read_at(0, 9) == bytes(9)


def test_large_parts_are_written_whole(storage: Storage) -> None:
    """More than one system call takes at once."""
    parts = [bytes([number % 256]) * 1000 for number in range(2500)]
    storage.write_at(3, parts)
    assert storage.read_at(3, 2_500_000) == b"".join(parts)


def test_writing_over_keeps_the_rest(storage: Storage) -> None:
    """A write changes its own bytes and no others."""
    storage.write_at(0, (b"x" * 100,))
    storage.write_at(40, (b"y" * 10,))
    assert storage.read_at(0, 100) == b"x" * 40 + b"y" * 10 + b"x" * 50


def test_allocating_makes_zeros_and_never_shortens(storage: Storage) -> None:
    """The file is as long as asked, reads as zeros, and what was there stays."""
    storage.write_at(0, (b"x" * 10,))
    storage.allocate(8192)
    assert storage.size() == 8192
    assert storage.read_at(0, 8192) == b"x" * 10 + bytes(8182)
    storage.allocate(100)
    assert storage.size() == 8192


def test_truncating_sets_the_length(storage: Storage) -> None:
    """Shorter cuts, longer adds zeros."""
    storage.write_at(0, (b"x" * 10,))
    storage.truncate(4)
    assert storage.read_at(0, 10) == b"xxxx"
    storage.truncate(6)
    assert storage.read_at(0, 10) == b"xxxx\0\0"


def test_syncs_return_and_closing_twice_is_fine(storage: Storage) -> None:
    """Nothing is lost by a sync; a second close does nothing."""
    storage.write_at(0, (b"x",))
    storage.sync()
    storage.sync_dir()
    assert storage.read_at(0, 1) == b"x"
    storage.close()
    storage.close()


def test_zeros_are_written_over_and_behind(storage: Storage) -> None:
    """Any length, across the end of the file; what lies beside stays, also when it was not synced."""
    storage.write_at(0, (b"x" * 10_000,))
    storage.write_zeros(100, 5_000)
    storage.write_zeros(9_990, 3 * MIB)
    assert storage.read_at(0, 9_995) == b"x" * 100 + bytes(5_000) + b"x" * 4_890 + bytes(5)
    assert storage.size() == 9_990 + 3 * MIB
    assert storage.read_at(9_990, 4 * MIB) == bytes(3 * MIB)


@pytest.fixture
def small_files() -> Iterator[int]:
    """No file of this process can be longer than so many bytes: writes across it are short."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = 3 * MIB + 1000
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    yield size
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("parts", [(bytes(4000),), (bytes(MIB), bytes(MIB))], ids=["one", "many"])
def test_a_short_write_is_completed_or_fails(
    tmp_path: Path, small_files: int, parts: tuple[bytes, ...]
) -> None:
    """The system takes half of the bytes: the rest is tried, and its error is raised (R13)."""
    storage = open_file(tmp_path / "data", create=True)
    with pytest.raises(OSError) as caught:
        storage.write_at(small_files - 1500, parts)
    assert caught.value.errno == errno.EFBIG
    assert storage.size() == small_files
    storage.close()
