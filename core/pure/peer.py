"""What the two nodes of a pair say to each other: a frame with a head, then one with all bodies of records.

    | tag u8 | msgpack array of the message |    | body | body | ... |

The second frame is there if any body is: a frame for each costs more than copying small ones together.

Every message names the session (one run of one process) it comes from. A :class:`Beat` says which beat of
the other side was received last, and by this echo each side knows how old the other's knowledge is at most:
buffers, delays and sleeping processes cannot make old news look fresh.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from struct import pack, unpack
from typing import Final, NamedTuple
from zlib import crc32

import msgspec

from core.errors import PeerError
from core.pure.jobs import KEY_BYTES

RECORDS_MAX_COUNT: Final = 1_000
CROWD_MAX_COUNT: Final = 1_000
EPOCHS_MAX_COUNT: Final = 4_096
FRAMES_MAX_COUNT: Final = 2


class Record(NamedTuple):
    """A journal record without its place in a file; ``body`` is one part or several."""

    kind: int
    flags: int
    sequence: int
    epoch: int
    key: bytes
    meta: bytes
    body: Sequence[bytes]


class Crowd(NamedTuple):
    """Records that follow each other, each opening a job: only sequence, key and body are their own."""

    kind: int
    sequence: int  # of the first
    epoch: int
    keys: Sequence[bytes]
    meta: bytes
    bodies: Sequence[bytes]

    def each(self) -> Iterator[Record]:
        """The records one by one."""
        kind, sequence, epoch, keys, meta, bodies = self
        for number, (key, body) in enumerate(zip(keys, bodies, strict=True), sequence):
            yield Record(kind, 0, number, epoch, key, meta, (body,) if body else ())

    def after(self, seq: int) -> Crowd:
        """Without those up to ``seq``, which is one of its own but the last, or lower."""
        count = seq + 1 - self.sequence
        if count <= 0:
            return self
        return self._replace(sequence=seq + 1, keys=self.keys[count:], bodies=self.bodies[count:])


Part = Record | Crowd
"""What a shipment consists of."""


def last_seq_of(part: Part) -> int:
    """The sequence of its last record."""
    return part.sequence + len(part.keys) - 1 if isinstance(part, Crowd) else part.sequence


class Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Anything one node says to the other."""


class Beat(Message, frozen=True):
    """Who I am, what I am, and which of your beats I saw last. Sent every heartbeat and at every change."""

    session: int
    number: int
    echo_session: int
    echo_number: int
    state: str
    epoch: int
    last_epoch: int  # of the last record
    last_seq: int
    outdated: bool
    follow: int = 0  # a follower's: the number of its FOLLOW that is in force
    counts: int = 0  # an active's: the session of the follower whose disk counts, 0 if none
    counts_follow: int = 0
    backup: bool = False
    yields_to: int = 0  # the session that this node promised not to lead before
    nodes: str = ""  # where clients find this node


class Follow(Message, frozen=True):
    """A follower's log, and the wish to continue it; with ``full`` its own log is of no use."""

    session: int
    follow: int
    epochs: tuple[tuple[int, int], ...]
    last_seq: int
    full: bool = False


class Start(Message, frozen=True):
    """Both logs agree up to ``common``; with ``full`` begin again with an empty log at ``first_seq``."""

    session: int
    to_session: int
    follow: int
    epoch: int
    common: int
    first_seq: int
    full: bool
    id_secret: bytes


class Want(Message, frozen=True):
    """Send what comes after ``seq``; with ``crowds`` it may come as such, a later version's word."""

    session: int
    follow: int
    seq: int
    crowds: bool = False


