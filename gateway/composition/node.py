"""One node process, or one separate Titanic service: settings, store and core put together."""

from __future__ import annotations

import logging
from collections.abc import Coroutine
from importlib.metadata import version
from typing import Any

from core.errors import JournalFailedError
from core.shell.curve import load_client
from core.shell.node import NodeOptions, run_node
from core.shell.standalone import run_service
from gateway.composition import telemetry
from gateway.composition.collector import calm_collector
from gateway.composition.journal import DATA_FILE, RingJournal, open_journal
from gateway.composition.pair import run_paired
from gateway.composition.replay import Replay, opened
from gateway.composition.settings import Settings, SettingsError
from gateway.composition.sizing import (
    RECORD_EXTRA_BYTES,
    Bell,
    Progress,
    Ready,
    Trace,
    broker_limits,
    limits,
    store_options,
)
from gateway.composition.storefile import RingStore
from gateway.pure import units

log = logging.getLogger("titanic.node")


def open_store(settings: Settings, progress: Progress | None) -> tuple[RingJournal, Bell]:
    """The journal, made if it is missing, and the bell its commits ring.

    Raises SettingsError, and the store's errors when it is in use, damaged or not writable.
    """
    bell = Bell()
    journal = open_journal(
        settings.data,
        store_options(settings),
        accept_loss=settings.accept_loss,
        notify=bell.ring,
        progress=progress,
    )
    fits_bytes = journal.ring.max_record_bytes - RECORD_EXTRA_BYTES
    if fits_bytes < settings.max_body:
        journal.close()
        raise SettingsError(
            f"--max-body {units.format_size(settings.max_body)} does not fit: the store in {settings.data}"
            f" was made for bodies up to {units.format_size(fits_bytes >> 20 << 20)}"
        )
    return journal, bell


async def run(
    settings: Settings, *, trace: Trace | None, ready: Ready, progress: Progress | None = None
) -> int:
    """Run a node until SIGTERM, SIGINT or a failed journal; the exit code."""
    if settings.role != "single":
        return await run_paired(settings, trace=trace, ready=ready, progress=progress)
    if settings.peer is not None or settings.peer_bind is not None:
        raise SettingsError("--peer and --peer-bind are for a node of a pair: say --role primary or backup")
    replay = Replay(settings.data / DATA_FILE, settings.fsync, settings.max_body)
    (journal, bell), endpoint = await opened(
        lambda: open_store(settings, progress or replay.progress), replay, settings.broker, settings.curve_dir
    )
    options = NodeOptions(
        broker=endpoint,
        version=version("titanic-jobs"),
        titanic=limits(settings),
        spans=telemetry.node_spans(settings),
        limits=broker_limits(settings),
        curve=settings.curve_dir,
        by_libzmq=settings.zmtp == "libzmq",
    )
    return await _closing(
        journal,
        run_node(
            journal,
            journal,
            options,
            id_secret=journal.id_secret,
            bind_notify=bell.bind,
            store=RingStore(journal.ring),
            trace=trace,
            ready=lambda endpoint: ready(_facts(settings, journal, endpoint)),
        ),
    )


async def run_separate(
    settings: Settings, *, trace: Trace | None, ready: Ready, progress: Progress | None = None
) -> int:
    """Run Titanic as a process of its own at somebody's broker; the exit code."""
    journal, bell = open_store(settings, progress)
    return await _closing(
        journal,
        run_service(
            settings.broker,
            journal,
            journal,
            id_secret=journal.id_secret,
            bind_notify=bell.bind,
            store=RingStore(journal.ring),
            version=version("titanic-jobs"),
            limits=limits(settings),
            keys=load_client(settings.curve_dir) if settings.curve_dir is not None else None,
            by_libzmq=settings.zmtp == "libzmq",
            trace=trace,
            ready=lambda endpoint: ready(_facts(settings, journal, endpoint)),
        ),
    )


async def _closing(journal: RingJournal, work: Coroutine[Any, Any, int]) -> int:
    """Run ``work``, then let go of the store; a store that cannot be closed in order is a failure (R11)."""
    calm_collector()
    code = 1
    try:
        code = await work
    finally:
        try:
            journal.close()
        except JournalFailedError as error:
            log.error("the store was not closed in order: %s", error)
            code = code or 1
    return code


def _facts(settings: Settings, journal: RingJournal, endpoint: str) -> dict[str, Any]:
    return {
        "broker": endpoint,
        "data": str(settings.data),
        "durability": journal.durability,
        "jobs": len(journal.index),
    }
