"""Settings: which source wins, and what is said of a wrong value."""

from pathlib import Path

import pytest

from core.pure.titanic import TitanicLimits
from gateway.composition import settings as config
from gateway.composition.settings import SettingsError
from gateway.composition.sizing import limits, store_options


@pytest.fixture(autouse=True)
def _nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable and no file but the test's own."""
    monkeypatch.chdir(tmp_path)
    for key in config.Settings.model_fields:
        monkeypatch.delenv(f"TITANIC_{key.upper()}", raising=False)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"http": "127.0.0.1"}, "http (flag --http)"),
        ({"broker": "127.0.0.1:5555"}, "broker (flag --broker)"),
        ({"nodes": "tcp://127.0.0.1:1,,"}, "nodes (flag --nodes)"),
        ({"nodes": "tcp://127.0.0.1:1,tcp://127.0.0.1:1"}, "nodes (flag --nodes)"),
        ({"nodes": "tcp://127.0.0.1:1,tcp://127.0.0.1:2,tcp://127.0.0.1:3"}, "name one node, or the two"),
        ({"fsync": "interval:0s"}, "fsync (flag --fsync)"),
        ({"store_max": "-1"}, "store-max (flag --store-max)"),
        ({"max_body": "0"}, "max-body (flag --max-body)"),
        ({"url": "ftp://x"}, "url (flag --url)"),
    ],
)
def test_wrong_flag(flags: dict[str, object], words: str) -> None:
    """A wrong value is refused with its key and source."""
    with pytest.raises(SettingsError) as refused:
        config.load(flags)
    assert words in str(refused.value)


def test_several_wrong_values_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each wrong value is named with its own source."""
    monkeypatch.setenv("TITANIC_FSYNC", "often")
    (tmp_path / "titanic.toml").write_text("max-body = 'big'\nhttp = '127.0.0.1:1'\n")
    with pytest.raises(SettingsError) as refused:
        config.load({"store_max": "lots"})
    text = str(refused.value)
    assert "environment TITANIC_FSYNC" in text
    assert "file titanic.toml" in text
    assert "flag --store-max" in text
    assert "\n" not in text


def test_flag_then_environment_then_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The nearest source wins, and each key says which it was."""
    (tmp_path / "titanic.toml").write_text("max-body = '1MiB'\nfsync = 'never'\nhttp = '127.0.0.1:1'\n")
    monkeypatch.setenv("TITANIC_FSYNC", "interval:0.05s")
    monkeypatch.setenv("TITANIC_HTTP", "127.0.0.1:2")
    flags = {"http": "127.0.0.1:3", "data": None}
    found, where = config.load(flags), config.sources(flags)
    assert (found.http, where["http"]) == ("127.0.0.1:3", "flag --http")
    assert (found.fsync, where["fsync"]) == ("interval:50ms", "environment TITANIC_FSYNC")
    assert (found.max_body, where["max_body"]) == (1 << 20, "file titanic.toml")
    assert (found.data, where["data"]) == (Path("titanic-data"), "default")


def test_nodes_default_to_the_broker() -> None:
    """Who does not say where the nodes are means the broker."""
    assert config.load({"broker": "tcp://127.0.0.1:7"}).node_endpoints == ("tcp://127.0.0.1:7",)
    two = config.load({"nodes": "tcp://a:1, tcp://b:2"})
    assert two.node_endpoints == ("tcp://a:1", "tcp://b:2")


@pytest.mark.parametrize("address", ["0.0.0.0:80", "[::]:80", "10.0.0.1:80", "tcp://*:5", "example.org:80"])
def test_open_address(address: str) -> None:
    """What others can reach is refused unless somebody says that it is meant."""
    with pytest.raises(SettingsError, match="--insecure"):
        config.refuse_open_address("http", address, insecure=False)
    config.refuse_open_address("http", address, insecure=True)
    config.refuse_open_address("http", "127.0.0.1:80", insecure=False)


@pytest.mark.parametrize("store", ["65MiB", "80MiB", "1GiB", "4GiB"])
@pytest.mark.parametrize("body", ["1B", "8MiB", "15MiB"])
def test_a_store_fits_its_limit_and_its_bodies(store: str, body: str) -> None:
    """The store's floor stays below --store-max, and a chunk holds the largest body."""
    settings = config.load({"store_max": store, "max_body": body})
    options = store_options(settings)
    assert options.chunk_bytes > settings.max_body
    assert options.floor_chunks * options.chunk_bytes < settings.store_max


