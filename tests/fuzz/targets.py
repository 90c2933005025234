"""What is fuzzed: any bytes in, an answer or a counted drop out, and no exception that is not expected.

Each target takes raw bytes, so that Hypothesis (``test_targets.py``, in CI) and atheris (``run.py``, on
demand) drive the same code. Bytes become frames by :func:`frames_of`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from core.errors import PeerError
from core.pure import allow, mdp, tsp, zap, zmtp
from core.pure import peer_worker as pw
from tests.support.broker_rig import BrokerRig
from tests.support.titanic_rig import Rig

WORDS: Final = (
    b"", b"MDPC01", b"MDPW01", b"MDPC02", b"MDPW02", b"\x01", b"\x02", b"\x03", b"\x04", b"\x05", b"\x06",
    b"echo", b"mmi.service", b"mmi.services", b"mmi.workers", b"titanic.request", b"titanic.reply",
    b"titanic.close", b"titanic.submit", b"P1", b"P2", b"0" * 32, b"1.0", b"CURVE", b"titanic",
)  # fmt: skip
FIRST_WORD: Final = 256 - len(WORDS)
MESSAGES_MAX_COUNT: Final = 40


def frames_of(data: bytes) -> list[bytes]:
    """A byte of at least ``FIRST_WORD`` is a word of the protocols; any other, how many raw bytes follow."""
    frames, at = [], 0
    while at < len(data):
        size = data[at]
        at += 1
        if size >= FIRST_WORD:
            frames.append(WORDS[size - FIRST_WORD])
        else:
            frames.append(data[at : at + size % 64])
            at += size % 64
    return frames


def messages_of(data: bytes) -> list[list[bytes]]:
    """Messages, each of a few frames behind the identity of one of three peers."""
    frames = frames_of(data)
    messages: list[list[bytes]] = []
    while frames and len(messages) < MESSAGES_MAX_COUNT:
        count = len(frames[0]) % 8 + 1
        peer = b"peer-%d" % (len(frames) % 3)
        messages.append([peer, *frames[1 : 1 + count]])
        frames = frames[1 + count :]
    return messages


def broker(data: bytes) -> None:
    """Each message is answered, counted, or the heartbeat or goodbye of somebody; time passes between."""
    rig = BrokerRig(durable=len(data) % 2 == 0, internal=len(data) % 3 == 0)
    rig.backlog.put(b"echo", b"P1", b"body")
    for frames in messages_of(data):
        before = dict(rig.broker.counters)
        sent = rig.receive(*frames)
        moved = {name for name, count in rig.broker.counters.items() if count != before[name]} - {"received"}
        quiet = frames[1:4] in ([b"", b"MDPW01", b"\x04"], [b"", b"MDPW01", b"\x05"]) or frames[1:3] in (
            [b"MDPW02", b"\x05"],
            [b"MDPW02", b"\x06"],
        )
        assert moved or sent or quiet, frames
        rig.pass_ms(400)


def readers(data: bytes) -> None:
    """No reader raises anything but PeerError; the explanation is one line."""
    frames = frames_of(data)
    for read in (mdp.parse, mdp.parse_client_reply, mdp.parse_for_worker):
        try:
            read(frames)
        except PeerError:
            continue
    try:
        path = mdp.unpack_path(data)
    except PeerError:
        path = ()
    if path and all(path):
        assert mdp.unpack_path(mdp.pack_path(path)) == path
    assert "\n" not in mdp.explain(frames)


def worker(data: bytes) -> None:
    """Our worker takes anything from a broker; it runs one request at a time."""
    peer, busy = pw.WorkerPeer(b"echo"), False
    peer.open(0)
    for number, (_, *frames) in enumerate(messages_of(data)):
        for action in peer.receive(frames, number * 100):
            if isinstance(action, pw.Run):
                assert not busy
                busy = True
        if busy and number % 3 == 0:
            peer.finished([b"done"], number * 100 + 50)
            busy = False


def titanic(data: bytes) -> None:
    """Every ``titanic.*`` question gets exactly one answer, with a status of three digits."""
    rig = Rig()
    for _, service, *body in (message for message in messages_of(data) if len(message) > 1):
        count = len(rig.answers)
        if not service.startswith(b"titanic."):
            continue
        rig.ask(service, *body)
        rig.sync()
        if len(rig.answers) == count:
            continue  # a wait: answered when its time is over
        assert tsp.status_of(rig.answers[-1][2]).isdigit()


def admission(data: bytes) -> None:
    """No text becomes a list by mistake, and no ZAP request is accepted that is not on it."""
    try:
        allowed = allow.parse(data.decode("utf-8", "replace"))
    except allow.AllowListError:
        allowed = allow.AllowList()
    try:
        reply = zap.answer([b"peer", b"", *frames_of(data)], allowed)
    except PeerError:
        return
    assert reply[4] == b"400" or reply[6].decode() in allowed.peers


def wire(data: bytes) -> None:
    """Any bytes are messages or a fault, and what is held of them is bounded; at both ends of the wire."""
    is_router = bool(data) and data[0] < 128
    role, other = (zmtp.ROUTER, b"DEALER") if is_router else (zmtp.dealer(b"lucy"), b"ROUTER")
    one = zmtp.Wire(b"\0peer", message_max_bytes=1_000, frames_max=8, role=role)
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x01NULL" + bytes(48)
    ready = b"\x04\x1c\x05READY\x0bSocket-Type\0\0\0\x06" + other
    stream = (b"", greeting, greeting + ready)[len(data) % 3] + data
    step = data[0] % 50 + 1 if data else 1
    for at in range(0, len(stream), step):
        for message in one.receive(stream[at : at + step]):
            assert not is_router or message[0] == one.identity
            assert len(message) > is_router
        if one.broken is not None:
            return
        assert sum(map(len, one.out)) < 200 + 30 * step
        one.out.clear()


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "broker": broker,
    "readers": readers,
    "worker": worker,
    "titanic": titanic,
    "admission": admission,
    "wire": wire,
}