class Row(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One record of a :class:`Ship`; its body is the next ``body_bytes`` bytes of the frame of bodies.

    With ``sizes``, four bytes each, it is a :class:`Crowd`, and ``key`` is all its keys.
    """

    kind: int
    flags: int
    sequence: int
    epoch: int
    key: bytes
    meta: bytes
    body_bytes: int
    crc: int
    sizes: bytes = b""


class Ship(Message, frozen=True):
    """Records behind ``prev_seq``, which has ``prev_epoch``; ``digest``: of the live jobs after the last."""

    session: int
    to_session: int
    follow: int
    epoch: int
    prev_seq: int
    prev_epoch: int
    rows: tuple[Row, ...]
    digest: bytes = b""


class Ack(Message, frozen=True):
    """What a follower has, has on its disk, and where the digests agreed last."""

    session: int
    follow: int
    epoch: int
    received_seq: int
    durable_seq: int
    agreed_seq: int


class Offer(Message, frozen=True):
    """You are in sync as soon as you have everything up to ``seq``: from there on I wait for you."""

    session: int
    to_session: int
    follow: int
    epoch: int
    seq: int
    number: int  # of the last beat before: older beats do not say yet that the follower counts


class Confirm(Message, frozen=True):
    """The offer is recorded."""

    session: int
    follow: int


class Merge(Message, frozen=True):
    """Records that only I have and that may have been acknowledged (P7); ``last`` ends them."""

    session: int
    follow: int
    number: int
    common: int
    rows: tuple[Row, ...]
    last: bool


class Merged(Message, frozen=True):
    """Everything up to ``number`` is stored here."""

    session: int
    to_session: int
    follow: int
    number: int


class Goodbye(Message, frozen=True):
    """A planned stop of a node that is not active."""

    session: int


class Fetch(Message, frozen=True):
    """These records are damaged here: send them as you have them."""

    session: int
    number: int
    sequences: tuple[int, ...]


class Fetched(Message, frozen=True):
    """The records asked for that are whole here."""

    session: int
    to_session: int
    number: int
    rows: tuple[Row, ...]


TYPES: Final[tuple[type[Message], ...]] = (
    Beat, Follow, Start, Want, Ship, Ack, Offer, Confirm, Merge, Merged, Goodbye, Fetch,
    Fetched,
)  # fmt: skip
_TAGS: Final = {kind: bytes((tag,)) for tag, kind in enumerate(TYPES)}
_DECODERS: Final = tuple(msgspec.msgpack.Decoder(kind) for kind in TYPES)
_encode: Final = msgspec.msgpack.Encoder().encode


def record_crc(record: Record) -> int:
    """Of everything that is copied from disk to disk; the wire's own checksum is too weak for that."""
    head = b"%d %d %d %d" % (record.kind, record.flags, record.sequence, record.epoch)
    crc = crc32(record.meta, crc32(record.key, crc32(head)))
    for part in record.body:
        crc = crc32(part, crc)
    return crc


def row_of(record: Record) -> Row:
    """The row that stands for ``record``."""
    kind, flags, sequence, epoch, key, meta, body = record
    return Row(kind, flags, sequence, epoch, key, meta, sum(map(len, body)), record_crc(record))


def packed(part: Part) -> tuple[Row, Sequence[bytes]]:
    """The row that stands for ``part``, and its body."""
    if not isinstance(part, Crowd):
        return row_of(part), part.body
    kind, sequence, epoch, keys, meta, bodies = part
    key, joined = b"".join(keys), b"".join(bodies)
    sizes = pack(f"<{len(bodies)}I", *map(len, bodies))
    crc = _crowd_crc(kind, sequence, epoch, key, sizes, meta, joined)
    return Row(kind, 0, sequence, epoch, key, meta, len(joined), crc, sizes), (joined,)


def _crowd_crc(
    kind: int, sequence: int, epoch: int, key: bytes, sizes: bytes, meta: bytes, joined: bytes
) -> int:
    head = b"%d %d %d %d" % (kind, sequence, epoch, len(sizes))
    return crc32(joined, crc32(meta, crc32(sizes, crc32(key, crc32(head)))))


def encode(message: Message, bodies: Sequence[bytes] = ()) -> list[bytes]:
    """The frames of a message; ``bodies`` are the bodies of all its rows, in parts."""
    head = _TAGS[type(message)] + _encode(message)
    joined = b"".join(bodies)
    return [head, joined] if joined else [head]


def decode(frames: Sequence[bytes]) -> Message:
    """The message in ``frames``. Raises PeerError for anything else."""
    if not frames or not frames[0] or frames[0][0] >= len(TYPES):
        raise PeerError("not a message of a pair")
    try:
        message: Message = _DECODERS[frames[0][0]].decode(memoryview(frames[0])[1:])
    except msgspec.MsgspecError as error:
        raise PeerError(f"message of a pair: {error}") from error
    rows = message.rows if isinstance(message, Ship | Merge | Fetched) else ()
    if len(rows) > RECORDS_MAX_COUNT or len(frames) > FRAMES_MAX_COUNT:
        raise PeerError("more than a pair ships at once")
    there_bytes = len(frames[1]) if len(frames) > 1 else 0
    if any(row.body_bytes < 0 for row in rows) or sum(row.body_bytes for row in rows) != there_bytes:
        raise PeerError("the bodies of a message of a pair do not add up")
    return message


def parts_of(rows: Sequence[Row], frames: Sequence[bytes]) -> list[Part]:
    """What is in a Ship, each part checked against its crc. Raises PeerError."""
    parts: list[Part] = []
    at, bodies = 0, frames[1] if len(frames) > 1 else b""
    for row in rows:
        end = at + row.body_bytes
        body, at = bodies[at:end], end
        parts.append(_crowd_of(row, body) if row.sizes else _record_of(row, body))
    return parts


def records_of(rows: Sequence[Row], frames: Sequence[bytes]) -> list[Record]:
    """The records of a Merge or Fetched, which come one by one. Raises PeerError."""
    records = []
    for part in parts_of(rows, frames):
        if isinstance(part, Crowd):
            raise PeerError("a crowd where records are expected")
        records.append(part)
    return records


def _record_of(row: Row, body: bytes) -> Record:
    whole = (body,) if body else ()
    record = Record(row.kind, row.flags, row.sequence, row.epoch, row.key, row.meta, whole)
    if record_crc(record) != row.crc:
        raise PeerError(f"record {row.sequence} was damaged on its way")
    return record


def _crowd_of(row: Row, joined: bytes) -> Crowd:
    key, sizes, sequence = row.key, row.sizes, row.sequence
    if _crowd_crc(row.kind, sequence, row.epoch, key, sizes, row.meta, joined) != row.crc:
        raise PeerError(f"the crowd from record {sequence} on was damaged on its way")
    count = len(sizes) // 4
    if count > CROWD_MAX_COUNT or len(sizes) != 4 * count or len(key) != KEY_BYTES * count or row.flags:
        raise PeerError(f"the crowd from record {sequence} on is none")
    ends = (0, *accumulate(unpack(f"<{count}I", sizes)))
    if ends[-1] != len(joined):
        raise PeerError(f"the bodies of the crowd from record {sequence} on do not add up")
    keys = [key[at : at + KEY_BYTES] for at in range(0, len(key), KEY_BYTES)]
    bodies = [joined[start:end] for start, end in pairwise(ends)]
    return Crowd(row.kind, sequence, row.epoch, keys, row.meta, bodies)


def behind(parts: Sequence[Part], last_seq: int) -> list[Part]:
    """What of them is behind ``last_seq``. Raises PeerError unless it goes on from there, in order."""
    fresh: list[Part] = []
    seq = last_seq
    for part in parts:
        last = last_seq_of(part)
        if last <= last_seq:
            continue
        rest = part.after(last_seq) if isinstance(part, Crowd) else part
        if rest.sequence != seq + 1:
            raise PeerError("shipped records are not in order")
        fresh.append(rest)
        seq = last
    return fresh
