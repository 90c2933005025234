"""What a request path points at: the prefix check in front of the framework, and its two arguments."""

from __future__ import annotations

from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

import msgspec

from core.pure.ids import parse_id
from core.pure.tsp import service_error

SERVICES: Final = b"/v1/services/"
JOBS: Final = b"/v1/jobs/"
SUBMIT: Final = "titanic.request"
REPLY: Final = "titanic.reply"
CLOSE: Final = "titanic.close"

NAMES_MAX: Final = 4_096


def classify(method: str, raw_path: bytes) -> tuple[str, bytes] | None:
    """(operation, its argument still percent-encoded) if this is a request of the hot path, else None."""
    if raw_path.startswith(SERVICES):
        if method == "POST" and raw_path.endswith(b"/jobs"):
            name = raw_path[13:-5]
            if b"/" not in name and len(raw_path) >= 18:
                return SUBMIT, name
    elif raw_path.startswith(JOBS):
        if raw_path.endswith(b"/reply"):
            name = raw_path[9:-6]
            if method in ("GET", "HEAD") and b"/" not in name and len(raw_path) >= 15:
                return REPLY, name
        elif method == "DELETE":
            name = raw_path[9:]
            if b"/" not in name and b":" not in name:  # behind a colon stands a verb
                return CLOSE, name
    return None


def job_key(raw: bytes) -> bytes | None:
    """The 16 bytes of the id in a path, or None if it is none."""
    if len(raw) > 108:  # 36 characters, each percent-encoded
        return None
    if b"%" in raw:
        raw = unquote_to_bytes(raw)
    return parse_id(raw.decode("latin-1"))


class Service(NamedTuple):
    """A service name that may take jobs, in the forms that answers need."""

    name: bytes
    text: str
    json: bytes  # as a JSON string, with its quotes


class BadServiceError(ValueError):
    """The name cannot take jobs; the text says why."""


class ServiceNames:
    """Decodes and checks the service in a path, and remembers: few services get many jobs.

    At most ``NAMES_MAX`` names of at most 765 bytes are remembered; a flood of new names empties the
    memory, and costs time instead of memory.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, Service] = {}

    def find(self, raw: bytes) -> Service:
        """The service at this percent-encoded path segment. Raises BadServiceError."""
        service = self._known.get(raw)
        if service is None:
            service = _check(raw)
            if len(self._known) >= NAMES_MAX:
                self._known.clear()
            self._known[raw] = service
        return service


def _check(raw: bytes) -> Service:
    name = unquote_to_bytes(raw)
    why = service_error(name)
    if why is not None:
        raise BadServiceError(why)
    text = name.decode("ascii")
    return Service(name, text, msgspec.json.encode(text))
