"""What the nodes of a pair say to each other, and what happens to bytes that are nothing of the kind."""

import random
from typing import Any

import msgspec
import pytest

from core.errors import PeerError
from core.pure import peer
from core.pure.epochs import epoch_at, last_common
from core.pure.peer import (
    Beat,
    Crowd,
    Record,
    Ship,
    behind,
    decode,
    encode,
    packed,
    parts_of,
    record_crc,
    records_of,
    row_of,
)
from core.pure.watch import Times, Watch

RECORDS = [
    Record(1, 0, 7, 2, b"k" * 16, b"meta", (b"first", b"second")),
    Record(4, 1, 8, 2, b"l" * 16, b"", ()),
]


def ship() -> list[bytes]:
    rows = tuple(map(row_of, RECORDS))
    return encode(
        Ship(1, 2, 3, 4, 6, 2, rows, b"digest"), [part for record in RECORDS for part in record.body]
    )


def test_bytes_of_strangers_are_refused_and_nothing_else_happens() -> None:
    """Random frames, and every message cut short or with one byte changed, decode or raise PeerError."""
    seed = random.SystemRandom().randrange(1 << 32)
    rng = random.Random(seed)
    whole = ship()
    for _ in range(3_000):
        frames = [rng.randbytes(rng.choice((0, 1, 5, 60))) for _ in range(rng.randrange(4))]
        if rng.random() < 0.7:
            frames = [bytes(frame) for frame in whole]
            head = bytearray(frames[0])
            head[rng.randrange(len(head))] ^= 1 << rng.randrange(8)
            frames[0] = bytes(head[: rng.randrange(1, len(head) + 1)])
            del frames[rng.randrange(1, len(frames) + 1) :]
        try:
            decode(frames)
        except PeerError:
            continue
        except Exception as error:
            raise AssertionError(f"seed {seed}: {frames!r}") from error


def test_records_arrive_as_they_were_sent() -> None:
    """Kind, flags, sequence, epoch, key, meta and body survive the wire."""
    frames = ship()
    message = decode(frames)
    assert isinstance(message, Ship)
    joined = [record._replace(body=(b"".join(record.body),) if record.body else ()) for record in RECORDS]
    assert records_of(message.rows, frames) == joined


@pytest.mark.parametrize("field", ["kind", "flags", "sequence", "epoch", "key", "meta"])
def test_a_record_damaged_on_its_way_is_refused(field: str) -> None:
    """Each field is under the record's own crc, and so is its body."""
    record = RECORDS[0]
    value = getattr(record, field)
    changed: Any = {field: value + 1 if isinstance(value, int) else b"x" + value[1:]}
    assert record_crc(record._replace(**changed)) != record_crc(record)
    assert record_crc(record._replace(body=(b"first", b"secons"))) != record_crc(record)
    frames = ship()
    frames[1] = b"firsT" + frames[1][5:]
    message = decode(frames)
    assert isinstance(message, Ship)
    with pytest.raises(PeerError, match="record 7"):
        records_of(message.rows, frames)


CROWD = Crowd(1, 9, 2, [bytes([n]) * 16 for n in range(4)], b"meta", [b"first", b"", b"third", b"4"])


def crowded() -> list[bytes]:
    row, body = packed(CROWD)
    return encode(Ship(1, 2, 3, 4, 6, 2, (*map(row_of, RECORDS), row)), [b"firstsecond", *body])


def test_a_crowd_arrives_as_it_was_sent() -> None:
    """Beside single records, whole or from the record on that is wanted; a gap is refused."""
    frames = crowded()
    message = decode(frames)
    assert isinstance(message, Ship)
    parts = parts_of(message.rows, frames)
    assert parts[2] == CROWD
    assert [record.sequence for record in CROWD.each()] == [9, 10, 11, 12]
    assert behind(parts, 6) == parts
    rest = behind(parts, 10)
    assert rest == [CROWD.after(10)]
    assert list(CROWD.after(10).each()) == list(CROWD.each())[2:]
    assert behind(parts, 12) == []
    with pytest.raises(PeerError, match="order"):
        behind(parts, 5)
    with pytest.raises(PeerError, match="order"):
        behind([CROWD, CROWD], 8)
    with pytest.raises(PeerError, match="crowd"):
        records_of(message.rows, frames)