def test_the_room_kept_for_a_reply_is_a_setting() -> None:
    """1 KiB unless somebody says otherwise, and never more than a body may have (R8)."""
    assert store_options(config.load()).reply_reserve_bytes == 1024
    assert store_options(config.load({"reply_reserve": "64KiB"})).reply_reserve_bytes == 65536
    small = {"reply_reserve": "64KiB", "max_body": "2KiB"}
    assert store_options(config.load(small)).reply_reserve_bytes == 2048


def test_a_store_too_small_for_its_bodies() -> None:
    """The message says how large the store must be; that size is enough."""
    with pytest.raises(SettingsError, match="at least") as refused:
        store_options(config.load({"store_max": "100MiB", "max_body": "100MiB"}))
    least = str(refused.value).split("at least ")[1].split()[0]
    assert store_options(config.load({"store_max": least, "max_body": "100MiB"})).chunk_bytes > 100 << 20


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"retention": "-1s"}, "retention (flag --retention)"),
        ({"retention": "367d"}, "retention (flag --retention): 367d is not within"),
        ({"dead_letter_retention": "soon"}, "dead-letter-retention (flag --dead-letter-retention)"),
        ({"attempts": -1}, "attempts (flag --attempts)"),
        ({"attempts": 1001}, "attempts (flag --attempts)"),
        ({"attempt_timeout": "0s"}, "attempt-timeout (flag --attempt-timeout): 0s is not within"),
        ({"key_lifetime": "10ms"}, "key-lifetime (flag --key-lifetime)"),
        ({"backoff_first": "0s"}, "backoff-first (flag --backoff-first)"),
        ({"backoff_max": "500ms"}, "backoff-max (flag --backoff-max): 500ms is less than backoff-first 1s"),
        ({"services": {"a": {"attempts": -1}}}, "services.a.attempts (flag --services)"),
    ],
)
def test_wrong_limit_of_jobs(flags: dict[str, object], words: str) -> None:
    """A limit of the jobs' life that cannot be is refused with its key and source."""
    with pytest.raises(SettingsError) as refused:
        config.load(flags)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("services = 3", "services (file titanic.toml): is a table for each service"),
        ("[services]\nslow = 3", "services (file titanic.toml): is a table for each service"),
        ('[services."a/b"]\nattempts = 1', "'a/b': a service name"),
        ('[services."titanic.request"]\nattempts = 1', "'titanic.request'"),
        ("[services.slow]\nattempt = 1", "no setting is called 'services.slow.attempt'"),
        ("[services.slow]\nattempt-timeout = '8d'", "services.slow.attempt-timeout (file titanic.toml): 8d"),
    ],
)
def test_wrong_table_of_services(table: str, words: str, tmp_path: Path) -> None:
    """What is wrong below [services.NAME] is named with its path."""
    (tmp_path / "titanic.toml").write_text(table)
    with pytest.raises(SettingsError) as refused:
        config.load()
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_services_as_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """TITANIC_SERVICES is the same table as JSON; anything else is refused by that name."""
    monkeypatch.setenv("TITANIC_SERVICES", '{"slow": {"attempt-timeout": "2h"}}')
    assert config.load().services["slow"].attempt_timeout == 7_200_000
    monkeypatch.setenv("TITANIC_SERVICES", "slow=2h")
    with pytest.raises(SettingsError, match="environment TITANIC_SERVICES"):
        config.load()


def test_limits_reach_the_node(tmp_path: Path) -> None:
    """Every limit that can be set is the node's; a service has its own where it says so."""
    (tmp_path / "titanic.toml").write_text(
        "attempts = 3\nretention = '0s'\n[services.slow]\nattempt-timeout = '2h'\n"
        "[services.once]\nattempts = 1\n"
    )
    flags = {"dead_letter_retention": "1d", "attempt_timeout": "1m", "key_lifetime": "30d"}
    found = limits(config.load({**flags, "backoff_first": "2s", "backoff_max": "3s"}))
    life = found.life
    assert (life.retention_ms, life.dead_letter_retention_ms) == (0, 86_400_000)
    assert (life.backoff_first_ms, life.backoff_max_ms) == (2_000, 3_000)
    assert (found.key_lifetime_ms, found.key_lifetime_max_ms) == (30 * 86_400_000,) * 2
    assert life.of_service(b"any") == (60_000, 3)
    assert life.of_service(b"slow") == (7_200_000, 3)
    assert life.of_service(b"once") == (60_000, 1)


def test_defaults_are_the_cores() -> None:
    """Nobody who sets nothing gets other limits than the core's own."""
    assert limits(config.load()) == TitanicLimits()
