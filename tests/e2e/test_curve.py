"""CURVE as a user sets it up: keys in files, a list of who may do what, changes without a restart."""

from __future__ import annotations

import signal
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
import zmq

from core.shell import curve
from core.shell.sockets import bind_router
from gateway.composition.settings import SettingsError, refuse_open_address
from tests.support.hostile import Honest, RawPeer, counters
from tests.support.processes import Processes, Titanic, processes, run, until

REFUSED_MS: Final = 300
Keys = tuple[bytes, bytes, bytes]


class Site:
    """A node with CURVE, the folder of its keys, and peers by name."""

    def __init__(self, family: Processes, folder: Path) -> None:
        self.folder = folder / "keys"
        curve.keygen(self.folder, curve.SERVER)
        self.pairs: dict[str, tuple[bytes, bytes]] = {}
        self.rights: dict[str, tuple[list[str], list[str]]] = {}
        self.allow("admin", client=["*"])
        self.process, self.endpoint = family.node(folder / "data", "--curve-dir", str(self.folder))

    def keys(self, name: str) -> Keys:
        """What this peer connects with; made at first sight, on the list or not."""
        public, secret = self.pairs.setdefault(name, zmq.curve_keypair())
        return (self.folder / "server.pub").read_bytes().strip(), public, secret

    def allow(self, name: str, client: list[str] | None = None, worker: list[str] | None = None) -> None:
        """From now on this peer is on the list."""
        self.keys(name)
        self.rights[name] = (client or [], worker or [])
        self.write()

    def write(self) -> None:
        """The list as it is now, in one step."""
        entries = [
            f'[[peer]]\nname = "{name}"\nkey = "{self.pairs[name][0].decode()}"\n'
            f"client = {rights[0]}\nworker = {rights[1]}\n"
            for name, rights in self.rights.items()
        ]
        draft = self.folder / "allow.draft"
        draft.write_text("\n".join(entries))
        draft.rename(self.folder / "allow.toml")

    def count(self, name: str) -> int:
        """A counter of the node."""
        return counters(self.endpoint, self.keys("admin"))[name]

    def is_served(self, name: str) -> bool:
        """Whether this peer's question is answered."""
        with Honest(self.endpoint, keys=self.keys(name)) as peer:
            peer.send(b"", b"MDPC01", b"mmi.service", b"mmi.service")
            return bool(peer.socket.poll(REFUSED_MS))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("curve")
    with processes(folder) as family:
        yield Site(family, folder)


def reread(site: Site) -> Callable[[], None]:
    """SIGHUP: the list is read at once."""
    return lambda: site.process.process.send_signal(signal.SIGHUP)


def test_without_a_handler_nobody_gets_in() -> None:
    """The socket enforces its ZAP domain: if nobody answers for it, every connection is refused."""
    public, secret = zmq.curve_keypair()
    with zmq.Context() as context:
        socket, endpoint = bind_router(context, "tcp://127.0.0.1:*", secret_key=secret)
        pair = zmq.curve_keypair()
        with Honest(endpoint, keys=(public, *pair)) as peer:
            peer.send(b"", b"hello")
            assert not socket.poll(REFUSED_MS)
        socket.close(0)


def test_strangers_are_refused(site: Site) -> None:
    """No CURVE, a key that is not listed, the wrong server: none is heard, and it is counted."""
    refused = site.count("connections_refused")
    with Honest(site.endpoint) as plain:
        plain.send(b"", b"MDPC01", b"mmi.service", b"mmi.service")
        assert not plain.socket.poll(REFUSED_MS)
    assert not site.is_served("stranger")
    wrong, _ = zmq.curve_keypair()
    with Honest(site.endpoint, keys=(wrong, *site.pairs["admin"])) as lost:
        lost.send(b"", b"MDPC01", b"mmi.service", b"mmi.service")
        assert not lost.socket.poll(REFUSED_MS)
    with RawPeer(site.endpoint) as raw:
        raw.socket.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x01CURVE" + bytes(47) + bytes(200))
    assert site.count("connections_refused") > refused
    assert site.is_served("admin")


