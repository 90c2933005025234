"""Paused services: a SETTING record each, in force until it is closed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import blake2s
from typing import Final

from core.pure.events import EventLog, Step
from core.pure.jobs import KEY_BYTES, CloseMeta, Job, Kind, Now, SettingMeta, State, encode_meta
from core.pure.ports import Advance, Effect, Port, Wake
from core.pure.queues import ServiceQueue

PAUSED: Final = "paused"


def setting_key(name: str, service: bytes) -> bytes:
    """The key of the SETTING record."""
    return blake2s(name.encode() + b"\0" + service, digest_size=KEY_BYTES, person=b"setting").digest()


class Pauses:
    """Which services hand out no work. ``queue`` gives the queue of a service, made if new."""

    def __init__(self, port: Port, events: EventLog, queue: Callable[[bytes], ServiceQueue]) -> None:
        self._port = port
        self._events = events
        self._queue = queue
        self._entries: dict[bytes, Job] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def restore(self, index: Mapping[bytes, Job], settings: Mapping[bytes, SettingMeta]) -> None:
        """Take over the settings found in the journal that are still in force."""
        for key, setting in settings.items():
            entry = index.get(key)
            if entry is not None and setting.name == PAUSED:
                queue = self._queue(setting.service)
                queue.paused = True
                entry.service = queue.name
                self._entries[queue.name] = entry

    def pause(self, service: bytes, answer: Effect, now: Now) -> None:
        """No attempt starts from now on; ``answer`` leaves once that is durable. JournalFullError."""
        if service in self._entries:
            self._port.barrier((answer,))
            return
        entry = Job(setting_key(PAUSED, service), state=State.BINDING)
        meta = SettingMeta(PAUSED, service, now.wall_ms)
        number = self._port.append(Kind.SETTING, entry, encode_meta(meta), (), (answer,))
        queue = self._queue(service)
        queue.paused = True
        entry.service = queue.name
        self._entries[queue.name] = entry
        self._events.add(number, Step.PAUSED, entry, now.wall_ms)

    def resume(self, service: bytes, answer: Effect, now: Now) -> None:
        """Attempts start again once that is durable; ``answer`` follows."""
        entry = self._entries.pop(service, None)
        if entry is None:
            self._port.barrier((answer,))
            return
        meta = encode_meta(CloseMeta(now.wall_ms))
        after_sync = (Advance(entry, State.CLOSING), answer)
        number = self._port.append(Kind.CLOSE, entry, meta, (), after_sync)
        self._events.add(number, Step.RESUMED, entry, now.wall_ms)

    def resumed(self, service: bytes) -> ServiceQueue | None:
        """The resume is durable; the queue, or None if the service was paused again meanwhile."""
        if service in self._entries:
            return None
        queue = self._queue(service)
        queue.paused = False
        self._port.perform(Wake(service))
        return queue
