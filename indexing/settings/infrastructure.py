"""Redis and MongoDB."""

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
