"""ZMTP, the wire beneath MDP, as our ROUTER and DEALER speak it: RFCs 13, 15, 23, 37 (1.0 to 3.1), NULL only.

Bytes in, messages out, and the little the protocol itself has to say in :attr:`Wire.out`::

    3.x   greeting   | ff 00*7 01 7f | major minor | mechanism 20 bytes | as-server | 00*31 |
          frame      | flags u8 | size u8, or u64 with LONG | body |     flags: 1 MORE, 2 LONG, 4 COMMAND
          command    | size u8 | name | data |                           READY, PING, PONG, ERROR
    2.0   greeting   | ff 00*7 01 7f | 01 | socket type | then one frame with the identity
    1.0   frame      | size u8, or ff and u64 | flags u8 | body |        size counts flags; first the identity

Both sides begin with the ten bytes of the signature, which an 1.0 peer reads as an empty identity; what
follows depends on what the other says (RFC 23, "backwards interoperability").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from core.errors import PeerError

MORE: Final = 1
LONG: Final = 2
COMMAND: Final = 4

SIGNATURE: Final = b"\xff" + bytes(7) + b"\x01\x7f"
MAJOR: Final = b"\x03"
MINOR: Final = b"\x01"
MECHANISM: Final = b"NULL".ljust(20, b"\0")
GREETING_BYTES: Final = 64
NAME_MAX_BYTES: Final = 255
READY_MAX_BYTES: Final = 4_096  # of the command that ends the handshake, properties included
COMMAND_MAX_BYTES: Final = 65_536
CONTEXT_MAX_BYTES: Final = 16  # of a PING
GATHER_MIN_BYTES: Final = 32_768  # a frame that is longer is put together once, when its last byte is there

_READY_NAME: Final = b"\x05READY"
_ERROR_NAME: Final = b"\x05ERROR"
_PING_NAME: Final = b"\x04PING"
_PONG_NAME: Final = b"\x04PONG"
_LAST: Final = tuple(bytes((0, size)) for size in range(256))
_MORE: Final = tuple(bytes((MORE, size)) for size in range(256))


def command(body: bytes) -> bytes:
    """A command as a frame."""
    size = len(body)
    head = bytes((COMMAND, size)) if size < 256 else bytes((COMMAND | LONG,)) + size.to_bytes(8, "big")
    return head + body


def _property(name: bytes, value: bytes) -> bytes:
    return bytes((len(name),)) + name + len(value).to_bytes(4, "big") + value


def _ready(socket_type: bytes, name: bytes) -> bytes:
    return command(_READY_NAME + _property(b"Socket-Type", socket_type) + _property(b"Identity", name))


def ping(ttl_ms: int) -> bytes:
    """A PING; the peer may give us up after ``ttl_ms`` of silence, 0: it is not told when."""
    return command(_PING_NAME + (ttl_ms // 100).to_bytes(2, "big"))


class Role(NamedTuple):
    """What this end of the wire is."""

    ready: bytes  # ends the handshake of 3.x
    ready_2: bytes  # and of 2.0: the socket's type, then its name as a frame
    peers: tuple[bytes, ...]
    peers_2: tuple[int, ...]
    is_router: bool  # who is bound waits for the other half of the greeting, and knows peers by identity


ROUTER: Final = Role(
    _ready(b"ROUTER", b""), b"\x06\0\0", (b"DEALER", b"REQ", b"ROUTER"), (3, 5, 6), is_router=True
)


def dealer(name: bytes) -> Role:
    """A DEALER that connects under this name, at most 255 bytes, or with none."""
    ready_2 = b"\x05\0" + bytes((len(name),)) + name
    return Role(_ready(b"DEALER", name), ready_2, (b"ROUTER",), (6,), is_router=False)


PING: Final = ping(0)
_REST_OF_GREETING: Final = MINOR + MECHANISM + bytes(32)


def encode(frames: Sequence[bytes], out: list[bytes], skip: int = 1) -> None:
    """Put the pieces of one message behind ``out``; ``skip``: a ROUTER's first frame, the identity, stays."""
    append = out.append
    last = frames[-1]
    for frame in frames[skip:-1]:
        size = len(frame)
        append(_MORE[size] if size < 256 else b"\x03" + size.to_bytes(8, "big"))
        append(frame)
    size = len(last)
    append(_LAST[size] if size < 256 else b"\x02" + size.to_bytes(8, "big"))
    append(last)