@pytest.mark.parametrize("field", ["kind", "flags", "sequence", "epoch", "key", "meta", "sizes", "body"])
def test_a_crowd_damaged_on_its_way_is_refused(field: str) -> None:
    """Every field of it is under its crc, or must be zero."""
    row, (body,) = packed(CROWD)
    if field == "body":
        body = b"F" + body[1:]
    else:
        value = getattr(row, field)
        changed = value + 1 if isinstance(value, int) else b"x" + value[1:]
        row = msgspec.structs.replace(row, **{field: changed})
    with pytest.raises(PeerError, match="from record"):
        parts_of((row,), (b"", body))


@pytest.mark.parametrize(("keys_bytes", "sizes"), [(16, 8), (32, 7), (16 * 1001, 4 * 1001)])
def test_a_crowd_that_does_not_add_up_is_refused(keys_bytes: int, sizes: int) -> None:
    """With a right crc too: keys, sizes and bodies fit together, or nothing is believed."""
    crc = peer._crowd_crc(1, 5, 2, bytes(keys_bytes), bytes(sizes), b"", b"")
    row = peer.Row(1, 0, 5, 2, bytes(keys_bytes), b"", 0, crc, bytes(sizes))
    with pytest.raises(PeerError, match="is none"):
        parts_of((row,), (b"",))


def test_a_follower_of_an_earlier_version_is_sent_single_records() -> None:
    """It does not say that it takes crowds, and reads no more of a message than it knows."""
    earlier = msgspec.msgpack.encode((1, 2, 3))
    assert msgspec.msgpack.decode(earlier, type=peer.Want) == peer.Want(1, 2, 3, crowds=False)
    (head,) = encode(peer.Want(1, 2, 3, crowds=True))
    assert decode([head]) == peer.Want(1, 2, 3, crowds=True)

    class Earlier(msgspec.Struct, array_like=True):
        session: int
        follow: int
        seq: int

    assert msgspec.msgpack.decode(head[1:], type=Earlier).seq == 3


@pytest.mark.parametrize(
    ("ours", "our_last", "theirs", "their_last", "common"),
    [
        ([(2, 1)], 10, [(2, 1)], 8, 8),  # behind
        ([(2, 1), (3, 9)], 20, [(2, 1)], 12, 8),  # wrote on under an epoch that ended
        ([(2, 1), (4, 9)], 20, [(2, 1), (3, 7)], 12, 6),  # both wrote on
        ([(3, 100)], 200, [(2, 1)], 50, -1),  # the ring has moved on
        ([(2, 5), (3, 9)], 20, [(2, 1), (3, 9)], 15, 15),
        ([], 0, [(2, 1)], 5, -1),
        ([(2, 1)], 5, [], 0, -1),
        ([(2, 50)], 60, [(2, 1)], 40, -1),  # what they share was reused here
    ],
)
def test_the_last_common_record_follows_from_the_epochs(
    ours: list[tuple[int, int]], our_last: int, theirs: list[tuple[int, int]], their_last: int, common: int
) -> None:
    """Two logs that have a record with one epoch and sequence agree up to there, and no further."""
    assert last_common(ours, our_last, theirs, their_last) == common
    if common > 0:
        assert epoch_at(ours, common) == epoch_at(theirs, common)


def beat(session: int, number: int, echo_session: int, echo_number: int) -> Beat:
    return Beat(session, number, echo_session, echo_number, "paired", 2, 2, 10, False)


def test_old_news_never_looks_fresh() -> None:
    """The window closes counted from the own beat that was echoed, however late the echo is read."""
    watch = Watch(Times(), session=1, now_ms=0)
    for now_ms in range(0, 1_000, 250):
        watch.next_number(now_ms)
    assert watch.receive(beat(9, 1, 1, 2), now_ms=9_000)
    assert watch.opens_ms() == 9_000 + 2_000
    assert watch.closes_ms() == 250 + 4_000
    assert not watch.receive(beat(9, 1, 1, 2), now_ms=9_001), "the same beat again"
    assert not watch.receive(beat(9, 2, 77, 3), now_ms=9_002), "it never heard this process"
    assert not watch.receive(beat(8, 5, 1, 1), now_ms=9_003), "of a process that was before"


def test_times_that_contradict_each_other_are_refused() -> None:
    """One late beat is not a death, and the margin covers the drift."""
    for wrong in ({"failover_ms": 400}, {"window_ms": 1_500}, {"drift_ms": 1_900}, {"margin_ms": 50}):
        with pytest.raises(ValueError):
            Times(**wrong)
    assert peer.TYPES[0] is Beat
