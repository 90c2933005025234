"""Settings of every process: flag, then ``TITANIC_*``, then ``titanic.toml``, then the default.

The only file that reads the environment. A wrong value is refused with its key and where it came from.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from gateway.pure import units

TOML_FILE: Final = "titanic.toml"
ENV_PREFIX: Final = "TITANIC_"
MIN_BODY_BYTES: Final = 1
MIN_STORE_BYTES: Final = 1 << 20
INTERVAL_MAX_MS: Final = 60_000


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


_ShowSize = PlainSerializer(units.format_size, return_type=str)
Endpoint = Annotated[str, AfterValidator(units.check_endpoint)]


class Settings(BaseSettings):
    """Everything that can be set from outside; sizes in bytes."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_ignore_empty=True, extra="forbid", frozen=True
    )

    data: Path = Path("titanic-data")
    http: Annotated[str, AfterValidator(_address)] = "127.0.0.1:8080"
    broker: Endpoint = "tcp://127.0.0.1:5555"
    nodes: Annotated[tuple[Endpoint, ...], NoDecode, BeforeValidator(_endpoints)] = ()
    fsync: Annotated[str, AfterValidator(_fsync)] = "always"
    store_max: Annotated[int, BeforeValidator(_size), _at_least(MIN_STORE_BYTES), _ShowSize] = 4 << 30
    max_body: Annotated[int, BeforeValidator(_size), _at_least(MIN_BODY_BYTES), _ShowSize] = 8 << 20
    insecure: bool = False
    curve_dir: Path | None = None
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

    Without CURVE there is no authentication, so whoever reaches the port may read and close every job.
    """
    if not insecure and not curve and not units.is_loopback(address):
        raise SettingsError(
            f"--{key} {address} can be reached from other machines and nothing authenticates them; "
            "bind a loopback address, or say --insecure if the network is trusted"
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
        if fault["type"] == "extra_forbidden":
            lines.append(f"{TOML_FILE}: no setting is called {key!r}; 'titanic config show' lists them")
        else:
            reason = fault["msg"].removeprefix("Value error, ")
            lines.append(f"{names.get(key, key).replace('_', '-')} ({_source(key, flags, names)}): {reason}")
    return "; ".join(dict.fromkeys(lines))