def encode_1(frames: Sequence[bytes], out: list[bytes], skip: int = 1) -> None:
    """The same for a peer of ZMTP 1.0."""
    last = len(frames) - 1
    for at in range(skip, last + 1):
        size = len(frames[at]) + 1
        head = bytes((size,)) if size < 255 else b"\xff" + size.to_bytes(8, "big")
        out.append(head + bytes((at < last,)))
        out.append(frames[at])


def message_end(data: bytes, at: int, frames_max: int) -> int:
    """Where the message ends whose frames begin at ``at``; 0 if its end is not there, or none of ours.

    The frames are those of 2.0 and 3.x, at most ``frames_max``; a command is no message.
    """
    end = len(data)
    for _ in range(frames_max):
        if at + 1 >= end:
            return 0
        flags = data[at]
        if flags < 2:
            at += 2 + data[at + 1]
        elif flags < 4:
            at += 9 + int.from_bytes(data[at + 1 : at + 9], "big")
        else:
            return 0
        if at > end:
            return 0
        if not flags & MORE:
            return at
    return 0


def encoded(frames: Sequence[bytes]) -> bytes:
    """The frames of a whole message, as 2.0 and 3.x write them."""
    out: list[bytes] = []
    encode((b"", *frames), out)
    return b"".join(out)


def decoded(message: bytes) -> list[bytes]:
    """The frames of one whole message of 2.0 or 3.x; see :func:`message_end`."""
    frames, at, end = [], 0, len(message)
    while at < end:
        start = at + 9 if message[at] & LONG else at + 2
        at = start + int.from_bytes(message[at + 1 : start], "big")
        frames.append(message[start:at])
    return frames


