"""What every process stands on: Redis, MongoDB, the encryption keys, logs and traces."""

import base64
import warnings
from typing import Literal

import pydantic
import pydantic_settings

from indexing.settings import fields


class RedisSettings(fields.Group):
    """Redis (6.2 or newer) or Valkey, shared by all processes."""

    model_config = pydantic_settings.SettingsConfigDict(env_prefix="REDIS_")

    url: pydantic.SecretStr = pydantic.SecretStr("redis://127.0.0.1:6379/0")
    """URL that begins with redis://, rediss:// or unix://. It may contain a password, so it is never printed."""

    timeout: float = pydantic.Field(default=2.0, gt=0, le=30)
    """Longest wait for the reply to one command, in seconds. The limiter waits at most 0.25 s."""

    connections: int = pydantic.Field(default=32, ge=2, le=1000)
    """Open connections in one process. Further commands wait for a free one."""

    @pydantic.field_validator("url")
    @classmethod
    def _must_be_redis(cls, value: pydantic.SecretStr) -> pydantic.SecretStr:
        if not value.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must begin with redis://, rediss:// or unix://")
        return value


# Pydantic has a deprecated class method of this name, which nothing here uses.
warnings.filterwarnings("ignore", 'Field name "schema" in "MongoSettings"', UserWarning)


class MongoSettings(fields.Group):
    """MongoDB (4.4 or newer), which stores the index."""

    model_config = pydantic_settings.SettingsConfigDict(env_prefix="MONGODB_")

    url: pydantic.SecretStr = pydantic.SecretStr("mongodb://127.0.0.1:27017")
    """mongodb:// or mongodb+srv:// URL. It may contain a password, so it is never printed."""

    database: str = pydantic.Field(default="indexer", pattern=r"^[A-Za-z0-9_-]{1,60}$")
    """Name of the database."""

    timeout: float = pydantic.Field(default=10.0, gt=0, le=60)
    """Longest time for one operation, retries included, in seconds."""

    connections: int = pydantic.Field(default=4, ge=1, le=100)
    """Most connections of one process. Few, so that waiting happens in the process, where it is ordered and seen, and
    not inside the server: with 66 connections the embedded server stood in a convoy for its own lock, with 3 a process
    the same load went through. One bulk for each collection is under way at a time, beside reads."""

    schema: Literal["auto", "rows", "documents"] = "auto"  # type: ignore[assignment]  # see above
    """Form in which an empty database begins: `documents`, which `auto` means, or `rows`, as in the release before.
    A database that holds data keeps its form until `python -m indexer_service migrate`; see docs/upgrade.md."""

    @pydantic.field_validator("url")
    @classmethod
    def _must_be_mongodb(cls, value: pydantic.SecretStr) -> pydantic.SecretStr:
        if not value.get_secret_value().startswith(("mongodb://", "mongodb+srv://")):
            raise ValueError("must begin with mongodb:// or mongodb+srv://")
        return value


KEY_BYTES = 32
"""Length of an AES-256 key."""


def _decode_keys(value: str) -> tuple[bytes, ...]:
    keys = []
    for number, text in enumerate(filter(None, (part.strip() for part in value.split(","))), start=1):
        try:
            key = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except ValueError as error:
            raise ValueError(f"key {number} is not base64url") from error
        if len(key) != KEY_BYTES:
            raise ValueError(f"key {number} must have {KEY_BYTES} bytes")
        keys.append(key)
    if not keys:
        raise ValueError("needs at least one key; make one with: openssl rand -base64 32 | tr '+/' '-_'")
    return tuple(keys)


class SecretSettings(fields.Group):
    """Encryption keys."""

    model_config = pydantic_settings.SettingsConfigDict(env_prefix="INDEXER_")

    credential_keys: pydantic.SecretStr
    """Comma-separated base64url keys of 32 bytes, for stored credentials and for page and resume tokens.
    The first key encrypts and signs, all keys decrypt and verify.
    To rotate: append a new key in all processes, then move it to the front, then run `indexer keys rotate`, then remove
    the old key."""

    @pydantic.field_validator("credential_keys")
    @classmethod
    def _must_be_keys(cls, value: pydantic.SecretStr) -> pydantic.SecretStr:
        _decode_keys(value.get_secret_value())
        return value

    @property
    def keys(self) -> tuple[bytes, ...]:
        """The decoded keys, the encrypting one first."""
        return _decode_keys(self.credential_keys.get_secret_value())


class LogSettings(fields.Group):
    """Logs, on standard error."""

    model_config = pydantic_settings.SettingsConfigDict(env_prefix="LOG_")

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level that is logged."""

    format: Literal["json", "console"] = "json"
    """`json` for log collectors, `console` for a terminal."""


class TraceSettings(fields.Group):
    """Traces; OpenTelemetry's SDK reads its other variables itself, such as OTEL_SERVICE_NAME."""

    model_config = pydantic_settings.SettingsConfigDict(env_prefix="OTEL_")

    exporter_otlp_endpoint: str = ""
    """Endpoint for traces, by OTLP over HTTP; empty sends none."""

    exporter_otlp_traces_endpoint: str = ""
    """The same for traces only. It takes precedence."""

    sdk_disabled: bool = False
    """Send no traces, even with an endpoint."""

    @property
    def on(self) -> bool:
        """Whether traces are sent."""
        return bool(self.exporter_otlp_endpoint or self.exporter_otlp_traces_endpoint) and not self.sdk_disabled
