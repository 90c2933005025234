"""What goes wrong at start is one clear line and the documented exit code."""

import socket
import stat
from pathlib import Path
from uuid import UUID

import pytest

from core.pure.jobs import Job, Kind
from gateway.composition.journal import open_journal
from tests.support.processes import Processes, clean_environment, free_port, run

FREE = "tcp://127.0.0.1:0"
FREE_HTTP = "127.0.0.1:0"


def assert_refused(code: int, words: str, *arguments: str, **more: object) -> None:
    """The command ends with this exit code, and says these words in a single line, without a traceback."""
    done = run(*arguments, **more)  # type: ignore[arg-type]
    lines = done.stderr.decode().strip().splitlines()
    assert done.returncode == code, done
    assert len(lines) == 1, lines
    assert words in lines[0]
    assert lines[0].startswith("titanic: ")


@pytest.mark.parametrize("command", ["serve", "node"])
def test_broker_port_is_taken(command: str, tmp_path: Path) -> None:
    """A taken broker port is named."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        endpoint = f"tcp://127.0.0.1:{port}"
        assert_refused(1, f"{port}", command, "--broker", endpoint, "--data", str(tmp_path / "data"))


def test_http_port_is_taken(tmp_path: Path) -> None:
    """A taken HTTP port is named, and the node that was already up is stopped again."""
    data = str(tmp_path / "data")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert_refused(1, address, "serve", "--http", address, "--broker", FREE, "--data", data)
    assert run("store", "check", f"{data}/titanic.ring").returncode == 0, "nobody holds the store any more"


@pytest.mark.parametrize("command", ["serve", "node"])
def test_data_folder_cannot_be_one(command: str, tmp_path: Path) -> None:
    """A data folder that is a file is refused by name."""
    data = tmp_path / "file"
    data.write_text("not a folder")
    assert_refused(1, str(data), command, "--data", str(data), "--broker", FREE)
    assert data.read_text() == "not a folder"


def test_not_a_store(tmp_path: Path) -> None:
    """A file that is no store is refused and not touched."""
    (tmp_path / "titanic.ring").write_bytes(b"some other file" * 1000)
    assert_refused(1, "not a titanic store", "node", "--data", str(tmp_path), "--broker", FREE)
    assert_refused(1, "not a titanic store", "store", "check", str(tmp_path / "titanic.ring"))
    assert (tmp_path / "titanic.ring").read_bytes() == b"some other file" * 1000


def test_store_in_use(family: Processes, tmp_path: Path) -> None:
    """A second server on the same data ends with exit code 4, and so does a check."""
    data = tmp_path / "data"
    node, _ = family.node(data)
    assert_refused(4, "in use", "node", "--data", str(data), "--broker", FREE)
    assert_refused(4, "in use", "serve", "--data", str(data), "--broker", FREE, "--http", FREE_HTTP)
    assert_refused(4, "in use", "store", "check", str(data / "titanic.ring"))
    assert node.stop() == 0


def test_damaged_store(family: Processes, tmp_path: Path) -> None:
    """A store with a bad superblock pair is not opened, and says that it is damaged."""
    node, _ = family.node(tmp_path)
    assert node.stop() == 0
    ring = tmp_path / "titanic.ring"
    image = bytearray(ring.read_bytes())
    for offset in (100, 4096 + 100):
        image[offset] ^= 0xFF
    ring.write_bytes(image)
    assert_refused(3, "damage", "node", "--data", str(tmp_path), "--broker", FREE)


def test_store_is_private(family: Processes, tmp_path: Path) -> None:
    """Only the owner can read the store: jobs are nobody else's business."""
    node, _ = family.node(tmp_path / "data")
    assert stat.S_IMODE((tmp_path / "data" / "titanic.ring").stat().st_mode) & 0o077 == 0
    assert node.stop() == 0


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        ("no such command", ["sail"]),
        ("no such option", ["serve", "--iceberg"]),
        ("http (flag --http)", ["serve", "--http", "nowhere"]),
        ("broker (flag --broker)", ["node", "--broker", "nowhere"]),
        ("bind (flag --bind)", ["broker", "--bind", "nowhere"]),
        ("fsync (flag --fsync)", ["node", "--fsync", "sometimes"]),
        ("fsync (flag --fsync)", ["node", "--fsync", "interval:61s"]),
        ("store-max (flag --store-max)", ["node", "--store-max", "lots"]),
        ("too small", ["node", "--store-max", "16MiB"]),
        ("max-body (flag --max-body)", ["gateway", "--max-body", "0"]),
        ("--insecure", ["serve", "--http", "0.0.0.0:0"]),
        ("--insecure", ["serve", "--broker", "tcp://*:0"]),
        ("--insecure", ["node", "--broker", "tcp://0.0.0.0:0"]),
        ("--insecure", ["gateway", "--http", "[::]:0"]),
        ("--insecure", ["broker", "--bind", "tcp://*:0"]),
        (
            "--peer-bind",
            ["node", "--role", "backup", "--peer-bind", "tcp://*:1", "--peer", "tcp://127.0.0.1:1"],
        ),
        ("--exec CMD", ["worker", "wordcount"]),
        ("exclude", ["worker", "x", "--exec", "cat", "--python", "a:b"]),
        ("MODULE:FUNCTION", ["worker", "x", "--python", "a"]),
        ("cannot import", ["worker", "x", "--python", "no_such_module:f"]),
        ("SERVICE", ["worker", "titanic.request"]),
        ("--wait", ["reply", "0" * 32, "--wait=soon"]),
        ("url (flag --url)", ["status", "--url", "nowhere"]),
        ("--timeout", ["client", "call", "echo", "--timeout", "soon"]),
    ],
)
def test_wrong_use(words: str, arguments: list[str], tmp_path: Path) -> None:
    """Wrong use ends with exit code 2 and names what was wrong."""
    assert_refused(2, words, *arguments, cwd=tmp_path)


