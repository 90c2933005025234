"""Ids prove who made them."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.pure.ids import RANDOM_BITS, Mint, made_at_ms, parse_id

SECRET = bytes(range(32))


@given(st.binary(max_size=40))
def test_foreign_bytes_are_not_issued(key: bytes) -> None:
    """Bytes that no mint made are recognised as such, whatever their length (one in 16 million excepted)."""
    assert not Mint(SECRET).issued(key)


@given(st.integers(0, 2**48 - 1), st.integers(0, 2**RANDOM_BITS - 1))
def test_an_id_is_a_version_8_uuid_that_its_mint_knows(wall_ms: int, random: int) -> None:
    """RFC 9562: version 8, variant 10; the time is readable; another secret does not know it."""
    key = Mint(SECRET).make(wall_ms, random)
    parsed = uuid.UUID(bytes=key)
    assert (parsed.version, parsed.variant) == (8, uuid.RFC_4122)
    assert made_at_ms(key) == wall_ms
    assert Mint(SECRET).issued(key)
    assert not Mint(b"other secret, 32 bytes in length").issued(key)


@given(st.integers(0, 2**RANDOM_BITS - 1), st.integers(0, 127))
def test_any_flipped_bit_ends_the_proof(random: int, bit: int) -> None:
    """Changing one bit anywhere makes the id a stranger's."""
    key = Mint(SECRET).make(1_700_000_000_000, random)
    flipped = (int.from_bytes(key, "big") ^ 1 << bit).to_bytes(16, "big")
    assert not Mint(SECRET).issued(flipped)


def test_every_random_bit_is_in_the_id() -> None:
    """Ids of one millisecond differ whenever their random bits differ."""
    keys = {Mint(SECRET).make(1, 1 << bit) for bit in range(RANDOM_BITS)} | {Mint(SECRET).make(1, 0)}
    assert len(keys) == RANDOM_BITS + 1


def test_a_secret_of_another_length_is_refused() -> None:
    """The secret has 32 bytes."""
    with pytest.raises(ValueError, match="32 bytes"):
        Mint(b"short")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0" * 31,
        "0" * 33,
        "g" * 32,
        "0" * 31 + "é",
        "0" * 16 + "-" + "0" * 15,
        " " + "0" * 31,
        "0x" + "0" * 30,
    ],
)
def test_malformed_ids_are_none(text: str) -> None:
    """Anything but 32 hex digits, or the form with four dashes, is no id."""
    assert parse_id(text) is None


@given(st.binary(min_size=16, max_size=16))
def test_both_ways_of_writing_an_id_are_read(key: bytes) -> None:
    """Dashes and upper case are accepted on input."""
    assert parse_id(key.hex()) == key
    assert parse_id(key.hex().upper()) == key
    assert parse_id(str(uuid.UUID(bytes=key))) == key
