"""
Settings from environment variables, one frozen group per concern; the only place that reads the environment.

Under each field stands its meaning, its unit and why the default is what it is; docs/settings.md is made from here.
"""

import base64
import dataclasses
import pathlib
import re
import urllib.parse
from typing import Annotated, Any, Literal

import pydantic
import pydantic_settings

KEY_BYTES = 32
"""Length of an AES-256 key."""


class Rate(pydantic.BaseModel, frozen=True):
    """A budget's size: `capacity` calls in any `window` seconds. Written as `50/1`."""

    capacity: int = pydantic.Field(gt=0, le=100_000)
    window: float = pydantic.Field(gt=0, le=86_400)

    def __str__(self) -> str:
        return f"{self.capacity}/{self.window:g}"


class RankWeights(pydantic.BaseModel, frozen=True, extra="forbid"):
    """How much each signal counts for the order of a user's guilds; only their proportions matter."""

    recency: float = pydantic.Field(default=0.2, ge=0)
    activity: float = pydantic.Field(default=0.25, ge=0)
    owner: float = pydantic.Field(default=0.2, ge=0)
    role: float = pydantic.Field(default=0.15, ge=0)
    new: float = pydantic.Field(default=0.1, ge=0)
    staleness: float = pydantic.Field(default=0.05, ge=0)
    demand: float = pydantic.Field(default=0.05, ge=0)

    @property
    def total(self) -> float:
        """Their sum, 1 if all are 0."""
        values = (self.recency, self.activity, self.owner, self.role, self.new, self.staleness, self.demand)
        return sum(values) or 1.0

    def __str__(self) -> str:
        return self.model_dump_json()


def _parse_rate(value: object) -> object:
    if isinstance(value, str):
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6}(?:\.\d{1,3})?)", value)
        if match is None:
            raise ValueError("must look like 50/1 (tokens/seconds)")
        return Rate(capacity=int(match[1]), window=float(match[2]))
    return value


def _parse_file(value: object) -> object:
    """Return nothing for no path; who puts a key itself there must not find it printed among the settings."""
    if isinstance(value, str) and ("\n" in value or "-----" in value):
        raise ValueError("must be the path of a file, not what stands in it")
    return value or None


FileField = Annotated[pathlib.Path | None, pydantic.BeforeValidator(_parse_file)]
RateField = Annotated[Rate, pydantic_settings.NoDecode, pydantic.BeforeValidator(_parse_rate)]


class _Group(pydantic_settings.BaseSettings):
    model_config = pydantic_settings.SettingsConfigDict(
        frozen=True, use_attribute_docstrings=True, extra="ignore", hide_input_in_errors=True
    )


class LimiterSettings(_Group):
    """The budgets that service and workers share."""

    global_budget: RateField = Rate(capacity=50, window=1.0)
    """Calls that one bot token may make, over all processes: tokens/seconds.
    50 a second is Discord's documented limit per bot (developers/topics/rate-limits.mdx, read 2026-08-06)."""

    user_budget: RateField = Rate(capacity=5, window=5.0)
    """Calls made on behalf of one user: tokens/seconds.
    Not documented by Discord: the owner's conservative figure."""

    limiter_hold: float | None = pydantic.Field(default=None, ge=0)
    """Seconds without any call after the budgets were lost with Redis: what was in flight then is not known.
    Unset, it is the longest window plus 2 s. Shorter is safe only where Discord's counters were lost as well."""

    limiter_global_credit: float = pydantic.Field(default=0.8, ge=0, le=0.9)
    """Share of the fastest round trip of the last minute by which a permit of the global budget comes back earlier.
    0 is safe whatever the network does; 0.8 is safe as long as it does not suddenly become a fifth faster."""

    limiter_user_credit: float = pydantic.Field(default=0.5, ge=0, le=0.9)
    """The same for the users' budgets, where a round trip is a smaller part of the window."""

    limiter_server_time: bool = False
    """Measure in the server's own time, where answers carry it, how long an answer was under way, and credit that too.
    Off until it has been seen on live traffic that Discord makes these headers where it counts."""

    limiter_reserve: int = pydantic.Field(default=0, ge=0, le=10)
    """Permits of the global budget that only the interactive lane may use. Pacing makes 0 enough."""

    limiter_background_share: float = pydantic.Field(default=0.2, gt=0, le=0.9)
    """Share of the global budget that the background lane gets even while the interactive lane wants all."""

    limiter_refresh_share: float = pydantic.Field(default=0.02, gt=0, le=0.9)
    """The same for the refresh lane."""

    limiter_stop_bulk: float = pydantic.Field(default=0.05, gt=0, le=1)
    """Share of the 10,000 invalid answers in 10 minutes, after which Discord bans the address, at which background
    and refresh stop."""

    limiter_stop_all: float = pydantic.Field(default=0.1, gt=0, le=1)
    """The same, at which every call stops."""


