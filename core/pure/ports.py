"""The seams of the core, owned by the side that calls them.

Durability shows in the types: an answer that promises something is an :class:`Answer` inside the
``after_sync`` of an append, and reaches the client only when a shell performs it after the sync.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

import msgspec

from core.pure.jobs import Job, Now
from core.pure.tsp import BatchLine

Path = tuple[bytes, ...]
"""The return path of a client: identity frame, then the envelope frames it sent, without delimiter."""


class Effect(msgspec.Struct, frozen=True, gc=False):
    """Something a shell does on behalf of a pure object."""


class Answer(Effect, frozen=True, gc=False):
    """Send these body frames to the client at ``path`` as the reply of ``service``."""

    path: Path
    service: bytes
    frames: tuple[bytes, ...]


class AnswerReply(Effect, frozen=True, gc=False):
    """Read the job's stored reply and send it to ``path``; ``extended`` puts our head frame before it."""

    path: Path
    service: bytes
    job: Job
    extended: bool


class Tell(Effect, frozen=True, gc=False):
    """Tell who asked from ``path`` of this job's reply; without a job: that it is to be fetched."""

    path: Path
    key: bytes
    job: Job | None


class AnswerStatus(Effect, frozen=True, gc=False):
    """Read the job's request record and send its full status to ``path`` under ``code``."""

    path: Path
    service: bytes
    job: Job
    code: bytes


class AnswerReplay(Effect, frozen=True, gc=False):
    """Read the stored request of ``job`` and answer a repeated submit: the same request, or another one."""

    path: Path
    job: Job
    service: bytes
    frames: Sequence[bytes]


class AnswerBound(Effect, frozen=True, gc=False):
    """Read the KEY record of ``entry`` and answer a submit under that idempotency key."""

    path: Path
    entry: Job
    fingerprint: bytes


class AnswerBatch(Effect, frozen=True, gc=False):
    """Answer a batch; a line that is a Job is the entry of a KEY to be read and judged first."""

    path: Path
    lines: tuple[BatchLine | Job, ...]
    fingerprint: bytes
    created_ms: int


class AnswerState(Effect, frozen=True, gc=False):
    """Hand this question back to the Titanic service: the job is where it was asked to be, or elsewhere."""

    path: Path
    service: bytes
    job: Job


class AnswerService(Effect, frozen=True, gc=False):
    """Hand this question back to the Titanic service: tell the row of the service ``name``."""

    path: Path
    service: bytes
    name: bytes


class AnswerCalls(Effect, frozen=True, gc=False):
    """Read the requests of these jobs and send them to ``path`` as callbacks to deliver."""

    path: Path
    jobs: tuple[Job, ...]


class Advance(Effect, frozen=True, gc=False):
    """Hand this step back to the Titanic service: the record that caused it is durable."""

    job: Job
    state: int


class AdvanceAll(Effect, frozen=True, gc=False):
    """As :class:`Advance`, of many jobs of one service that were accepted together."""

    jobs: tuple[Job, ...]
    state: int


class Wake(Effect, frozen=True, gc=False):
    """Tell whoever hands out work that ``service`` has some."""

    service: bytes


class Abandon(Effect, frozen=True, gc=False):
    """Take the running attempt away from its worker: it timed out or its job is gone."""

    job: Job
    attempt: int


