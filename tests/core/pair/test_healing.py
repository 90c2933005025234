"""The winner's side of a healing: a record that cannot be read costs its own job, and not the node."""

from __future__ import annotations

from collections.abc import Callable

from core.pure.healing import Healing, Outcome
from core.pure.jobs import Kind, ReplyMeta, RequestMeta, State, encode_meta
from core.pure.peer import Record
from tests.support.titanic_rig import Rig

SAID = encode_meta(RequestMeta(b"echo", 1_000))
REPLIED = encode_meta(ReplyMeta(2_000, 1))
NOTHING = b"\x93\x01"


def test_a_record_that_cannot_be_read_is_reported_and_the_rest_is_merged() -> None:
    """Request, reply and key: each is set aside under its own name; what is whole becomes a job here."""
    rig = Rig()
    lost, kept, bound = rig.key(), rig.key(), b"k" * 16
    records = [
        Record(kind, 0, number, 2, key, meta, (b"body",))
        for number, (kind, key, meta) in enumerate(
            [
                (Kind.REQUEST, lost, NOTHING),
                (Kind.REQUEST, kept, SAID),
                (Kind.KEY, bound, NOTHING),
                (Kind.REPLY, kept, NOTHING),
                (Kind.REPLY, lost, REPLIED),
            ]
        )
    ]
    told: list[tuple[bytes, Outcome]] = []
    done: list[bool] = []

    def later(step: Callable[[], None]) -> None:
        rig.sync()
        step()

    healing = Healing(
        rig.titanic,
        rig.journal.index.get,
        set(),
        lambda outcome, key, service: told.append((key, outcome)),
        later,
        lambda: rig.now,
    )
    healing.run(records, lambda: done.append(True))
    assert done == [True]
    assert told == [
        (lost, Outcome.UNREADABLE),
        (kept, Outcome.ACCEPTED),
        (bound, Outcome.UNREADABLE),
        (kept, Outcome.UNREADABLE),
        (lost, Outcome.UNREADABLE),
    ]
    assert rig.journal.index[kept].state == State.QUEUED
