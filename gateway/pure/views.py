"""What the API says of a job, as JSON."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

import msgspec

from core.pure.jobs import DELIVERED, GIVEN_UP, CallMeta
from core.pure.store_heads import Forecast, StoreFacts
from core.pure.tsp import Event, JobPage, JobRow, JobStatus, ServiceRow

JOBS_PATH: Final = "/v1/jobs/"
PRIORITY_NAMES: Final = ("low", "normal", "high")
PROGRESS_MAX_BYTES: Final = 4_096
CALL_STATES: Final = ("waiting", "pending", "delivered", "given_up")
assert (DELIVERED, GIVEN_UP) == (1, 2), "the last two are named by these numbers"

_encode = msgspec.json.Encoder().encode


class Links(msgspec.Struct, gc=False):
    """Where to go on: GET ``status``, GET ``reply``, DELETE ``close``."""

    status: str
    reply: str
    close: str


class CallbackView(msgspec.Struct, gc=False):
    """Whom to tell of the job's end, and how far that is; ``state`` is one of :data:`CALL_STATES`."""

    url: str
    state: str
    attempts: int
    next_attempt_at: str | None
    last_attempt_at: str | None
    last_error: str | None


class JobView(msgspec.Struct, gc=False):
    """A job's status document. Times are RFC 3339 in UTC; null means: not known, or not yet."""

    id: str
    service: str
    state: str
    created_at: str
    attempts: int
    attempts_max: int | None
    content_type: str | None
    request_bytes: int
    reply_bytes: int | None
    due_at: str | None
    replied_at: str | None
    last_error: str | None
    queued_before: int | None
    priority: str
    expires_at: str | None
    ended_at: str | None
    kept_until: str | None
    progress: str | None
    owner: str | None
    callback: CallbackView | None
    links: Links


class JobRowView(msgspec.Struct, gc=False):
    """A job in a list: what the node knows without reading the disk."""

    id: str
    service: str
    state: str
    created_at: str
    attempts: int
    priority: str
    due_at: str | None
    ended_at: str | None
    last_error: str | None
    owner: str | None
    links: Links


class ServiceView(msgspec.Struct, gc=False):
    """A service: its workers, its jobs by state, and how it goes."""

    name: str
    paused: bool
    workers: int
    workers_idle: int
    scheduled: int
    queued: int
    running: int
    succeeded: int
    failed: int
    cancelled: int
    oldest_queued_at: str | None
    accepted_per_minute: float
    succeeded_per_minute: float
    failed_per_minute: float
    links: dict[str, str]


