"""
Redis and MongoDB.

The keys that encrypt and sign.

Logs and traces.
"""

import base64
from typing import Literal

import pydantic
import pydantic_settings

from indexing.settings import fields


class RedisSettings(fields.Group):
    """The Redis (6.2 or newer) or Valkey that all processes share."""

    model_config = pydantic_settings.SettingsConfigDict(env_prefix="REDIS_")

    url: pydantic.SecretStr = pydantic.SecretStr("redis://127.0.0.1:6379/0")
    """redis:// or rediss:// URL. May carry a password, so it is never printed."""

    timeout: float = pydantic.Field(default=2.0, gt=0, le=30)
    """Longest wait for an answer to one command, in seconds (the limiter has a shorter one of its own)."""

    connections: int = pydantic.Field(default=32, ge=2, le=1000)
    """Connections at once in one process; more callers wait for one."""

    @pydantic.field_validator("url")
    @classmethod
    def _must_be_redis(cls, value: pydantic.SecretStr) -> pydantic.SecretStr:
        if not value.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must begin with redis://, rediss:// or unix://")
        return value


class MongoSettings(fields.Group):
    """The MongoDB (4.4 or newer) that holds the index."""

    model_config = pydantic_settings.SettingsConfigDict(env_prefix="MONGODB_")

    url: pydantic.SecretStr = pydantic.SecretStr("mongodb://127.0.0.1:27017")
    """mongodb:// or mongodb+srv:// URL. May carry a password, so it is never printed."""

    database: str = pydantic.Field(default="indexer", pattern=r"^[A-Za-z0-9_-]{1,60}$")
    """Name of the database."""

    timeout: float = pydantic.Field(default=10.0, gt=0, le=60)
    """Longest time for one operation, retries included, in seconds."""

    @pydantic.field_validator("url")
    @classmethod
    def _must_be_mongodb(cls, value: pydantic.SecretStr) -> pydantic.SecretStr:
        if not value.get_secret_value().startswith(("mongodb://", "mongodb+srv://")):
            raise ValueError("must begin with mongodb:// or mongodb+srv://")
        return value


KEY_BYTES = 32
"""Length of an AES-256 key."""


def _keys_of(value: str) -> tuple[bytes, ...]:
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
    """Keys that never leave the process."""

    model_config = pydantic_settings.SettingsConfigDict(env_prefix="INDEXER_")

    credential_keys: pydantic.SecretStr
    """Comma-separated base64url keys of 32 bytes for stored credentials and tokens handed out.
    The first encrypts, all decrypt. To rotate: put a new one behind in all processes, then in front, then run
    `indexer keys rotate`, then take the old one out."""

    @pydantic.field_validator("credential_keys")
    @classmethod
    def _must_be_keys(cls, value: pydantic.SecretStr) -> pydantic.SecretStr:
        _keys_of(value.get_secret_value())
        return value

    @property
    def keys(self) -> tuple[bytes, ...]:
        """The decoded keys, the encrypting one first."""
        return _keys_of(self.credential_keys.get_secret_value())


class LogSettings(fields.Group):
    """Log lines on standard error."""

    model_config = pydantic_settings.SettingsConfigDict(env_prefix="LOG_")

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level that is written."""

    format: Literal["json", "console"] = "json"
    """json for machines, console for people."""


class TraceSettings(fields.Group):
    """OpenTelemetry's standard variables: these turn it on, its SDK reads the others, such as OTEL_SERVICE_NAME."""

    model_config = pydantic_settings.SettingsConfigDict(env_prefix="OTEL_")

    exporter_otlp_endpoint: str = ""
    """Where traces are sent, by OTLP over HTTP; empty sends none."""

    exporter_otlp_traces_endpoint: str = ""
    """The same for traces alone; it goes before the other."""

    sdk_disabled: bool = False
    """Send none although there is an endpoint."""

    @property
    def on(self) -> bool:
        """Whether traces are sent."""
        return bool(self.exporter_otlp_endpoint or self.exporter_otlp_traces_endpoint) and not self.sdk_disabled
