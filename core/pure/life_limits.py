"""What bounds the life of jobs, and how long a failed one waits."""

from __future__ import annotations

from typing import Final

import msgspec

from core.errors import JournalFullError
from core.pure.jobs import DEFAULT_ATTEMPTS_MAX, ENDED, Job, State

COUNTERS: Final = (
    "jobs_accepted",
    "jobs_dispatched",
    "jobs_succeeded",
    "jobs_failed",
    "jobs_expired",
    "jobs_cancelled",
    "jobs_retried",
    "jobs_closed",
    "jobs_retention_ended",
    "attempts_failed",
    "attempts_timed_out",
    "replies_late",
    "replies_late_taken",
    "replies_too_large",
    "replies_without_room",
    "requests_damaged",
    "callbacks_delivered",
    "callbacks_failed",
    "callbacks_given_up",
)
COUNTER_OF: Final[dict[int, str]] = {
    State.SUCCEEDED: "jobs_succeeded",
    State.FAILED: "jobs_failed",
    State.CANCELLED: "jobs_cancelled",
}
DAY_MS: Final = 24 * 3_600_000


class CallLimits(msgspec.Struct, frozen=True):
    """How long and how often the delivery of a callback is tried: 12 times over about 16 hours."""

    tries_max: int = 12
    backoff_first_ms: int = 5_000
    backoff_max_ms: int = 4 * 3_600_000

    def delay_ms(self, key: bytes, tries: int) -> int:
        """The pause after so many failures: times three each, capped, ±25 % drawn from the random key."""
        base: int = min(self.backoff_max_ms, self.backoff_first_ms * 3 ** min(tries - 1, 20))
        return max(1, round(base * (1 + (key[tries % 6 + 7] - 128) / 512)))


class ServiceLimits(msgspec.Struct, frozen=True):
    """What a service has instead of the node's defaults; -1: the default."""

    attempt_timeout_ms: int = -1
    attempts_max: int = -1


class LifeLimits(msgspec.Struct, frozen=True):
    """What bounds the life of a job unless the job itself, or its service, says otherwise."""

    attempt_timeout_ms: int = 30 * 60_000
    attempts_max: int = DEFAULT_ATTEMPTS_MAX  # 0: for ever
    backoff_first_ms: int = 1_000
    backoff_max_ms: int = 5 * 60_000
    reply_max_bytes: int = 8 * 1024 * 1024
    retention_ms: int = 7 * DAY_MS  # of replies and cancelled jobs; 0: until closed
    dead_letter_retention_ms: int = 30 * DAY_MS
    services: dict[bytes, ServiceLimits] = {}
    calls: CallLimits = CallLimits()

    def reply_refusal(self, sizes: tuple[int, ...]) -> str | None:
        """Why a reply of these frame sizes cannot be stored, or None."""
        if sum(sizes) <= self.reply_max_bytes:
            return None
        return f"the reply has {sum(sizes)} bytes; the limit is {self.reply_max_bytes}"

    def no_room(self, reply_bytes: int, full: JournalFullError) -> str:
        """Why a reply was not kept: its job is a dead letter that says what to do (R8)."""
        free_bytes = max(0, full.free_bytes)
        return (
            f"done, but the store is full: its reply of {reply_bytes} bytes was not kept, {free_bytes} were"
            " free for it; close jobs or raise --store-max, then retry this one"
        )

    def of_service(self, service: bytes) -> tuple[int, int]:
        """(attempt timeout in ms, attempts at most) of a job that asks for neither."""
        own = self.services.get(service) if self.services else None
        if own is None:
            return self.attempt_timeout_ms, self.attempts_max
        return (
            self.attempt_timeout_ms if own.attempt_timeout_ms < 0 else own.attempt_timeout_ms,
            self.attempts_max if own.attempts_max < 0 else own.attempts_max,
        )

    def keep_until(self, job: Job) -> int:
        """When the retention of an ended job is over, wall ms; 0: kept until closed, or not ended."""
        if job.state not in ENDED:
            return 0
        default_ms = self.dead_letter_retention_ms if job.state == State.FAILED else self.retention_ms
        retention_ms = job.retention_ms or default_ms
        return job.due_ms + retention_ms if retention_ms else 0


def backoff_ms(key: bytes, attempt: int, limits: LifeLimits) -> int:
    """Exponential from ``backoff_first_ms``, capped, with jitter of ±25 % drawn from the random key."""
    base: int = min(limits.backoff_max_ms, limits.backoff_first_ms << min(attempt - 1, 30))
    spread = (key[attempt % 6 + 7] - 128) / 512
    return max(1, round(base * (1 + spread)))
