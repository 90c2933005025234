"""``check`` proves every checksum and counts what is there."""

import json
from pathlib import Path
from random import Random

import pytest

from tests.titanic_store.rig import Waiting, options, request
from titanic_store import Kind, check


def used_store(path: Path) -> None:
    """Some jobs over some chunks, closed in order."""
    waiting = Waiting(path, options(chunks=12, max_chunks=12))
    for number in range(60):
        pebble = request(waiting.ring, number, Random(number).randbytes(3000))
        if number % 2:
            waiting.ring.append(Kind.REPLY, pebble, b"", (b"r" * 100,))
        if number % 3 == 0:
            waiting.ring.append(Kind.CLOSE, pebble, b"")
    waiting.wait(60)
    waiting.ring.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store at rest."""
    used_store(tmp_path / "titanic.ring")
    return tmp_path / "titanic.ring"


def test_a_store_at_rest_is_clean_and_untouched(path: Path) -> None:
    """The ledger is right, the facts are JSON, the last line is the verdict, the file is the same."""
    before = path.read_bytes()
    steps: list[tuple[int, int]] = []
    report = check(path, lambda *done: steps.append(done))
    assert path.read_bytes() == before
    assert report.clean, report.lines()
    assert report.facts["records"] == {"close": 20, "reply": 30, "request": 60}
    assert report.facts["live"] == {"request": 40}
    assert report.facts["last_sequence"] == 110
    assert report.facts["closed_in_order"] is True
    assert report.lines()[-1] == "clean"
    assert json.loads(json.dumps(report.facts)) == report.facts
    assert steps[-1][0] == steps[-1][1] == report.facts["sealed_chunks"] + 1  # type: ignore[operator]


def test_any_flipped_byte_of_a_record_is_found(path: Path) -> None:
    """Bodies too, which no start reads; the offset of the record is named (R18)."""
    clean = path.read_bytes()
    offsets = [at for at in range(8192 + 4096, 8192 + 40000) if clean[at : at + 4] == b"TiR1"]
    assert len(offsets) > 5
    for start in offsets[:5]:
        for inside in (0, 30, 84, 90, 100, 2000):
            raw = bytearray(clean)
            raw[start + inside] ^= 4
            path.write_bytes(raw)
            report = check(path)
            assert not report.clean, f"byte {inside} of the record at {start}"
            assert report.problems[0].offset <= start + inside
            assert report.lines()[-1].startswith("damaged: ")


def test_a_damaged_digest_is_found_and_survived(path: Path) -> None:
    """The store still opens, from the records themselves; check says which digest."""
    raw = bytearray(path.read_bytes())
    end = 8192 + options().chunk_bytes
    digest_offset = int.from_bytes(raw[end - 96 + 48 : end - 96 + 56], "little")
    raw[digest_offset + 20] ^= 1
    path.write_bytes(raw)
    report = check(path)
    assert [problem.text for problem in report.problems] == ["the digest of turn 1 fails its checksum"]
    again = Waiting(path, options(chunks=12, max_chunks=12))
    assert len(again.ring.index) == 40
    again.ring.close()


def test_damage_that_stops_an_opening_is_a_problem_too(path: Path) -> None:
    """A hole is in the report, not an exception."""
    raw = bytearray(path.read_bytes())
    raw[8192:8272] = bytes(80)  # the tail's chunk header
    path.write_bytes(raw)
    report = check(path)
    assert not report.clean
    assert "turn 1 is missing" in report.problems[0].text
