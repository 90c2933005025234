"""The error tree of ``gateway``: the class says whose fault it is and what to do."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.pure.problems import ProblemKind

Headers = tuple[tuple[bytes, bytes], ...]


class GatewayError(Exception):
    """Something in the gateway went wrong; the subclass says what to do."""


class SettingsError(GatewayError):
    """A setting cannot be used; correct it where it was given."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name}: {why}")
        self.name, self.why = name, why


class ListenError(GatewayError):
    """The address to listen on cannot be had; free it or choose another."""

    def __init__(self, host: str, port: int, why: str) -> None:
        super().__init__(f"cannot listen on {host}:{port}: {why}; choose another address with --http")
        self.host, self.port, self.why = host, port, why


class KeyFileError(GatewayError):
    """The file of API keys cannot be used; correct it, or make it anew with ``titanic keys``."""


class ClientGoneError(GatewayError):
    """The HTTP client closed its connection before the answer; there is nobody left to tell."""


class ProblemError(GatewayError):
    """The request ends with this problem document (RFC 9457); ``extra`` are its further members."""

    def __init__(
        self,
        kind: ProblemKind,
        detail: str,
        *,
        extra: Mapping[str, object] | None = None,
        headers: Headers = (),
    ) -> None:
        super().__init__(f"{kind.slug}: {detail}")
        self.kind, self.detail = kind, detail
        self.extra = extra
        self.headers = headers
