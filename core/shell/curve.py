"""CURVE keys in files, and the handler that decides who may connect.

A folder holds, each under one name: ``NAME.key`` (secret, mode 0600) and ``NAME.pub``, as 40 printable
characters; a broker's folder also ``allow.toml`` (:mod:`core.pure.allow`), a client's the ``server.pub``
of its broker. The broker is called ``server``, everybody else ``client`` unless they say another name.
"""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path
from typing import Final

import msgspec
import zmq

from core.errors import CoreError, PeerError
from core.pure import allow, zap
from core.shell.pump import SocketPump

SERVER: Final = "server"
CLIENT: Final = "client"
ALLOW_FILE: Final = "allow.toml"
OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
SECRET_MODE: Final = 0o600
LIST_MAX_BYTES: Final = 16 << 20

log = logging.getLogger("titanic.curve")


class CurveError(CoreError):
    """Keys cannot be used as they are; the message names the file and what to do."""


class ClientKeys(msgspec.Struct, frozen=True):
    """What a connecting socket needs: the server's public key and a pair of its own."""

    server: bytes
    public: bytes
    secret: bytes

    def apply(self, socket: zmq.Socket[bytes]) -> None:
        """The socket will speak CURVE, to this server only."""
        socket.setsockopt(zmq.CURVE_SERVERKEY, self.server)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, self.public)
        socket.setsockopt(zmq.CURVE_SECRETKEY, self.secret)


def keygen(folder: Path, name: str) -> tuple[Path, Path]:
    """A new pair is in ``NAME.pub`` and ``NAME.key`` of ``folder``. CurveError if there is one already."""
    if Path(name).name != name or name.startswith("."):
        raise CurveError(f"{name!r} is no name for a file: letters, digits and dashes will do")
    public, secret = zmq.curve_keypair()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    paths = folder / f"{name}.pub", folder / f"{name}.key"
    for path in paths:
        if path.exists():
            raise CurveError(f"{path} is there already; move it away, or choose another name")
    for path, text, mode in ((paths[1], secret, SECRET_MODE), (paths[0], public, 0o644)):
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(text + b"\n")
    return paths


def load_client(folder: Path, name: str = CLIENT) -> ClientKeys:
    """The keys of a client or worker, from ``server.pub`` and ``NAME.key``. CurveError."""
    secret = _secret(folder / f"{name}.key")
    return ClientKeys(_key(folder / f"{SERVER}.pub"), zmq.curve_public(secret), secret)


def load_server(folder: Path) -> bytes:
    """The broker's secret key, from ``server.key``. CurveError."""
    return _secret(folder / f"{SERVER}.key")


def load_list(folder: Path) -> allow.AllowList:
    """The allow-list. CurveError if it is missing or wrong."""
    path = folder / ALLOW_FILE
    try:
        with path.open("rb") as file:
            return allow.parse(file.read(LIST_MAX_BYTES).decode())
    except OSError as error:
        raise CurveError(f"{path}: {error.strerror}; list in it who may connect") from None
    except (UnicodeDecodeError, allow.AllowListError) as error:
        raise CurveError(f"{path}: {error}") from None


def _secret(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise CurveError(f"{path}: {error.strerror}; make it with 'titanic curve keygen'") from None
    if mode & OTHERS:
        raise CurveError(f"{path} can be read by others: chmod 600 {path}")
    return _key(path)


def _key(path: Path) -> bytes:
    try:
        text = path.read_bytes()[:100].strip()
    except OSError as error:
        raise CurveError(f"{path}: {error.strerror}; make it with 'titanic curve keygen'") from None
    try:
        zmq.curve_public(text)
    except (zmq.ZMQError, ValueError):
        raise CurveError(f"{path} holds no key of {allow.KEY_CHARS} characters") from None
    return text


class Authenticator:
    """Answers libzmq's question for every connection of ``context``, and says what each key may do.

    Serving once it is made, so make it before the socket binds. The list is read again by :meth:`refresh`
    when its file has changed; one that cannot be used is reported, and the old one stays in force.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], folder: Path) -> None:
        self.connections_refused = 0
        self.admission = allow.Admission(load_list(folder))
        self._folder = folder
        self._seen = fingerprint(folder / ALLOW_FILE)
        socket: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.bind(zap.ENDPOINT)
        self._pump = SocketPump(socket, self._on_request)
        self._pump.start()

    def close(self) -> None:
        """Nobody is let in any more."""
        self._pump.close(0)

    def refresh(self, *, always: bool = False) -> None:
        """Read the list again if its file is another one than before."""
        seen = fingerprint(self._folder / ALLOW_FILE)
        if seen == self._seen and not always:
            return
        self._seen = seen
        try:
            self.admission.allowed = load_list(self._folder)
        except CurveError as error:
            log.error("the allow-list is kept as it was: %s", error)
        else:
            log.warning("the allow-list was read again: %d keys", len(self.admission.allowed.peers))

    def admit(self, frame: zmq.Frame, frames: list[bytes]) -> bool:
        """The pump's question for each message: True if who sent it may be listened to."""
        try:
            key = str(frame.get(zap.USER_ID))
        except zmq.ZMQError:
            key = ""
        return self.admission.speaks(frames[0], key)

    def _on_request(self, frames: list[bytes]) -> None:
        try:
            reply = zap.answer(frames, self.admission.allowed)
        except PeerError as error:
            log.error("libzmq asked what we do not understand: %s", error)
            return
        self.connections_refused += reply[4] != b"200"
        self._pump.send(reply)


def fingerprint(path: Path) -> tuple[int, int, int]:
    """Another one when the file is another one; zeros while there is none."""
    try:
        facts = path.stat()
    except OSError:
        return (0, 0, 0)
    return (facts.st_mtime_ns, facts.st_size, facts.st_ino)
