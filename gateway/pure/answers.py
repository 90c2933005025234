"""What an answer of the node means for an HTTP client who did not get what it asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from core.errors import PeerError
from core.pure import tsp
from gateway.errors import ProblemError
from gateway.pure import problems
from gateway.pure.views import job_view

RETRY_SOON: Final = ((b"retry-after", b"1"),)
RETRY_FULL: Final = ((b"retry-after", b"5"),)  # room comes from closes and retention, not from a pause

ENDED: Final = frozenset(("succeeded", "failed", "cancelled"))


def problem_of(answer: Sequence[bytes]) -> ProblemError:
    """The problem that an answer other than success stands for. Raises PeerError and msgspec.MsgspecError."""
    status = tsp.status_of(answer)
    if len(answer) < 2:
        raise PeerError(f"answer {status.decode()} without a head")
    if status == tsp.CONFLICT:
        return ended_badly(tsp.decode_status(answer[1]))
    detail = tsp.decode_error(answer[1]).detail
    if status == tsp.NOT_FOUND:
        return ProblemError(problems.NEVER_ISSUED, "This id was never issued here.")
    if status == tsp.GONE:
        return ProblemError(problems.JOB_GONE, "This job is closed; its request and reply are deleted.")
    if status == tsp.MISMATCH:
        return ProblemError(problems.KEY_REUSED, "This Idempotency-Key was used for another request.")
    if status == tsp.UNAVAILABLE:
        return ProblemError(problems.NODE_NOT_READY, detail, headers=RETRY_SOON)
    if status == tsp.FULL:
        return ProblemError(problems.STORE_FULL, detail, headers=RETRY_FULL)
    if status == tsp.ERROR or status == tsp.UNKNOWN:
        return ProblemError(problems.NODE_ERROR, detail)
    raise PeerError(f"answer {status.decode()}: {detail}")


def wrong_state(status: tsp.JobStatus, what: str) -> ProblemError:
    """The problem of a cancel or a retry that the job's state forbids; ``what`` says what was asked."""
    extra = {"id": status.key.hex(), "service": status.service, "state": status.state}
    return ProblemError(problems.WRONG_STATE, f"A job that is {status.state} cannot be {what}.", extra=extra)


def ended_badly(status: tsp.JobStatus) -> ProblemError:
    """The problem of a job that failed or was cancelled, with attempts and last error."""
    view = job_view(status)
    extra = {
        "id": view.id,
        "service": view.service,
        "state": view.state,
        "attempts": view.attempts,
        "attempts_max": view.attempts_max,
        "last_error": view.last_error,
        "links": view.links,
    }
    if status.state == "cancelled":
        return ProblemError(problems.JOB_CANCELLED, "The job was cancelled.", extra=extra)
    noun = "attempt" if status.attempt == 1 else "attempts"
    detail = f"The job failed after {status.attempt} {noun}: {status.reason or 'no reason was given'}"
    return ProblemError(problems.JOB_FAILED, detail, extra=extra)