class DiscordSettings(_Group):
    """How Discord is called."""

    model_config = pydantic_settings.SettingsConfigDict(env_prefix="DISCORD_")

    insecure: bool = False
    """Accept an http address that is not loopback, for a simulator in a private network: tokens travel in the clear."""

    api_base: str = "https://discord.com/api/v10"
    """Base URL of the API. Must be https, or http on a loopback address."""

    bot_token: pydantic.SecretStr = pydantic.Field(min_length=1)
    """The bot's token. Channels are read with it, so the bot must be installed in every guild that is to be indexed."""

    timeout: float = pydantic.Field(default=10.0, gt=0, le=60)
    """Longest time for one call, from connecting to the last byte, in seconds.
    A permit whose call never comes back is held for this long plus the budget's window."""

    connections: int = pydantic.Field(default=64, ge=1, le=1000)
    """Connections to Discord at once in one process. 50 calls a second at 150 ms need about 8."""

    max_body_bytes: int = pydantic.Field(default=8 * 2**20, ge=2**16)
    """Longest answer that is read, in bytes. 500 channels with 1,000 overwrites each would be longer: refused."""

    @pydantic.field_validator("api_base")
    @classmethod
    def _must_be_private(cls, value: str, info: pydantic.ValidationInfo) -> str:
        url = urllib.parse.urlsplit(value)
        plain = url.hostname in {"127.0.0.1", "::1", "localhost"} or info.data.get("insecure")
        if not url.hostname or not (url.scheme == "https" or (url.scheme == "http" and plain)):
            raise ValueError("must be https, or http on a loopback address")
        return value.rstrip("/")


class OAuthSettings(_Group):
    """The application in whose name users consent, for whoever renews their tokens."""

    model_config = pydantic_settings.SettingsConfigDict(env_prefix="DISCORD_")

    client_id: str = pydantic.Field(default="", pattern=r"^[A-Za-z0-9_-]{0,64}$")
    """The application's id. With its secret, users' tokens are renewed before they expire; with neither, a user logs in
    again when his token is dead."""

    client_secret: pydantic.SecretStr = pydantic.Field(default=pydantic.SecretStr(""), validate_default=True)
    """The application's secret. It goes to Discord's token endpoint only."""

    @pydantic.field_validator("client_secret")
    @classmethod
    def _must_go_with_the_id(cls, value: pydantic.SecretStr, info: pydantic.ValidationInfo) -> pydantic.SecretStr:
        # An id that is refused for itself is told of alone.
        if "client_id" in info.data and bool(value.get_secret_value()) != bool(info.data["client_id"]):
            raise ValueError("must be set together with DISCORD_CLIENT_ID, or neither")
        return value


class RedisSettings(_Group):
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


class MongoSettings(_Group):
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


class IndexingSettings(_Group):
    """The rules of indexing; the same in service and workers."""

    model_config = pydantic_settings.SettingsConfigDict(env_prefix="INDEXING_")

    max_age: float = pydantic.Field(default=600.0, ge=0)
    """Seconds for which a guild's channels surely count as fresh, so that another user's job does not fetch them again.
    A guild that has not changed for long counts as fresh for longer, up to half a day."""

    install_url: str = pydantic.Field(default="", pattern=r"^(https://[^\s#]+\?[^\s#]*)?$")
    """Link that installs the bot, with its query, such as
    https://discord.com/oauth2/authorize?client_id=1&scope=bot&permissions=1024; the guild's id is added.
    Shown with guilds that lack the bot; empty shows none."""

    retention: float = pydantic.Field(default=30 * 86_400.0, gt=0)
    """Seconds after which what is gone is erased: hidden channels, ended memberships, guilds without members."""

    refresh_interval: float = pydantic.Field(default=15.0, gt=0)
    """Seconds between two looks for guilds that are to be read again though nobody asks."""

    refresh_width: int = pydantic.Field(default=8, ge=1, le=50)
    """Guilds read again side by side."""

    list_max_age: float = pydantic.Field(default=60.0, ge=0)
    """Seconds after a successful job's start during which another start is answered FRESH, without asking Discord."""

    rank_weights: RankWeights = RankWeights()
    """How much each signal counts for the order of a user's guilds, as JSON with any of these names: when the user last
    opened the guild, its newest message (or its people, before it is read), his ownership, his role, whether it was
    never read, how old its channels are, how many users ask for it. Our guess of what is opened first."""

    roles_max_age: float = pydantic.Field(default=2 * 86_400.0, ge=0)
    """Seconds after which a user's role ids in a guild are asked for again, if they can change what he sees: one call
    for each such guild. A role that was taken away is noticed so late at worst; a forced job asks at once."""

    roles_hard_age: float = pydantic.Field(default=7 * 86_400.0, ge=0)
    """Seconds after which what a user may do is no longer believed. Role ids: what depends on a role is hidden until
    they are read. His guild list, with his permissions: all channels are hidden until he is indexed again."""

    turn_width: int = pydantic.Field(default=5, ge=1, le=25)
    """Guilds that one turn works on side by side. Five is what a user's budget allows at once."""

    turn_time: float = pydantic.Field(default=5.0, gt=0, le=60)
    """Seconds after which a turn starts no further guild, so that many users take turns on few threads."""

    turn_lease: float = pydantic.Field(default=40.0, gt=0)
    """Seconds after which a turn that was not heard of is given to somebody else.
    Must exceed the time of a turn plus two timeouts of Discord."""

    max_attempts: int = pydantic.Field(default=5, ge=1, le=20)
    """Attempts for a guild that fails for a passing cause, before it counts as FAILED."""

    retry_base: float = pydantic.Field(default=5.0, gt=0)
    """Seconds before the second attempt; doubled for each further one, with jitter."""

    guild_lease: float = pydantic.Field(default=25.0, gt=0)
    """Seconds for which one process may fetch a guild alone. Must exceed the timeout of a call to Discord."""

    bot_guilds_age: float = pydantic.Field(default=86_400.0, gt=0)
    """Seconds for which the list of guilds that have our bot is believed. It is read again on doubt: when a job is
    forced for a user with guilds outside it. A guild in it that refuses is asked about alone."""

    sweep_interval: float = pydantic.Field(default=15.0, gt=0)
    """Seconds between two looks for jobs whose next turn is overdue."""

    job_retention: float = pydantic.Field(default=7 * 86_400.0, gt=0)
    """Seconds for which an ended job can be asked for."""


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


