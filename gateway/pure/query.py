"""Options of a request, given as query parameters. Unknown ones are refused by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl

from gateway.pure.units import parse_duration_ms
from gateway.pure.webhooks import Network, literal_refusal, parse_target

ATTEMPTS_LIMIT: Final = 1_000
TIMEOUT_MIN_MS: Final = 1
TIMEOUT_MAX_MS: Final = 7 * 86_400_000
SPAN_MAX_MS: Final = 366 * 86_400_000
PARAMETERS_MAX: Final = 32
LIST_DEFAULT: Final = 50
LIST_MAX: Final = 500
CURSOR_MAX_CHARS: Final = 128
PRIORITIES: Final[Mapping[str, int]] = {"low": 0, "normal": 1, "high": 2}
STATES: Final = ("scheduled", "queued", "running", "succeeded", "failed", "cancelled")

Parser = Callable[[str], Any]
Table = Mapping[str, tuple[str, Parser]]


class ParameterFault(NamedTuple):
    """One parameter that cannot be used, and why."""

    parameter: str
    detail: str


class BadParametersError(ValueError):
    """The query cannot be used; ``faults`` names each parameter."""

    def __init__(self, faults: list[ParameterFault]) -> None:
        super().__init__("; ".join(f"{fault.parameter}: {fault.detail}" for fault in faults))
        self.faults = faults


class SubmitOptions(NamedTuple):
    """What a submit asks for besides its body. 0 (attempts: -1) is the server's default.

    ``expires_after_ms`` and ``delay_ms`` count from the acceptance, ``retention_ms`` from the reply;
    ``not_before_ms`` is unix time.
    """

    timeout_ms: int = 0
    attempts_max: int = -1
    priority: int = 1
    delay_ms: int = 0
    not_before_ms: int = 0
    expires_after_ms: int = 0
    retention_ms: int = 0
    callback: str = ""


class ListOptions(NamedTuple):
    """What a list shows: "" is any."""

    service: str = ""
    state: str = ""
    limit: int = LIST_DEFAULT
    cursor: str = ""


DEFAULTS: Final = SubmitOptions()


def _whole(low: int, high: int, what: str = "") -> Parser:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit()) or len(text) > 9 or not low <= int(text) <= high:
            raise ValueError(f"must be a whole number from {low}{what} to {high}")
        return int(text)

    return parse


def _span(low_ms: int, high_ms: int, words: str) -> Parser:
    def parse(text: str) -> int:
        span_ms = parse_duration_ms(text)
        if not low_ms <= span_ms <= high_ms:
            raise ValueError(f"must be from {words}")
        return span_ms

    return parse


def _one_of(names: tuple[str, ...]) -> Parser:
    def parse(text: str) -> str:
        if text not in names:
            raise ValueError(f"must be one of {', '.join(names)}")
        return text

    return parse


def _priority(text: str) -> int:
    if text not in PRIORITIES:
        raise ValueError(f"must be one of {', '.join(PRIORITIES)}")
    return PRIORITIES[text]


def _time(text: str) -> int:
    """Unix milliseconds of an RFC 3339 time. A ``+`` that the client left bare came here as a space."""
    try:
        found = datetime.fromisoformat(text.replace(" ", "+")) if 20 <= len(text) <= 35 else None
        if found is None or found.tzinfo is None:
            raise ValueError(text)
        at_ms = int(found.astimezone(UTC).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise ValueError("must be a time with its zone, such as 2030-01-31T12:00:00Z") from None
    if not 0 < at_ms < 1 << 47:
        raise ValueError("must be a time between 1970 and the year 6400")
    return at_ms


def _name(text: str) -> str:
    if not 1 <= len(text) <= 255:
        raise ValueError("must be a service name of 1 to 255 characters")
    return text


def _cursor(text: str) -> str:
    if not 1 <= len(text) <= CURSOR_MAX_CHARS or not text.isascii() or not text.isprintable():
        raise ValueError("is not a cursor that this server made")
    return text


def _callback(text: str) -> str:
    parse_target(text)
    return text


_SUBMIT: Final[Table] = {
    "timeout": ("timeout_ms", _span(TIMEOUT_MIN_MS, TIMEOUT_MAX_MS, "1ms to 7d")),
    "attempts": ("attempts_max", _whole(0, ATTEMPTS_LIMIT, " (for ever)")),
    "priority": ("priority", _priority),
    "delay": ("delay_ms", _span(0, SPAN_MAX_MS, "0s to 366d")),
    "not_before": ("not_before_ms", _time),
    "expires": ("expires_after_ms", _span(1, SPAN_MAX_MS, "1ms to 366d")),
    "retention": ("retention_ms", _span(1, SPAN_MAX_MS, "1ms to 366d")),
    "callback": ("callback", _callback),
}
_LIST: Final[Table] = {
    "service": ("service", _name),
    "state": ("state", _one_of(STATES)),
    "limit": ("limit", _whole(1, LIST_MAX)),
    "cursor": ("cursor", _cursor),
}
_EVENTS: Final[Table] = {"service": ("service", _name)}


def submit_options(query: bytes) -> SubmitOptions:
    """The options in a query string. Raises BadParametersError."""
    if not query:
        return DEFAULTS
    options = SubmitOptions(**_read(query, _SUBMIT, "a submit takes"))
    if options.delay_ms and options.not_before_ms:
        raise BadParametersError(
            [ParameterFault("not_before", "is another way to say delay; give one of them")]
        )
    if options.expires_after_ms and options.delay_ms >= options.expires_after_ms:
        raise BadParametersError([ParameterFault("expires", "must be longer than delay")])
    return options


def check_callback(options: SubmitOptions, allowed: Sequence[Network]) -> None:
    """Raises BadParametersError for a callback to an address that is not allowed."""
    why = literal_refusal(parse_target(options.callback), allowed)
    if why is not None:
        raise BadParametersError([ParameterFault("callback", why)])


def list_options(query: bytes) -> ListOptions:
    """The options of a list. Raises BadParametersError."""
    return ListOptions(**_read(query, _LIST, "a list takes"))


def events_service(query: bytes) -> str:
    """The service whose events are asked for, "" for all. Raises BadParametersError."""
    found: str = _read(query, _EVENTS, "events take").get("service", "")
    return found


def no_options(query: bytes) -> None:
    """Raises BadParametersError if there is any parameter at all."""
    if query:
        _read(query, {}, "this request takes none")


def _read(query: bytes, table: Table, takes: str) -> dict[str, Any]:
    faults: list[ParameterFault] = []
    found: dict[str, Any] = {}
    for name, value in _pairs(query):
        if name not in table:
            known = f"{takes} {', '.join(table)}" if table else takes
            faults.append(ParameterFault(name, f"unknown; {known}"))
            continue
        field, parse = table[name]
        if field in found:
            faults.append(ParameterFault(name, "given twice"))
            continue
        try:
            found[field] = parse(value)
        except ValueError as error:
            faults.append(ParameterFault(name, str(error)))
    if faults:
        raise BadParametersError(faults)
    return found


def _pairs(query: bytes) -> list[tuple[str, str]]:
    if not query:
        return []
    try:
        return parse_qsl(
            query.decode("ascii"),
            keep_blank_values=True,
            max_num_fields=PARAMETERS_MAX,
            errors="strict",
        )
    except ValueError as error:
        raise BadParametersError([ParameterFault("", f"the query cannot be read: {error}")]) from error
