"""Kinds of records and what each does to the index; the numbers are part of the file format."""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class Kind(IntEnum):
    """The kind of a record. Numbers are never reused."""

    REQUEST = 1
    ATTEMPT = 2
    REPLY = 3
    CLOSE = 4
    CANCEL = 5
    KEY = 6
    JOB = 7
    MARK = 8
    SETTING = 9


class Effect(IntEnum):
    """What a record does to the index."""

    UNKNOWN = 0  # written by a later version
    OPEN = 1  # makes an entry; its position is ``request_at``
    NOTE = 2  # says something about an entry; pins nothing
    BODY = 3  # an entry's second body; its position is ``reply_at``
    DROP = 4  # the entry and all its records are gone
    STATE = 5  # an entry's full state; replaces the record that opened it, and all notes before
    NONE = 6  # about no entry


EFFECTS: Final[dict[Kind, Effect]] = {
    Kind.REQUEST: Effect.OPEN,
    Kind.ATTEMPT: Effect.NOTE,
    Kind.REPLY: Effect.BODY,
    Kind.CLOSE: Effect.DROP,
    Kind.CANCEL: Effect.NOTE,
    Kind.KEY: Effect.OPEN,
    Kind.JOB: Effect.STATE,
    Kind.MARK: Effect.NONE,
    Kind.SETTING: Effect.OPEN,
}
assert len(EFFECTS) == len(Kind), "every kind has an effect"

EFFECT_OF: Final[tuple[Effect, ...]] = tuple(
    {int(kind): effect for kind, effect in EFFECTS.items()}.get(number, Effect.UNKNOWN)
    for number in range(256)
)
"""The same by number, for any byte a file can hold."""

REQUEST: Final = Kind.REQUEST
JOB: Final = Kind.JOB
OPEN: Final = Effect.OPEN
NOTE: Final = Effect.NOTE
BODY: Final = Effect.BODY
DROP: Final = Effect.DROP
STATE: Final = Effect.STATE
"""For the path of every record: ``Effect.OPEN`` is looked up in its class, which takes ten times as long."""
