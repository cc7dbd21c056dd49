"""The processes: service, workers, exporter."""

import pathlib

import pydantic
import pydantic_settings

from indexing.settings import fields


class ServiceSettings(fields.Group):
    """The gRPC service."""

    model_config = pydantic_settings.SettingsConfigDict(env_prefix="INDEXER_")

    listen: str = pydantic.Field(default="127.0.0.1:50051", pattern=r"^(\[[0-9a-f:]+\]|[A-Za-z0-9_.-]+):\d{1,5}$")
    """gRPC address, host:port. Only loopback is accepted unless there is TLS and callers show tokens."""

    tls_cert: fields.FileField = None
    """File with the certificate of the gRPC address and its chain, as PEM; empty serves without TLS.
    This file and the others below are looked at again while the service runs: a change needs no restart."""

    tls_key: fields.FileField = pydantic.Field(default=None, validate_default=True)
    """File with the certificate's private key, as PEM, without a password."""

    tls_client_ca: fields.FileField = None
    """File with the authorities, as PEM, of which every caller must show a certificate; empty asks for none."""

    service_tokens_file: fields.FileField = None
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

    slow_watcher: float = pydantic.Field(default=60.0, gt=0)
    """Seconds for which one message of a stream may wait for its reader, before the stream is closed."""

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


class WorkerSettings(fields.Group):
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


class ExporterSettings(fields.Group):
    """The process that shows what belongs to the whole fleet; one is enough."""

    model_config = pydantic_settings.SettingsConfigDict(env_prefix="EXPORTER_")

    port: int = pydantic.Field(default=9466, ge=0, le=65_535)
    """Port of /metrics, /livez and /readyz; 0 serves none."""

    timeout: float = pydantic.Field(default=5.0, gt=0, le=60)
    """Longest time for reading one source during a scrape, in seconds; keep it below Prometheus' scrape timeout."""
