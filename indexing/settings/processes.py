"""The processes: service, workers, exporter."""

import pathlib

import pydantic
import pydantic_settings

from indexing.settings import fields, server_urls


class ServiceSettings(fields.Group):
    """The gRPC service."""

    model_config = pydantic_settings.SettingsConfigDict(env_prefix="INDEXER_")

    listen: str = pydantic.Field(default="127.0.0.1:50051", pattern=r"^(\[[0-9a-f:]+\]|[A-Za-z0-9_.-]+):\d{1,5}$")
    """gRPC address, host:port. An address beyond loopback needs TLS and service tokens, or INDEXER_INSECURE."""

    tls_cert: fields.FileField = None
    """File with the certificate of the gRPC address and its chain, as PEM; empty serves without TLS.
    The service picks up a change of this file and of the other files without a restart."""

    tls_key: fields.FileField = pydantic.Field(default=None, validate_default=True)
    """File with the certificate's private key, as PEM, without a password. Goes with the certificate."""

    tls_client_ca: fields.FileField = None
    """File with the certificate authorities, as PEM, one of which must have signed each caller's certificate.
    Empty asks callers for no certificate. Needs the service's certificate."""

    service_tokens_file: fields.FileField = None
    """File with the hashes of the callers' tokens, their scopes and their rates. Every call must carry a listed token.
    `indexer token new` creates its lines; see docs/callers.md. Empty asks for no token."""

    reload_interval: float = pydantic.Field(default=5.0, gt=0, le=3600)
    """Seconds between two checks of these files for changes. A removed token stays valid for at most this time."""

    reflection: bool = False
    """Answer gRPC server reflection, for tools such as grpcurl, to every caller; for development."""

    metrics_port: int = pydantic.Field(default=9464, ge=0, le=65_535, validate_default=True)
    """Port of /metrics; 0 serves none. Must differ from the gRPC port."""

    metrics_host: fields.HostField = ""
    """Address of /metrics. Empty: loopback where INDEXER_LISTEN is loopback, otherwise all addresses. /metrics has no
    user data and asks for no token. A request has 10 s to arrive; of more than 32 connections the oldest is closed."""

    probe_port: int = pydantic.Field(default=0, ge=0, le=65_535)
    """Port, on all addresses, of grpc.health.v1 without TLS, because Kubernetes' probes support no TLS; 0 serves none.
    The gRPC address serves grpc.health.v1 as well. Must differ from the gRPC port and the metrics port."""

    insecure: bool = False
    """Accept a listen address beyond loopback without TLS or without service tokens."""

    drain: float = pydantic.Field(default=20.0, ge=0)
    """Seconds that calls in flight get after SIGTERM. Must be below the pod's grace period, 45 s in the manifests."""

    max_connections: int = pydantic.Field(default=128, ge=1)
    """Connections at once to the gRPC address, and to the probe port; more are closed at once. Each takes up to 50 KiB,
    and 20 KiB for each of its streams. A limit for each peer is the network's task, see docs/callers.md."""

    max_streams_per_connection: int = pydantic.Field(default=100, ge=1)
    """Calls and streams at once on one connection. A client with more of them waits, or needs several connections."""

    max_request_bytes: int = pydantic.Field(default=65_536, ge=32_768, le=4_194_304)
    """Longest request, in bytes."""

    receive_timeout: float = pydantic.Field(default=10.0, gt=0, le=300)
    """Seconds for the arrival of a request, counted from its headers."""

    handshake_timeout: float = pydantic.Field(default=5.0, gt=0, le=120)
    """Seconds for the handshakes of TLS and HTTP/2 on a new connection."""

    connection_idle: float = pydantic.Field(default=300.0, gt=0)
    """Seconds without a call after which a connection is closed; clients open a new one at their next call."""

    connection_age: float = pydantic.Field(default=3600.0, gt=0)
    """Seconds, ±10 %, after which a connection gets no new calls; clients open another one. Streams that are open end
    by their own age; what is left is closed a minute after the longest age of a stream."""

    max_health_calls: int = pydantic.Field(default=64, ge=1)
    """Health checks at once in one process; they need no token. More are refused."""

    max_health_streams: int = pydantic.Field(default=64, ge=1)
    """Streams of health changes (Health/Watch) at once in one process; they need no token. More are refused."""

    max_health_streams_per_peer: int = pydantic.Field(default=8, ge=1)
    """The same for one client address."""

    max_health_stream_age: float = pydantic.Field(default=300.0, gt=0)
    """Seconds after which a stream of health changes ends; clients open a new one."""

    max_watchers: int = pydantic.Field(default=10_000, ge=1)
    """WatchProgress and WatchIndex streams at once in one process; more are refused. If the tokens file has several
    callers that may watch, half of the places is reserved for them in equal parts."""

    max_watchers_per_job: int = pydantic.Field(default=100, ge=1)
    """WatchProgress streams of one job, and WatchIndex streams of one user, of one caller at once in one process; more
    are refused."""

    max_stream_age: float = pydantic.Field(default=3600.0, gt=0)
    """Seconds, ±20 %, after which a stream is ended, so that watchers spread over the processes that run now."""

    slow_watcher: float = pydantic.Field(default=60.0, gt=0)
    """Seconds for which one message of a stream may wait for its reader; then the stream is closed."""

    @property
    def on_loopback(self) -> bool:
        """Whether the gRPC address can be reached from this machine only."""
        return server_urls.is_local(self.listen)

    @property
    def metrics_address(self) -> tuple[str, int]:
        """Host and port of /metrics; the host is empty for all addresses."""
        return self.metrics_host or ("127.0.0.1" if self.on_loopback else ""), self.metrics_port

    @property
    def guarded(self) -> bool:
        """Whether callers are authenticated over an encrypted connection."""
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

    @pydantic.field_validator("metrics_port", "probe_port")
    @classmethod
    def _must_differ_from_other_ports(cls, value: int, info: pydantic.ValidationInfo) -> int:
        listen = info.data.get("listen", "")
        if value and listen and value == int(listen.rpartition(":")[2]):
            raise ValueError(f"{value} must differ from the port of INDEXER_LISTEN ({listen})")
        if value and value == info.data.get("metrics_port"):
            raise ValueError(f"{value} must differ from INDEXER_METRICS_PORT ({value})")
        return value