def test_a_client_asks_only_what_it_may(site: Site) -> None:
    """Requests for other services are dropped and counted; there is no answer that says so in MDP."""
    site.allow("clerk", client=["mmi.*"])
    reread(site)()
    until("the clerk is known", lambda: site.is_served("clerk"))
    before = site.count("requests_forbidden")
    with Honest(site.endpoint, keys=site.keys("clerk")) as clerk:
        clerk.send(b"", b"MDPC01", b"titanic.stats", b"")
        assert clerk.ask(b"mmi.service", b"vault") == [b"404"]
    assert site.count("requests_forbidden") == before + 1


def test_a_worker_works_only_for_what_it_may(site: Site) -> None:
    """READY for another service is answered with DISCONNECT."""
    site.allow("smith", worker=["forge"])
    until("the list is read by itself", lambda: _registers(site, "smith", b"forge"))
    before = site.count("workers_forbidden")
    assert not _registers(site, "smith", b"vault")
    assert site.count("workers_forbidden") == before + 1


def _registers(site: Site, name: str, service: bytes) -> bool:
    with Honest(site.endpoint, keys=site.keys(name)) as worker:
        worker.send(b"", b"MDPW01", b"\x01", service)
        with Honest(site.endpoint, keys=site.keys("admin")) as admin:
            if worker.socket.poll(100):
                assert worker.receive() == [b"", b"MDPW01", b"\x05"]
            return admin.ask(b"mmi.service", service) == [b"200"]


def test_a_key_that_is_taken_off_the_list_is_heard_no_more(site: Site) -> None:
    """Also over a connection that is there already; a worker with that key is one no longer."""
    site.allow("temp", client=["*"], worker=["night"])
    reread(site)()
    with Honest(site.endpoint, keys=site.keys("temp")) as temp, _admin(site) as admin:
        temp.send(b"", b"MDPW01", b"\x01", b"night")
        until("registered", lambda: admin.ask(b"mmi.service", b"night") == [b"200"])
        del site.rights["temp"]
        site.write()
        reread(site)()
        until("read", lambda: not site.is_served("temp"))
        temp.send(b"", b"MDPW01", b"\x04")
        assert temp.receive() == [b"", b"MDPW01", b"\x05"]
        assert admin.ask(b"mmi.service", b"night") == [b"404"]


def _admin(site: Site) -> Honest:
    return Honest(site.endpoint, keys=site.keys("admin"))


def test_a_list_with_a_mistake_changes_nothing(site: Site) -> None:
    """The old one stays in force, and the log says what to correct."""
    path = site.folder / "allow.toml"
    good = path.read_text()
    path.write_text("[[peer]]\nname = 'x'\n")
    until("it is reported", lambda: "kept as it was" in site.process.errors)
    assert site.is_served("admin")
    path.write_text(good)


def test_a_name_is_its_keys(site: Site) -> None:
    """Kept answers of lucy are not handed to another key that comes under her name."""
    site.allow("lucy", client=["*"])
    site.allow("eve", client=["*"])
    reread(site)()
    until("both are known", lambda: site.is_served("lucy") and site.is_served("eve"))
    stolen = site.count("identities_stolen")
    with Honest(site.endpoint, b"lucy", keys=site.keys("lucy")) as lucy:
        assert lucy.ask(b"mmi.service", b"mmi.service") == [b"200"]
        site.process.process.send_signal(signal.SIGSTOP)
        lucy.send(b"", b"MDPC01", b"titanic.request", b"later", b"secret")
        lucy.leave()
        site.process.process.send_signal(signal.SIGCONT)
    until("kept", lambda: site.count("kept") == 1)
    with Honest(site.endpoint, b"lucy", keys=site.keys("eve")) as eve:
        eve.send(b"", b"MDPC01", b"mmi.service", b"later")
        assert not eve.socket.poll(REFUSED_MS)
    assert site.count("identities_stolen") > stolen
    with Honest(site.endpoint, b"lucy", keys=site.keys("lucy")) as lucy:
        lucy.send(b"", b"MDPC01", b"mmi.service", b"later")
        assert lucy.answer(b"titanic.request")[0] == b"200"