class Wire:
    """One connection. ``identity`` is the peer's name, if it gives one, else what it was made with.

    Feed every byte to :meth:`receive`. Until :attr:`opened` it gives no message; once it is, look at the
    identity, then call :meth:`receive` with nothing for what came along. After each call send :attr:`out`
    and clear it, and look at :attr:`broken`: once it says how the peer broke the protocol, the connection
    is to be ended.
    """

    __slots__ = (
        *(
            "_big",
            "_big_flags",
            "_big_need",
            "_frames",
            "_frames_max",
            "_held_bytes",
            "_lead",
            "_max",
            "_rest",
        ),
        *("_role", "_said_major", "_said_rest", "_version", "broken", "encode", "identity", "opened", "out"),
        *("pings", "ttl_ms"),
    )

    def __init__(
        self, identity: bytes, *, message_max_bytes: int, frames_max: int, role: Role = ROUTER
    ) -> None:
        self.identity = identity
        self.opened = False
        self.broken: PeerError | None = None
        self.out: list[bytes] = [SIGNATURE]
        self.pings = False  # whether the peer knows PING (3.1)
        self.ttl_ms = 0  # the peer wants to be given up after this much silence; 0: it did not say
        self.encode = encode
        self._max = message_max_bytes
        self._frames_max = frames_max
        self._role = role
        self._version = 0  # not known yet
        self._said_major = self._said_rest = False
        self._lead: list[bytes] = []  # what every message begins with: a ROUTER's have the identity in front
        self._rest = b""
        self._frames: list[bytes] = []
        self._held_bytes = 0  # of the message whose last frame is not there yet
        self._big: list[bytes] | None = None
        self._big_need = 0
        self._big_flags = 0

    @property
    def pending(self) -> bool:
        """Whether a call with nothing may give messages: the last one stopped at its maximum."""
        return len(self._rest) > 1

    @property
    def at_rest(self) -> bool:
        """Whether the next byte begins a message of 2.0 or 3.x: nothing is held, not even a part of one."""
        return (
            self.opened and not self._rest and len(self._frames) == 1 and not self._big and self._version > 1
        )

    @property
    def wanted_bytes(self) -> int:
        """How much is missing from a long frame; 0 if none is under way. Reading no further spares a copy."""
        return self._big_need

    def receive(self, data: bytes, max_count: int = 1_000) -> list[list[bytes]]:
        """The messages that are complete now, at most ``max_count``; a ROUTER's with the identity in front.

        Of a message with more than ``frames_max`` frames not all need be there, but more than that many
        are. What is no ZMTP, and a message of more than ``message_max_bytes``, breaks the connection; what
        came before counts.
        """
        if self._rest:
            data = self._rest + data
            self._rest = b""
        messages: list[list[bytes]] = []
        try:
            if not self.opened:
                self._shake(data)
            elif self._big is not None:
                data = self._gather(data, messages)
                if data:
                    self._split(data, messages, max_count)
            elif self._version == 1:
                self._split_1(data, messages, max_count)
            else:
                self._split(data, messages, max_count)
        except PeerError as error:
            self.broken = error
        return messages

    # -- messages

    def _split(self, data: bytes, messages: list[list[bytes]], max_count: int) -> None:
        """Frames of 2.0 and 3.x."""
        frames, identity, lead = self._frames, self.identity, self._lead
        at, begun, end = 0, 0, len(data)
        while at + 1 < end:
            flags = data[at]
            if flags < 2:
                start = at + 2
                stop = start + data[at + 1]
                if stop > end:
                    break
            elif flags < 8:
                start = at + 9 if flags & LONG else at + 2
                if start > end:
                    break
                size = int.from_bytes(data[at + 1 : start], "big")
                stop = start + size
                if size > (COMMAND_MAX_BYTES if flags & COMMAND else self._max):
                    raise PeerError(f"a frame of {size} bytes", identity)
                if flags & COMMAND:
                    if flags & MORE or stop > end:
                        if flags & MORE:
                            raise PeerError("a command with more to follow", identity)
                        break
                    self._command(data[start:stop])
                    at = stop
                    continue
                if stop > end:
                    if size < GATHER_MIN_BYTES:
                        break
                    self._big, self._big_flags, self._big_need = [data[start:]], flags, stop - end
                    at = end
                    break
            else:
                raise PeerError("reserved bits in the flags of a frame", identity)
            frames.append(data[start:stop])
            at = stop
            if not flags & 1:
                messages.append(frames)
                frames, begun, self._held_bytes = lead.copy(), at, 0
                if len(messages) >= max_count:
                    break
        self._leave(frames, data, at, begun)

    def _split_1(self, data: bytes, messages: list[list[bytes]], max_count: int) -> None:
        """Frames of 1.0; long ones are not gathered, nobody speaks this for speed."""
        frames = self._frames
        at, begun, end = 0, 0, len(data)
        while at + 1 < end and len(messages) < max_count:
            size, start = data[at], at + 1
            if size == 0xFF:
                start = at + 9
                size = int.from_bytes(data[at + 1 : start], "big")
            if not 0 < size <= self._max:
                raise PeerError(f"a frame of {size} bytes", self.identity)
            if start > end or start + size > end:
                break
            frames.append(data[start + 1 : start + size])
            at = start + size
            if not data[start] & MORE:
                messages.append(frames)
                frames, begun, self._held_bytes = self._lead.copy(), at, 0
        self._leave(frames, data, at, begun)

    def _leave(self, frames: list[bytes], data: bytes, at: int, begun: int) -> None:
        """Remember what is not complete, within the limits."""
        self._frames = frames
        if at < len(data):
            self._rest = data[at:]
        if len(frames) > len(self._lead) or self._big is not None:
            self._held_bytes += at - begun
            if self._held_bytes + self._big_need > self._max:
                raise PeerError("a message of too many bytes", self.identity)
            del frames[self._frames_max + 2 :]

    def _gather(self, data: bytes, messages: list[list[bytes]]) -> bytes:
        """More of a long frame; returns what is behind it."""
        assert self._big is not None, "a long frame is under way"
        piece = data[: self._big_need]
        self._big.append(piece)
        self._big_need -= len(piece)
        self._held_bytes += len(piece)
        if self._big_need:
            return b""
        self._frames.append(b"".join(self._big))
        self._big = None
        if not self._big_flags & MORE:
            messages.append(self._frames)
            self._frames, self._held_bytes = self._lead.copy(), 0
        return data[len(piece) :]

    def _command(self, body: bytes) -> None:
        """PING is answered; whatever else is not for us."""
        if body.startswith(_PING_NAME):
            context = body[7:]
            if len(body) < 7 or len(context) > CONTEXT_MAX_BYTES:
                raise PeerError("a PING of the wrong size", self.identity)
            self.ttl_ms = int.from_bytes(body[5:7], "big") * 100
            self.out.append(command(_PONG_NAME + context))

    # -- the handshake

    def _shake(self, data: bytes) -> None:
        """Go as far as the bytes allow."""
        at = 0
        if not self._version and data:
            at = self._greet(data)
        if self._version == 3:
            self._await_ready(data[at:])
        elif self._version:
            self._await_identity(data[at:])
        else:
            self._rest = data

    def _greet(self, data: bytes) -> int:
        """Which version; how many bytes of ``data`` are read. Our half goes out as theirs comes in."""
        if data[0] != 0xFF or (len(data) >= 10 and not data[9] & 1):
            self._version = 1
            self.encode = encode_1
            return 0
        if len(data) >= 10 and not self._said_major:
            self._said_major = True
            self.out.append(MAJOR)
        if len(data) > 10 and data[10] >= 3 and not self._role.is_router:
            self._say_rest()  # two of us would wait for each other
        if len(data) < 12:
            return 0
        if data[10] < 3:
            if data[10] < 1 or data[11] not in self._role.peers_2:
                raise PeerError("not a version and socket type we can talk to")
            self._version = 2
            self.out.append(self._role.ready_2)
            return 12
        if len(data) < GREETING_BYTES:
            return 0
        if data[12:32] != MECHANISM:
            raise PeerError("another security mechanism than NULL")
        self._version, self.pings = 3, data[10] > 3 or data[11] > 0
        self._say_rest()
        self.out.append(self._role.ready)
        return GREETING_BYTES

    def _say_rest(self) -> None:
        if not self._said_rest:
            self._said_rest = True
            self.out.append(_REST_OF_GREETING)

    def _await_ready(self, data: bytes) -> None:
        self._rest = data
        if len(data) < 2:
            return
        flags = data[0]
        if flags not in (COMMAND, COMMAND | LONG):
            raise PeerError("no READY after the greeting")
        start = 9 if flags & LONG else 2
        size = int.from_bytes(data[1:start], "big")
        if len(data) >= start and size > READY_MAX_BYTES:
            raise PeerError("a READY of too many bytes")
        if len(data) < start + size:
            return
        properties = _properties(data[start : start + size])
        if properties.get(b"socket-type") not in self._role.peers:
            raise PeerError("not a socket this one talks to")
        self._open(properties.get(b"identity", b""), data[start + size :])

    def _await_identity(self, data: bytes) -> None:
        """1.0 and 2.0: the first frame is the name."""
        self._rest = data
        if len(data) < 2:
            return
        flags, size = (data[1], data[0] - 1) if self._version == 1 else (data[0], data[1])
        if flags or not 0 <= size < 254:
            raise PeerError("no identity after the greeting")
        if len(data) >= 2 + size:
            self._open(data[2 : 2 + size], data[2 + size :])

    def _open(self, name: bytes, rest: bytes) -> None:
        """A name is used unless it begins like those that are given (RFC 28: a zero byte)."""
        if len(name) > NAME_MAX_BYTES or name[:1] == b"\0":
            raise PeerError("not a name a peer may have")
        if name:
            self.identity = name
        self._lead = [self.identity] if self._role.is_router else []
        self._frames = self._lead.copy()
        self._rest = rest
        self.opened = True


def _properties(body: bytes) -> dict[bytes, bytes]:
    """Of a READY command, names in lower case."""
    if not body.startswith(_READY_NAME):
        raise PeerError("ERROR instead of READY" if body.startswith(_ERROR_NAME) else "no READY")
    found, at, end = {}, len(_READY_NAME), len(body)
    while at < end:
        value_at = at + 1 + body[at] + 4
        size = int.from_bytes(body[value_at - 4 : value_at], "big")
        if value_at + size > end:
            raise PeerError("a READY that is cut short")
        found[body[at + 1 : value_at - 4].lower()] = body[value_at : value_at + size]
        at = value_at + size
    return found
