"""API keys, rates, quotas, idempotency keys and trace context: the pure parts."""

import pytest

from gateway.errors import KeyFileError
from gateway.pure.idempotency import binding, fingerprint, parse_key
from gateway.pure.keys import Caller, KeyRecord, Keyring, Scope, decode_file, encode_file, hash_secret
from gateway.pure.quotas import Quotas
from gateway.pure.rates import Bucket
from gateway.pure.trace import traceparent

ID = "0123456789abcdef"


def record(**changes: object) -> KeyRecord:
    values: dict[str, object] = {
        "id": ID, "name": "a", "sha256": hash_secret(b"secret"), "scopes": ["read"], "created_ms": 1
    }  # fmt: skip
    return KeyRecord(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"version":1}',
        b'{"version":2,"keys":[]}',
        b'{"version":1,"keys":[],"more":1}',
        encode_file([record(id="x")]),
        encode_file([record(id="Z" * 16)]),
        encode_file([record(name="")]),
        encode_file([record(name="n" * 65)]),
        encode_file([record(sha256="")]),
        encode_file([record(sha256="z" * 64)]),
        encode_file([record(previous_sha256="00")]),
        encode_file([record(scopes=[])]),
        encode_file([record(scopes=["root"])]),
        encode_file([record(rate_per_s=-1.0)]),
        encode_file([record(burst=-1)]),
        encode_file([record(jobs_max=-1)]),
        encode_file([record(), record(name="b")]),
        encode_file([record(), record(id="f" * 16)]),
    ],
)
def test_files_that_are_none(raw: bytes) -> None:
    """A file with any fault is refused as a whole."""
    with pytest.raises(KeyFileError):
        decode_file(raw)


def test_file_round_trip() -> None:
    """What is written is read back, and holds no secret."""
    records = [record(services=["b"], rate_per_s=1.5, burst=3, jobs_max=9), record(id="f" * 16, name="b")]
    raw = encode_file(records)
    assert decode_file(raw) == records
    assert b"secret" not in raw


def test_a_rotated_secret_has_its_time() -> None:
    """The secret before the last rotation is good until its time, and not a millisecond longer."""
    ring = Keyring([record(previous_sha256=hash_secret(b"old"), previous_until_ms=100)])
    assert ring.identify(b"Bearer %b.secret" % ID.encode(), 10**9) is not None
    assert ring.identify(b"Bearer %b.old" % ID.encode(), 99) is not None
    assert ring.identify(b"Bearer %b.old" % ID.encode(), 100) is None
    assert ring.identify(b"Bearer %b." % ID.encode(), 0) is None, "an empty previous hash is no secret"


def test_scopes_and_services() -> None:
    """Admin has every scope and sees everything; the others see their own."""
    admin, reader = Caller(record(scopes=["admin"])), Caller(record(services=["a"]))
    assert admin.allows(Scope.SUBMIT | Scope.READ)
    assert (admin.sees, reader.sees) == ("", ID)
    assert not reader.allows(Scope.SUBMIT)
    assert reader.allows_service("a")
    assert not reader.allows_service("b")


def test_bucket() -> None:
    """A burst at once, then the pace; more than the burst is a debt; the fields say how it stands."""
    bucket = Bucket(2.0, 4, 0.0)
    assert [bucket.take(0.0) for _ in range(4)] == [0.0] * 4
    assert bucket.take(0.0) == pytest.approx(0.5)
    assert bucket.fields() == ((b"ratelimit-policy", b'"key";q=4;w=2'), (b"ratelimit", b'"key";r=0;t=2'))
    assert bucket.take(0.5) == 0.0
    assert bucket.take(1_000_000.0, 10) == 0.0, "a full bucket gives more than it holds, once"
    assert bucket.take(1_000_000.0) == pytest.approx(3.5)
    assert bucket.fields()[1][1].startswith(b'"key";r=0;')
    assert Bucket(0.1, 0, 0.0).burst == 1


def test_quotas() -> None:
    """What was accepted here counts until the node has said how many there are."""
    quotas = Quotas()
    quotas.accepted("a", 2, 30)
    assert quotas.open("a") == (2, 30)
    quotas.update({"a": 7}, {"a": 700}, 5)
    quotas.accepted("a", 1, 50)
    assert (quotas.open("a"), quotas.open("b"), quotas.read_at_ms) == ((8, 750), (0, 0), 5)


@pytest.mark.parametrize(
    ("value", "key"),
    [(b"a", b"a"), (b' "a b" ', b"a b"), (b'"\\"\\\\"', b'"\\'), (b"8e03978e-40d5", b"8e03978e-40d5")],
)
def test_idempotency_keys(value: bytes, key: bytes) -> None:
    """A token or a quoted string."""
    assert parse_key(value) == key


@pytest.mark.parametrize(
    "value", [b"", b'"', b'""', b'"a', b'a"', b'"\\', b'"\\n"', b'"\x7f"', b"a b", b"\xe9"]
)
def test_what_is_no_idempotency_key(value: bytes) -> None:
    """Anything else is refused with a sentence."""
    with pytest.raises(ValueError, match="Idempotency-Key"):
        parse_key(value)


def test_bindings_are_apart() -> None:
    """No two of (owner, service, key, line) share a binding, wherever the borders of the parts lie."""
    made = {
        binding("", b"ab", b"c"),
        binding("", b"a", b"bc"),
        binding("a", b"b", b"c"),
        binding("", b"ab", b"c", 0),
        binding("", b"ab", b"c", 1),
    }
    assert len(made) == 5
    assert len(fingerprint(b"a=1", b"t", [b"x", b"y"])) == 16
    assert fingerprint(b"", b"t", [b"xy"]) != fingerprint(b"", b"t", [b"x", b"y"])


GOOD = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"


@pytest.mark.parametrize(
    "value",
    [
        *("", "x", GOOD[:-1], GOOD + "0", GOOD + "-x", GOOD.upper()),
        *(GOOD.replace("a", "0"), GOOD.replace("b", "0"), "ff" + GOOD[2:], GOOD.replace("-", "_")),
    ],
)
def test_what_is_no_traceparent(value: str) -> None:
    """Anything that W3C forbids is nothing."""
    assert traceparent(value.encode()) == ""


def test_traceparent() -> None:
    """A valid one is kept; of a later version, the part that is known."""
    assert traceparent(GOOD.encode()) == GOOD
    assert traceparent(("01" + GOOD[2:] + "-more").encode()) == "01" + GOOD[2:]
