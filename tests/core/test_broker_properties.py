"""Whatever peers send and whenever: nothing raises, nothing is lost, nobody has two requests at a time."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
)

from core.pure.limits import BrokerLimits
from tests.support.broker_rig import BrokerRig

LIMITS = BrokerLimits(
    request_expiry_ms=9_000, queued_max_count=6, queued_per_client_max_count=4, attempts_max_count=2
)
EXPIRY_MS, SLOT_MS = 7_500, 313
WORKERS = [b"W%d" % number for number in range(5)]
CLIENTS = [b"C%d" % number for number in range(3)]
SERVICES = [b"echo", b"other"]

headers = st.sampled_from([b"", b"MDPC01", b"MDPW01", b"MDPC02", b"MDPW02"])
commands = st.sampled_from([b"\x01", b"\x02", b"\x03", b"\x04", b"\x05", b"\x06", b"\x07"])
services = st.sampled_from([b"echo", b"mmi.service", b"mmi.services", b"mmi.x", b"titanic.request"])
anything = headers | commands | services | st.sampled_from([b"P1", b"P2", b"P3"]) | st.binary(max_size=300)
messages = st.tuples(
    st.lists(anything, max_size=7),
    st.sampled_from([b"P1", b"P2", b"P3"]),
).map(lambda pair: [pair[1], *pair[0]] if pair[0] else [])


@given(st.lists(messages, max_size=30), st.booleans(), st.booleans())
def test_any_frames_get_an_answer_or_are_counted(
    script: list[list[bytes]], durable: bool, internal: bool
) -> None:
    """Each message moves some counter besides ``received`` or keeps a worker alive; none raises."""
    rig = BrokerRig(durable=durable, internal=internal)
    rig.backlog.put(b"echo", b"P1", b"body")
    for frames in script:
        before = dict(rig.broker.counters)
        sent = rig.receive(*frames)
        after = rig.broker.counters
        moved = {name for name, count in after.items() if count != before[name]} - {"received"}
        assert after["received"] == before["received"] + 1
        heartbeat = frames[1:] in ([b"", b"MDPW01", b"\x04"], [b"MDPW02", b"\x05"])
        goodbye = frames[1:4] == [b"", b"MDPW01", b"\x05"] or frames[1:3] == [b"MDPW02", b"\x06"]
        assert moved or sent or heartbeat or goodbye, frames
        rig.pass_ms(500)


class Broker(RuleBasedStateMachine):
    """A model that sees only what is sent: who has what, who is idle and since when."""

    addresses = Bundle("addresses")

    @initialize()
    def start(self) -> None:
        self.rig = BrokerRig(LIMITS, durable=True)
        self.registered: dict[bytes, tuple[bytes, int]] = {}  # worker -> service, version
        self.idle: defaultdict[bytes, list[bytes]] = defaultdict(list)
        self.busy: dict[bytes, tuple[bytes, bytes]] = {}  # worker -> address, body
        self.seen: dict[bytes, int] = {}
        self.asked = 0
        self.answered: set[bytes] = set()
        self.abandoned: set[bytes] = set()
        self.put: set[bytes] = set()

    # -- watching

    def watch(self, sent: list[list[bytes]], actor: bytes = b"") -> None:
        """Follow every frame the broker sent; ``actor`` is a worker that has just become free."""
        for frames in sent:
            new = frames[1] in (b"MDPC02", b"MDPW02")
            peer, rest = frames[0], frames[1:] if new else frames[frames.index(b"") + 1 :]
            header, what = rest[0], rest[1]
            if header.startswith(b"MDPC"):
                body = rest[-1]
                if header == b"MDPC01" or what == b"\x03":
                    assert body not in self.answered, "answered twice"
                    self.answered.add(body)
            elif what == b"\x02":
                self.watch_request(peer, rest, actor)
                actor = b"" if peer == actor else actor
            elif what == (b"\x05" if header == b"MDPW01" else b"\x06"):
                self.gone(peer)
            else:
                assert peer in self.registered, "a heartbeat to nobody"
        if actor and actor in self.registered and actor not in self.busy:
            self.idle[self.registered[actor][0]].append(actor)

    def watch_request(self, worker: bytes, rest: list[bytes], actor: bytes) -> None:
        """At most one request at a time, and the least recently used worker first."""
        assert worker in self.registered, "a request to nobody"
        assert worker not in self.busy, "two requests at a time"
        assert (rest[0] == b"MDPW02") == (self.registered[worker][1] == 2), "the other version"
        line = self.idle[self.registered[worker][0]]
        if worker != actor:
            assert line[:1] == [worker], "not the least recently used"
            del line[0]
        self.busy[worker] = (rest[2], rest[4])

    def gone(self, worker: bytes) -> None:
        """The worker is registered no more."""
        service, _ = self.registered.pop(worker, (b"", 0))
        self.busy.pop(worker, None)
        if worker in self.idle[service]:
            self.idle[service].remove(worker)

    def say(self, worker: bytes, old: list[bytes], new: list[bytes]) -> list[list[bytes]]:
        """A command in the version the worker registered with."""
        version = self.registered.get(worker, (b"", 1))[1]
        frames = [b"", b"MDPW01", *old] if version == 1 else [b"MDPW02", *new]
        return self.rig.receive(worker, *frames)

    # -- peers

    @rule(worker=st.sampled_from(WORKERS), service=st.sampled_from(SERVICES), version=st.sampled_from([1, 2]))
    def ready(self, worker: bytes, service: bytes, version: int) -> None:
        frames = [b"", b"MDPW01", b"\x01", service] if version == 1 else [b"MDPW02", b"\x01", service]
        again = worker in self.registered
        if again:
            self.gone(worker)
            self.watch(self.rig.receive(worker, *frames))
            return
        self.registered[worker] = (service, version)
        self.seen[worker] = self.rig.ms
        self.watch(self.rig.receive(worker, *frames), actor=worker)

    @rule(
        client=st.sampled_from(CLIENTS),
        service=st.sampled_from(SERVICES),
        version=st.sampled_from([1, 2]),
        envelope=st.sampled_from([[], [b"7"]]),
    )
    def ask(self, client: bytes, service: bytes, version: int, envelope: list[bytes]) -> None:
        self.asked += 1
        body = b"request-%d" % self.asked
        if version == 1:
            self.watch(self.rig.receive(client, *envelope, b"", b"MDPC01", service, body))
        else:
            self.watch(self.rig.receive(client, b"MDPC02", b"\x01", service, body))

    @precondition(lambda self: self.busy)
    @rule(pick=st.integers(min_value=0, max_value=4), partial=st.booleans())
    def reply(self, pick: int, partial: bool) -> None:
        worker = sorted(self.busy)[pick % len(self.busy)]
        address, body = self.busy[worker]
        self.seen[worker] = self.rig.ms
        if partial and self.registered[worker][1] == 2:
            self.watch(self.rig.receive(worker, b"MDPW02", b"\x03", address, b"", b"half"))
            return
        del self.busy[worker]
        sent = self.say(worker, [b"\x03", address, b"", body], [b"\x04", address, b"", body])
        self.watch(sent, actor=worker)

    @rule(worker=st.sampled_from(WORKERS), stray=st.sampled_from([b"C0", b"C1", b"job-0", b"job-1"]))
    def reply_out_of_turn(self, worker: bytes, stray: bytes) -> None:
        if worker in self.busy and self.busy[worker][0] == stray:
            return
        sent = self.say(worker, [b"\x03", stray, b"", b"stray"], [b"\x04", stray, b"", b"stray"])
        self.gone(worker)
        self.watch(sent)

    @rule(worker=st.sampled_from(WORKERS))
    def beat(self, worker: bytes) -> None:
        self.seen[worker] = self.rig.ms
        self.watch(self.say(worker, [b"\x04"], [b"\x05"]))

    @rule(worker=st.sampled_from(WORKERS), how=st.sampled_from(["leave", "unreachable", "garbage"]))
    def lose(self, worker: bytes, how: str) -> None:
        version = self.registered.get(worker, (b"", 1))[1]
        self.gone(worker)
        if how == "unreachable":
            self.watch(self.rig.unreachable(worker))
        elif how == "garbage":
            self.watch(self.rig.receive(worker, b"garbage"))
        else:
            frames = [b"", b"MDPW01", b"\x05"] if version == 1 else [b"MDPW02", b"\x06"]
            self.watch(self.rig.receive(worker, *frames))

    # -- durable work

    @rule(target=addresses, service=st.sampled_from(SERVICES))
    def submit(self, service: bytes) -> bytes:
        address = b"job-%d" % len(self.put)
        self.put.add(address)
        self.rig.backlog.put(service, address, address)
        self.rig.take_sent()
        self.rig.broker.wake(service, self.rig.now)
        self.watch(self.rig.take_sent())
        return address

    @rule(address=consumes(addresses))
    def abandon(self, address: bytes) -> None:
        if self.rig.backlog.taken.pop(address, None) is not None:
            self.abandoned.add(address)
        self.rig.take_sent()
        self.rig.broker.abandon(address, self.rig.now)
        self.watch(self.rig.take_sent())

    # -- time

    @rule(ms=st.sampled_from([1, 400, 2_500, 9_000]) | st.integers(min_value=0, max_value=9_000))
    def wait(self, ms: int) -> None:
        sent = self.rig.pass_ms(ms)
        for worker in [worker for line in self.idle.values() for worker in line]:
            silent_ms = self.rig.ms - self.seen[worker]
            if worker in self.rig.broker._workers:
                assert silent_ms < EXPIRY_MS + SLOT_MS, "a silent worker was kept"
            else:
                assert silent_ms >= EXPIRY_MS, "a worker was ended too early"
                self.watch([frames for frames in sent if frames[0] == worker])
                sent = [frames for frames in sent if frames[0] != worker]
                self.gone(worker)
        self.watch(sent)

    # -- what always holds

    @invariant()
    def the_broker_agrees(self) -> None:
        """Its registrations, idle workers and waiting requests are those the frames told of."""
        broker = self.rig.broker
        assert set(broker._workers) == set(self.registered)
        for row in broker.services():
            assert row.workers == sum(service == row.name for service, _ in self.registered.values())
            assert row.idle == len(self.idle[row.name])
            assert row.workers or row.requests, "an empty service is remembered"
            assert not (row.idle and (row.requests or row.jobs)), "work waits beside an idle worker"
        assert (broker.next_deadline() is None) == (
            not self.registered and not broker.gauges["requests_waiting"]
        )

    @invariant()
    def no_request_is_lost(self) -> None:
        """Answered, at a worker, waiting, or in exactly one counter."""
        counters, gauges = self.rig.broker.counters, self.rig.broker.gauges
        at_workers = sum(body.startswith(b"request-") for _, body in self.busy.values())
        dropped = sum(counters[f"requests_{how}"] for how in ("refused", "expired", "given_up"))
        assert self.asked == len(self.answered) + at_workers + gauges["requests_waiting"] + dropped
        assert self.asked == counters["requests"]
        assert (gauges["requests_waiting"] == 0) == (gauges["requests_waiting_bytes"] == 0)

    @invariant()
    def no_durable_work_is_lost(self) -> None:
        """Every attempt waits, is at one worker, or has ended in one of three ways (or came late)."""
        backlog = self.rig.backlog
        waiting = [work.address for queue in backlog.queues.values() for work in queue]
        held = [address for address, body in self.busy.values() if body.startswith(b"job-")]
        lost = [address for address, _, _ in backlog.losses]
        done = [
            address for address, _ in backlog.results if address not in lost and address not in self.abandoned
        ]
        assert sorted([*waiting, *held, *lost, *done, *self.abandoned]) == sorted(self.put)
        assert set(backlog.taken) == set(held)


Broker.TestCase.settings = settings(
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
TestBrokerInvariants = Broker.TestCase
