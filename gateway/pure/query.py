"""Options of a request, given as query parameters. Unknown ones are refused by name."""

from __future__ import annotations

from typing import Final, NamedTuple
from urllib.parse import parse_qsl

from gateway.pure.units import parse_duration_ms

ATTEMPTS_LIMIT: Final = 1_000
TIMEOUT_MIN_MS: Final = 1
TIMEOUT_MAX_MS: Final = 7 * 86_400_000
PARAMETERS_MAX: Final = 32


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
    """What a submit asks for besides its body: RequestMeta's ``timeout_ms`` and ``attempts_max``."""

    timeout_ms: int = 0  # the server's default
    attempts_max: int = -1  # the server's default


DEFAULTS: Final = SubmitOptions()


def _attempts(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 4 or int(text) > ATTEMPTS_LIMIT:
        raise ValueError(f"must be a whole number from 0 (for ever) to {ATTEMPTS_LIMIT}")
    return int(text)


def _timeout(text: str) -> int:
    timeout_ms = parse_duration_ms(text)
    if not TIMEOUT_MIN_MS <= timeout_ms <= TIMEOUT_MAX_MS:
        raise ValueError("must be from 1ms to 7d")
    return timeout_ms


_PARSERS: Final = {"timeout": ("timeout_ms", _timeout), "attempts": ("attempts_max", _attempts)}


def submit_options(query: bytes) -> SubmitOptions:
    """The options in a query string. Raises BadParametersError."""
    if not query:
        return DEFAULTS
    faults: list[ParameterFault] = []
    options: dict[str, int] = {}
    for name, value in _pairs(query):
        if name not in _PARSERS:
            faults.append(ParameterFault(name, f"unknown; a submit takes {' and '.join(_PARSERS)}"))
            continue
        field, parse = _PARSERS[name]
        if field in options:
            faults.append(ParameterFault(name, "given twice"))
            continue
        try:
            options[field] = parse(value)
        except ValueError as error:
            faults.append(ParameterFault(name, str(error)))
    if faults:
        raise BadParametersError(faults)
    return SubmitOptions(**options)


def no_options(query: bytes) -> None:
    """Raises BadParametersError if there is any parameter at all."""
    if query:
        faults = [ParameterFault(name, "unknown; this request takes none") for name, _ in _pairs(query)]
        if faults:
            raise BadParametersError(faults)


def _pairs(query: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(
            query.decode("ascii"),
            keep_blank_values=True,
            max_num_fields=PARAMETERS_MAX,
            errors="strict",
        )
    except ValueError as error:
        raise BadParametersError([ParameterFault("", f"the query cannot be read: {error}")]) from error
