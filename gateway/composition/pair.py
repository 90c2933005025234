"""One node of a pair as a process: settings, journal, files that are set aside, the node itself."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from core.errors import JournalFailedError
from core.pure.fold import Fold
from core.pure.peer import Record
from core.pure.twin import TwinOptions
from core.shell.node import NodeOptions
from core.shell.warming import WaitingRoom
from gateway.composition import telemetry
from gateway.composition.collector import calm_collector
from gateway.composition.journal import DATA_FILE
from gateway.composition.pair_host import MergeRow
from gateway.composition.pair_node import (
    PairNode,
    PairOptions,
    link_message_max_bytes,
    run_pair_node,
    write_aside,
)
from gateway.composition.pair_repair import Repair
from gateway.composition.replay import Replay, opened
from gateway.composition.replica import BACKUP, PRIMARY, SINGLE, WAITS, PairJournal
from gateway.composition.settings import Settings, SettingsError
from gateway.composition.sizing import Bell, Progress, Ready, Trace, broker_limits, limits, store_options
from titanic_store import DamagedStoreError, Flag, Foreign, Options, StoreError, open_ring
from titanic_store.pure.superblock import Superblock
from titanic_store.shell.opening import peek
from titanic_store.shell.replacing import cut_at_hole, mend_hole, replace_store

log = logging.getLogger("titanic.pair")
ASIDE_FOLDER: Final = "aside"
MERGED_FOLDER: Final = "merged"


class Files:
    """The store's file of one node, and the folder for what is set aside (P6)."""

    def __init__(self, data: Path, options: Options, notify: Callable[[], None]) -> None:
        self._path = data / DATA_FILE
        self._aside = data / ASIDE_FOLDER
        self._merged = data / MERGED_FOLDER
        self._options = options
        self._notify = notify

    def open(self, *, accept_loss: bool, progress: Progress | None = None) -> PairJournal:
        """The journal in the file. Raises the store's errors.

        Damage that the peer can mend is cut out: the node starts as one that must catch up first (R2).
        """
        try:
            return self._open(accept_loss, progress)
        except DamagedStoreError as damage:
            if accept_loss or not self._peer_has_all():
                raise
            self._forget_damaged(damage)
        return self._open(False, progress)

    def _open(self, accept_loss: bool, progress: Progress | None) -> PairJournal:
        fold = Fold()
        ring = open_ring(
            self._path,
            fold,
            self._options,
            accept_loss=accept_loss,
            notify=self._notify,
            progress=progress,
        )
        try:
            return PairJournal(ring, fold.notes)
        except DamagedStoreError:
            ring.abandon()
            raise

    def peer_has(self, damage: DamagedStoreError) -> bool:
        """Whether the superblock says that the peer had the record that is missing here."""
        block = self._block()
        if block is None or block.role == SINGLE or damage.last_seq is None:
            return False
        return damage.last_seq < block.peer_seq

    def mend(self, damage: DamagedStoreError, record: Record) -> bool:
        """Put the peer's record where ours is missing; False if it is another one."""
        return mend_hole(self._path, damage, Foreign(*record))

    def _block(self) -> Superblock | None:
        try:
            return peek(self._path)
        except StoreError:
            return None

    def _peer_has_all(self) -> bool:
        """Whether the superblock says that nothing was acknowledged by this node alone."""
        block = self._block()
        return (
            block is not None
            and block.role != SINGLE
            and not Flag(block.flags) & (Flag.PAIR_NEW | Flag.PEER_OUTDATED | Flag.UNSHARED)
        )

    def _forget_damaged(self, damage: DamagedStoreError) -> None:
        """The file is kept as it is; the log is cut at the hole, or begins anew if that does not do."""
        kept = self._keep_name("damaged")
        shutil.copyfile(self._path, kept)
        lost = Flag.OUTDATED | Flag.HOLED
        if cut_at_hole(self._path, damage, set_flags=lost, clear_flags=Flag.LAST_ACTIVE):
            try:
                self._open(False, None).close()
            except DamagedStoreError as error:
                damage = error
            else:
                log.error("%s; the log is cut there, the rest comes from the peer; kept as %s", damage, kept)
                return
        block = peek(self._path)
        self._replace(block.epoch, Flag(block.flags) & ~Flag.LAST_ACTIVE | lost, block.role, block.id_secret)
        log.error("%s; everything comes from the peer; the file is kept as %s", damage, kept)

    def _keep_name(self, what: str) -> Path:
        self._aside.mkdir(exist_ok=True)
        return self._aside / f"{DATA_FILE}.{what}-{time.time_ns() // 1_000_000}"

    def _replace(self, epoch: int, flags: Flag, role: int, id_secret: bytes, first_seq: int = 1) -> Path:
        """The file is set aside, as what is returned; an empty one is in its place."""
        kept = self._keep_name("whole")
        replace_store(
            self._path, self._options, aside=kept,
            first_seq=first_seq, id_secret=id_secret, epoch=epoch, flags=flags & ~Flag.CLEAN, role=role,
        )  # fmt: skip
        return kept

    def again(self, journal: PairJournal, first_seq: int, id_secret: bytes) -> PairJournal:
        """The file is set aside whole; an empty one with its role and flags takes its place."""
        flags, epoch, role = Flag(journal.flags), journal.epoch, journal.ring.role
        journal.close()
        kept = self._replace(epoch, flags, role, id_secret, first_seq)
        log.warning("the store was set aside as %s; a full copy follows", kept)
        return self._open(False, None)

    def aside(self, journal: PairJournal, seq: int) -> None:
        """Records behind ``seq`` are in a file of their own before the ring forgets them."""
        self._aside.mkdir(exist_ok=True)
        path = write_aside(self._aside, journal, seq)
        if path is not None:
            log.warning("records after %d were set aside in %s", seq, path)

    def report(self, rows: Sequence[MergeRow], epoch: int) -> None:
        """A line per record that a merge took in, durably: job, service, what was done (P7)."""
        self._merged.mkdir(exist_ok=True)
        path = self._merged / f"epoch-{epoch}.jsonl"
        with path.open("a", encoding="utf-8") as file:
            for row in rows:
                line = {
                    "job": row.key.hex(),
                    "service": row.service.decode("utf-8", "backslashreplace"),
                    "done": row.outcome.value,
                }
                file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
        log.warning("the jobs of a merge are named in %s", path)


