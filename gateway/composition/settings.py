"""Settings of every process: flag, then ``TITANIC_*``, then ``titanic.toml``, then the default.

The only file that reads the environment. A wrong value is refused with its key and where it came from.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    SecretStr,
    ValidationError,
    ValidationInfo,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from core.pure.tsp import service_error
from gateway.pure import units
from gateway.pure.query import ATTEMPTS_LIMIT, SPAN_MAX_MS, TIMEOUT_MAX_MS, TIMEOUT_MIN_MS
from gateway.pure.webhooks import NETWORKS, decode_secret, parse_network

TOML_FILE: Final = "titanic.toml"
ENV_PREFIX: Final = "TITANIC_"
MIN_BODY_BYTES: Final = 1
MIN_STORE_BYTES: Final = 1 << 20
INTERVAL_MAX_MS: Final = 60_000
GATEWAYS_MAX: Final = 64
NODES_MAX_COUNT: Final = 2
KEYS_FILE: Final = "keys.json"
BACKOFF_MAX_MS: Final = 86_400_000
KEY_LIFETIME_MIN_MS: Final = 1_000
SECOND_MS: Final = 1_000
MINUTE_MS: Final = 60_000
DAY_MS: Final = 86_400_000


class SettingsError(ValueError):
    """A setting is wrong; the message names the key, its source and what would be right."""


def _size(value: object) -> object:
    return units.parse_size(value) if isinstance(value, str) else value


def _address(value: str) -> str:
    return units.format_host_port(*units.parse_host_port(value))


def _fsync(value: str) -> str:
    mode, colon, interval = value.partition(":")
    if value in {"always", "never"}:
        return value
    if mode != "interval" or not colon:
        raise ValueError(f"{value!r} is not an fsync mode: write always, interval:50ms or never")
    interval_ms = units.parse_duration_ms(interval)
    if not 1 <= interval_ms <= INTERVAL_MAX_MS:
        raise ValueError(
            f"an fsync interval is 1ms to {units.format_duration(INTERVAL_MAX_MS)}, not {interval}"
        )
    return f"interval:{interval_ms}ms"


def _endpoints(value: object) -> object:
    return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value


def _nodes(value: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(value)) != len(value) or len(value) > NODES_MAX_COUNT:
        raise ValueError("name one node, or the two of a pair")
    return value


def _duration(value: object) -> object:
    return units.parse_duration_ms(value) if isinstance(value, str) else value


def _gateways(value: int) -> int:
    if not 1 <= value <= GATEWAYS_MAX:
        raise ValueError(f"there can be 1 to {GATEWAYS_MAX} gateways, not {value}")
    return value


def _log_format(value: str) -> str:
    if value not in {"text", "json"}:
        raise ValueError(f"{value!r} is not a log format: write text or json")
    return value


def _url(value: str) -> str:
    scheme, separator, rest = value.partition("://")
    if scheme not in {"http", "https"} or not separator or not rest.strip("/"):
        raise ValueError(f"{value!r} is not a URL: write http://127.0.0.1:8080")
    return value.rstrip("/")


def _at_least(low: int) -> AfterValidator:
    def check(value: int) -> int:
        if value < low:
            raise ValueError(f"{units.format_size(value)} is less than {units.format_size(low)}")
        return value

    return AfterValidator(check)


def _attempts(value: int) -> int:
    if not 0 <= value <= ATTEMPTS_LIMIT:
        raise ValueError(f"there can be 1 to {ATTEMPTS_LIMIT} attempts, or 0 for ever, not {value}")
    return value


def _callback_attempts(value: int) -> int:
    if not 1 <= value <= 100:
        raise ValueError(f"a callback is tried 1 to 100 times, not {value}")
    return value


def _networks(value: tuple[str, ...]) -> tuple[str, ...]:
    for text in value:
        try:
            parse_network(text)
        except ValueError:
            words = ", ".join(NETWORKS)
            raise ValueError(f"{text!r} is not a network: write {words}, or 10.1.0.0/16") from None
    return value


def _secret(value: SecretStr | None) -> SecretStr | None:
    if value is not None:
        decode_secret(value.get_secret_value())
    return value


def _between(low_ms: int, high_ms: int, *, or_zero: str = "") -> AfterValidator:
    """A duration within limits; ``or_zero`` says what 0 means, if it means anything."""

    def check(value: int) -> int:
        if not low_ms <= value <= high_ms and not (or_zero and value == 0):
            low, high = units.format_duration(low_ms), units.format_duration(high_ms)
            zero = f", or 0s: {or_zero}" if or_zero else ""
            raise ValueError(f"{units.format_duration(value)} is not within {low} and {high}{zero}")
        return value

    return AfterValidator(check)


def _not_below_first(value: int, info: ValidationInfo) -> int:
    first_ms = info.data.get("backoff_first", 0)
    if value < first_ms:
        raise ValueError(
            f"{units.format_duration(value)} is less than backoff-first {units.format_duration(first_ms)}"
        )
    return value


def _table(value: object) -> object:
    """A table of services; as a variable it is JSON. Keys may be written with dashes."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(f'not JSON, such as {{"slow": {{"attempts": 1}}}}: {error}') from None
    if not isinstance(value, Mapping) or not all(isinstance(row, Mapping) for row in value.values()):
        raise ValueError("is a table for each service: write [services.NAME], and below it attempts = 3")
    for name in value:
        if (why := service_error(str(name).encode("utf-8", "surrogateescape"))) is not None:
            raise ValueError(f"{name!r}: {why}")
    return {
        name: {str(key).replace("-", "_"): each for key, each in row.items()} for name, row in value.items()
    }