class Journal(Protocol):
    """What the core needs of a store: records in, one index entry per live job, bytes out.

    ``index`` is the journal's own dict, read-only for the core: an append of REQUEST, KEY or SETTING
    inserts the job at once, a durable CLOSE removes it before its ``after_sync`` is handed back.
    """

    @property
    def index(self) -> Mapping[bytes, Job]:
        """Key -> job, for every job whose bytes are (being) stored."""
        ...

    @property
    def durability(self) -> str:
        """What an acknowledgement is worth: ``fsync``, ``interval; ms=N`` or ``memory``."""
        ...

    @property
    def epoch(self) -> int:
        """The epoch every record written now carries (P1)."""
        ...

    @property
    def last_seq(self) -> int:
        """The sequence of the last record appended."""
        ...

    def append(
        self, kind: int, job: Job, meta: bytes, body: Sequence[bytes], after_sync: tuple[Effect, ...]
    ) -> int:
        """Queue a record, give its sequence; ``after_sync`` comes back from :meth:`completed` once durable.

        An empty ``after_sync`` means nobody waits: the record rides with the next commit.
        Raises JournalFullError (what opens an entry, and a REPLY larger than what is kept for it), and
        JournalBusyError (what opens an entry), and JournalFailedError.
        """
        ...

    def append_all(
        self,
        kind: int,
        jobs: Sequence[Job],
        meta: bytes,
        bodies: Sequence[bytes],
        after_sync: tuple[Effect, ...],
    ) -> int:
        """Queue a record that opens each job, all with this meta and one body each; the first's sequence.

        The others follow one by one; ``after_sync`` comes back once all are durable. The keys are new and
        differ. 0, and nothing has changed: append them one by one. Raises JournalFailedError.
        """
        ...

    def barrier(self, after_sync: tuple[Effect, ...]) -> None:
        """Hand ``after_sync`` back once everything appended so far is durable."""
        ...

    def completed(self) -> Iterable[tuple[Effect, ...]]:
        """Take, in append order, the ``after_sync`` of all that is durable; JournalFailedError if dead."""
        ...

    def read_request(self, job: Job) -> tuple[bytes, bytes]:
        """(meta, body) of the job's request, checked; DamagedRecordError."""
        ...

    def read_reply(self, job: Job) -> tuple[bytes, bytes]:
        """(meta, body) of the job's reply, checked; DamagedRecordError. Ask only if ``reply_at`` is set."""
        ...

    def read_request_meta(self, job: Job) -> tuple[bytes, int]:
        """(meta, length of the body) of the job's request; the body is not read. DamagedRecordError."""
        ...

    def read_reply_meta(self, job: Job) -> tuple[bytes, int]:
        """(meta, length of the body) of the job's reply; the body is not read. DamagedRecordError."""
        ...

    def counters(self) -> Mapping[str, int]:
        """What the journal counts, for statistics: only ever more; names begin with ``store_``."""
        ...

    def gauges(self) -> Mapping[str, int]:
        """How things stand with the journal now, for statistics: up and down; names begin with ``store_``."""
        ...


class Port(Protocol):
    """What the Titanic service asks of the shell around it."""

    @property
    def settled_seq(self) -> int:
        """Every acknowledgement that waited for a record up to this sequence has been given."""
        ...

    def append(
        self, kind: int, job: Job, meta: bytes, body: Sequence[bytes], after_sync: tuple[Effect, ...]
    ) -> int:
        """See :meth:`Journal.append`."""
        ...

    def append_all(
        self,
        kind: int,
        jobs: Sequence[Job],
        meta: bytes,
        bodies: Sequence[bytes],
        after_sync: tuple[Effect, ...],
    ) -> int:
        """See :meth:`Journal.append_all`."""
        ...

    def barrier(self, after_sync: tuple[Effect, ...]) -> None:
        """See :meth:`Journal.barrier`."""
        ...

    def perform(self, effect: Effect) -> None:
        """Do this now: it promises nothing that is not durable already."""
        ...


ADDRESS_BYTES: Final = 21
"""So many bytes of an address name the attempt; what may follow is for the worker."""


class Work(msgspec.Struct, frozen=True, gc=False):
    """One attempt, ready for a worker: ``address`` is the opaque client-address frame of its REQUEST."""

    address: bytes
    frames: Sequence[bytes]


class Backlog(Protocol):
    """Where the broker finds durable work; it pulls when a worker is free."""

    def take(self, service: bytes, worker: bytes, now: Now) -> Work | None:
        """The next attempt for ``service``, now counted as running at ``worker``; None if there is none."""
        ...

    def done(self, address: bytes, frames: Sequence[bytes], now: Now) -> None:
        """The worker replied."""
        ...

    def lost(self, address: bytes, reason: str, now: Now, *, stated: bool = False) -> None:
        """The worker is gone before replying, or (``stated``) said DISCONNECT with this reason."""
        ...

    def progress(self, address: bytes, frames: Sequence[bytes], now: Now) -> None:
        """The worker sent a PARTIAL (RFC 18) of what it is working on."""
        ...

    def waiting(self, service: bytes) -> int:
        """How many jobs of ``service`` could be taken now."""
        ...

    def orphan(self, address: bytes) -> bytes | None:
        """The service of the job, if this is an attempt at one that waits for its next."""
        ...


class Internal(Protocol):
    """An internal service of the broker (RFC 7): every name that begins with ``titanic.``."""

    def handle(self, service: bytes, path: Path, body: Sequence[bytes], now: Now) -> None:
        """Answer the request through the port, now or later."""
        ...


class Outbox(Protocol):
    """Where the broker puts messages; the shell sends them in order, never blocking."""

    def send(self, frames: Sequence[bytes]) -> None:
        """First frame: the peer's identity. An unreachable peer is reported to Broker.unreachable later."""
        ...


class Forward(Protocol):
    """Where an Outbox takes a message that is written already: the same, without the frames."""

    def __call__(self, identity: bytes, message: bytes) -> None:
        """``message``: every frame behind the identity, as ZMTP 2 and later have it on the wire."""
        ...
