"""``titanic.store`` and ``titanic.backup`` over a real ring: parts, digests, ends, refusals."""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from core.pure import tsp
from core.pure.jobs import Job, Kind, RequestMeta, encode_meta
from core.pure.ports import Path as ReturnPath
from core.pure.store_heads import (
    BACKUP,
    IMAGES_MAX_COUNT,
    STORE,
    BackupHead,
    BackupPart,
    StoreHead,
    decode_facts,
    decode_part,
)
from core.shell import store_services
from core.shell.store_services import ImageDue, StoreServices
from gateway.composition.journal import open_journal
from gateway.composition.storefile import RingStore, needed_bytes
from titanic_store import Options, check
from titanic_store.pure.space import capacity_bytes

SMALL = Options(chunk_bytes=1 << 16, floor_chunks=16, max_bytes=8192 + (16 << 16))
DEADLINE_S = 10.0


class Served:
    """A journal on disk and the services over it, in a running loop."""

    def __init__(self, folder: Path, *, file: bool = True) -> None:
        loop = asyncio.get_running_loop()
        self.journal = open_journal(folder, SMALL, notify=lambda: self._wake(loop))
        port = RingStore(self.journal.ring) if file else None
        self.services = StoreServices(port, self.journal.barrier, self._reply)
        self._answers: asyncio.Queue[list[bytes]] = asyncio.Queue()
        self._number = 0

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_soon_threadsafe(self._synced)

    def _synced(self) -> None:
        for after_sync in self.journal.completed():
            for effect in after_sync:
                if isinstance(effect, ImageDue):
                    self.services.on_image_due(effect)

    def _reply(self, path: ReturnPath, service: bytes, frames: Sequence[bytes]) -> None:
        assert path == (b"me",)
        self._answers.put_nowait(list(frames))

    def submit(self, size: int) -> Job:
        self._number += 1
        job = Job(self._number.to_bytes(16, "big"))
        meta = encode_meta(RequestMeta(b"echo", 1_000))
        self.journal.append(Kind.REQUEST, job, meta, (b"b" * size,), ())
        return job

    async def ask(self, service: bytes, head: object | None = None) -> list[bytes]:
        body = () if head is None else (tsp.encode_head(head),)
        self.services.handle(service, (b"me",), body)
        return await asyncio.wait_for(self._answers.get(), DEADLINE_S)

    async def part(self, head: BackupHead) -> tuple[BackupPart, bytes]:
        status, raw, data = await self.ask(BACKUP, head)
        assert status == tsp.OK
        return decode_part(raw), data


def served(folder: Path, work: Callable[[Served], Awaitable[None]], *, file: bool = True) -> None:
    async def run() -> None:
        rig = Served(folder, file=file)
        try:
            await work(rig)
        finally:
            rig.journal.close()

    asyncio.run(run())


async def whole(rig: Served, first: tuple[BackupPart, bytes], limit: int) -> bytes:
    part, data = first
    image = bytearray(part.total_bytes)
    while True:
        assert len(data) <= limit
        image[part.offset : part.offset + len(data)] = data
        assert part.next_offset == part.offset + len(data) + part.zero_bytes
        if part.next_offset == part.total_bytes:
            return bytes(image)
        part, data = await rig.part(BackupHead(part.token, part.next_offset, limit))


def test_nonsense_is_refused(tmp_path: Path) -> None:
    """Heads that are none, tokens nobody gave, offsets outside: a status, and the node goes on."""

    async def work(rig: Served) -> None:
        for service in (STORE, BACKUP):
            rig.services.handle(service, (b"me",), (b"\xc1",))
            assert (await rig._answers.get())[0] == tsp.UNKNOWN
        assert (await rig.ask(BACKUP, BackupHead(b"x" * 16)))[0] == tsp.GONE
        part, _ = await rig.part(BackupHead())
        for offset, limit in ((-1, 10), (part.total_bytes + 1, 10), (0, 0), (0, -5)):
            head = BackupHead(part.token, offset, limit)
            assert (await rig.ask(BACKUP, head))[0] == tsp.UNKNOWN, head
        assert (await rig.ask(STORE, StoreHead(-7)))[0] == tsp.OK

    served(tmp_path, work)


def test_without_a_file_there_is_nothing_to_tell(tmp_path: Path) -> None:
    """503 to both."""

    async def work(rig: Served) -> None:
        assert (await rig.ask(STORE))[0] == tsp.UNAVAILABLE
        assert (await rig.ask(BACKUP))[0] == tsp.UNAVAILABLE

    served(tmp_path, work, file=False)