class WorkerSettings(fields.Group):
    """The worker processes."""

    model_config = pydantic_settings.SettingsConfigDict(env_prefix="WORKERS_")

    metrics_port: int = pydantic.Field(default=9465, ge=0, le=65_535)
    """Port of /metrics, /livez and /readyz; 0 serves none."""

    metrics_host: fields.HostField = ""
    """Address of that port. Empty: all addresses, because an orchestrator's probes come from outside. The limits of
    INDEXER_METRICS_HOST hold here too."""

    threads: int = pydantic.Field(default=128, ge=1, le=512)
    """Turns at once in one process. Each holds a thread while it waits for Discord."""

    refresh: bool = True
    """Workers also refresh guilds and erase obsolete data. Set 0 where `python -m workers.refresh` does that."""

    shutdown_timeout: float = pydantic.Field(default=25.0, gt=0)
    """Seconds that running turns get after SIGTERM. Must be below half of the pod's grace period, because
    Dramatiq uses it up to twice; the manifests have 60 s.
    The default is enough for the defaults of INDEXING_TURN_TIME plus twice DISCORD_TIMEOUT."""

    @property
    def metrics_address(self) -> tuple[str, int]:
        """Host and port of /metrics, /livez and /readyz; the host is empty for all addresses."""
        return self.metrics_host, self.metrics_port

    @property
    def spare_turns(self) -> int:
        """
        Turns that a process may hold beside those that run, and turns that may be ready for it.

        All of them precede turns that become due later, of whichever caller. So they are few, but enough that a freed
        thread does not wait for the next poll.
        """
        return max(1, self.threads // 8)


class ExporterSettings(fields.Group):
    """The exporter of fleet-wide metrics, an optional singleton."""

    model_config = pydantic_settings.SettingsConfigDict(env_prefix="EXPORTER_")

    port: int = pydantic.Field(default=9466, ge=0, le=65_535)
    """Port of /metrics, /livez and /readyz; 0 serves none."""

    host: fields.HostField = ""
    """Address of that port, as WORKERS_METRICS_HOST."""

    timeout: float = pydantic.Field(default=5.0, gt=0, le=60)
    """Longest time for reading one source during a scrape, in seconds. Must be below Prometheus' scrape timeout."""
