"""The numbers of the kinds are the file format's, and the core's."""

from core.pure.jobs import Kind as CoreKind
from titanic_store import Kind
from titanic_store.pure.kinds import EFFECT_OF, EFFECTS, Effect


def test_both_packages_number_kinds_alike() -> None:
    """The core and the store, which must not import each other, mean the same kinds."""
    assert {kind.name: int(kind) for kind in Kind} == {kind.name: int(kind) for kind in CoreKind}


def test_every_byte_has_an_effect() -> None:
    """A kind of a later version is known to be unknown; all others do what the table says."""
    assert len(EFFECT_OF) == 256
    for number, effect in enumerate(EFFECT_OF):
        expected = EFFECTS[Kind(number)] if number in set(Kind) else Effect.UNKNOWN
        assert effect is expected
