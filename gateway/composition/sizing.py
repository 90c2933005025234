"""What the settings of a process mean to store and core: sizes, limits, and the bell between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from core.pure.broker import BrokerLimits
from core.pure.life_limits import CallLimits
from core.pure.lifecycle import LifeLimits, ServiceLimits
from core.pure.titanic import TitanicLimits
from gateway.composition.settings import ServiceSettings, Settings, SettingsError
from gateway.pure import units
from titanic_store import Options, Policy

Trace = Callable[[str], None]
Ready = Callable[[dict[str, Any]], None]
Progress = Callable[[int, int], None]

CHUNK_BYTES: Final = 16 << 20
CHUNK_STEP_BYTES: Final = 1 << 20
RECORD_EXTRA_BYTES: Final = 256 << 10
"""What a record may need besides its body: metadata twice, headers, the digest row."""
FLOOR_CHUNKS: Final = 4
GOOD_CHUNKS: Final = 16
MESSAGE_EXTRA_BYTES: Final = 1 << 20
"""What a message may need besides the body of a job: heads, envelope, names."""
STORE_EXTRA_BYTES: Final = 8 << 10
"""Both superblocks."""


class Bell:
    """What the store's commit thread rings; nobody listens before :meth:`bind`."""

    def __init__(self) -> None:
        self._listener: Callable[[], None] = _nobody

    def bind(self, listener: Callable[[], None]) -> None:
        """From now on ``listener`` is called, in the commit thread."""
        self._listener = listener

    def ring(self) -> None:
        """Tell the listener."""
        self._listener()


def _nobody() -> None:
    """Nothing is waited for before somebody listens."""


def store_options(settings: Settings) -> Options:
    """Options for opening or making the store. Raises SettingsError if it would be too small.

    A record lives in one chunk, so chunks are made large enough for the largest body.
    """
    need_bytes = _steps(settings.max_body + RECORD_EXTRA_BYTES)
    chunk_bytes = max(need_bytes, min(CHUNK_BYTES, _chunk_within(settings.store_max)))
    least_bytes = FLOOR_CHUNKS * need_bytes + STORE_EXTRA_BYTES
    if settings.store_max < least_bytes:
        raise SettingsError(
            f"--store-max {units.format_size(settings.store_max)} is too small for"
            f" --max-body {units.format_size(settings.max_body)}: at least"
            f" {units.format_size(_steps(least_bytes))} are needed"
        )
    return Options(
        chunk_bytes=chunk_bytes,
        floor_chunks=FLOOR_CHUNKS,
        max_bytes=settings.store_max,
        policy=Policy.parse(settings.fsync),
        reply_reserve_bytes=min(settings.reply_reserve, settings.max_body),
        network_fs=settings.network_fs,
    )


def _steps(size_bytes: int) -> int:
    """``size_bytes``, rounded up to whole steps."""
    return -(-size_bytes // CHUNK_STEP_BYTES) * CHUNK_STEP_BYTES


def _chunk_within(store_bytes: int) -> int:
    """The largest chunk, in whole steps, of which enough fit into the store to use it well.

    Two chunks are always spare (R8): of 4 that would be half of the store.
    """
    return (store_bytes - STORE_EXTRA_BYTES) // GOOD_CHUNKS // CHUNK_STEP_BYTES * CHUNK_STEP_BYTES


def limits(settings: Settings) -> TitanicLimits:
    """Bodies of both directions have the one limit a user knows; a job may ask for its own times."""
    life = LifeLimits(
        attempt_timeout_ms=settings.attempt_timeout,
        attempts_max=settings.attempts,
        backoff_first_ms=settings.backoff_first,
        backoff_max_ms=settings.backoff_max,
        reply_max_bytes=settings.max_body,
        retention_ms=settings.retention,
        dead_letter_retention_ms=settings.dead_letter_retention,
        calls=CallLimits(
            tries_max=settings.callback_attempts,
            backoff_first_ms=settings.callback_backoff_first,
            backoff_max_ms=max(settings.callback_backoff_first, settings.callback_backoff_max),
        ),
        services={name.encode(): _service_limits(own) for name, own in settings.services.items()},
    )
    lifetime_max_ms = max(TitanicLimits().key_lifetime_max_ms, settings.key_lifetime)
    return TitanicLimits(
        life=life,
        request_max_bytes=settings.max_body,
        key_lifetime_ms=settings.key_lifetime,
        key_lifetime_max_ms=lifetime_max_ms,
    )


def _service_limits(own: ServiceSettings) -> ServiceLimits:
    return ServiceLimits(
        attempt_timeout_ms=-1 if own.attempt_timeout is None else own.attempt_timeout,
        attempts_max=-1 if own.attempts is None else own.attempts,
    )


def broker_limits(settings: Settings) -> BrokerLimits:
    """A message may be as large as a job's body and its heads, or a batch of the usual size."""
    usual = BrokerLimits().message_max_bytes
    return BrokerLimits(message_max_bytes=max(usual, settings.max_body + MESSAGE_EXTRA_BYTES))
