"""What the client gives and takes: frozen values and the errors."""

from __future__ import annotations

from typing import Literal

import msgspec

State = Literal["scheduled", "queued", "running", "succeeded", "failed", "cancelled", "closed"]


class Options(msgspec.Struct, frozen=True, omit_defaults=True):
    """Options of a submit, as the API has them: durations such as ``30s``, times as RFC 3339."""

    timeout: str = ""
    attempts: int = -1
    priority: Literal["low", "normal", "high"] = "normal"
    delay: str = ""
    not_before: str = ""
    expires: str = ""
    retention: str = ""
    callback: str = ""


class Accepted(msgspec.Struct, frozen=True):
    """A job that is stored as ``durability`` says. ``replayed``: an earlier request made it."""

    id: str
    service: str
    state: State
    created_at: str
    durability: str = ""
    replayed: bool = False


class Job(msgspec.Struct, frozen=True):
    """A job's status; see the schema of the same name in the API's document."""

    id: str
    service: str
    state: State
    created_at: str
    attempts: int
    priority: str = "normal"
    attempts_max: int | None = None
    content_type: str | None = None
    request_bytes: int | None = None
    reply_bytes: int | None = None
    due_at: str | None = None
    ended_at: str | None = None
    last_error: str | None = None
    owner: str | None = None


class Page(msgspec.Struct, frozen=True):
    """A page of a list; ``next`` is the cursor of the following one, None on the last."""

    jobs: list[Job]
    next: str | None = None


class Reply(msgspec.Struct, frozen=True):
    """A reply as the worker sent it."""

    body: bytes
    content_type: str


class Problem(msgspec.Struct, frozen=True):
    """A problem document, RFC 9457."""

    type: str
    title: str
    status: int
    detail: str = ""


class ClientError(Exception):
    """The call did not do what it is for; the subclass says why."""


class UnreachableError(ClientError):
    """No server answered; a submit may be repeated with the same idempotency key."""


class ProblemError(ClientError):
    """The server refused; ``problem`` says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.status} {problem.title}: {problem.detail}")
        self.problem = problem


class JobFailedError(ProblemError):
    """The job failed or was cancelled: it has no reply."""
