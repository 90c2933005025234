"""Exit codes, and the one line and code for every error a user can cause."""

from __future__ import annotations

import errno
from enum import IntEnum

import typer

from gateway.composition.settings import SettingsError


class ExitCode(IntEnum):
    """What ``titanic`` ends with; the numbers are part of its interface."""

    DONE = 0
    FAILED = 1
    WRONG_USE = 2
    DAMAGED_STORE = 3
    STORE_IN_USE = 4
    UNKNOWN_VERSION = 5
    UNREACHABLE = 6
    JOB_FAILED = 7
    NOT_YET = 8
    INTERRUPTED = 130  # 128 + SIGINT, as shells have it


class CliError(Exception):
    """The command cannot go on; the message says what to do next."""

    def __init__(self, message: str, code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.code = code


def explain(error: BaseException) -> tuple[str, int] | None:
    """The line for stderr and the exit code, or None if the error is our own mistake."""
    if isinstance(error, CliError):
        return str(error), error.code
    if isinstance(error, SettingsError):
        return str(error), ExitCode.WRONG_USE
    if isinstance(error, typer.Abort | KeyboardInterrupt):
        return "interrupted", ExitCode.INTERRUPTED
    if isinstance(error, typer.BadParameter.__mro__[1]):  # UsageError: typer does not export it
        return _usage(error), ExitCode.WRONG_USE
    return _explain_rooms(error) or _explain_os(error)


def _usage(error: BaseException) -> str:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "titanic"
    message = str(getattr(error, "format_message", error.__str__)()).rstrip(".?")
    if "\n" in message:  # no arguments at all: the message is the help
        return f"a command is needed\n\n{message}"
    return f"{message[:1].lower()}{message[1:]}; see '{path} --help'"


def _explain_rooms(error: BaseException) -> tuple[str, int] | None:
    """Errors of the core and the store; imported here because most commands need neither."""
    from core import errors as core_errors
    from core.shell import client as core_client
    from gateway import errors as gateway_errors
    from titanic_store import errors as store_errors

    codes = (
        (store_errors.StoreInUseError, ExitCode.STORE_IN_USE),
        (store_errors.UnknownVersionError, ExitCode.UNKNOWN_VERSION),
        (store_errors.DamagedStoreError, ExitCode.DAMAGED_STORE),
        (store_errors.StoreError, ExitCode.FAILED),
        (core_errors.ServerUnreachableError, ExitCode.UNREACHABLE),
        (core_client.JobFailedError, ExitCode.JOB_FAILED),
        (core_client.ReplyPendingError, ExitCode.NOT_YET),
        (gateway_errors.SettingsError, ExitCode.WRONG_USE),
        (gateway_errors.GatewayError, ExitCode.FAILED),
        (core_errors.CoreError, ExitCode.FAILED),
    )
    for kind, code in codes:
        if isinstance(error, kind):
            return _one_line(error), code
    return None


def _explain_os(error: BaseException) -> tuple[str, int] | None:
    """Errors of the operating system; ZeroMQ's carry the same numbers."""
    import zmq

    if not isinstance(error, OSError | zmq.ZMQError) or not error.errno:
        return None
    text = _one_line(error)
    if error.errno == errno.EADDRINUSE:
        return f"{text}: another process listens there; stop it or choose another port", ExitCode.FAILED
    if isinstance(error, OSError) and error.filename is not None:
        text = f"{error.filename}: {error.strerror}"
    return text, ExitCode.FAILED


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text or " ".join((type(error).__doc__ or type(error).__name__).split())