_ShowDuration = PlainSerializer(units.format_duration, return_type=str)
_ShowSize = PlainSerializer(units.format_size, return_type=str)
_ShowTable = PlainSerializer(lambda value: _shown(value), return_type=dict)
Endpoint = Annotated[str, AfterValidator(units.check_endpoint)]
Attempts = Annotated[int, AfterValidator(_attempts)]
AttemptTimeout = Annotated[
    int, BeforeValidator(_duration), _between(TIMEOUT_MIN_MS, TIMEOUT_MAX_MS), _ShowDuration
]
Retention = Annotated[
    int, BeforeValidator(_duration), _between(1, SPAN_MAX_MS, or_zero="until closed"), _ShowDuration
]
Backoff = Annotated[int, BeforeValidator(_duration), _between(1, BACKOFF_MAX_MS), _ShowDuration]
KeyLifetime = Annotated[
    int, BeforeValidator(_duration), _between(KEY_LIFETIME_MIN_MS, SPAN_MAX_MS), _ShowDuration
]


def _one_of(*words: str) -> AfterValidator:
    def check(value: str) -> str:
        if value not in words:
            raise ValueError(f"{value!r} is none of {', '.join(words)}")
        return value

    return AfterValidator(check)


class ServiceSettings(BaseModel):
    """What the jobs of one service have instead of the node's own; None: the same."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    attempts: Attempts | None = None
    attempt_timeout: AttemptTimeout | None = None


def _shown(services: Mapping[str, ServiceSettings]) -> dict[str, dict[str, Any]]:
    return {name: own.model_dump(mode="json", exclude_none=True) for name, own in services.items()}


class Settings(BaseSettings):
    """Everything that can be set from outside; sizes in bytes, times in milliseconds."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_ignore_empty=True, extra="forbid", frozen=True
    )

    data: Path = Path("titanic-data")
    http: Annotated[str, AfterValidator(_address)] = "127.0.0.1:8080"
    broker: Endpoint = "tcp://127.0.0.1:5555"
    nodes: Annotated[tuple[Endpoint, ...], NoDecode, BeforeValidator(_endpoints), AfterValidator(_nodes)] = ()
    fsync: Annotated[str, AfterValidator(_fsync)] = "always"
    store_max: Annotated[int, BeforeValidator(_size), _at_least(MIN_STORE_BYTES), _ShowSize] = 4 << 30
    max_body: Annotated[int, BeforeValidator(_size), _at_least(MIN_BODY_BYTES), _ShowSize] = 8 << 20
    reply_reserve: Annotated[int, BeforeValidator(_size), _at_least(0), _ShowSize] = 1 << 10
    retention: Retention = 7 * DAY_MS
    dead_letter_retention: Retention = 30 * DAY_MS
    attempts: Attempts = 25
    attempt_timeout: AttemptTimeout = 30 * MINUTE_MS
    backoff_first: Backoff = SECOND_MS
    backoff_max: Annotated[Backoff, AfterValidator(_not_below_first)] = 5 * MINUTE_MS
    key_lifetime: KeyLifetime = DAY_MS
    callback_attempts: Annotated[int, AfterValidator(_callback_attempts)] = 12
    callback_backoff_first: Backoff = 5 * SECOND_MS
    callback_backoff_max: Backoff = 4 * 60 * MINUTE_MS
    callback_timeout: Annotated[
        int, BeforeValidator(_duration), _between(100, 2 * MINUTE_MS), _ShowDuration
    ] = 15 * SECOND_MS
    callback_allow: Annotated[
        tuple[str, ...], NoDecode, BeforeValidator(_endpoints), AfterValidator(_networks)
    ] = ()
    callback_secret: Annotated[SecretStr | None, AfterValidator(_secret)] = None
    callback_ca: Path | None = None
    services: Annotated[dict[str, ServiceSettings], NoDecode, BeforeValidator(_table), _ShowTable] = {}
    insecure: bool = False
    curve_dir: Path | None = None
    zmtp: Annotated[str, _one_of("own", "libzmq")] = "own"
    accept_loss: bool = False
    network_fs: bool = False
    keys: Path | None = None
    gateways: Annotated[int, AfterValidator(_gateways)] = 1
    role: Annotated[str, _one_of("single", "primary", "backup")] = "single"
    pair: bool = False
    peer_bind: Endpoint | None = None
    peer: Endpoint | None = None
    replication: Annotated[str, _one_of("sync", "local")] = "sync"
    alone: Annotated[str, _one_of("serve", "refuse")] = "serve"
    failover_wait: Annotated[
        int, BeforeValidator(_duration), _between(SECOND_MS, 10 * MINUTE_MS), _ShowDuration
    ] = 30 * SECOND_MS
    tls_cert: Path | None = None
    tls_key: Path | None = None
    request_deadline: Annotated[int, BeforeValidator(_duration), _ShowDuration] = 30_000
    cors_origins: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_endpoints)] = ()
    log_format: Annotated[str, AfterValidator(_log_format)] = "text"
    otel: bool = False
    url: Annotated[str, AfterValidator(_url)] = "http://127.0.0.1:8080"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, environment, file: the first that has a key wins. No ``.env``, no secrets folder."""
        return init_settings, env_settings, _TomlSource(settings_cls, toml_file=Path(TOML_FILE))

    @property
    def node_endpoints(self) -> tuple[str, ...]:
        """Where clients and workers find a node: ``nodes``, or else the broker's own endpoint."""
        return self.nodes or (self.broker,)

    @property
    def keys_file(self) -> Path:
        """Where the API keys are: ``keys``, or else ``keys.json`` in the data folder."""
        return self.keys or self.data / KEYS_FILE


