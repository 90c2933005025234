"""A file system that really fills up: a small ext4 in a file, mounted through a loop device."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from core.errors import CoreError
from core.shell.client import BlockingClient
from tests.support.processes import Processes, run, until

DISK_BYTES: Final = 112 << 20
"""A store of four chunks of 16 MiB fits, and grows a little, and no more."""
BODY: Final = bytes(500_000)


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A mounted ext4; skipped with the reason where that is not allowed."""
    folder = tmp_path_factory.mktemp("disk")
    image, place = folder / "image", folder / "place"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(DISK_BYTES)
    try:
        for words in (
            ("mkfs.ext4", "-q", "-F", "-m", "0", str(image)),
            ("mount", "-o", "loop", str(image), str(place)),
        ):
            made = command(*words)
            if made.returncode:
                pytest.skip(f"{words[0]} is refused here: {made.stderr.strip()}")
    except FileNotFoundError as error:
        pytest.skip(f"not installed: {error.filename}")
    yield place
    until("umount", lambda: command("umount", str(place)).returncode == 0)


def test_a_disk_without_room_for_a_store_is_named(family: Processes, disk: Path) -> None:
    """The node ends with 1 and says what is missing; no half-made store is left."""
    filler, data = disk / "filler", disk / "none"
    command("fallocate", "-l", str(DISK_BYTES // 2), str(filler))
    node = family.start("node", "--data", str(data), "--broker", "tcp://127.0.0.1:0")
    assert node.wait(20) == 1
    assert "No space left on device" in node.errors
    assert not (data / "titanic.ring").exists()
    filler.unlink()
    for leftover in data.iterdir():
        leftover.unlink()


def test_a_store_on_a_full_disk_refuses_and_recovers(family: Processes, disk: Path) -> None:
    """No growth, no new jobs, yet closes work; after them jobs are taken again; nothing is lost (B1, R11)."""
    data = disk / "data"
    node, broker = family.node(data)
    ids: list[str] = []
    refusal = ""
    with BlockingClient([broker], timeout_s=20) as client:
        while not refusal and len(ids) < 1_000:
            try:
                ids.append(client.submit("nobody", BODY))
            except CoreError as error:
                refusal = str(error)
        assert refusal, "the disk never became full"
        assert len(ids) * len(BODY) > 40 << 20
        rest = command("df", "--output=avail", "-B1", str(disk)).stdout.split()[-1]
        assert int(rest) < 40 << 20
        (disk / "filler").write_bytes(b"")
        command("fallocate", "-l", rest, str(disk / "filler"))
        for job in ids[: len(ids) // 2]:
            client.close(job)
        until("room again", lambda: taken(client, ids))
        assert all(client.reply(job) is None for job in ids[len(ids) // 2 :])
    assert node.stop() == 0
    checked = run("store", "check", str(data / "titanic.ring"))
    assert checked.returncode == 0, checked.stdout
    (disk / "filler").unlink()


def test_what_was_accepted_ends_on_a_full_disk(family: Processes, disk: Path) -> None:
    """All replies within their reserve are stored, larger ones are dead letters, all closes work (R8, B1)."""
    data = disk / "promises"
    node, broker = family.node(data)
    with BlockingClient([broker], timeout_s=20) as client:
        small = [client.submit("echo", bytes(1024)) for _ in range(150)]
        large = [client.submit("large", b"x") for _ in range(24)]
        filled = fill_up(client)
        rest = command("df", "--output=avail", "-B1", str(disk)).stdout.split()[-1]
        (disk / "filler").write_bytes(b"")
        command("fallocate", "-l", rest, str(disk / "filler"))
        family.start("worker", "echo", "--nodes", broker)
        family.start("worker", "large", "--exec", "head -c 2000000 /dev/zero", "--nodes", broker)
        for job in small:
            assert client.wait(job, 20) == [bytes(1024)]
        ended = [reason(client, job) for job in large]
        refused = [why for why in ended if why]
        assert refused, "the disk had room for everything"
        assert all("its reply of 2000000 bytes was not kept" in why for why in refused)
        for job in (*small, *large, *filled):
            client.close(job)
        until("room again", lambda: taken(client, filled))
    assert node.stop() == 0
    checked = run("store", "check", str(data / "titanic.ring"))
    assert checked.returncode == 0, checked.stdout
    (disk / "filler").unlink()


def fill_up(client: BlockingClient) -> list[str]:
    """Jobs that nobody works on, until one is refused."""
    ids: list[str] = []
    while len(ids) < 1_000:
        try:
            ids.append(client.submit("nobody", BODY))
        except CoreError:
            return ids
    raise AssertionError("the disk never became full")


def reason(client: BlockingClient, job: str) -> str:
    """Why the job failed, once it has ended; empty if it succeeded."""
    status = client.status(job, wait_s=20)
    assert status.state in ("succeeded", "failed"), status
    return status.reason


def taken(client: BlockingClient, ids: list[str]) -> bool:
    try:
        ids.append(client.submit("nobody", b"again"))
    except CoreError:
        return False
    return True
