"""How jobs get in: ``titanic.submit``, ``titanic.batch``, and the judgement of what was submitted before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from struct import unpack

import msgspec

from core.errors import JournalBusyError, JournalFullError
from core.pure import tsp
from core.pure.answering import STATE_NAMES, Answering, error
from core.pure.crowds import Crowds
from core.pure.ids import Mint, made_at_ms
from core.pure.jobs import Job, KeyMeta, Now, RequestMeta
from core.pure.keys import FINGERPRINT_MAX_BYTES, KEY_BYTES, Keys, line_key
from core.pure.lifecycle import Lifecycle
from core.pure.notes import Binding
from core.pure.ports import Answer, AnswerBatch, AnswerBound, AnswerReplay, Path, Port

OTHER_REQUEST = "the idempotency key belongs to another request"


class Intake:
    """Checks requests, and hands them to the lifecycle."""

    def __init__(
        self,
        index: Mapping[bytes, Job],
        port: Port,
        mint: Mint,
        life: Lifecycle,
        crowds: Crowds,
        keys: Keys,
        answering: Answering,
        *,
        request_max_bytes: int,
        frames_max_count: int,
        durability: str,
        epoch: int,
    ) -> None:
        self._index = index
        self._port = port
        self._mint = mint
        self._life = life
        self._crowds = crowds
        self._keys = keys
        self._answering = answering
        self._request_max_bytes = request_max_bytes
        self._frames_max_count = frames_max_count
        self.durability = durability
        self.epoch = epoch

    # -- submit

    def submit(self, path: Path, body: Sequence[bytes], now: Now) -> None:
        """``titanic.submit``."""
        try:
            head = tsp.decode_submit(body[0])
        except (msgspec.MsgspecError, IndexError) as wrong:
            self._refuse(path, tsp.UNKNOWN, f"submit head: {wrong}")
            return
        frames, meta = body[1:], head.meta
        refusal = self.refusal(meta, frames)
        if refusal is not None:
            self._refuse(path, tsp.UNKNOWN, refusal)
            return
        if not self._mint.issued(head.key):
            detail = "the id was not made with this node's secret; ask titanic.hello"
            self._refuse(path, tsp.NOT_FOUND, detail)
            return
        existing = self._index.get(head.key)
        if existing is not None:
            self._port.barrier((AnswerReplay(path, existing, meta.service, frames),))
            return
        if meta.idempotency and self._replayed(path, meta, now):
            return
        self.stamp(meta, frames, now)
        state = "scheduled" if meta.not_before_ms > now.wall_ms else "queued"
        ack = tsp.SubmitAck(head.key, state, now.wall_ms, self.durability, self.epoch)
        answer = Answer(path, tsp.SUBMIT, (tsp.OK, tsp.encode_head(ack)))
        try:
            self._life.accept(head.key, meta, frames, (answer,), now)
        except JournalFullError as full:
            if isinstance(full, JournalBusyError):
                self._refuse(path, tsp.UNAVAILABLE, f"the disk is behind: {full}")
            else:
                self._refuse(path, tsp.FULL, f"the store is full: {full}")

    def _refuse(self, path: Path, status: bytes, detail: str) -> None:
        self._answering.answer(path, tsp.SUBMIT, *error(status, detail))

    def _replayed(self, path: Path, meta: RequestMeta, now: Now) -> bool:
        """Whether the key is bound: then the question is answered once everything before it is durable."""
        entry = self._keys.find(meta.idempotency, now)
        if entry is not None:
            self._port.barrier((AnswerBound(path, entry, meta.fingerprint),))
            return True
        binding = self._keys.unbound(meta.idempotency, now)
        if binding is not None:
            self._port.barrier((self._judged(path, binding, meta.fingerprint),))
            return True
        return False

    def judge_bound(self, effect: AnswerBound, meta: KeyMeta) -> Answer:
        """The answer to a submit under a key that is bound as ``meta`` says."""
        return self._judged(effect.path, Binding(meta.job, meta.fingerprint, 0), effect.fingerprint)

    def _judged(self, path: Path, binding: Binding, fingerprint: bytes) -> Answer:
        if binding.fingerprint != fingerprint:
            return Answer(path, tsp.SUBMIT, error(tsp.MISMATCH, OTHER_REQUEST))
        ack = tsp.SubmitAck(
            binding.job,
            self._state_name(binding.job),
            made_at_ms(binding.job),
            self.durability,
            self.epoch,
            replayed=True,
        )
        return Answer(path, tsp.SUBMIT, (tsp.OK, tsp.encode_head(ack)))

    def _state_name(self, key: bytes) -> str:
        job = self._index.get(key)
        return STATE_NAMES[job.state] if job is not None else "closed"

    def judge_replay(self, effect: AnswerReplay, meta: RequestMeta, body: bytes) -> Answer:
        """The answer to a submit whose id exists: the same request again, or another under its id."""
        if meta.service != effect.service or body != b"".join(effect.frames):
            detail = "the id belongs to another request"
            return Answer(effect.path, tsp.SUBMIT, error(tsp.CONFLICT, detail))
        name = STATE_NAMES[effect.job.state]
        ack = tsp.SubmitAck(
            effect.job.key, name, meta.accepted_ms, self.durability, self.epoch, replayed=True
        )
        return Answer(effect.path, tsp.SUBMIT, (tsp.OK, tsp.encode_head(ack)))

    # -- batch

    def batch(self, path: Path, body: Sequence[bytes], now: Now) -> None:
        """``titanic.batch``: every line is accepted or refused by itself; one answer when all are durable."""
        try:
            head = tsp.decode_batch(body[0])
        except (msgspec.MsgspecError, IndexError) as wrong:
            self._refuse_batch(path, f"batch head: {wrong}")
            return
        lines = body[1:]
        if not lines or len(lines) != len(head.keys):
            self._refuse_batch(path, f"{len(head.keys)} ids for {len(lines)} lines")
            return
        if len(lines) > tsp.BATCH_MAX_COUNT:
            self._refuse_batch(path, f"{len(lines)} lines; the limit is {tsp.BATCH_MAX_COUNT}")
            return
        refusal = self.refusal(head.meta, ())
        if refusal is not None:
            self._refuse_batch(path, refusal)
            return
        results = self._lines(head.keys, lines, head.meta, now)
        self._port.barrier((AnswerBatch(path, tuple(results), head.meta.fingerprint, now.wall_ms),))

    def pack(self, path: Path, body: Sequence[bytes], now: Now) -> None:
        """``titanic.pack``: as a batch; if nothing is amiss, all of it is one step."""
        try:
            head = tsp.decode_pack(body[0])
            keys, lines = _unpack(head, body[1:])
        except (msgspec.MsgspecError, IndexError, ValueError) as wrong:
            self._refuse_pack(path, f"pack head: {wrong}")
            return
        meta = head.meta
        refusal = "a pack has no idempotency key" if meta.idempotency else self.refusal(meta, ())
        if refusal is not None:
            self._refuse_pack(path, refusal)
            return
        if self._all_new(keys, lines):
            self.stamp(meta, (b"",), now)
            meta.body_bytes = sum(map(len, lines)) // len(lines) if meta.owner else 0
            state = "scheduled" if meta.not_before_ms > now.wall_ms else "queued"
            ack = tsp.PackAck(state, now.wall_ms, self.durability, self.epoch)
            answer = Answer(path, tsp.PACK, (tsp.OK, tsp.encode_head(ack)))
            if self._crowds.accept(keys, meta, lines, answer, now):
                return
        results = self._lines(keys, lines, meta, now)
        judged = tuple(line for line in results if isinstance(line, tsp.BatchLine))
        ack = tsp.PackAck("", now.wall_ms, self.durability, self.epoch, judged)
        self._port.barrier((Answer(path, tsp.PACK, (tsp.OK, tsp.encode_head(ack))),))

    def _all_new(self, keys: Sequence[bytes], lines: Sequence[bytes]) -> bool:
        """Whether every line can be a job under its key: ours, unknown here, and above the one before."""
        issued, index, before = self._mint.issued, self._index, b""
        for key in keys:
            if key <= before or key in index or not issued(key):
                return False
            before = key
        return max(map(len, lines)) <= self._request_max_bytes

    def _refuse_pack(self, path: Path, detail: str) -> None:
        self._answering.answer(path, tsp.PACK, *error(tsp.UNKNOWN, detail))

    def _lines(
        self, keys: Sequence[bytes], lines: Sequence[bytes], meta: RequestMeta, now: Now
    ) -> list[tsp.BatchLine | Job]:
        """What becomes of each line by itself; a Job is the entry of a key that is bound."""
        results: list[tsp.BatchLine | Job] = []
        full = ""
        for number, (key, line) in enumerate(zip(keys, lines, strict=True)):
            if full:
                results.append(tsp.BatchLine(507, key, detail=full))
                continue
            try:
                results.append(self._line(number, key, line, meta, now))
            except JournalFullError as error_:
                full = f"the store is full: {error_}"
                results.append(tsp.BatchLine(507, key, detail=full))
        return results

    def _line(self, number: int, key: bytes, line: bytes, meta: RequestMeta, now: Now) -> tsp.BatchLine | Job:
        """What becomes of one line; a Job is the entry of a key that is bound, to be judged later."""
        if not self._mint.issued(key):
            return tsp.BatchLine(404, key, detail="the id was not made with this node's secret")
        if len(line) > self._request_max_bytes:
            detail = f"the line has {len(line)} bytes; the limit is {self._request_max_bytes}"
            return tsp.BatchLine(400, key, detail=detail)
        existing = self._index.get(key)
        if existing is not None:
            if existing.service != meta.service:
                return tsp.BatchLine(409, key, detail="the id belongs to another request")
            return tsp.BatchLine(200, key, STATE_NAMES[existing.state], replayed=True)
        if meta.idempotency:
            meta = msgspec.structs.replace(meta, idempotency=line_key(meta.idempotency, number))
            entry = self._keys.find(meta.idempotency, now)
            if entry is not None:
                return entry
            binding = self._keys.unbound(meta.idempotency, now)
            if binding is not None:
                return self.judge_line(KeyMeta(*binding), meta.fingerprint)
        self.stamp(meta, (line,), now)
        job = self._life.accept(key, meta, (line,), (), now)
        return tsp.BatchLine(200, key, "scheduled" if job.due_ms > now.wall_ms else "queued")

    def judge_line(self, meta: KeyMeta, fingerprint: bytes) -> tsp.BatchLine:
        """The line whose key is bound as ``meta`` says."""
        if meta.fingerprint != fingerprint:
            return tsp.BatchLine(422, meta.job, detail=OTHER_REQUEST)
        return tsp.BatchLine(200, meta.job, self._state_name(meta.job), replayed=True)

    def batch_answer(self, effect: AnswerBatch, lines: Sequence[tsp.BatchLine]) -> Answer:
        """The answer with every line judged."""
        ack = tsp.BatchAck(tuple(lines), effect.created_ms, self.durability, self.epoch)
        return Answer(effect.path, tsp.BATCH, (tsp.OK, tsp.encode_head(ack)))

    def _refuse_batch(self, path: Path, detail: str) -> None:
        self._answering.answer(path, tsp.BATCH, *error(tsp.UNKNOWN, detail))

    # -- both, and plain TSP

    def refusal(self, meta: RequestMeta, frames: Sequence[bytes]) -> str | None:
        """Why this request cannot be a job, or None if it can."""
        wrong = tsp.service_error(meta.service)
        if wrong is not None:
            return wrong
        if len(frames) > self._frames_max_count:
            return f"the request has {len(frames)} frames; the limit is {self._frames_max_count}"
        size = len(frames[0]) if len(frames) == 1 else sum(map(len, frames))
        if size > self._request_max_bytes:
            return f"the request has {size} bytes; the limit is {self._request_max_bytes}"
        if len(meta.callback) > tsp.CALLBACK_MAX_CHARS:
            return f"the callback has more than {tsp.CALLBACK_MAX_CHARS} characters"
        if not 0 <= meta.priority <= 2:
            return f"priority {meta.priority} is not 0, 1 or 2"
        if (meta.timeout_ms | meta.retention_ms | meta.expires_ms | meta.not_before_ms) < 0:
            return "a time is negative"
        if meta.idempotency and (
            len(meta.idempotency) != KEY_BYTES
            or len(meta.fingerprint) > FINGERPRINT_MAX_BYTES
            or meta.key_lifetime_ms < 0
        ):
            return f"an idempotency key is a hash of {KEY_BYTES} bytes, its fingerprint has at most 64"
        return None

    def stamp(self, meta: RequestMeta, frames: Sequence[bytes], now: Now) -> None:
        """``meta`` has this node's own time, the true sizes of ``frames`` and the true life of its key."""
        meta.accepted_ms = now.wall_ms
        meta.body_bytes = sum(map(len, frames)) if meta.owner else 0
        meta.frame_sizes = () if len(frames) == 1 else tuple(map(len, frames))
        meta.key_lifetime_ms = self._keys.lifetime_ms(meta) if meta.idempotency else 0


def _unpack(head: tsp.PackHead, frames: Sequence[bytes]) -> tuple[list[bytes], list[bytes]]:
    """(keys, bodies) of a pack. Raises ValueError if its parts do not fit together."""
    if len(frames) != 1:
        raise ValueError(f"{len(frames)} frames of bodies, not one")
    keys, sizes, body = head.keys, head.sizes, frames[0]
    count = len(sizes) // 4
    if not count or len(sizes) != 4 * count or len(keys) != KEY_BYTES * count:
        raise ValueError(f"{len(keys)} bytes of ids for {len(sizes)} bytes of sizes")
    if count > tsp.BATCH_MAX_COUNT:
        raise ValueError(f"{count} jobs; the limit is {tsp.BATCH_MAX_COUNT}")
    ends = list(accumulate(unpack(f"<{count}I", sizes)))
    if ends[-1] != len(body):
        raise ValueError(f"{len(body)} bytes of bodies where {ends[-1]} are announced")
    bodies = [body[start:end] for start, end in zip((0, *ends), ends, strict=False)]
    return [keys[at : at + KEY_BYTES] for at in range(0, len(keys), KEY_BYTES)], bodies