def test_a_backup_in_parts_is_a_clean_store_with_its_digest(tmp_path: Path) -> None:
    """Parts of any size, asked twice, while jobs go on; what was there at the first question is in it."""

    async def work(rig: Served) -> None:
        jobs = [rig.submit(3000) for _ in range(60)]
        first = await rig.part(BackupHead(limit=5000, digest=True))
        for job in jobs:
            rig.journal.append(Kind.CLOSE, job, b"", (), ())
            rig.submit(2000)
        again = await rig.part(BackupHead(first[0].token, 0, 5000))
        assert again == first
        image = await whole(rig, first, 5000)
        assert hashlib.sha256(image).digest() == first[0].sha256
        assert first[0].jobs == 60
        path = tmp_path / "copy"
        path.write_bytes(image)
        report = check(path)
        assert report.clean, report.lines()
        assert report.facts["live"] == {"request": 60}
        assert report.facts["last_sequence"] == first[0].last_seq

    served(tmp_path / "data", work)


def test_images_are_few_and_end(tmp_path: Path) -> None:
    """More than the limit is 409; the end of one makes room; what ended is 410."""

    async def work(rig: Served) -> None:
        rig.submit(10)
        parts = [(await rig.part(BackupHead()))[0] for _ in range(IMAGES_MAX_COUNT)]
        assert (await rig.ask(BACKUP))[0] == tsp.CONFLICT
        await rig.part(BackupHead(parts[1].token, end=True))
        assert (await rig.ask(BACKUP, BackupHead(parts[1].token)))[0] == tsp.GONE
        assert rig.journal.ring.pinned_turn == 1
        await rig.part(BackupHead())

    served(tmp_path, work)


def test_an_image_nobody_asks_for_is_let_go_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The room it pins comes back by itself."""
    monkeypatch.setattr(store_services, "IMAGE_IDLE_MS", 250)

    async def work(rig: Served) -> None:
        part, _ = await rig.part(BackupHead())
        async with asyncio.timeout(DEADLINE_S):
            while rig.journal.ring.pinned_turn:
                await asyncio.sleep(0)
        assert (await rig.ask(BACKUP, BackupHead(part.token)))[0] == tsp.GONE

    served(tmp_path, work)


def test_a_ring_that_needs_the_room_takes_it(tmp_path: Path) -> None:
    """The next part is 410, no job was refused, and a new image can begin."""

    async def work(rig: Served) -> None:
        part, _ = await rig.part(BackupHead(limit=100))
        for _ in range(300):
            job = rig.submit(5000)
            rig.journal.append(Kind.CLOSE, job, b"", (), (ImageDue(b"nobody's"),))
            async with asyncio.timeout(DEADLINE_S):
                while job.key in rig.journal.index:
                    await asyncio.sleep(0)
        answer = await rig.ask(BACKUP, BackupHead(part.token, part.next_offset))
        assert answer[0] == tsp.GONE
        assert rig.journal.ring.pinned_turn == 0
        await rig.part(BackupHead())

    served(tmp_path, work)


def test_facts_name_what_pins_the_tail(tmp_path: Path) -> None:
    """The oldest open job is named; the picture has a cell per chunk."""

    async def work(rig: Served) -> None:
        stuck = rig.submit(100)
        for _ in range(60):
            rig.journal.append(Kind.CLOSE, rig.submit(3000), b"", (), ())
        await rig.part(BackupHead())  # a barrier
        status, raw = await rig.ask(STORE, StoreHead(5))
        facts = decode_facts(raw)
        assert status == tsp.OK
        assert [(pin.key, pin.part, pin.offset) for pin in facts.pins] == [
            (stuck.key, "request", stuck.request_at)
        ]
        assert facts.facts["chunks"] == len(facts.chunks)
        states = [cell.state for cell in facts.chunks]
        assert states.count("head") == 1
        assert states[0] == "alive"
        assert "dead" in states

    served(tmp_path, work)


def test_the_forecast_follows_what_jobs_need(tmp_path: Path) -> None:
    """Looked at while jobs come, a small store will be full soon; while nothing comes, never."""

    async def work() -> None:
        served = Served(tmp_path)
        store = RingStore(served.journal.ring)
        assert store.forecast().per_minute is None, "not looked at for long enough"
        growth, start_ms = store._growth, time.monotonic_ns() // 1_000_000
        for second in range(0, 60, 5):
            served.submit(2_000)
            growth.look(start_ms + second * 1_000, needed_bytes(served.journal.ring.gauges))
        found = store.forecast()
        assert found.per_minute is not None
        assert 12 * 2_000 < found.per_minute < 12 * 6_000
        ring = served.journal.ring
        assert found.usable_bytes == capacity_bytes(16, ring._head.max_claim), "what admission allows (R8)"
        left = found.usable_bytes - found.needed_bytes
        assert found.full_in_ms == pytest.approx(60_000 * left / found.per_minute, abs=2)
        for second in range(60, 660, 5):
            growth.look(start_ms + second * 1_000, found.needed_bytes)
        assert store.forecast().full_in_ms is None
        served.journal.close()

    asyncio.run(work())
