"""A broker with a clock that the test owns; frames in and out are literal bytes of the RFCs."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence

from core.pure.broker import Broker
from core.pure.jobs import Now
from core.pure.limits import BrokerLimits
from core.pure.ports import Path, Work


class MemoryBacklog:
    """Durable work in memory: a Backlog that remembers what it was told."""

    def __init__(self) -> None:
        self.queues: defaultdict[bytes, deque[Work]] = defaultdict(deque)
        self.taken: dict[bytes, bytes] = {}  # address -> worker
        self.results: list[tuple[bytes, list[bytes]]] = []
        self.losses: list[tuple[bytes, str, bool]] = []
        self.orphans: dict[bytes, bytes] = {}  # address -> service, of what waits again
        self.partials: list[tuple[bytes, list[bytes]]] = []

    def put(self, service: bytes, address: bytes, *frames: bytes) -> None:
        """One more attempt can be taken."""
        self.queues[service].append(Work(address, frames))

    def take(self, service: bytes, worker: bytes, now: Now) -> Work | None:
        """See Backlog.take."""
        queue = self.queues.get(service)
        if not queue:
            return None
        work = queue.popleft()
        self.taken[work.address] = worker
        return work

    def done(self, address: bytes, frames: Sequence[bytes], now: Now) -> None:
        """See Backlog.done."""
        self.taken.pop(address, None)
        self.results.append((address, list(frames)))

    def lost(self, address: bytes, reason: str, now: Now, *, stated: bool = False) -> None:
        """See Backlog.lost."""
        del self.taken[address]
        self.losses.append((address, reason, stated))

    def progress(self, address: bytes, frames: Sequence[bytes], now: Now) -> None:
        """See Backlog.progress."""
        self.partials.append((address, list(frames)))

    def waiting(self, service: bytes) -> int:
        """See Backlog.waiting."""
        return len(self.queues.get(service, ()))

    def orphan(self, address: bytes) -> bytes | None:
        """See Backlog.orphan."""
        return self.orphans.get(address)


class EchoInternal:
    """Answers nothing and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, Path, list[bytes]]] = []

    def handle(self, service: bytes, path: Path, body: Sequence[bytes], now: Now) -> None:
        """See Internal.handle."""
        self.asked.append((service, path, list(body)))


class BrokerRig:
    """Peers by name; time moves only by :meth:`pass_ms`, which ticks whenever the broker asked for it."""

    def __init__(
        self, limits: BrokerLimits | None = None, *, durable: bool = False, internal: bool = False
    ) -> None:
        self.sent: list[list[bytes]] = []
        self.backlog = MemoryBacklog()
        self.internal = EchoInternal()
        self.ms = 1_000
        self.ticks_count = 0
        self.broker = Broker(
            self,
            internal=self.internal if internal else None,
            backlog=self.backlog if durable else None,
            limits=limits,
        )

    @property
    def now(self) -> Now:
        """The clocks as they stand."""
        return Now(self.ms, 1_600_000_000_000 + self.ms)

    def send(self, frames: Sequence[bytes]) -> None:
        """The broker's Outbox."""
        self.sent.append(list(frames))

    def take_sent(self) -> list[list[bytes]]:
        """What was sent since the last call."""
        sent, self.sent = self.sent, []
        return sent

    def receive(self, *frames: bytes) -> list[list[bytes]]:
        """One message in; what was sent because of it."""
        self.take_sent()
        self.broker.receive(frames, self.now)
        return self.take_sent()

    def pass_ms(self, ms: int) -> list[list[bytes]]:
        """Let time pass, tick by tick; what was sent meanwhile."""
        end_ms = self.ms + ms
        while (deadline_ms := self.broker.next_deadline()) is not None and deadline_ms <= end_ms:
            self.ms = max(self.ms, deadline_ms)
            self.broker.on_tick(self.now)
            self.ticks_count += 1
        self.ms = end_ms
        return self.take_sent()

    def count(self, name: str) -> int:
        """One counter of the broker."""
        return self.broker.counters[name]

    # -- MDP/0.1 peers

    def ready(self, worker: bytes, service: bytes = b"echo") -> list[list[bytes]]:
        """A worker registers."""
        return self.receive(worker, b"", b"MDPW01", b"\x01", service)

    def ask(self, client: bytes, body: bytes = b"body", service: bytes = b"echo") -> list[list[bytes]]:
        """A client asks."""
        return self.receive(client, b"", b"MDPC01", service, body)

    def reply(self, worker: bytes, address: bytes, body: bytes = b"done") -> list[list[bytes]]:
        """A worker replies."""
        return self.receive(worker, b"", b"MDPW01", b"\x03", address, b"", body)

    def beat(self, worker: bytes) -> list[list[bytes]]:
        """A worker heartbeats."""
        return self.receive(worker, b"", b"MDPW01", b"\x04")

    def leave(self, worker: bytes, *reason: bytes) -> list[list[bytes]]:
        """A worker disconnects."""
        return self.receive(worker, b"", b"MDPW01", b"\x05", *reason)

    def unreachable(self, identity: bytes) -> list[list[bytes]]:
        """A send to the peer failed."""
        self.take_sent()
        self.broker.unreachable(identity, self.now)
        return self.take_sent()


def request(worker: bytes, client: bytes, body: bytes = b"body") -> list[bytes]:
    """The REQUEST a 0.1 worker gets."""
    return [worker, b"", b"MDPW01", b"\x02", client, b"", body]


def reply(client: bytes, body: bytes = b"done", service: bytes = b"echo") -> list[bytes]:
    """The REPLY a 0.1 client gets."""
    return [client, b"", b"MDPC01", service, body]


def disconnect(worker: bytes) -> list[bytes]:
    """The DISCONNECT a 0.1 worker gets."""
    return [worker, b"", b"MDPW01", b"\x05"]


def heartbeat(worker: bytes) -> list[bytes]:
    """The HEARTBEAT a 0.1 worker gets."""
    return [worker, b"", b"MDPW01", b"\x04"]
