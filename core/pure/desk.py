"""What operators and dashboards ask for: cancel, retry, delete, lists, services, pause, events."""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from core.errors import JournalFullError
from core.pure import tsp
from core.pure.answering import STATE_NAMES, Answering, error
from core.pure.events import EventLog
from core.pure.ids import Mint, made_at_ms
from core.pure.jobs import ENDED, KEY_BYTES, CloseMeta, Job, Now, State, encode_meta
from core.pure.lifecycle import Lifecycle
from core.pure.mmi import Directory
from core.pure.ports import Answer, AnswerService, AnswerState, AnswerStatus, Effect, Path, Port
from core.pure.timers import Timer, Timers

LOOKS_MAX_COUNT: Final = 2_000
"""Jobs looked at for one list, whether they pass its filter or not."""
TELL_MS: Final = 20
"""Events are gathered this long before those who wait are told."""
FOLLOWERS_MAX_COUNT: Final = 1_000


class Follower:
    """One client that waits for the next event."""

    __slots__ = ("head", "path", "since", "timer")

    def __init__(self, path: Path, head: tsp.EventsHead, since: int) -> None:
        self.path = path
        self.head = head
        self.since = since
        self.timer: Timer[Follower] | None = None


CloseElsewhere = Callable[[bytes, bytes, tuple[Effect, ...]], None]


