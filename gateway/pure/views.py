"""What the API says of a job, as JSON."""

from __future__ import annotations

import time
from typing import Final

import msgspec

from core.pure.tsp import JobStatus

JOBS_PATH: Final = "/v1/jobs/"

_encode = msgspec.json.Encoder().encode


class Links(msgspec.Struct, gc=False):
    """Where to go on: GET ``status``, GET ``reply``, DELETE ``close``."""

    status: str
    reply: str
    close: str


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
    links: Links


def rfc3339(unix_ms: int) -> str:
    """``2025-11-23T13:53:00.123Z``."""
    seconds, ms = divmod(unix_ms, 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{ms:03d}Z"


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
        due_at=rfc3339(status.due_ms) if status.due_ms > 0 else None,
        replied_at=rfc3339(status.replied_ms) if replied else None,
        last_error=status.reason or None,
        queued_before=status.queued_before if status.queued_before >= 0 else None,
        links=links(job_id),
    )


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
        second, ms = divmod(created_ms, 1000)
        if second != self._second:
            self._second = second
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
        return (
            b'{"id":"%b","service":%b,"state":"%b","created_at":"%b.%03dZ","links":'
            b'{"status":"/v1/jobs/%b","reply":"/v1/jobs/%b/reply","close":"/v1/jobs/%b"}}'
            % (hex_id, service_json, state.encode(), self._text, ms, hex_id, hex_id, hex_id)
        )
