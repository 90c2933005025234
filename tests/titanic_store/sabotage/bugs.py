"""Bugs to be switched on, one at a time. Each is one that somebody could write, in one place of the store."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from typing import Any, Final

import pytest

from titanic_store.errors import DamagedStoreError
from titanic_store.pure import chunks, records, recovery
from titanic_store.pure.kinds import EFFECT_OF, Effect, Kind
from titanic_store.pure.recovery import Reader, Rebuild
from titanic_store.pure.space import Space
from titanic_store.pure.superblock import newest_superblock
from titanic_store.shell import file, opening, reading, recovering, writer
from titanic_store.shell.batch import Batch
from titanic_store.shell.committer import Committer
from titanic_store.shell.faulty import FaultyStorage
from titanic_store.shell.head import Head
from titanic_store.shell.reading import RecordReader
from titanic_store.shell.recovering import Recovery
from titanic_store.shell.relocating import Relocator
from titanic_store.shell.ring import Ring
from titanic_store.shell.writer import Writer

Bug = Callable[[pytest.MonkeyPatch], None]
BUGS: Final[dict[str, Bug]] = {}


def bug(function: Bug) -> Bug:
    """One of the list; its name is its id, its docstring the mistake."""
    BUGS[function.__name__] = function
    return function


# -- commit


@bug
def acknowledges_before_the_sync(patch: pytest.MonkeyPatch) -> None:
    """``fdatasync`` is left out, everything else goes on as if it had been done (D1)."""

    def sync(self: Committer) -> None:
        self.durable_seq, self._sync_deadline = self.written_seq, None

    patch.setattr(Committer, "_sync", sync)


@bug
def samples_what_is_covered_after_the_sync(patch: pytest.MonkeyPatch) -> None:
    """What was appended while the disk was busy counts as durable (R10)."""
    right = Committer._sync

    def sync(self: Committer) -> None:
        right(self)
        self.durable_seq = max(self.durable_seq, self.batch.last_seq)

    patch.setattr(Committer, "_sync", sync)


@bug
def tries_a_failed_sync_again(patch: pytest.MonkeyPatch) -> None:
    """The second fdatasync returns 0 and proves nothing (R11)."""
    right = FaultyStorage.sync

    def sync(self: FaultyStorage) -> None:
        try:
            right(self)
        except OSError:
            right(self)

    patch.setattr(FaultyStorage, "sync", sync)


@bug
def goes_on_after_an_error(patch: pytest.MonkeyPatch) -> None:
    """The first failed write or sync is only remembered, and the next batch is tried (R11)."""

    def fail(self: Committer, error: BaseException) -> None:
        self.writing = None
        self._notify()

    patch.setattr(Committer, "fail", fail)


@bug
def leaves_out_the_barriers_of_a_page_turn(patch: pytest.MonkeyPatch) -> None:
    """Superblock, chunk header and digest reach the disk in any order."""

    def barrier(self: Batch) -> None:
        self.run = None

    patch.setattr(Batch, "barrier", barrier)


@bug
def writes_into_a_sector_that_was_synced(patch: pytest.MonkeyPatch) -> None:
    """A batch begins where the last one ended, so a torn sector takes acknowledged records with it."""
    patch.setattr(writer, "align_up", lambda offset, align: offset)


@bug
def takes_a_short_write_for_a_whole_one(patch: pytest.MonkeyPatch) -> None:
    """What ``pwrite`` returned is not looked at (R13)."""

    def write(self: file.FileStorage, offset: int, data: bytes | bytearray | memoryview) -> None:
        os.pwrite(self._fd, data, offset)

    patch.setattr(file.FileStorage, "_write", write)


# -- the end of the log


@bug
def believes_a_body_without_its_checksum(patch: pytest.MonkeyPatch) -> None:
    """Recovery looks at headers only."""
    _forgive(patch, "the body fails", "the meta fails")


@bug
def ignores_the_lap(patch: pytest.MonkeyPatch) -> None:
    """A valid record of an earlier turn of the slot is taken for the next one (R4)."""
    _forgive(patch, "sequence ")


@bug
def ignores_the_link_to_the_record_before(patch: pytest.MonkeyPatch) -> None:
    """``prev_crc``, incarnation and cut do not matter: a ghost with the right number is believed (R1, R3)."""
    _forgive(patch, "the record does not follow", "the record is older", "the record lies behind")


def _forgive(patch: pytest.MonkeyPatch, *reasons: str) -> None:
    right = Reader._refusal

    def refusal(self: Reader, image: bytes, at: int, turn: int, chain: Any, header: Any) -> str:
        why = right(self, image, at, turn, chain, header)
        return "" if why.startswith(reasons) else why

    patch.setattr(Reader, "_refusal", refusal)


@bug
def has_no_secret(patch: pytest.MonkeyPatch) -> None:
    """Every store has the same salt, so whoever knows the format can forge a record in a payload (R4)."""

    class Secrets:
        token_bytes = staticmethod(bytes)

    patch.setattr(opening, "secrets", Secrets)


@bug
def opens_with_the_incarnation_of_before(patch: pytest.MonkeyPatch) -> None:
    """After a cut the ghosts behind it are of the same incarnation as what is appended (R3)."""
    right = Head.__init__

    def init(self: Head, options: Any, recovered: Any) -> None:
        right(self, options, recovered)
        self.incarnation = max(recovered.superblock.incarnation, recovered.chain.incarnation)

    patch.setattr(Head, "__init__", init)
    _forgive(patch, "the record lies behind")


@bug
def takes_every_hole_for_a_torn_tail(patch: pytest.MonkeyPatch) -> None:
    """Acknowledged records that are gone are cut without a word (R2, D3)."""
    right = Recovery._judge_end

    def judge(self: Recovery[Any], *rest: Any) -> int:
        try:
            return right(self, *rest)
        except DamagedStoreError:
            return 0

    patch.setattr(Recovery, "_judge_end", judge)


@bug
def takes_every_torn_tail_for_damage(patch: pytest.MonkeyPatch) -> None:
    """A power cut in mid-write keeps the store from starting (R2)."""
    right = Recovery._judge_end

    def judge(self: Recovery[Any], *rest: Any) -> int:
        torn_bytes = right(self, *rest)
        if torn_bytes:
            raise DamagedStoreError(0, "torn")
        return torn_bytes

    patch.setattr(Recovery, "_judge_end", judge)


@bug
def opens_with_the_older_superblock(patch: pytest.MonkeyPatch) -> None:
    """Generation 7 wins over generation 8."""
    right = newest_superblock

    def oldest(raw: bytes, path: str) -> Any:
        halves = (raw[:4096] + bytes(4096), bytes(4096) + raw[4096:])
        found = []
        for half in halves:
            try:
                found.append(right(half, path))
            except Exception:  # one half may be blank
                continue
        return min(found, key=lambda block: block.generation) if found else right(raw, path)

    patch.setattr(recovering, "newest_superblock", oldest)


@bug
def trusts_a_digest_without_its_checksum(patch: pytest.MonkeyPatch) -> None:
    """The rows of a sealed chunk are folded as they are."""
    patch.setattr(Reader, "digest_intact", lambda self, digest, seal: True)


@bug
def takes_a_chunk_header_from_anywhere(patch: pytest.MonkeyPatch) -> None:
    """A header that says it belongs to another slot is believed: a misdirected write counts."""

    def decode(raw: bytes, offset: int, store_uuid: bytes, salt: int) -> Any:
        return chunks.decode_chunk_header(raw, int.from_bytes(raw[16:24], "little"), store_uuid, salt)

    patch.setattr(recovering, "decode_chunk_header", decode)


# -- the index


@bug
def forgets_closes_at_replay(patch: pytest.MonkeyPatch) -> None:
    """A closed job is back after a restart."""
    effects = list(EFFECT_OF)
    effects[Kind.CLOSE] = Effect.NONE
    patch.setattr(recovery, "EFFECT_OF", tuple(effects))


@bug
def forgets_replies_at_replay(patch: pytest.MonkeyPatch) -> None:
    """A job that was answered runs again."""
    effects = list(EFFECT_OF)
    effects[Kind.REPLY] = Effect.NOTE
    patch.setattr(recovery, "EFFECT_OF", tuple(effects))


@bug
def forgets_where_relocated_jobs_stood_in_line(patch: pytest.MonkeyPatch) -> None:
    """After a restart a job that was moved is the youngest of all (O1)."""

    def finish(self: Rebuild[Any]) -> dict[bytes, Any]:
        return self.index

    patch.setattr(Rebuild, "finish", finish)


@bug
def returns_a_body_without_its_checksum(patch: pytest.MonkeyPatch) -> None:
    """A read believes the disk (R18)."""

    def whole(self: RecordReader, at: int) -> tuple[Any, bytes, bytes]:
        header, raw = self._header(at)
        total = records.HEADER_BYTES + header.meta_bytes + header.body_bytes
        if len(raw) < total:
            raw += self._file(at + len(raw), total - len(raw))
        return header, self._meta(header, raw), raw[records.HEADER_BYTES + header.meta_bytes : total]

    patch.setattr(RecordReader, "_whole", whole)


@bug
def returns_a_record_that_belongs_elsewhere(patch: pytest.MonkeyPatch) -> None:
    """A header is believed whatever place it says it is at."""

    def decode(raw: bytes, at: int, offset: int, salt: int) -> Any:
        said = int.from_bytes(raw[at + 24 : at + 32], "little")
        return records.decode_header(raw, at, said, salt)

    patch.setattr(reading, "decode_header", decode)


# -- space


@bug
def reuses_space_before_the_close_is_durable(patch: pytest.MonkeyPatch) -> None:
    """A close frees its chunk when it is appended (R6)."""
    right = Writer._place

    def place(self: Writer[Any], kind: int, entry: Any, at: int, charge: int, batch: Batch) -> None:
        right(self, kind, entry, at, charge, batch)
        if EFFECT_OF[kind] is Effect.DROP:
            for position in (entry.request_at, entry.reply_at):
                self._head.space.release(position)
            entry.request_at = entry.reply_at = 0

    patch.setattr(Writer, "_place", place)


@bug
def frees_chunks_from_the_middle(patch: pytest.MonkeyPatch) -> None:
    """A dead chunk behind a live one is reused, and the closes in it are forgotten."""

    def reclaim(self: Space) -> int:
        dead = [slot for slot in list(self.order)[:-1] if not self.alive_counts[slot]]
        for slot in dead:
            self.order.remove(slot)
            self.free.append(slot)
        self.tail_turn += len(dead)
        return len(dead)

    patch.setattr(Space, "reclaim", reclaim)


@bug
def relocates_closed_jobs(patch: pytest.MonkeyPatch) -> None:
    """A job whose close is on its way is moved behind it, and lives again after a restart (R7)."""
    right = Relocator.__init__

    def init(self: Relocator, *rest: Any) -> None:
        right(self, *rest)
        self._in_flight = lambda key: False

    patch.setattr(Relocator, "__init__", init)


@bug
def relocates_without_the_reply(patch: pytest.MonkeyPatch) -> None:
    """Replies of the oldest chunk are left behind when it is reused."""
    right = Relocator._move

    def move(self: Relocator, entry: Any, candidate: Any) -> bool:
        if EFFECT_OF[candidate[0]] is Effect.BODY:
            self._space.release(entry.reply_at)
            entry.reply_at = 0
            return True
        return right(self, entry, candidate)

    patch.setattr(Relocator, "_move", move)


@bug
def accepts_into_the_room_of_endings(patch: pytest.MonkeyPatch) -> None:
    """Requests may take the last byte, so that replies and closes find none (R8)."""
    patch.setattr(Head, "_admit", lambda self, claim, kept_bytes: setattr(self, "room_bytes", 1 << 60))
    patch.setattr(Head, "spare_chunks", property(lambda self: 0))
    patch.setattr(Ring, "_win_back", lambda self: False)


# -- opening


@bug
def opens_what_somebody_else_has_open(patch: pytest.MonkeyPatch) -> None:
    """The lock is not taken (R14)."""
    patch.setattr(fcntl, "flock", lambda fd, operation: None)


@bug
def marks_nothing_at_the_orderly_close(patch: pytest.MonkeyPatch) -> None:
    """``close`` lets go of the file without the last sync and superblock, so damage to the end looks torn."""

    def close(self: Ring[Any]) -> None:
        self._committer.stop()
        self._storage.close()

    patch.setattr(Ring, "close", close)
