"""A relocated job is what its records say, at any moment, whatever of it is on its way to the disk."""

from __future__ import annotations

import random
from typing import Any

import pytest

from core.pure import tsp
from core.pure.fold import Fold
from core.pure.jobs import ENDED, Job, Kind, State
from tests.support.titanic_rig import Rig


def view(job: Job, fold: Fold, rig: Rig) -> tuple[object, ...]:
    """What a start makes of a job: what ran, or has become due, is queued."""
    notes, key, state, due_ms = fold.notes, job.key, job.state, job.due_ms
    if state == State.RUNNING or (state == State.SCHEDULED and due_ms <= rig.now.wall_ms):
        state = State.QUEUED
    if state == State.QUEUED:
        due_ms = 0
    ended = state in ENDED
    return (
        State(state), job.attempt, job.owner, job.retention_ms, job.priority,
        notes.reasons.get(key), None if ended else notes.expiries.get(key),
        None if ended else due_ms,
    )  # fmt: skip


def moved(rig: Rig, fold: Fold, job: Job) -> tuple[object, ...]:
    """The job after its relocation and a restart: its request's meta, then the snapshot."""
    again = Fold()
    entry = again.new(Kind.REQUEST, job.key)
    entry.request_at, entry.reply_at = job.request_at, job.reply_at
    again.fold(entry, Kind.REQUEST, rig.journal.read_request(job)[0], 1)
    again.fold(entry, Kind.JOB, fold.snapshot(job), 1)
    assert (entry.due_ms > 0) or entry.state not in ENDED, "an ended job knows when"
    return view(entry, again, rig)


@pytest.mark.parametrize("seed", range(20))
def test_a_snapshot_says_what_the_records_say(seed: int) -> None:
    """Random lives; after every step each job's snapshot equals the fold of all its records so far."""
    print(f"seed {seed}")
    dice = random.Random(seed)
    rig, fold = Rig(), Fold()
    rig.titanic.restore([], fold.notes, rig.now)
    hands: list[bytes] = []
    for _ in range(120):
        keys = [job.key for job in rig.journal.index.values()]
        step = dice.choice(["submit", "take", "done", "lost", "cancel", "retry", "close", "sync", "wait"])
        if step == "submit":
            options: dict[str, Any] = {
                "attempts_max": dice.choice([-1, 1]),
                "expires_ms": dice.choice([0, rig.now.wall_ms + 3_000]),
                "not_before_ms": dice.choice([0, rig.now.wall_ms + 2_000]),
                "owner": dice.choice(["", "alice"]),
                "retention_ms": dice.choice([0, 10**9]),
            }
            rig.ask(tsp.SUBMIT, tsp.encode_head(tsp.SubmitHead(rig.key(), rig.meta(**options))), b"x")
        elif step == "take" and (work := rig.take()) is not None:
            hands.append(work.address)
        elif step in ("done", "lost") and hands:
            address = hands.pop(dice.randrange(len(hands)))
            if step == "done":
                rig.titanic.done(address, [b"r"], rig.now)
            else:
                rig.titanic.lost(address, f"reason {dice.random()}", rig.now, stated=dice.random() < 0.5)
        elif step in ("cancel", "retry") and keys:
            service = tsp.CANCEL if step == "cancel" else tsp.RETRY
            rig.ask(service, tsp.encode_head(tsp.JobHead(dice.choice(keys))))
        elif step == "close" and keys and dice.random() < 0.3:
            rig.ask(tsp.CLOSE, dice.choice(keys).hex().encode())
        elif step == "sync":
            rig.sync()
        elif step == "wait":
            rig.pass_ms(dice.choice([100, 1_000, 5_000]))
        rig.journal._synced_count = len(rig.journal.log)
        reopened, refold = rig.journal.reopened()
        for job in rig.journal.index.values():
            if job.state != State.CLOSING:
                assert moved(rig, fold, job) == view(reopened.index[job.key], refold, rig), step
