"""Who may speak to a broker with CURVE, and to do what: the allow-list, and the guard that applies it.

The list is TOML::

    [[peer]]
    name = "lucy"                      # whose key it is; while keys are changed she has two
    key = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"
    client = ["resize", "titanic.*"]   # services it may ask; ``*`` at the end stands for anything
    worker = []                        # services it may work for

What is not allowed is refused.
"""

from __future__ import annotations

import tomllib
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from core.errors import CoreError
from core.pure.keeping import is_durable

KEY_CHARS: Final = 40
NAMES_MAX_COUNT: Final = 100_000
_FIELDS: Final = {"name", "key", "client", "worker"}


class AllowListError(CoreError):
    """The allow-list cannot be used; the message says which entry to correct."""


class Patterns(msgspec.Struct, frozen=True):
    """Names of services, and beginnings of names."""

    names: frozenset[bytes] = frozenset()
    prefixes: tuple[bytes, ...] = ()

    def fits(self, service: bytes) -> bool:
        """Whether the service is one of them."""
        return service in self.names or service.startswith(self.prefixes)


class Peer(msgspec.Struct, frozen=True):
    """What one key may do."""

    name: str
    client: Patterns
    worker: Patterns


class AllowList(msgspec.Struct, frozen=True):
    """Peers by public key (Z85)."""

    peers: Mapping[str, Peer] = {}


def parse(text: str) -> AllowList:
    """The list in ``text``; AllowListError if anything in it is not as above."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise AllowListError(str(error)) from None
    if set(document) - {"peer"} or not isinstance(document.get("peer", []), list):
        raise AllowListError("the list consists of [[peer]] tables and nothing else")
    peers: dict[str, Peer] = {}
    for number, entry in enumerate(document.get("peer", []), 1):
        key, peer = _peer(entry, f"peer {number}")
        if key in peers:
            raise AllowListError(f"peer {number} has the key of '{peers[key].name}'")
        peers[key] = peer
    return AllowList(peers)


def _peer(entry: Any, where: str) -> tuple[str, Peer]:
    if not isinstance(entry, dict):
        raise AllowListError(f"{where} is no table")
    if unknown := set(entry) - _FIELDS:
        raise AllowListError(f"{where} has no field {min(unknown)!r}; there are key, name, client, worker")
    key, name = entry.get("key"), entry.get("name", "")
    if not isinstance(key, str) or len(key) != KEY_CHARS:
        raise AllowListError(f"{where} needs the {KEY_CHARS} characters of a public key as 'key'")
    if not isinstance(name, str) or not name:
        raise AllowListError(f"{where} needs a 'name'")
    return key, Peer(
        name,
        _patterns(entry.get("client", []), f"{where}: client"),
        _patterns(entry.get("worker", []), f"{where}: worker"),
    )


def _patterns(value: Any, where: str) -> Patterns:
    if not isinstance(value, list) or not all(isinstance(part, str) and part for part in value):
        raise AllowListError(f"{where} is a list of service names")
    if any("*" in part[:-1] for part in value):
        raise AllowListError(f"{where}: '*' stands at the end of a name only")
    return Patterns(
        frozenset(part.encode() for part in value if part[-1] != "*"),
        tuple(part[:-1].encode() for part in value if part[-1] == "*"),
    )


class Admission:
    """Applies an :class:`AllowList` to every message: who is it, is the name theirs, may they do that.

    ``allowed`` may be replaced at any time: a key that is gone is refused from its next message on. A
    named identity belongs to the first key that used it, and passes on only when that key is gone from the
    list, to another key of the same peer. The 100,000 most recently used identities are remembered.
    ``refused_count`` counts messages of unknown keys, ``stolen_count`` those under the name of another.
    """

    def __init__(self, allowed: AllowList) -> None:
        self.allowed = allowed
        self.refused_count = 0
        self.stolen_count = 0
        self._owners: OrderedDict[bytes, tuple[str, str]] = OrderedDict()  # identity -> key, peer's name
        self._speaker: Peer | None = None

    def speaks(self, identity: bytes, key: str) -> bool:
        """A message of ``identity`` came over a connection with ``key``: whether it may be looked at."""
        peer = self._speaker = self.allowed.peers.get(key)
        if peer is None:
            self.refused_count += 1
            return False
        if not is_durable(identity):
            return True
        owner = self._owners.setdefault(identity, (key, peer.name))
        if owner[0] != key:
            if owner[0] in self.allowed.peers or owner[1] != peer.name:
                self.stolen_count += 1
                self._speaker = None
                return False
            self._owners[identity] = (key, peer.name)
        if len(self._owners) > NAMES_MAX_COUNT:
            self._owners.popitem(last=False)
        self._owners.move_to_end(identity)
        return True

    def may_ask(self, service: bytes) -> bool:
        """Whether who speaks may send requests for ``service``."""
        return self._speaker is not None and self._speaker.client.fits(service)

    def may_work(self, service: bytes) -> bool:
        """Whether who speaks may register for ``service``."""
        return self._speaker is not None and self._speaker.worker.fits(service)