def test_the_servers_key_is_changed_without_a_restart(site: Site) -> None:
    """Connections are made anew under the new key; who knows only the old one is not served."""
    old = site.keys("admin")
    for name in ("server.key", "server.pub"):
        (site.folder / name).rename(site.folder / f"old-{name}")
    curve.keygen(site.folder, curve.SERVER)
    reread(site)()
    until("the new key is served", lambda: site.is_served("admin"))
    with Honest(site.endpoint, keys=old) as late:
        late.send(b"", b"MDPC01", b"mmi.service", b"mmi.service")
        assert not late.socket.poll(REFUSED_MS)
    assert site.process.process.poll() is None


def test_the_commands_speak_curve(family: Processes, tmp_path: Path) -> None:
    """keygen, broker, service, worker and client with one folder each for server and client."""
    server, client = tmp_path / "server", tmp_path / "client"
    assert run("curve", "keygen", "server", "--curve-dir", str(server)).returncode == 0
    assert run("curve", "keygen", "--curve-dir", str(client)).returncode == 0
    assert stat.S_IMODE((client / "client.key").stat().st_mode) == 0o600
    (client / "server.pub").write_bytes((server / "server.pub").read_bytes())
    key = (client / "client.pub").read_text().strip()
    entry = f'[[peer]]\nname = "all"\nkey = "{key}"\nclient = ["*"]\nworker = ["*"]\n'
    (server / "allow.toml").write_text(entry)
    broker = family.start("broker", "--bind", "tcp://127.0.0.1:0", "--curve-dir", str(server), "--json")
    endpoint = broker.facts()["broker"]
    keys = ("--curve-dir", str(client))
    data = str(tmp_path / "data")
    service: Titanic = family.start("service", "--broker", endpoint, "--data", data, *keys, "--json")
    service.facts()
    family.start("worker", "echo", "--nodes", endpoint, *keys)
    command = ("client", "--broker", endpoint, *keys, "request", "echo", "--wait", "20s")
    done = run(*command, body=b"hello")
    assert (done.returncode, done.stdout) == (0, b"hello"), done.stderr


def test_keys_that_cannot_be_trusted_are_refused(tmp_path: Path) -> None:
    """No key, a secret others can read, something that is no key, no list: one line that says what to do."""
    folder = str(tmp_path)
    broker = ("broker", "--bind", "tcp://127.0.0.1:0", "--curve-dir", folder)
    for prepare, why in (
        (lambda: None, b"titanic curve keygen"),
        (lambda: (tmp_path / "server.key").write_bytes(zmq.curve_keypair()[1]), b"chmod 600"),
        (lambda: (tmp_path / "server.key").chmod(0o600), b"allow.toml"),
        (lambda: (tmp_path / "allow.toml").write_text("peer = 3"), b"nothing else"),
        (lambda: (tmp_path / "server.key").write_bytes(b"x" * 40 + b"!"), b"holds no key"),
    ):
        prepare()
        done = run(*broker)
        assert done.returncode == 1
        assert why in done.stderr, done.stderr
    with pytest.raises(curve.CurveError, match="no name"):
        curve.keygen(tmp_path, "../server")
    curve.keygen(tmp_path, "x")
    with pytest.raises(curve.CurveError, match="there already"):
        curve.keygen(tmp_path, "x")


def test_other_machines_need_keys_or_insecure() -> None:
    """An address others can reach is refused without CURVE, unless somebody says --insecure."""
    with pytest.raises(SettingsError, match="insecure"):
        refuse_open_address("broker", "tcp://192.0.2.1:5555", insecure=False)
    refuse_open_address("broker", "tcp://192.0.2.1:5555", insecure=False, curve=True)
    refuse_open_address("broker", "tcp://192.0.2.1:5555", insecure=True)
    refuse_open_address("broker", "tcp://127.0.0.1:5555", insecure=False)
