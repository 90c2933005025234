"""``titanic store`` against a node at work and against files: stats, backup, restore, dump."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import httpx
import pytest

from gateway.cli.app import main
from tests.support.processes import Processes, processes, until

BODIES = [bytes([number]) * 2000 for number in range(40)]


class Site:
    """A node and a gateway with forty jobs nobody works on."""

    def __init__(self, family: Processes, folder: Path) -> None:
        self.folder, self.family = folder, family
        self.data = folder / "data"
        self.node, self.broker = family.node(self.data)
        self.gateway, self.url = family.gateway(self.broker)
        with httpx.Client(base_url=self.url) as client:
            self.ids = [client.post("/v1/services/nobody/jobs", content=body).json()["id"] for body in BODIES]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One for all tests here: they only look at it."""
    folder = tmp_path_factory.mktemp("site")
    with processes(folder) as family:
        yield Site(family, folder)


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    """The lines of a command that succeeds."""
    capsys.readouterr()
    code = main(arguments)
    out, err = capsys.readouterr()
    assert code == 0, err
    return out.splitlines()


def failed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Code and complaint of a command that fails."""
    capsys.readouterr()
    code = main(arguments)
    return code, capsys.readouterr().err


@pytest.mark.parametrize("way", ["http", "tcp"])
def test_a_live_backup_is_clean_and_can_be_served(
    site: Site, way: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Copied from gateway or node, restored, a node on it knows every job under its own id."""
    copy = tmp_path / "copy.ring"
    source = site.url if way == "http" else site.broker
    (line,) = said(capsys, "store", "backup", source, str(copy))
    assert line.endswith("clean")
    assert " 40 live" in line
    assert copy.stat().st_blocks * 512 < copy.stat().st_size / 4, "free chunks are holes"
    assert copy.stat().st_mode & 0o777 == 0o600, "it holds the store's secrets"
    assert said(capsys, "store", "check", str(copy))[-1] == "clean"
    assert not list(tmp_path.glob("*.part"))
    said(capsys, "store", "restore", str(copy), str(tmp_path / "data"))
    with processes(tmp_path) as family:
        _, broker = family.node(tmp_path / "data")
        _, url = family.gateway(broker)
        for job_id in site.ids[::13]:
            job = httpx.get(f"{url}/v1/jobs/{job_id}").json()
            assert (job["id"], job["state"]) == (job_id, "queued")


class Busy:
    """Jobs that come and go at a gateway while the block runs; ``stored`` are those acknowledged so far."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.stored: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        until("the first job is stored", lambda: self.stored)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with httpx.Client(base_url=self._url) as client:
            while not self._stop.is_set():
                job = client.post("/v1/services/busy/jobs", content=bytes(20_000)).json()["id"]
                self.stored.append(job)
                if len(self.stored) % 2:
                    client.delete(f"/v1/jobs/{job}")


def test_backups_while_jobs_come_and_go(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each is clean and has everything that was acknowledged before it began; jobs are stored meanwhile."""
    with Busy(site.url) as busy:
        for number, source in enumerate((site.url, site.broker, site.url)):
            before = set(busy.stored[1::2]) | set(site.ids)
            copy = str(tmp_path / f"{number}.ring")
            stored = len(busy.stored)
            said(capsys, "store", "backup", source, copy)
            assert len(busy.stored) > stored, "nobody waits for a backup"
            rows = said(capsys, "store", "dump", copy, "--kind", "request", "--live", "--json")
            assert before <= {json.loads(row)["key"] for row in rows}
    assert len(busy.stored) > 20
    with httpx.Client(base_url=site.url) as client:
        for job in busy.stored:
            client.delete(f"/v1/jobs/{job}")