class Desk:
    """The extended services besides submit and fetch. ``directory`` is the broker's, if there is one here.

    ``close_elsewhere(key, meta, answers)``, if there is one, writes down the close of a job that only another
    node may have; the answers leave once that is durable. JournalFullError.
    """

    def __init__(
        self,
        index: Mapping[bytes, Job],
        port: Port,
        life: Lifecycle,
        events: EventLog,
        answering: Answering,
        mint: Mint,
    ) -> None:
        self._index = index
        self._mint = mint
        self.close_elsewhere: CloseElsewhere | None = None
        self._port = port
        self._life = life
        self._events = events
        self._answering = answering
        self._followers: dict[Follower, None] = {}
        self._follower_timers: Timers[Follower] = Timers()
        self._told_to = events.last
        self._tell_at_ms = 0
        self.directory: Directory | None = None

    # -- one job

    def cancel(self, path: Path, body: Sequence[bytes], now: Now) -> None:
        """``titanic.cancel``."""
        job = self._maybe_job(path, tsp.CANCEL, body)
        if job is None:
            return
        answer = AnswerState(path, tsp.CANCEL, job)
        if job.state in ENDED or job.state == State.ENDING:
            self._port.barrier((answer,))
        else:
            self._life.cancel(job, (answer,), now)

    def retry(self, path: Path, body: Sequence[bytes], now: Now) -> None:
        """``titanic.retry``."""
        job = self._maybe_job(path, tsp.RETRY, body)
        if job is None:
            return
        if job.state == State.FAILED:
            self._life.retry(job, AnswerState(path, tsp.RETRY, job), now)
        else:
            self._port.perform(AnswerStatus(path, tsp.RETRY, job, tsp.CONFLICT))

    def answer_state(self, effect: AnswerState) -> None:
        """What was asked of the job is durable, or had been overtaken: say how it stands."""
        path, service, job = effect.path, effect.service, effect.job
        if job.state == State.CLOSING:
            self._answering.answer(path, service, *error(tsp.GONE, "the job is closed"))
        elif service == tsp.CANCEL and job.state != State.CANCELLED:
            self._port.perform(AnswerStatus(path, service, job, tsp.CONFLICT))
        else:
            self._port.perform(AnswerStatus(path, service, job, tsp.OK))

    def delete(self, path: Path, body: Sequence[bytes], now: Now) -> None:
        """``titanic.delete``: plain close, for those who may see the jobs; one answer when all are gone."""
        try:
            head = tsp.decode_job(body[0])
        except (msgspec.MsgspecError, IndexError) as wrong:
            self._answering.answer(path, tsp.DELETE, *error(tsp.UNKNOWN, f"head: {wrong}"))
            return
        if len(head.key) > tsp.BATCH_MAX_COUNT * KEY_BYTES:
            detail = f"more than {tsp.BATCH_MAX_COUNT} jobs at once"
            self._answering.answer(path, tsp.DELETE, *error(tsp.UNKNOWN, detail))
            return
        answer = Answer(path, tsp.DELETE, (tsp.OK, tsp.encode_head(tsp.Deleted(head.key))))
        found = [
            job
            for at in range(0, len(head.key), KEY_BYTES)
            if (job := self._index.get(head.key[at : at + KEY_BYTES])) is not None
            and job.state != State.BINDING
            and not (head.owner and job.owner.name != head.owner)
        ]
        for job in found:
            if job.state != State.CLOSING:
                self._life.close(job, (), now)
        unseen = self._unseen(head.key) if self.close_elsewhere is not None and not head.owner else []
        try:
            for key in unseen:
                self._close_elsewhere(key, (), now)
        except JournalFullError as full:
            self._answering.answer(path, tsp.DELETE, *error(tsp.FULL, f"the store is full: {full}"))
            return
        if found or unseen:
            self._port.barrier((answer,))
        else:
            self._port.perform(answer)

    def close_unknown(self, key: bytes, answer: Answer, now: Now) -> None:
        """A plain close of a job that is not here: closed before, or with the other node of a split."""
        if self.close_elsewhere is None or not self._mint.issued(key):
            self._port.perform(answer)
            return
        try:
            self._close_elsewhere(key, (answer,), now)
        except JournalFullError:
            self._answering.answer(answer.path, answer.service, b"500 the store is full")

    def _unseen(self, keys: bytes) -> list[bytes]:
        """Those of these ids that are ours and not here."""
        each = (keys[at : at + KEY_BYTES] for at in range(0, len(keys), KEY_BYTES))
        return [key for key in each if key not in self._index and self._mint.issued(key)]

    def _close_elsewhere(self, key: bytes, answers: tuple[Effect, ...], now: Now) -> None:
        assert self.close_elsewhere is not None, "somebody writes it down"
        self.close_elsewhere(key, encode_meta(CloseMeta(now.wall_ms, "client")), answers)

    def _maybe_job(self, path: Path, service: bytes, body: Sequence[bytes]) -> Job | None:
        try:
            head = tsp.decode_job(body[0])
        except (msgspec.MsgspecError, IndexError) as wrong:
            self._answering.answer(path, service, *error(tsp.UNKNOWN, f"head: {wrong}"))
            return None
        return self._answering.maybe_find(path, service, head.key, head.owner)

    # -- many jobs

    def list_jobs(self, path: Path, body: Sequence[bytes], now: Now) -> None:
        """``titanic.list``: a bounded walk down the ids, of one service or of all."""
        del now
        try:
            head = tsp.decode_list(body[0])
        except (msgspec.MsgspecError, IndexError) as wrong:
            self._answering.answer(path, tsp.LIST, *error(tsp.UNKNOWN, f"head: {wrong}"))
            return
        if head.state and head.state not in tsp.STATES:
            self._answering.answer(path, tsp.LIST, *error(tsp.UNKNOWN, f"no state is called {head.state!r}"))
            return
        limit = max(1, min(head.limit, tsp.LIST_MAX_COUNT))
        roster = self._life.roster
        if head.service:
            queue = self._life.queues.get(head.service.encode())
            keys = queue.roster.before(head.cursor, LOOKS_MAX_COUNT) if queue is not None else []
        else:
            keys = roster.before(head.cursor, LOOKS_MAX_COUNT)
        rows: list[tsp.JobRow] = []
        cursor = keys[-1] if len(keys) == LOOKS_MAX_COUNT else b""
        for key in keys:
            if len(rows) == limit:
                cursor = rows[-1].key
                break
            job = self._index.get(key)
            if (
                job is not None
                and (name := STATE_NAMES[job.state]) != "closed"
                and (not head.state or name == head.state)
                and (not head.owner or job.owner.name == head.owner)
            ):
                rows.append(self._row(job, name))
        page = tsp.JobPage(tuple(rows), cursor)
        self._answering.answer(path, tsp.LIST, tsp.OK, tsp.encode_head(page))

    def _row(self, job: Job, name: str) -> tsp.JobRow:
        return tsp.JobRow(
            key=job.key,
            service=job.service.decode("ascii"),
            state=name,
            attempt=job.attempt,
            created_ms=made_at_ms(job.key),
            priority=job.priority,
            due_ms=job.due_ms if job.state == State.SCHEDULED else 0,
            ended_ms=max(job.due_ms, made_at_ms(job.key)) if job.state in ENDED else 0,  # see EndTimes
            reason=self._life.notes.reasons.get(job.key, ""),
            owner=job.owner.name,
        )

    # -- services

    def list_services(self, path: Path, body: Sequence[bytes], now: Now) -> None:
        """``titanic.services``: those with jobs here and those with workers at the broker, by name."""
        try:
            head = tsp.decode_services(body[0])
        except (msgspec.MsgspecError, IndexError) as wrong:
            self._answering.answer(path, tsp.SERVICES, *error(tsp.UNKNOWN, f"head: {wrong}"))
            return
        after = ""
        if head.service:
            name = head.service.encode()
            known = name in self._life.queues or self._at_broker(name) is not None
            rows = [self.service_row(name, now)] if known else []
        else:
            limit = max(1, min(head.limit, tsp.SERVICES_MAX_COUNT))
            names = self._names(head.prefix.encode(), head.after.encode(), limit + 1)
            rows = [self.service_row(name, now) for name in names[:limit]]
            after = rows[-1].name if len(names) > limit else ""
        page = tsp.ServicesPage(tuple(rows), now.wall_ms, after)
        self._answering.answer(path, tsp.SERVICES, tsp.OK, tsp.encode_head(page))

    def _names(self, prefix: bytes, after: bytes, limit: int) -> list[bytes]:
        """Both sorted lists merged from the place asked for on."""
        sources = [self._life.shelf.names()]
        if self.directory is not None:
            sources.append(self.directory.names())
        found: list[bytes] = []
        parts = []
        for names in sources:
            start = max(bisect_left(names, prefix), bisect_right(names, after) if after else 0)
            parts.append(names[start : start + limit])
        for name in heapq.merge(*parts):
            if not name.startswith(prefix) or len(found) == limit:
                break
            if not found or name != found[-1]:
                found.append(name)
        return found

    def _at_broker(self, name: bytes) -> object | None:
        return self.directory.row(name) if self.directory is not None else None

    def service_row(self, name: bytes, now: Now) -> tsp.ServiceRow:
        """Everything there is to say about a service."""
        there = self.directory.row(name) if self.directory is not None else None
        workers = (there.workers, there.idle, there.requests) if there is not None else (0, 0, 0)
        text = name.decode("utf-8", "backslashreplace")
        queue = self._life.queues.get(name)
        if queue is None:
            return tsp.ServiceRow(text, *workers)
        counts = queue.counts
        return tsp.ServiceRow(
            text,
            *workers,
            scheduled=counts[State.SCHEDULED],
            queued=counts[State.ACCEPTING] + counts[State.QUEUED],
            running=counts[State.RUNNING] + counts[State.ENDING],
            succeeded=counts[State.SUCCEEDED],
            failed=counts[State.FAILED],
            cancelled=counts[State.CANCELLED],
            oldest_ms=queue.oldest_ms,
            accepted_per_minute=queue.accepted.per_minute(now.mono_ms),
            succeeded_per_minute=queue.succeeded.per_minute(now.mono_ms),
            failed_per_minute=queue.failed.per_minute(now.mono_ms),
            paused=queue.paused,
        )

    def summary(self) -> dict[str, dict[str, int]]:
        """See :meth:`Shelf.summary`; with ``workers``, where the broker is here."""
        rows = self._life.shelf.summary()
        if self.directory is not None:
            for name, row in rows.items():
                there = self.directory.row(name.encode("ascii"))
                row["workers"] = there.workers if there is not None else 0
        return rows

    def pause(self, path: Path, body: Sequence[bytes], now: Now) -> None:
        """``titanic.pause``."""
        name = self._maybe_service(path, tsp.PAUSE, body)
        if name is None:
            return
        try:
            self._life.pauses.pause(name, AnswerService(path, tsp.PAUSE, name), now)
        except JournalFullError as full:
            self._answering.answer(path, tsp.PAUSE, *error(tsp.FULL, f"the store is full: {full}"))

    def resume(self, path: Path, body: Sequence[bytes], now: Now) -> None:
        """``titanic.resume``."""
        name = self._maybe_service(path, tsp.RESUME, body)
        if name is not None:
            self._life.pauses.resume(name, AnswerService(path, tsp.RESUME, name), now)

    def answer_service(self, effect: AnswerService, now: Now) -> None:
        """What was asked of the service is durable: say how it stands."""
        row = tsp.encode_head(self.service_row(effect.name, now))
        self._answering.answer(effect.path, effect.service, tsp.OK, row)

    def _maybe_service(self, path: Path, service: bytes, body: Sequence[bytes]) -> bytes | None:
        try:
            name = tsp.decode_pause(body[0]).service.encode()
        except (msgspec.MsgspecError, IndexError) as wrong:
            self._answering.answer(path, service, *error(tsp.UNKNOWN, f"head: {wrong}"))
            return None
        refusal = tsp.service_error(name)
        if refusal is not None:
            self._answering.answer(path, service, *error(tsp.UNKNOWN, refusal))
            return None
        return name

    # -- events

    def follow(self, path: Path, body: Sequence[bytes], now: Now) -> None:
        """``titanic.events``: at once if there are any, or something is amiss; else when there are."""
        try:
            head = tsp.decode_events(body[0])
        except (msgspec.MsgspecError, IndexError) as wrong:
            self._answering.answer(path, tsp.EVENTS, *error(tsp.UNKNOWN, f"head: {wrong}"))
            return
        newest = self._events.newest(self._port.settled_seq)
        follower = Follower(path, head, newest if head.since < 0 else head.since)
        if self._tell(follower, must=head.wait_ms <= 0 or len(self._followers) >= FOLLOWERS_MAX_COUNT):
            return
        wait_ms = min(head.wait_ms, tsp.WAIT_MAX_MS)
        follower.timer = self._follower_timers.arm(now.mono_ms + wait_ms, follower)
        self._followers[follower] = None

    def _tell(self, follower: Follower, *, must: bool) -> bool:
        """Answer with what there is; if not ``must``, only if there is something."""
        head = follower.head
        limit = max(1, min(head.limit, tsp.EVENTS_MAX_COUNT))
        events, follower.since, gap_to = self._events.after(
            follower.since, self._port.settled_seq, limit, head.service.encode(), head.owner
        )
        if not (must or events or gap_to >= 0):
            return False
        page = tsp.EventsPage(events, follower.since, gap_to)
        self._answering.answer(follower.path, tsp.EVENTS, tsp.OK, tsp.encode_head(page))
        return True

    def on_tick(self, now: Now) -> None:
        """Tell those who wait for events; end those who have waited long enough."""
        while (follower := self._follower_timers.pop_due(now.mono_ms)) is not None:
            del self._followers[follower]
            self._tell(follower, must=True)
        if not self._to_tell or now.mono_ms < self._tell_at_ms:
            return
        self._tell_at_ms = now.mono_ms + TELL_MS
        newest = self._events.newest(self._port.settled_seq)
        if newest != self._told_to:
            self._told_to = newest
            for follower in list(self._followers):
                if self._tell(follower, must=False):
                    del self._followers[follower]
                    assert follower.timer is not None, "whoever waits has a timer"
                    self._follower_timers.cancel(follower.timer)

    @property
    def _to_tell(self) -> bool:
        """Whether somebody waits and there may be something new, now or once it is durable."""
        return bool(self._followers) and self._events.last != self._told_to

    @property
    def followers_count(self) -> int:
        """How many clients wait for events."""
        return len(self._followers)

    def next_deadline(self) -> int | None:
        """Monotonic milliseconds of the next :meth:`on_tick`, or None."""
        ends_ms = self._follower_timers.next_deadline()
        if ends_ms is None or not self._to_tell:
            return ends_ms
        return min(ends_ms, self._tell_at_ms)