def test_wrong_variable_and_file(tmp_path: Path) -> None:
    """A wrong value is refused with the variable or the file it came from."""
    assert_refused(2, "environment TITANIC_HTTP", "config", "show", env={"TITANIC_HTTP": "x"}, cwd=tmp_path)
    (tmp_path / "titanic.toml").write_text('store-max = "lots"\n')
    assert_refused(2, "file titanic.toml", "config", "show", cwd=tmp_path)
    (tmp_path / "titanic.toml").write_text("iceberg = true\n")
    assert_refused(2, "no setting is called 'iceberg'", "config", "show", cwd=tmp_path)
    (tmp_path / "titanic.toml").write_text("= no toml")
    assert_refused(2, "titanic.toml", "config", "show", cwd=tmp_path)


def test_nobody_there(tmp_path: Path) -> None:
    """Without a server, commands end with exit code 6 and say how to start one."""
    url = f"http://127.0.0.1:{free_port()}"
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    assert_refused(6, "titanic serve", "submit", "echo", "--url", url)
    assert_refused(6, "titanic serve", "status", "--url", url)
    assert_refused(6, endpoint, "client", "--broker", endpoint, "call", "echo", "--timeout", "200ms")
    assert_refused(1, "No such file", "submit", "echo", str(tmp_path / "missing"), "--url", url)
    assert not any(key.startswith("TITANIC_") for key in clean_environment())


def test_a_record_that_cannot_be_read(family: Processes, tmp_path: Path) -> None:
    """Its checksums are right: damage, by job and offset, that a check finds too; not a traceback."""
    journal = open_journal(tmp_path)
    job = Job(bytes(range(16)))
    journal.append(Kind.REQUEST, job, b"\x93\x01", (b"body",), ())
    journal.close()
    for words in (str(UUID(bytes=job.key)), f"offset {job.request_at}", "--accept-loss"):
        assert_refused(3, words, "node", "--data", str(tmp_path), "--broker", FREE)
    found = run("store", "check", str(tmp_path / "titanic.ring"))
    assert found.returncode == 3
    assert str(UUID(bytes=job.key)).encode() in found.stdout
    node, _ = family.node(tmp_path, "--accept-loss")
    assert node.stop() == 0
    assert run("store", "check", str(tmp_path / "titanic.ring")).returncode == 0