def test_nothing_is_ever_replaced(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither a backup's target nor a data folder with a store; a failed copy leaves nothing behind."""
    there = tmp_path / "there"
    there.write_bytes(b"precious")
    code, line = failed(capsys, "store", "backup", site.url, str(there))
    assert (code, there.read_bytes()) == (1, b"precious")
    assert "is there already" in line
    code, line = failed(capsys, "store", "restore", str(there), str(tmp_path / "new"))
    assert code == 1
    assert "not a titanic store" in line
    assert not list((tmp_path / "new").iterdir())
    code, line = failed(capsys, "store", "restore", str(there), str(site.data))
    assert code == 1
    assert "is there already" in line


def test_a_store_at_work_is_not_opened(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 4 for every command that wants the file itself (R14)."""
    file = str(site.data / "titanic.ring")
    for command in (("check", file), ("dump", file), ("stats", file), ("backup", file, str(tmp_path / "x"))):
        code, line = failed(capsys, "store", *command)
        assert code == 4, command
        assert "in use" in line
    assert not list(tmp_path.iterdir())


def test_who_does_not_answer_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 6 and the address."""
    for command in (["stats", "http://127.0.0.1:9"], ["backup", "http://127.0.0.1:9", str(tmp_path / "x")]):
        code, line = failed(capsys, "store", *command)
        assert code == 6, command
        assert "127.0.0.1:9" in line
    assert not list(tmp_path.iterdir())


def test_stats_of_a_live_store(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """The same facts from gateway and node; the picture has a cell per chunk and names the oldest job."""
    documents = [
        json.loads(said(capsys, "store", "stats", at, "--json")[0]) for at in (site.url, site.broker)
    ]
    for document in documents:
        assert document["facts"]["live"] == 40
        assert len(document["chunks"]) == document["facts"]["chunks"]
        assert document["pins"][0]["job"] == site.ids[0]
    picture = "\n".join(said(capsys, "store", "stats", site.url))
    assert ">1" in picture
    assert picture.count(" .") >= 3
    assert f"{site.ids[0]}  its request at offset" in picture
    assert "and 30 more" in picture


def test_a_dump_lists_every_record(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Sequences in order, metas decoded, filters, bodies only when asked for."""
    copy = str(tmp_path / "copy.ring")
    said(capsys, "store", "backup", site.broker, copy)
    rows = [json.loads(line) for line in said(capsys, "store", "dump", copy, "--json")]
    assert [row["sequence"] for row in rows] == sorted(row["sequence"] for row in rows)
    requests = [row for row in rows if row["kind"] == "request"]
    assert [row["key"] for row in requests][: len(site.ids)] == site.ids
    assert requests[0]["meta"]["service"] == "nobody"
    assert requests[0]["body_bytes"] == 2000
    assert not any("body" in row for row in rows)
    (row,) = said(
        capsys, "store", "dump", copy, "--id", site.ids[7], "--kind", "request", "--bodies", "--json"
    )
    assert json.loads(row)["body"].encode() == BODIES[7]
    assert len(said(capsys, "store", "dump", copy, "--live", "--kind", "request")) == 40
    middle = requests[20]["sequence"]
    some = said(capsys, "store", "dump", copy, "--from", str(middle), "--to", str(middle), "--json")
    assert [json.loads(line)["sequence"] for line in some] == [middle]
    assert "service=nobody" in said(capsys, "store", "dump", copy, "--kind", "request")[0]
    assert failed(capsys, "store", "dump", copy, "--kind", "nonsense")[0] == 2
    assert failed(capsys, "store", "dump", copy, "--id", "xyz")[0] == 2


def test_damage_does_not_end_a_dump(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What can be read is listed, what cannot is named on stderr, and the exit code is 3."""
    copy = tmp_path / "copy.ring"
    said(capsys, "store", "backup", site.broker, str(copy))
    raw = bytearray(copy.read_bytes())
    raw[8192 + 20] ^= 1
    copy.write_bytes(raw)
    code, line = failed(capsys, "store", "dump", str(copy))
    assert code == 3
    code, line = failed(capsys, "store", "backup", str(copy), str(tmp_path / "second"))
    assert code == 3
    assert "damage" in line
    assert not (tmp_path / "second").exists()