class SecretSettings(_Group):
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


class ServiceSettings(_Group):
    """The gRPC service."""

    model_config = pydantic_settings.SettingsConfigDict(env_prefix="INDEXER_")

    listen: str = pydantic.Field(default="127.0.0.1:50051", pattern=r"^(\[[0-9a-f:]+\]|[A-Za-z0-9_.-]+):\d{1,5}$")
    """gRPC address, host:port. Only loopback is accepted unless there is TLS and callers show tokens."""

    tls_cert: FileField = None
    """File with the certificate of the gRPC address and its chain, as PEM; empty serves without TLS.
    This file and the others below are looked at again while the service runs: a change needs no restart."""

    tls_key: FileField = pydantic.Field(default=None, validate_default=True)
    """File with the certificate's private key, as PEM, without a password."""

    tls_client_ca: FileField = None
    """File with the authorities, as PEM, of which every caller must show a certificate; empty asks for none."""

    service_tokens_file: FileField = None
    """File with the callers' tokens, as hashes, with scopes and rates: one of which every call must show.
    Lines are made by `indexer token new`; docs/callers.md tells more. Empty asks for none."""

    reload_interval: float = pydantic.Field(default=5.0, gt=0, le=3600)
    """Seconds between two looks whether these files have changed. A token that is taken out counts so long at most."""

    reflection: bool = False
    """Answer gRPC server reflection, for tools such as grpcurl, to everybody; for development."""

    metrics_port: int = pydantic.Field(default=9464, ge=0, le=65_535)
    """Port of /metrics; 0 serves none."""

    probe_port: int = pydantic.Field(default=0, ge=0, le=65_535)
    """Port, on all addresses, of grpc.health.v1 alone and without TLS, because Kubernetes' probes speak none;
    0 serves none. The gRPC address answers grpc.health.v1 as well."""

    insecure: bool = False
    """Accept a listen address that is not loopback although there is no TLS, or callers show no token."""

    drain: float = pydantic.Field(default=20.0, ge=0)
    """Seconds that running calls get after SIGTERM; keep it below the pod's grace period."""

    max_watchers: int = pydantic.Field(default=10_000, ge=1)
    """WatchProgress streams at once in one process; more are refused."""

    max_watchers_per_job: int = pydantic.Field(default=100, ge=1)
    """WatchProgress streams of one job at once in one process; more are refused."""

    max_stream_age: float = pydantic.Field(default=3600.0, gt=0)
    """Seconds, ±20 %, after which a stream is ended so that watchers spread over the processes that run now."""

    @property
    def guarded(self) -> bool:
        """Whether callers prove who they are, and nobody else hears it."""
        return bool(self.tls_cert and self.service_tokens_file)

    @pydantic.field_validator("tls_key", "tls_client_ca")
    @classmethod
    def _must_fit_the_certificate(
        cls, value: pathlib.Path | None, info: pydantic.ValidationInfo
    ) -> pathlib.Path | None:
        certificate = info.data.get("tls_cert")
        if value and not certificate:
            raise ValueError("needs INDEXER_TLS_CERT as well")
        if certificate and not value and info.field_name == "tls_key":
            raise ValueError("must be set, because INDEXER_TLS_CERT is")
        return value


