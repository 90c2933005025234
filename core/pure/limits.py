"""The limits of the broker, checked when built."""

from __future__ import annotations

import msgspec


class BrokerLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What a broker allows; ValueError if the numbers cannot work together."""

    heartbeat_ms: int = 2500
    liveness_count: int = 3  # an idle worker silent for this many heartbeats has expired
    request_expiry_ms: int = 60_000  # of a transient request whose service has no worker
    attempts_max_count: int = 3  # of a transient request; each loses a worker
    queued_max_count: int = 100_000  # transient requests that wait, all services together
    queued_max_bytes: int = 256 << 20
    queued_per_client_max_count: int = 10_000  # in one service
    workers_max_count: int = 20_000
    frames_max_count: int = 1_024  # in one message
    message_max_bytes: int = 64 << 20
    service_max_bytes: int = 255
    reason_max_bytes: int = 1_024  # of the text a worker adds to DISCONNECT
    late_max_count: int = 10_000  # workers whose attempt is over and may still bring its reply

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.heartbeat_ms < 8:
            raise ValueError("heartbeat_ms must be at least 8: eight slots make an interval")
        if self.liveness_count < 2:
            raise ValueError("liveness_count must be at least 2: one late heartbeat is not a death")

    @property
    def expiry_ms(self) -> int:
        """How long an idle worker may be silent."""
        return self.heartbeat_ms * self.liveness_count

    @property
    def slot_ms(self) -> int:
        """Grain of the broker's look at its workers: deaths are seen at most this much late."""
        return self.heartbeat_ms // 8
