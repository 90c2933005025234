"""API keys: what one may do, how it is written on the wire and in the file, and how it is recognised.

    on the wire   | Authorization: Bearer <id>.<secret> |   id: 16 hex digits; secret: 43 characters, 256 bits
    in the file   | {"version": 1, "keys": [KeyRecord, ...]} | the secret as SHA-256 only

A plain SHA-256 is enough for a secret of 256 random bits: there is nothing to guess, so a slow hash would
protect nothing and cost every request.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from enum import IntFlag
from typing import Final

import msgspec

from gateway.errors import KeyFileError
from gateway.pure.webhooks import SECRET_BYTES, decode_secret, encode_secret

VERSION: Final = 1
ID_CHARS: Final = 16
TOKEN_MAX_BYTES: Final = 256
NAME_MAX_CHARS: Final = 64
KEYS_MAX: Final = 10_000
RATE_MAX_PER_S: Final = 1_000_000.0


class Scope(IntFlag):
    """What a key may do. ADMIN includes the others and sees the jobs of every key."""

    NONE = 0
    SUBMIT = 1  # submit, and cancel, retry and close what it submitted
    READ = 2  # see its own jobs, their replies and events, and the services
    ADMIN = 7


SCOPES: Final[Mapping[str, Scope]] = {"submit": Scope.SUBMIT, "read": Scope.READ, "admin": Scope.ADMIN}


class KeyRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One key as the file has it. No services: all of them. A limit of 0: none.

    ``previous_sha256`` is the secret before the last rotation; it is good until ``previous_until_ms``.
    ``callback_secret`` signs the callbacks of the key's jobs (webhooks.py), and cannot be a hash for that;
    for as long as an old secret is good, callbacks are signed with the one before as well.
    """

    id: str
    name: str
    sha256: str
    scopes: list[str]
    created_ms: int
    services: list[str] = []
    rate_per_s: float = 0.0
    burst: int = 0
    jobs_max: int = 0
    previous_sha256: str = ""
    previous_until_ms: int = 0
    bytes_max: int = 0
    callback_secret: str = ""
    previous_callback_secret: str = ""


class KeyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    version: int
    keys: list[KeyRecord]


class Caller:
    """Who makes a request. ``owner`` is "" for a server without keys, where everything is everybody's."""

    __slots__ = ("burst", "bytes_max", "jobs_max", "owner", "rate_per_s", "scope", "sees", "services")

    def __init__(self, record: KeyRecord | None) -> None:
        self.owner = record.id if record is not None else ""
        self.scope = scope_of(record.scopes) if record is not None else Scope.ADMIN
        self.services = frozenset(record.services) if record is not None and record.services else None
        self.jobs_max = record.jobs_max if record is not None else 0
        self.bytes_max = record.bytes_max if record is not None else 0
        self.rate_per_s = record.rate_per_s if record is not None else 0.0
        self.burst = record.burst if record is not None else 0
        self.sees = "" if self.scope & Scope.ADMIN == Scope.ADMIN else self.owner
        """The owner whose jobs this caller may see; "" for all."""

    def allows(self, scope: Scope) -> bool:
        """Whether the key has all of ``scope``."""
        return self.scope & scope == scope

    def allows_service(self, service: str) -> bool:
        """Whether the key may be used for ``service``."""
        return self.services is None or service in self.services


NOBODY: Final = Caller(None)
"""The caller of a server without keys."""


def scope_of(names: Iterable[str]) -> Scope:
    """The scopes of these names together. Raises KeyError for an unknown one."""
    found = Scope.NONE
    for name in names:
        found |= SCOPES[name]
    return found


def hash_secret(secret: bytes) -> str:
    """What the file keeps of a secret."""
    return hashlib.sha256(secret).hexdigest()