def pair_options(settings: Settings) -> PairOptions:
    """What the flags of a pair say. Raises SettingsError if one is missing."""
    if settings.peer_bind is None or settings.peer is None:
        raise SettingsError(f"--role {settings.role} needs --peer-bind and --peer")
    if settings.peer == settings.peer_bind:
        raise SettingsError(
            f"--peer {settings.peer} is where this node itself listens: name the other node's"
        )
    if settings.fsync == "never":
        raise SettingsError("a pair counts on its disks: --fsync never is for single nodes")
    twin = TwinOptions(
        backup=settings.role == "backup",
        sync=settings.replication == "sync",
        serve_alone=settings.alone == "serve",
        nodes=settings.broker,
    )
    return PairOptions(bind=settings.peer_bind, peer=settings.peer, twin=twin)


async def _opened(
    files: Files, settings: Settings, pair: PairOptions, progress: Progress | None
) -> tuple[PairJournal, str]:
    """The journal, and the endpoint to serve at; who asks meanwhile is told how far it is (B3).

    A hole in the log of a node that went on alone is filled from the peer, which may have to be waited for.
    """
    replay = Replay(settings.data / DATA_FILE, settings.fsync, settings.max_body, role="passive")
    endpoint = settings.broker
    while True:
        try:
            return await opened(
                lambda: files.open(accept_loss=settings.accept_loss, progress=progress or replay.progress),
                replay,
                endpoint,
                settings.curve_dir,
            )
        except DamagedStoreError as damage:
            if settings.accept_loss or not files.peer_has(damage):
                raise
            endpoint = await _mended(files, damage, settings, pair, replay)


async def _mended(
    files: Files, damage: DamagedStoreError, settings: Settings, pair: PairOptions, replay: Replay
) -> str:
    """The hole is filled; the endpoint to serve at. Raises ``damage`` if the peer cannot help."""
    assert damage.last_seq is not None, "the peer has it"
    sequence = damage.last_seq + 1
    replay.waits_for = f"damaged: waits for record {sequence} from the peer at {pair.peer}"
    log.error("%s; this node went on alone, but its peer at %s had that record", damage.reason, pair.peer)
    room = WaitingRoom(replay.hello, settings.curve_dir)
    try:
        endpoint = room.open(settings.broker)
        repair = Repair(
            pair.bind, pair.peer,
            message_max_bytes=link_message_max_bytes(broker_limits(settings)), curve=settings.curve_dir,
        )  # fmt: skip
        record = await repair.ask(sequence)
    finally:
        room.close()
    replay.waits_for = ""
    if record is None or not files.mend(damage, record):
        log.error("the peer does not have record %d either", sequence)
        raise damage
    log.warning("record %d was damaged here, and is mended from the peer", sequence)
    return endpoint


async def run_paired(
    settings: Settings, *, trace: Trace | None, ready: Ready, progress: Progress | None = None
) -> int:
    """Run a node of a pair until SIGTERM, SIGINT or a failed journal; the exit code."""
    options = pair_options(settings)
    bell = Bell()
    files = Files(settings.data, store_options(settings), bell.ring)
    journal, endpoint = await _opened(files, settings, options, progress)
    role = BACKUP if options.twin.backup else PRIMARY
    if journal.ring.role != role:
        journal.ring.set_role_flags(role=role, token=WAITS)
    node = PairNode(
        journal,
        NodeOptions(
            broker=endpoint,
            version=version("titanic-jobs"),
            titanic=limits(settings),
            spans=telemetry.node_spans(settings),
            limits=broker_limits(settings),
            curve=settings.curve_dir,
            by_libzmq=settings.zmtp == "libzmq",
        ),
        options,
        again=files.again,
        aside=files.aside,
        report=files.report,
        trace=trace,
    )

    def started(endpoint: str) -> None:
        facts: dict[str, Any] = {
            "broker": endpoint,
            "data": str(settings.data),
            "durability": journal.durability,
            "jobs": len(journal.index),
            "role": settings.role,
            "peer_bind": node.peer_endpoint,
            "peer": settings.peer,
            "link": "encrypted" if node.link_encrypted else "plain",
        }
        ready(facts)

    calm_collector()
    try:
        return await run_pair_node(node, bind_notify=bell.bind, ready=started)
    finally:
        await asyncio.sleep(0)
        try:
            node.host.journal.close()
        except JournalFailedError as error:
            log.error("the store was not closed in order: %s", error)
