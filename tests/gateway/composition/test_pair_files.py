"""The file of a node of a pair that is damaged when it starts: cut, replaced, or refused (R2, D3)."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.pure.jobs import Job, Kind, RequestMeta, encode_meta
from gateway.composition.pair import Files
from gateway.composition.replica import PRIMARY, PairJournal
from titanic_store import DamagedStoreError, Flag, Options
from titanic_store.pure.superblock import BASE_BYTES

OPTIONS = Options(chunk_bytes=1 << 20, floor_chunks=6, max_bytes=16 << 20)
COUNT = 40
PAIRED = Flag.LAST_ACTIVE
META = encode_meta(RequestMeta(b"echo", 0))


def body(number: int) -> bytes:
    return b"body %04d " % number * 100


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


def made(folder: Path, flags: Flag, peer_seq: int = 0) -> Files:
    """A node's file with jobs in it and these flags; nobody has it open, and it was not closed in order."""
    files = Files(folder, OPTIONS, lambda: None)
    journal = files.open(accept_loss=False)
    clear = Flag.PAIR_NEW & ~flags
    journal.ring.set_role_flags(set=flags, clear=clear, role=PRIMARY, peer_seq=peer_seq)
    for number in range(1, COUNT):
        journal.append(Kind.REQUEST, Job(key(number)), META, (body(number),), ())
        journal.ring.flush()
    journal.abandon()
    return files


def flip(path: Path, at: int) -> bytes:
    """One bit is another; the file as it is then."""
    image = bytearray(path.read_bytes())
    image[at] ^= 1
    path.write_bytes(image)
    return bytes(image)


def jobs(journal: PairJournal) -> list[int]:
    return [int.from_bytes(job.key, "big") for job in journal.jobs]


def test_the_log_is_cut_at_the_hole_and_says_so(tmp_path: Path) -> None:
    """What is before the hole is there, the superblock says outdated and holed, and a copy is kept."""
    files = made(tmp_path, PAIRED)
    path = tmp_path / "titanic.ring"
    damaged = flip(path, path.read_bytes().find(body(20)) + 7)
    journal = files.open(accept_loss=False)
    assert jobs(journal) == [*range(1, 20)]
    flags = Flag(journal.flags)
    assert Flag.OUTDATED | Flag.HOLED in flags
    assert not flags & (Flag.LAST_ACTIVE | Flag.CLEAN)
    assert journal.ring.role == PRIMARY
    journal.append(Kind.REQUEST, Job(key(99)), META, (body(99),), ())
    journal.close()
    again = files.open(accept_loss=False)
    assert jobs(again) == [*range(1, 20), 99], "what lay behind the cut never comes back"
    assert Flag.HOLED in Flag(again.flags)
    again.close()
    (kept,) = (tmp_path / "aside").iterdir()
    assert kept.read_bytes() == damaged


def test_a_record_that_cannot_be_read_is_a_hole_too(tmp_path: Path) -> None:
    """Its checksums are right and its meta says nothing: the log is cut before it, the peer has the rest."""
    files = made(tmp_path, PAIRED)
    journal = files.open(accept_loss=False)
    journal.append(Kind.REQUEST, Job(key(50)), b"\x93\x01", (body(50),), ())
    journal.append(Kind.REQUEST, Job(key(51)), META, (body(51),), ())
    journal.close()
    journal = files.open(accept_loss=False)
    assert jobs(journal) == [*range(1, COUNT)]
    assert Flag.OUTDATED | Flag.HOLED in Flag(journal.flags)
    journal.close()


def test_a_file_that_cannot_be_cut_is_replaced_by_an_empty_one(tmp_path: Path) -> None:
    """A chunk header is gone: everything comes from the peer, under the ids and the epoch that there were."""
    files = made(tmp_path, PAIRED)
    path = tmp_path / "titanic.ring"
    before = files.open(accept_loss=False)
    secret, epoch = before.id_secret, before.epoch
    before.abandon()
    flip(path, BASE_BYTES + 3)
    journal = files.open(accept_loss=False)
    assert jobs(journal) == []
    assert (journal.id_secret, journal.epoch, journal.ring.role) == (secret, epoch, PRIMARY)
    flags = Flag(journal.flags)
    assert Flag.OUTDATED | Flag.HOLED in flags
    assert not flags & (Flag.PAIR_NEW | Flag.LAST_ACTIVE)
    journal.close()
    assert len(list((tmp_path / "aside").iterdir())) == 2, "a copy as it was, and the file itself"