def rfc3339(unix_ms: int) -> str:
    """``2025-11-23T13:53:00.123Z``."""
    seconds, ms = divmod(unix_ms, 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{ms:03d}Z"


def maybe_rfc3339(unix_ms: int) -> str | None:
    """The time, or None for 0."""
    return rfc3339(unix_ms) if unix_ms > 0 else None


def priority_name(priority: int) -> str:
    """``low``, ``normal`` or ``high``."""
    return PRIORITY_NAMES[priority] if 0 <= priority < len(PRIORITY_NAMES) else PRIORITY_NAMES[1]


def links(job_id: str) -> Links:
    """The paths of one job."""
    path = JOBS_PATH + job_id
    return Links(status=path, reply=path + "/reply", close=path)


def job_view(status: JobStatus) -> JobView:
    """The status document of what the node said. ``attempts_max`` 0 means: for ever."""
    job_id = status.key.hex()
    replied = status.replied_ms > 0
    return JobView(
        id=job_id,
        service=status.service,
        state=status.state,
        created_at=rfc3339(status.created_ms),
        attempts=status.attempt,
        attempts_max=status.attempts_max if status.attempts_max >= 0 else None,
        content_type=status.content_type or None,
        request_bytes=status.request_bytes,
        reply_bytes=status.reply_bytes if replied else None,
        due_at=maybe_rfc3339(status.due_ms),
        replied_at=rfc3339(status.replied_ms) if replied else None,
        last_error=status.reason or None,
        queued_before=status.queued_before if status.queued_before >= 0 else None,
        priority=priority_name(status.priority),
        expires_at=maybe_rfc3339(status.expires_ms),
        ended_at=maybe_rfc3339(status.ended_ms),
        kept_until=maybe_rfc3339(status.keep_until_ms),
        progress=status.progress[:PROGRESS_MAX_BYTES].decode("utf-8", "replace") or None,
        owner=status.owner or None,
        callback=_callback_view(status) if status.callback else None,
        links=links(job_id),
    )


def _callback_view(status: JobStatus) -> CallbackView:
    call = status.call or CallMeta()
    open_ = status.ended_ms > 0 and not call.settled
    return CallbackView(
        url=status.callback,
        state=CALL_STATES[1 + call.settled] if status.ended_ms else CALL_STATES[0],
        attempts=call.tries,
        next_attempt_at=maybe_rfc3339(call.due_ms) if open_ else None,
        last_attempt_at=maybe_rfc3339(call.at_ms),
        last_error=call.reason or None,
    )


def _row_view(row: JobRow) -> JobRowView:
    job_id = row.key.hex()
    return JobRowView(
        id=job_id,
        service=row.service,
        state=row.state,
        created_at=rfc3339(row.created_ms),
        attempts=row.attempt,
        priority=priority_name(row.priority),
        due_at=maybe_rfc3339(row.due_ms),
        ended_at=maybe_rfc3339(row.ended_ms),
        last_error=row.reason or None,
        owner=row.owner or None,
        links=links(job_id),
    )


def encode_page(page: JobPage) -> bytes:
    """``{"jobs": [...], "next": cursor or null}``."""
    rows = [_row_view(row) for row in page.rows]
    return _encode({"jobs": rows, "next": page.cursor.hex() or None})


def service_view(row: ServiceRow) -> ServiceView:
    """What the API says of a service."""
    path = "/v1/services/" + quote(row.name, safe="")
    return ServiceView(
        name=row.name,
        paused=row.paused,
        workers=row.workers,
        workers_idle=row.workers_idle,
        scheduled=row.scheduled,
        queued=row.queued,
        running=row.running,
        succeeded=row.succeeded,
        failed=row.failed,
        cancelled=row.cancelled,
        oldest_queued_at=maybe_rfc3339(row.oldest_ms),
        accepted_per_minute=round(row.accepted_per_minute, 3),
        succeeded_per_minute=round(row.succeeded_per_minute, 3),
        failed_per_minute=round(row.failed_per_minute, 3),
        links={
            "self": path,
            "submit": path + "/jobs",
            "batch": path + "/jobs:batch",
            "pause": path + ":pause",
            "resume": path + ":resume",
        },
    )


def encode_service(row: ServiceRow) -> bytes:
    """:func:`service_view` as JSON."""
    return _encode(service_view(row))


def store_view(found: StoreFacts, now_ms: int) -> dict[str, object]:
    """The store: its facts, the jobs that pin its tail, its chunks as they lie in the file, and its growth.

    ``now_ms`` is unix time. The forecast of a file at rest is null.
    """
    pins = [
        {"job": pin.key.hex(), "part": pin.part, "offset": pin.offset, "status": JOBS_PATH + pin.key.hex()}
        for pin in found.pins
    ]
    chunks = [{"turn": chunk.turn, "state": chunk.state, "alive": chunk.alive} for chunk in found.chunks]
    return {
        "facts": found.facts,
        "pins": pins,
        "chunks": chunks,
        "chunks_omitted": found.chunks_omitted,
        "forecast": _forecast_view(found.forecast, now_ms) if found.forecast is not None else None,
    }


def _forecast_view(found: Forecast, now_ms: int) -> dict[str, object]:
    in_ms = found.full_in_ms
    return {
        "needed_bytes": found.needed_bytes,
        "usable_bytes": found.usable_bytes,
        "growth_bytes_per_minute": round(found.per_minute) if found.per_minute is not None else None,
        "full_in_s": in_ms // 1000 if in_ms is not None else None,
        "full_at": rfc3339(now_ms + in_ms) if in_ms is not None else None,
    }


def encode_event(event: Event) -> bytes:
    """One server-sent event: ``id`` is the journal sequence, ``event`` the kind, ``data`` a line of JSON."""
    data = {
        "at": rfc3339(event.at_ms),
        "kind": event.kind,
        "job": event.key.hex() or None,
        "service": event.service,
        "attempt": event.attempt,
        "detail": event.detail or None,
    }
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (event.id, event.kind.encode(), _encode(data))


def encode_gap(since: int, gap_to: int) -> bytes:
    """The event that says what is gone: everything after ``since`` up to ``gap_to``."""
    data = _encode({"after": since if since >= 0 else None, "to": gap_to})
    return b"id: %d\nevent: gap\ndata: %b\n\n" % (gap_to, data)


def encode_job(status: JobStatus) -> bytes:
    """:func:`job_view` as JSON."""
    return _encode(job_view(status))


class AcceptedView:
    """The 202 of a submit, formatted without building objects: it is made once per job.

    ``{"id", "service", "state", "created_at", "links"}``. The second of ``created_at`` is formatted once
    and kept, because thousands of jobs share it.
    """

    def __init__(self) -> None:
        self._second = -1
        self._text = b""

    def encode(self, hex_id: bytes, service_json: bytes, state: str, created_ms: int) -> bytes:
        """``service_json`` is the service name as a JSON string with its quotes; ``state`` a plain word."""
        return hex_id.join(self.parts(service_json, state, created_ms))

    def encode_many(
        self, keys: Iterable[bytes], service_json: bytes, state: str, created_ms: int
    ) -> list[bytes]:
        """A line for each of these ids of 16 bytes, with its end."""
        *parts, last = self.parts(service_json, state, created_ms)
        parts.append(last + b"\n")
        return [key.hex().encode().join(parts) for key in keys]

    def parts(self, service_json: bytes, state: str, created_ms: int) -> list[bytes]:
        """What stands before, between and behind the job's id, which is in it four times."""
        second, ms = divmod(created_ms, 1000)
        if second != self._second:
            self._second = second
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
        return [
            b'{"id":"',
            b'","service":%b,"state":"%b","created_at":"%b.%03dZ","links":{"status":"/v1/jobs/'
            % (service_json, state.encode(), self._text, ms),
            b'","reply":"/v1/jobs/',
            b'/reply","close":"/v1/jobs/',
            b'"}}',
        ]
