"""What opening a store decides, as two tables: which superblock, and what the end of the log is (R1, R2).

``docs/internals/recovery.md`` is printed from here; a test keeps it so.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from itertools import product
from typing import Final, NamedTuple


class Half(StrEnum):
    """One of the two superblocks."""

    VALID = "valid"
    BROKEN = "ours, but broken"
    OTHER = "another version"
    BLANK = "not ours"


class Start(StrEnum):
    """What is done with the file."""

    OPEN = "open with the newest valid one"
    DAMAGED = "refuse: damaged (exit 3)"
    OTHER_VERSION = "refuse: another version (exit 5)"
    NOT_OURS = "refuse: not a store (exit 1)"


STARTS: Final[dict[tuple[Half, Half], Start]] = {
    (Half.VALID, Half.VALID): Start.OPEN,
    (Half.VALID, Half.BROKEN): Start.OPEN,
    (Half.VALID, Half.OTHER): Start.OTHER_VERSION,
    (Half.VALID, Half.BLANK): Start.OPEN,
    (Half.BROKEN, Half.VALID): Start.OPEN,
    (Half.BROKEN, Half.BROKEN): Start.DAMAGED,
    (Half.BROKEN, Half.OTHER): Start.OTHER_VERSION,
    (Half.BROKEN, Half.BLANK): Start.DAMAGED,
    (Half.OTHER, Half.VALID): Start.OTHER_VERSION,
    (Half.OTHER, Half.BROKEN): Start.OTHER_VERSION,
    (Half.OTHER, Half.OTHER): Start.OTHER_VERSION,
    (Half.OTHER, Half.BLANK): Start.OTHER_VERSION,
    (Half.BLANK, Half.VALID): Start.OPEN,
    (Half.BLANK, Half.BROKEN): Start.DAMAGED,
    (Half.BLANK, Half.OTHER): Start.OTHER_VERSION,
    (Half.BLANK, Half.BLANK): Start.NOT_OURS,
}


class Place(StrEnum):
    """The chunk in which the log ends."""

    LAST = "the last"
    INNER = "another is behind it"


class Sealed(StrEnum):
    """What the trailer of that chunk says."""

    NO = "no"
    BEYOND = "yes, with records further on"
    HERE = "yes, and it is complete"


class Evidence(StrEnum):
    """The highest ``durable_seq`` found in a superblock, a chunk header or a record of this history."""

    REACHED = "reached"
    BEYOND = "not reached"


class Later(StrEnum):
    """Whether valid records of this history lie behind the end."""

    NO = "no"
    YES = "yes"


class Verdict(StrEnum):
    """What the end of the log is."""

    END = "go on here"
    CUT = "torn: cut, log, count"
    DAMAGE = "damage: refuse (exit 3)"


Signs = tuple[Place, Sealed, Evidence, Later]

E, C, D = Verdict.END, Verdict.CUT, Verdict.DAMAGE
ENDS: Final[dict[Signs, Verdict]] = {
    (Place.LAST, Sealed.NO, Evidence.REACHED, Later.NO): E,
    (Place.LAST, Sealed.NO, Evidence.REACHED, Later.YES): C,
    (Place.LAST, Sealed.NO, Evidence.BEYOND, Later.NO): D,
    (Place.LAST, Sealed.NO, Evidence.BEYOND, Later.YES): D,
    (Place.LAST, Sealed.BEYOND, Evidence.REACHED, Later.NO): D,
    (Place.LAST, Sealed.BEYOND, Evidence.REACHED, Later.YES): D,
    (Place.LAST, Sealed.BEYOND, Evidence.BEYOND, Later.NO): D,
    (Place.LAST, Sealed.BEYOND, Evidence.BEYOND, Later.YES): D,
    (Place.LAST, Sealed.HERE, Evidence.REACHED, Later.NO): D,
    (Place.LAST, Sealed.HERE, Evidence.REACHED, Later.YES): D,
    (Place.LAST, Sealed.HERE, Evidence.BEYOND, Later.NO): D,
    (Place.LAST, Sealed.HERE, Evidence.BEYOND, Later.YES): D,
    (Place.INNER, Sealed.NO, Evidence.REACHED, Later.NO): E,
    (Place.INNER, Sealed.NO, Evidence.REACHED, Later.YES): C,
    (Place.INNER, Sealed.NO, Evidence.BEYOND, Later.NO): D,
    (Place.INNER, Sealed.NO, Evidence.BEYOND, Later.YES): D,
    (Place.INNER, Sealed.BEYOND, Evidence.REACHED, Later.NO): C,
    (Place.INNER, Sealed.BEYOND, Evidence.REACHED, Later.YES): C,
    (Place.INNER, Sealed.BEYOND, Evidence.BEYOND, Later.NO): D,
    (Place.INNER, Sealed.BEYOND, Evidence.BEYOND, Later.YES): D,
    (Place.INNER, Sealed.HERE, Evidence.REACHED, Later.NO): D,
    (Place.INNER, Sealed.HERE, Evidence.REACHED, Later.YES): D,
    (Place.INNER, Sealed.HERE, Evidence.BEYOND, Later.NO): D,
    (Place.INNER, Sealed.HERE, Evidence.BEYOND, Later.YES): D,
}
assert len(STARTS) == len(Half) ** 2, "every pair of superblocks is decided"
assert set(ENDS) == set(product(Place, Sealed, Evidence, Later)), "every end is decided"


class _Column(NamedTuple):
    title: str
    cells: Sequence[str]


def _table(columns: Sequence[_Column]) -> list[str]:
    widths = [max(len(column.title), *map(len, column.cells)) for column in columns]
    rows = [[column.title for column in columns], *zip(*(column.cells for column in columns), strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return [lines[0], rule, *lines[1:]]


def _render(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return _table([_Column(title, [row[at] for row in rows]) for at, title in enumerate(titles)])


def render() -> str:
    """Both tables as Markdown, as they stand in ``docs/internals/recovery.md``."""
    starts = [(*halves, start) for halves, start in STARTS.items()]
    ends = [(*signs, verdict) for signs, verdict in ENDS.items()]
    return "\n".join(
        [
            *("### The superblocks", ""),
            *_render(("superblock A", "superblock B", "then"), starts),
            *("", "### The end of the log", ""),
            *_render(("chunk", "sealed", "durable_seq", "valid records behind", "then"), ends),
            "",
        ]
    )
