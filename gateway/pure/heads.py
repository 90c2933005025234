r"""Request heads that were read before: what lets a plain request be served without parsing it again.

A client that keeps its connection sends the same head again and again; all that varies is the length of the
body, or the id of the job in the path. :func:`cut` takes that part out of a head. What is left is looked up
among heads that the HTTP parser has read and understood: equal bytes are understood equally. Nothing is
parsed here, so there is no second opinion on HTTP that an attacker could play against the first.

    POST /v1/services/echo/jobs HTTP/1.1\r\n ... Content-Length: |256| \r\n ... \r\n\r\n
    GET /v1/jobs/ |32 hex digits| /reply HTTP/1.1\r\n ... \r\n\r\n
    DELETE /v1/jobs/ |32 hex digits|  HTTP/1.1\r\n ... \r\n\r\n
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from core.pure.jobs import RequestMeta
from gateway.pure import negotiate, target
from gateway.pure.packing import Stored
from gateway.pure.submission import CONTENT_TYPE_MAX_BYTES
from gateway.pure.target import BadServiceError, Service, ServiceNames

HEAD_MAX_BYTES: Final = 2_048
KNOWN_MAX_COUNT: Final = 512
SIZE_DIGITS_MAX: Final = 7
ID_CHARS: Final = 32

_GET: Final = b"GET /v1/jobs/"
_DELETE: Final = b"DELETE /v1/jobs/"
_LENGTHS: Final = (b"ontent-Length: ", b"ontent-length: ")
_SILENT: Final = frozenset(
    (
        b"accept", b"accept-encoding", b"accept-language", b"authorization", b"cache-control", b"connection",
        b"host", b"pragma", b"user-agent",
    )
)  # fmt: skip
"""Headers that change nothing about how these requests are answered; ``accept`` does for replies."""
_ALLOWED: Final[Mapping[str, frozenset[bytes]]] = {
    target.SUBMIT: _SILENT | {b"content-length", b"content-type", b"prefer"},
    target.REPLY: _SILENT | {b"prefer"},
    target.CLOSE: _SILENT,
}


class Cut(NamedTuple):
    """A head without what varies, what varies, and where the body begins."""

    key: bytes
    varies: bytes
    end: int


class Known:
    """What a head asks for. The receipt of a submit is kept with the head whose submits share it."""

    __slots__ = (
        "accept", "content_type", "date", "headers", "meta", "method", "operation", "receipt", "service",
        "stored", "wait_s",
    )  # fmt: skip

    def __init__(
        self,
        method: bytes,
        operation: str,
        headers: dict[bytes, bytes],
        service: Service | None,
        wait_s: float,
    ) -> None:
        self.method = method.decode("ascii")
        self.operation = operation
        self.headers = headers
        self.service = service
        self.wait_s = wait_s
        self.content_type = headers.get(b"content-type", b"").decode("latin-1")
        self.accept = [headers[b"accept"]] if b"accept" in headers else []
        self.meta: RequestMeta | None = None
        self.stored: Stored | None = None
        self.date: object = None
        self.receipt: list[bytes] = []

    def path(self, varies: bytes) -> str:
        """The path of the request, for problem documents."""
        if self.service is not None:
            return f"/v1/services/{self.service.text}/jobs"
        job = varies.decode("ascii")
        return f"/v1/jobs/{job}/reply" if self.operation == target.REPLY else f"/v1/jobs/{job}"


def cut(data: bytes) -> Cut | None:
    """The head at the begin of ``data``, cut; None if it is not whole, too long, or no plain request."""
    end = data.find(b"\r\n\r\n", 0, HEAD_MAX_BYTES)
    if end < 0:
        return None
    if data.startswith(b"POST "):
        at = data.find(_LENGTHS[0], 0, end)
        if at < 0:
            at = data.find(_LENGTHS[1], 0, end)
            if at < 0:
                return None
        at += 15
        stop = data.find(b"\r", at)
        if not at <= stop <= end:
            return None
        return Cut(data[:at] + data[stop:end], data[at:stop], end + 4)
    if data.startswith(_GET):
        at = 13
    elif data.startswith(_DELETE):
        at = 16
    else:
        return None
    stop = at + ID_CHARS
    if stop > end:
        return None
    return Cut(data[:at] + data[stop:end], data[at:stop], end + 4)


def job_key(varies: bytes) -> bytes | None:
    """The id in the path of a cut GET or DELETE, if it is 32 hex digits."""
    try:
        key = bytes.fromhex(varies.decode("ascii"))
    except ValueError:
        return None
    return key if len(key) == ID_CHARS // 2 and varies.isalnum() else None


def size_of(varies: bytes) -> int:
    """The Content-Length of a cut POST; -1 if it is none, or too large for this path anyway."""
    if 0 < len(varies) <= SIZE_DIGITS_MAX and varies.isdigit():
        return int(varies)
    return -1


def understand(
    head: bytes,
    found: Cut,
    method: bytes,
    url: bytes,
    headers: Sequence[tuple[bytes, bytes]],
    services: ServiceNames,
) -> Known | None:
    """What the parser's reading of ``head`` asks for; None if that takes more than the fast path.

    ``head`` ends where ``found`` says. Its bytes must be the canonical writing of what was read, line by
    line: then the parser has read just these bytes, and every part that varies is where it seems to be.
    """
    fields = dict(headers)
    classified = target.classify(method.decode("ascii"), url)
    if classified is None or len(fields) != len(headers):
        return None
    operation, argument = classified
    if not _ALLOWED[operation].issuperset(fields) or not _plainly_written(head, method, url, headers):
        return None
    if b"host" not in fields or fields.get(b"connection", b"keep-alive").lower() != b"keep-alive":
        return None
    service, wait_s = None, 0
    if operation == target.SUBMIT:
        service = _service(argument, services)
        if service is None or fields.get(b"content-length") != found.varies or size_of(found.varies) < 0:
            return None
        content_type = fields.get(b"content-type", b"")
        is_frames = content_type.partition(b";")[0].strip().lower() == negotiate.FRAMES_TYPE
        if is_frames or len(content_type) > CONTENT_TYPE_MAX_BYTES:
            return None
    elif argument != found.varies or job_key(argument) is None:
        return None
    if b"prefer" in fields:
        wait_s = negotiate.wait_s([fields[b"prefer"]]) or 0
        if fields[b"prefer"] != b"wait=%d" % wait_s:
            return None  # other preferences are answered with more words
    return Known(method, operation, fields, service, wait_s)


def _service(argument: bytes, services: ServiceNames) -> Service | None:
    try:
        service = services.find(argument)
    except BadServiceError:
        return None
    return service if service.name == argument else None  # percent-encoded: the path is not canonical


def _plainly_written(head: bytes, method: bytes, url: bytes, headers: Sequence[tuple[bytes, bytes]]) -> bool:
    first, *lines = head[:-4].split(b"\r\n")
    if first != b"%b %b HTTP/1.1" % (method, url) or len(lines) != len(headers) or b"?" in url:
        return False
    for line, (name, value) in zip(lines, headers, strict=True):
        written, colon, rest = line.partition(b": ")
        if not colon or written.lower() != name or rest != value or not value.isascii():
            return False
        if b"\r" in value or b"\n" in value:
            return False
    return True


class KnownHeads:
    """Heads that were understood, by what is left of them without what varies.

    At most ``KNOWN_MAX_COUNT`` of at most ``HEAD_MAX_BYTES``; one more empties the memory, so that a flood of
    new heads costs time instead of memory.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, Known] = {}
        self.find = self._known.get

    def learn(self, key: bytes, known: Known) -> None:
        """A head that :func:`understand` understood."""
        if len(self._known) >= KNOWN_MAX_COUNT:
            self._known.clear()
        self._known[key] = known
