"""A record whose checksums are right and whose meta its owner cannot read is damage, not a bug of ours."""

from pathlib import Path
from uuid import UUID

import pytest

from tests.titanic_store.rig import UNREADABLE, Keeper, Pebble, key, open_on, options, request, settle
from titanic_store import DamagedStoreError, Foreign, ForeignRecordError, Kind, Ring, check, open_ring
from titanic_store.pure.records import ROW, Origin, encode_origin
from titanic_store.pure.recovery import Rebuild
from titanic_store.shell.faulty import FaultyDisk

MANY = options(max_chunks=40)
BAD = UNREADABLE + b" bytes"


def spoil_request(ring: Ring[Pebble]) -> None:
    request(ring, 50, meta=BAD)


def spoil_note(ring: Ring[Pebble]) -> None:
    pebble = request(ring, 50)
    ring.append(Kind.ATTEMPT, pebble, BAD)


def spoil_reply(ring: Ring[Pebble]) -> None:
    pebble = request(ring, 50)
    ring.append(Kind.REPLY, pebble, BAD, (b"reply",))


def spoil_state(ring: Ring[Pebble]) -> None:
    pebble = request(ring, 50)
    ring.append(Kind.JOB, pebble, encode_origin(Origin(51, Kind.REQUEST, BAD, b"meta")), (b"body",))


def spoil_origin(ring: Ring[Pebble]) -> None:
    pebble = request(ring, 50)
    ring.append(Kind.JOB, pebble, encode_origin(Origin(51, Kind.REQUEST, b"", BAD)), (b"body",))


SPOILERS = [spoil_request, spoil_note, spoil_reply, spoil_state, spoil_origin]


def made(path: Path, spoil: object, after: int) -> tuple[int, int]:
    """A store with one such record in the middle; where it is, and its sequence."""
    assert callable(spoil)
    ring = open_ring(path, Keeper(), MANY)
    for number in range(1, 40):
        request(ring, number, bytes(2000))
    ring.flush()
    spoil(ring)
    at, sequence = ring._last_at(), ring.last_seq
    for number in range(100, 100 + after):
        request(ring, number, bytes(2000))
        ring.flush()
    ring.close()
    return at, sequence


@pytest.mark.parametrize("after", [3, 60])
@pytest.mark.parametrize("spoil", SPOILERS)
def test_it_is_refused_with_where_whom_and_what_to_do(tmp_path: Path, spoil: object, after: int) -> None:
    """Exit 3, the offset, the job, the ways out; from the head as from a digest; the file is left alone."""
    path = tmp_path / "titanic.ring"
    at, sequence = made(path, spoil, after)
    image = path.read_bytes()
    with pytest.raises(DamagedStoreError, match=f"record {sequence}, .*cannot be read") as caught:
        open_ring(path, Keeper(), MANY)
    error = caught.value
    assert (error.exit_code, error.offset, error.last_seq, error.keys) == (3, at, sequence - 1, (key(50),))
    for word in (f"offset {at}", str(UUID(bytes=key(50))), "titanic store check", "--accept-loss", "restore"):
        assert word in str(error)
    assert path.read_bytes() == image


def test_a_check_that_can_read_metas_names_it(tmp_path: Path) -> None:
    """Every checksum is right, so only who knows what a meta says can find fault with it."""
    path = tmp_path / "titanic.ring"
    at, sequence = made(path, spoil_note, 60)
    (problem,) = check(path, judge=Keeper().unreadable).problems
    assert problem.offset == at
    assert f"record {sequence} of {UUID(bytes=key(50))}" in problem.text
    assert check(path).clean


@pytest.mark.parametrize("spoil", SPOILERS)
def test_accepting_loss_loses_that_record_alone(tmp_path: Path, spoil: object) -> None:
    """The report names it, everything else is there, and the store opens without the flag afterwards."""
    path = tmp_path / "titanic.ring"
    made(path, spoil, 60)
    ring = open_ring(path, Keeper(), MANY, accept_loss=True)
    others = [*range(1, 40), *range(100, 160)]
    gone = spoil is spoil_request
    expected = {key(number) for number in (others if gone else [*others, 50])}
    assert set(ring.index) == expected
    ring.close()
    (report,) = tmp_path.glob("titanic.ring.loss-*.txt")
    assert str(UUID(bytes=key(50))) in report.read_text(encoding="utf-8")
    assert set(open_ring(path, Keeper(), MANY).index) == expected


class Clumsy(Keeper):
    """Has a bug of its own."""

    def fold(self, entry: Pebble, kind: int, meta: bytes, origin_seq: int) -> None:
        raise ValueError("a mistake of ours")


def test_a_mistake_of_the_owner_is_not_called_damage(tmp_path: Path) -> None:
    """Nobody is sent to restore a backup because of a bug."""
    path = tmp_path / "titanic.ring"
    made(path, request_one, 3)
    with pytest.raises(ValueError, match="a mistake of ours"):
        open_ring(path, Clumsy(), MANY)


def request_one(ring: Ring[Pebble]) -> None:
    request(ring, 50)


def test_a_reply_that_waits_for_its_job_is_named_too() -> None:
    """The chunk of its request is gone, and a relocated JOB claims it: it is the reply that is damaged."""
    origin = encode_origin(Origin(1, Kind.REQUEST, b"state", b"meta"))
    reply = ROW.pack(Kind.REPLY, 0, 0, len(BAD), 5, 7, 8192 + 4096, key(1))
    job = ROW.pack(Kind.JOB, 0, 0, len(origin), 4, 9, 8192 + 5000, key(1))
    rebuild = Rebuild(Keeper())
    rebuild.fold(reply, BAD)
    with pytest.raises(DamagedStoreError, match="record 7, a REPLY") as caught:
        rebuild.fold(job, origin)
    assert (caught.value.offset, caught.value.last_seq) == (8192 + 4096, 6)


@pytest.mark.parametrize("kind", [Kind.REQUEST, Kind.ATTEMPT])
def test_a_follower_takes_none_from_its_peer(kind: Kind) -> None:
    """It is refused before anything of it is written, so that this node's own file stays good."""
    disk = FaultyDisk()
    ring = open_on(disk, MANY)
    ring.append_foreign(Foreign(Kind.REQUEST, 0, 1, 1, key(1), b"meta", (b"body",)))
    bad = [Foreign(kind, 0, 2 + n, 1, key(1 + n), BAD, ()) for n in range(2)]
    with pytest.raises(ForeignRecordError, match="record 2 of the peer cannot be read"):
        ring.append_foreign_all(bad, "token")
    assert (ring.last_seq, list(ring.index)) == (1, [key(1)])
    settle(ring)
    ring.close()
    assert list(open_on(disk, MANY).index) == [key(1)]