class WorkerSettings(_Group):
    """The worker processes."""

    model_config = pydantic_settings.SettingsConfigDict(env_prefix="WORKERS_")

    metrics_port: int = pydantic.Field(default=9465, ge=0, le=65_535)
    """Port of /metrics, /livez and /readyz; 0 serves none."""

    threads: int = pydantic.Field(default=32, ge=1, le=256)
    """Turns at once in one process: each holds a thread while it waits for Discord."""

    refresh: bool = True
    """Workers also read guilds again and erase what is gone; 0 where `python -m workers.refresh` runs for that."""

    shutdown_timeout: float = pydantic.Field(default=25.0, gt=0)
    """Seconds that running turns get after SIGTERM; keep it below the pod's grace period."""


class ExporterSettings(_Group):
    """The process that shows what belongs to the whole fleet; one is enough."""

    model_config = pydantic_settings.SettingsConfigDict(env_prefix="EXPORTER_")

    port: int = pydantic.Field(default=9466, ge=0, le=65_535)
    """Port of /metrics, /livez and /readyz; 0 serves none."""

    timeout: float = pydantic.Field(default=5.0, gt=0, le=60)
    """Longest time for reading one source during a scrape, in seconds; keep it below Prometheus' scrape timeout."""


class LogSettings(_Group):
    """Log lines on standard error."""

    model_config = pydantic_settings.SettingsConfigDict(env_prefix="LOG_")

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level that is written."""

    format: Literal["json", "console"] = "json"
    """json for machines, console for people."""


class TraceSettings(_Group):
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


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """All groups. The service reads `service`, the workers read `workers`, both read the rest."""

    discord: DiscordSettings
    oauth: OAuthSettings
    limiter: LimiterSettings
    redis: RedisSettings
    mongo: MongoSettings
    indexing: IndexingSettings
    secrets: SecretSettings
    service: ServiceSettings
    workers: WorkerSettings
    logs: LogSettings
    traces: TraceSettings


@dataclasses.dataclass(frozen=True, slots=True)
class ExporterConfig:
    """What the exporter reads: no key to any credential is among it."""

    discord: DiscordSettings
    limiter: LimiterSettings
    redis: RedisSettings
    mongo: MongoSettings
    exporter: ExporterSettings
    logs: LogSettings


@dataclasses.dataclass(frozen=True, slots=True)
class KeysConfig:
    """What rotating keys reads."""

    mongo: MongoSettings
    secrets: SecretSettings
    logs: LogSettings


class BadSettings(Exception):
    """Some variables cannot be accepted; the message has one line for each, with its name."""


GROUPS: dict[str, type[_Group]] = {
    "discord": DiscordSettings,
    "oauth": OAuthSettings,
    "limiter": LimiterSettings,
    "redis": RedisSettings,
    "mongo": MongoSettings,
    "indexing": IndexingSettings,
    "secrets": SecretSettings,
    "service": ServiceSettings,
    "workers": WorkerSettings,
    "exporter": ExporterSettings,
    "logs": LogSettings,
    "traces": TraceSettings,
}


def variable(group: type[_Group], field: str) -> str:
    """Return the name of the environment variable that sets *field* of *group*."""
    return (group.model_config.get("env_prefix", "") + field).upper()


def _problem(kind: str, message: str) -> str:
    return "must be set" if kind == "missing" else message.removeprefix("Value error, ")


def problems_of(group: type[_Group], error: pydantic.ValidationError) -> list[str]:
    """Return what is wrong with a group, by variable name; no value is shown."""
    return [
        f"{variable(group, str(item['loc'][0]))}: {_problem(item['type'], item['msg'])}"
        for item in error.errors(include_input=False, include_url=False)
    ]


def load() -> Settings:
    """
    Read all settings of service and workers from the environment.

    Raises:
        BadSettings: With every problem of every group, by variable name; no value is shown.
    """
    return Settings(**_read(Settings))


def load_exporter() -> ExporterConfig:
    """Read the exporter's settings from the environment; see `load`."""
    return ExporterConfig(**_read(ExporterConfig))


def load_keys() -> KeysConfig:
    """Read from the environment what rotating keys needs; see `load`."""
    return KeysConfig(**_read(KeysConfig))


def _read(wanted: type[Settings | ExporterConfig | KeysConfig]) -> dict[str, Any]:
    problems: list[str] = []
    groups: dict[str, Any] = {}
    for name in (field.name for field in dataclasses.fields(wanted)):
        group = GROUPS[name]
        try:
            groups[name] = group()
        except pydantic.ValidationError as error:
            problems += problems_of(group, error)
    if problems:
        raise BadSettings("\n".join(problems))
    return groups
