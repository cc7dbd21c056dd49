"""What every process stands on: Redis, MongoDB, the encryption keys, logs and traces."""

import base64
import hmac
import re
import warnings
from typing import Literal

import pydantic
import pydantic_settings

from indexing.settings import fields, server_urls


class RedisSettings(fields.Group):
    """Redis (6.2 or newer) or Valkey, shared by all processes."""

    model_config = pydantic_settings.SettingsConfigDict(env_prefix="REDIS_")

    insecure: bool = False
    """Accept servers beyond loopback without TLS, or with TLS that does not verify them, for a private network.
    Passwords, and the data of users, travel in clear text; each process logs a warning at boot."""

    url: pydantic.SecretStr = pydantic.SecretStr("redis://127.0.0.1:6379/0")
    """URL of one primary: redis://, rediss:// or unix://; or of its Sentinels:
    redis+sentinel://user:password@host:26379,host:26379/service/0, with rediss+sentinel:// for TLS to servers and
    Sentinels. Its options sentinel_username, sentinel_password and sentinel_tls=0 apply to the Sentinels. It may
    contain a password, so it is never printed."""

    timeout: float = pydantic.Field(default=2.0, gt=0, le=30)
    """Longest wait for the reply to one command, in seconds. The limiter waits at most 1 s."""

    connections: int = pydantic.Field(default=32, ge=2, le=1000)
    """Open connections in one process. Further commands wait for a free one."""

    start_timeout: float = pydantic.Field(default=60.0, ge=0, le=3600)
    """Seconds for which a process that starts waits for a Redis that is unreachable, loads its data or is a replica.
    Then it exits. The startup probes of the manifests allow twice as much."""

    @pydantic.field_validator("url")
    @classmethod
    def _must_be_redis(cls, value: pydantic.SecretStr, info: pydantic.ValidationInfo) -> pydantic.SecretStr:
        url = value.get_secret_value()
        server_urls.check_redis(url)
        if not info.data.get("insecure") and server_urls.redis_in_clear(url):
            raise ValueError(f"{server_urls.IN_CLEAR}; use rediss://, or set REDIS_INSECURE=1")
        return value

    @property
    def address(self) -> str:
        """The URL's hosts and ports, without secrets."""
        return server_urls.redis_address(self.url.get_secret_value())

    @property
    def warning(self) -> str:
        """What is accepted in the URL, but has a cost; empty for most URLs."""
        return server_urls.IN_CLEAR if server_urls.redis_in_clear(self.url.get_secret_value()) else ""

    @property
    def tls(self) -> bool:
        """Whether the servers speak TLS."""
        return self.url.get_secret_value().startswith("rediss")

    @property
    def sentinel(self) -> server_urls.SentinelUrl | None:
        """The parts of a Sentinel URL; None for a plain URL."""
        return server_urls.parse_sentinel(self.url.get_secret_value())


# Pydantic has a deprecated class method of this name, which nothing here uses.
warnings.filterwarnings("ignore", 'Field name "schema" in "MongoSettings"', UserWarning)


class MongoSettings(fields.Group):
    """MongoDB (4.4 or newer), which stores the index."""

    model_config = pydantic_settings.SettingsConfigDict(env_prefix="MONGODB_")

    insecure: bool = False
    """Accept servers beyond loopback without TLS, or with TLS that does not verify them, for a private network.
    Passwords, and the data of users, travel in clear text; each process logs a warning at boot."""

    url: pydantic.SecretStr = pydantic.SecretStr("mongodb://127.0.0.1:27017")
    """mongodb:// or mongodb+srv:// URL. It may contain a password, so it is never printed. Options that let reads lag
    or writes be lost are refused: readPreference, maxStalenessSeconds, journal=false, wtimeoutMS, and readConcernLevel
    other than local or majority."""

    database: str = pydantic.Field(default="indexer", pattern=r"^[A-Za-z0-9_-]{1,60}$")
    """Name of the database."""

    timeout: float = pydantic.Field(default=10.0, gt=0, le=60)
    """Longest time for one operation, retries included, in seconds."""

    start_timeout: float = pydantic.Field(default=45.0, ge=0, le=3600)
    """Seconds for which a process that starts waits for a MongoDB that is unreachable or has no primary. Then it exits.
    With REDIS_START_TIMEOUT this stays below the 120 s of the manifests' startup probes."""

    connections: int = pydantic.Field(default=4, ge=1, le=100)
    """Operations that one process has under way at a MongoDB near by, each on its own connection. Few, so that waiting
    happens in the process, where it is ordered and seen, and not inside the server: with 66 connections the embedded
    server stood in a convoy for its own lock, with 3 a process the same load went through. One bulk for each collection
    is under way at a time, beside reads."""

    most_connections: int = pydantic.Field(default=32, ge=1, le=100)
    """The same while the server is far away. In between, the bound grows in proportion to the shortest latency of the
    last seconds: MONGODB_CONNECTIONS up to 10 ms, the whole from 80 ms on. A server that is busy instead has a short
    shortest latency, and gets no more. The same value as that of MONGODB_CONNECTIONS, or a smaller one, fixes the
    bound. A few connections more are for probes."""

    schema: Literal["auto", "rows", "documents"] = "auto"  # type: ignore[assignment]  # see above
    """Form in which an empty database begins: `documents`, which `auto` means, or `rows`, as in the release before.
    A database that holds data keeps its form until `python -m indexer_service migrate`; see docs/upgrade.md."""

    @pydantic.field_validator("url")
    @classmethod
    def _must_be_mongodb(cls, value: pydantic.SecretStr, info: pydantic.ValidationInfo) -> pydantic.SecretStr:
        url = value.get_secret_value()
        server_urls.check_mongodb(url)
        if not info.data.get("insecure") and server_urls.mongodb_in_clear(url):
            raise ValueError(f"{server_urls.IN_CLEAR}; add tls=true to it, or set MONGODB_INSECURE=1")
        return value

    @property
    def connections_bound(self) -> int:
        """The most operations under way, however far the server is."""
        return max(self.connections, self.most_connections)

    @property
    def warning(self) -> str:
        """What is accepted in the URL, but has a cost; empty for most URLs."""
        return server_urls.mongodb_warning(self.url.get_secret_value())