class _TomlSource(TomlConfigSettingsSource):
    """``titanic.toml``, where a key may be written with dashes, as the flags are."""

    def __call__(self) -> dict[str, Any]:
        return {key.replace("-", "_"): value for key, value in super().__call__().items()}


def load(flags: Mapping[str, object] | None = None, names: Mapping[str, str] | None = None) -> Settings:
    """The settings, checked. A flag that is None was not given. Raises SettingsError.

    ``names`` says which flag gave a key where the command's flag has another name than the key.
    """
    given: dict[str, Any] = {key: value for key, value in (flags or {}).items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        raise SettingsError(_explain(error, given, names or {})) from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{TOML_FILE}: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{TOML_FILE} cannot be read: {error}") from None


def sources(flags: Mapping[str, object] | None = None) -> dict[str, str]:
    """Key -> where its value comes from: a flag, a variable, the file, or ``default``."""
    given = {key: value for key, value in (flags or {}).items() if value is not None}
    return {key: _source(key, given, {}) for key in Settings.model_fields}


def refuse_open_address(key: str, address: str, *, insecure: bool, curve: bool = False) -> None:
    """Raise SettingsError if others than this machine could reach ``address`` and nobody said ``--insecure``.

    Without keys (``curve``: CURVE keys of the broker, or API keys of HTTP) there is no authentication, so
    whoever reaches the port may read and close every job.
    """
    if not insecure and not curve and not units.is_loopback(address):
        keys = "titanic keys create" if key == "http" else "--curve-dir"
        keys = f"give it keys with {keys}, "
        raise SettingsError(
            f"--{key} {address} can be reached from other machines and nothing authenticates them; "
            f"bind a loopback address, {keys}or say --insecure if the network is trusted"
        )


def _source(key: str, flags: Mapping[str, object], names: Mapping[str, str]) -> str:
    if key in flags:
        return f"flag --{names.get(key, key).replace('_', '-')}"
    if key in EnvSettingsSource(Settings)():
        return f"environment {ENV_PREFIX}{key.upper()}"
    if key in _TomlSource(Settings, toml_file=Path(TOML_FILE))():
        return f"file {TOML_FILE}"
    return "default"


def _explain(error: ValidationError, flags: Mapping[str, object], names: Mapping[str, str]) -> str:
    """One line: each wrong key, its source, and what is wrong with it."""
    lines = []
    for fault in error.errors():
        key = str(fault["loc"][0])
        path = ".".join(str(part).replace("_", "-") for part in fault["loc"][1:] if isinstance(part, str))
        if fault["type"] == "extra_forbidden" and path:
            lines.append(f"{key} ({_source(key, flags, names)}): no setting is called '{key}.{path}'")
        elif fault["type"] == "extra_forbidden":
            lines.append(f"{TOML_FILE}: no setting is called {key!r}; 'titanic config show' lists them")
        else:
            reason = fault["msg"].removeprefix("Value error, ")
            name = names.get(key, key).replace("_", "-") + (f".{path}" if path else "")
            lines.append(f"{name} ({_source(key, flags, names)}): {reason}")
    return "; ".join(dict.fromkeys(lines))