@pytest.mark.parametrize("flags", [Flag.PAIR_NEW, Flag.PEER_OUTDATED, Flag.UNSHARED, Flag.UNSHARED | PAIRED])
def test_what_only_this_node_has_is_refused_and_left_alone(tmp_path: Path, flags: Flag) -> None:
    """It acknowledged alone, or never had a peer: as a single node, exit 3."""
    files = made(tmp_path, flags)
    path = tmp_path / "titanic.ring"
    damaged = flip(path, path.read_bytes().find(body(20)) + 7)
    with pytest.raises(DamagedStoreError, match="accept-loss"):
        files.open(accept_loss=False)
    assert path.read_bytes() == damaged
    assert [file.name for file in tmp_path.iterdir()] == ["titanic.ring"]


@pytest.mark.parametrize("at", [-80, 7], ids=["the header", "the body"])
def test_what_the_peer_had_is_mended_in_place(at: int, tmp_path: Path) -> None:
    """Of a node that went on alone later: the peer's record, and only that one; everything is there again."""
    files = made(tmp_path, Flag.UNSHARED | Flag.PEER_OUTDATED | PAIRED, peer_seq=30)
    path = tmp_path / "titanic.ring"
    whole = path.read_bytes()
    peers = files.open(accept_loss=False)
    records = {record.sequence: record for record in peers.records_after(0)}
    peers.abandon()
    whole = path.read_bytes()
    place = whole.find(body(20))
    flip(path, place + at)
    with pytest.raises(DamagedStoreError) as found:
        files.open(accept_loss=False)
    assert files.peer_has(found.value)
    assert not files.mend(found.value, records[21])
    assert not files.mend(found.value, records[20]._replace(body=(body(99),)))
    assert not files.mend(found.value, records[20]._replace(epoch=2))
    assert files.mend(found.value, records[20])
    assert path.read_bytes()[place - 88 : place + 1_000] == whole[place - 88 : place + 1_000]
    journal = files.open(accept_loss=False)
    assert jobs(journal) == [*range(1, COUNT)]
    journal.close()


def test_a_record_that_nobody_can_read_is_not_mended_for_ever(tmp_path: Path) -> None:
    """The peer has the same bytes, checksums and all: written over ours they change nothing; exit 3."""
    files = made(tmp_path, Flag.UNSHARED | Flag.PEER_OUTDATED | PAIRED, peer_seq=60)
    journal = files.open(accept_loss=False)
    journal.append(Kind.REQUEST, Job(key(50)), b"\x93\x01", (body(50),), ())
    journal.ring.flush()
    record = journal.record_at(journal.last_seq)
    assert record is not None
    journal.close()
    with pytest.raises(DamagedStoreError, match="cannot be read") as found:
        files.open(accept_loss=False)
    assert files.peer_has(found.value)
    assert not files.mend(found.value, record)


def test_what_the_peer_never_had_is_not_asked_for(tmp_path: Path) -> None:
    """It was acknowledged here alone."""
    files = made(tmp_path, Flag.UNSHARED | PAIRED, peer_seq=19)
    path = tmp_path / "titanic.ring"
    flip(path, path.read_bytes().find(body(20)) + 7)
    with pytest.raises(DamagedStoreError) as found:
        files.open(accept_loss=False)
    assert not files.peer_has(found.value)


def test_with_accept_loss_nobody_is_asked(tmp_path: Path) -> None:
    """The operator's word comes first: what can be read is kept, a report names the rest."""
    files = made(tmp_path, PAIRED)
    path = tmp_path / "titanic.ring"
    flip(path, path.read_bytes().find(body(20)) + 7)
    journal = files.open(accept_loss=True)
    assert len(jobs(journal)) == COUNT - 1
    assert Flag.HOLED not in Flag(journal.flags)
    journal.close()