KEY_BYTES = 32
"""Length of an AES-256 key."""
BASE64 = re.compile(r"[A-Za-z0-9_+/-]*={0,2}")
"""One value in either alphabet of base64 (RFC 4648)."""


def _decode_keys(value: str) -> tuple[bytes, ...]:
    keys = []
    for number, text in enumerate(filter(None, (part.strip() for part in value.split(","))), start=1):
        # Python's decoder skips other characters and ends at the padding: of two keys on two lines, one would count.
        try:
            key = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)) if BASE64.fullmatch(text) else None
        except ValueError:
            key = None
        if key is None:
            raise ValueError(f"key {number} is not base64url")
        if len(key) != KEY_BYTES:
            raise ValueError(f"key {number} must have {KEY_BYTES} bytes, not {len(key)}")
        if not any(key):
            raise ValueError(f"key {number} is all zeros; make one with: openssl rand -base64 32 | tr '+/' '-_'")
        keys.append(key)
    if not keys:
        raise ValueError("needs at least one key; make one with: openssl rand -base64 32 | tr '+/' '-_'")
    return tuple(keys)


def _derive(key: bytes, purpose: str) -> bytes:
    """Return the key for one purpose: HKDF-SHA256 without salt, of which 32 bytes are one block (RFC 5869)."""
    extracted = hmac.digest(bytes(KEY_BYTES), key, "sha256")
    return hmac.digest(extracted, f"discord-channel-indexer {purpose}".encode() + b"\x01", "sha256")


class SecretSettings(fields.Group):
    """Encryption keys."""

    model_config = pydantic_settings.SettingsConfigDict(env_prefix="INDEXER_")

    credential_keys: pydantic.SecretStr
    """Comma-separated base64url keys of 32 bytes, for stored credentials, for page and resume tokens, and for hashes of
    requests. The first key encrypts and signs, all keys decrypt and verify.
    To rotate: append a new key in all processes, then move it to the front, then run `indexer keys rotate`, then remove
    the old key."""

    separate_keys: bool = False
    """Derive a key for each purpose from each key (HKDF), so that none is used for two. Values of both kinds are read
    whatever this says. Set it when no process of release 0.1 runs any more, because that release reads only the other
    kind; then run `indexer keys rotate` to encrypt what is stored with the derived key. The next release sets it."""

    @pydantic.field_validator("credential_keys")
    @classmethod
    def _must_be_keys(cls, value: pydantic.SecretStr) -> pydantic.SecretStr:
        _decode_keys(value.get_secret_value())
        return value

    @property
    def keys(self) -> tuple[bytes, ...]:
        """The decoded keys, the encrypting one first."""
        return _decode_keys(self.credential_keys.get_secret_value())

    def keys_for(self, purpose: str) -> tuple[bytes, ...]:
        """Return the keys for a purpose: the one that encrypts or signs first, then all others that may have."""
        derived = tuple(_derive(key, purpose) for key in self.keys)
        return derived + self.keys if self.separate_keys else self.keys + derived


class LogSettings(fields.Group):
    """Logs, on standard error."""

    model_config = pydantic_settings.SettingsConfigDict(env_prefix="LOG_")

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level that is logged."""

    format: Literal["json", "console"] = "json"
    """`json` for log collectors, `console` for a terminal."""


class AuditSettings(fields.Group):
    """The audit log of the service: one line for each call that changes something or reads a user's data."""

    model_config = pydantic_settings.SettingsConfigDict(env_prefix="AUDIT_")

    log: str = pydantic.Field(default="stdout", min_length=1)
    """`stdout`, `off`, or the path of a file, one for each process. See docs/security.md for its fields."""

    max_bytes: int = pydantic.Field(default=100_000_000, ge=10_000)
    """Size at which a file is renamed to `.1` and a new one begins."""

    files: int = pydantic.Field(default=10, ge=2, le=1000)
    """Files in all; the oldest is deleted. The defaults keep about 5 million calls."""


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