class Keyring:
    """All keys of a file, ready to recognise tokens."""

    def __init__(self, records: Sequence[KeyRecord]) -> None:
        self._known = {
            record.id.encode(): (
                bytes.fromhex(record.sha256),
                bytes.fromhex(record.previous_sha256),
                record.previous_until_ms,
                Caller(record),
            )
            for record in records
        }
        self._signing = {record.id: _signing(record) for record in records}

    def __len__(self) -> int:
        return len(self._known)

    def identify(self, authorization: bytes, now_ms: int) -> Caller | None:
        """The caller an Authorization header names, or None. An unknown id costs what a known one does."""
        if len(authorization) > TOKEN_MAX_BYTES or authorization[:7].lower() != b"bearer ":
            return None
        id_, _, secret = authorization[7:].strip().partition(b".")
        given = hashlib.sha256(secret).digest()
        sha256, previous, until_ms, caller = self._known.get(id_, _UNKNOWN)
        if hmac.compare_digest(given, sha256):
            return caller
        if now_ms < until_ms and hmac.compare_digest(given, previous):
            return caller
        return None

    def signing(self, owner: str, now_ms: int) -> tuple[bytes, ...] | None:
        """The secrets that sign callbacks of this key's jobs, () for none, None if there is no such key."""
        found = self._signing.get(owner)
        if found is None:
            return None
        secrets, previous, until_ms = found
        return secrets + previous if now_ms < until_ms else secrets


def _signing(record: KeyRecord) -> tuple[tuple[bytes, ...], tuple[bytes, ...], int]:
    """(secrets in force, the one before, until when that is)."""
    now = (decode_secret(record.callback_secret),) if record.callback_secret else ()
    before = (decode_secret(record.previous_callback_secret),) if record.previous_callback_secret else ()
    return now, before, record.previous_until_ms


_UNKNOWN: Final[tuple[bytes, bytes, int, Caller | None]] = (bytes(32), b"", 0, None)

_decode = msgspec.json.Decoder(KeyFile).decode


def decode_file(raw: bytes) -> list[KeyRecord]:
    """The records of a file, checked. Raises KeyFileError."""
    try:
        found = _decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise KeyFileError(str(error)) from error
    if found.version != VERSION:
        raise KeyFileError(f"version {found.version} is not one of {VERSION}")
    if len(found.keys) > KEYS_MAX:
        raise KeyFileError(f"{len(found.keys)} keys; the limit is {KEYS_MAX}")
    seen: set[str] = set()
    for record in found.keys:
        why = _fault(record, seen)
        if why:
            raise KeyFileError(f"key {record.name!r}: {why}")
        seen |= {record.id, record.name}
    return found.keys


def encode_file(records: Iterable[KeyRecord]) -> bytes:
    """The file of these records."""
    return msgspec.json.format(msgspec.json.encode(KeyFile(VERSION, list(records))), indent=2) + b"\n"


def _fault(record: KeyRecord, seen: set[str]) -> str:
    if not _is_hex(record.id, ID_CHARS) or record.id in seen:
        return "its id is not 16 hex digits of its own"
    if not record.name or len(record.name) > NAME_MAX_CHARS or record.name in seen:
        return f"its name is not 1 to {NAME_MAX_CHARS} characters of its own"
    if not _is_hex(record.sha256, 64) or (record.previous_sha256 and not _is_hex(record.previous_sha256, 64)):
        return "its hash is not 64 hex digits"
    if not record.scopes or not set(record.scopes) <= set(SCOPES):
        return f"its scopes are not some of {', '.join(SCOPES)}"
    if not 0 <= record.rate_per_s <= RATE_MAX_PER_S or record.burst < 0:
        return "its rate cannot be used"
    if record.jobs_max < 0 or record.bytes_max < 0:
        return "its quota is negative"
    for secret in (record.callback_secret, record.previous_callback_secret):
        try:
            decode_secret(secret or _NO_SECRET)
        except ValueError as error:
            return f"its callback secret {error}"
    return ""


_NO_SECRET: Final = encode_secret(bytes(SECRET_BYTES))


def _is_hex(text: str, count: int) -> bool:
    return len(text) == count and set(text) <= set("0123456789abcdef")
