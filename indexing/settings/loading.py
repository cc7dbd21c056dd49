"""Reads the groups that a process needs, and tells all problems at once."""

import dataclasses
from typing import Any

import pydantic

from indexing.settings import budgets, fields, infrastructure, keys, processes, telemetry
from indexing.settings import discord as discord_settings
from indexing.settings import indexing as indexing_settings


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """All groups. The service reads `service`, the workers read `workers`, both read the rest."""

    discord: discord_settings.DiscordSettings
    oauth: discord_settings.OAuthSettings
    limiter: budgets.LimiterSettings
    redis: infrastructure.RedisSettings
    mongo: infrastructure.MongoSettings
    indexing: indexing_settings.IndexingSettings
    secrets: keys.SecretSettings
    service: processes.ServiceSettings
    workers: processes.WorkerSettings
    logs: telemetry.LogSettings
    traces: telemetry.TraceSettings


@dataclasses.dataclass(frozen=True, slots=True)
class ExporterConfig:
    """What the exporter reads: no key to any credential is among it."""

    discord: discord_settings.DiscordSettings
    limiter: budgets.LimiterSettings
    redis: infrastructure.RedisSettings
    mongo: infrastructure.MongoSettings
    exporter: processes.ExporterSettings
    logs: telemetry.LogSettings


@dataclasses.dataclass(frozen=True, slots=True)
class KeysConfig:
    """What rotating keys reads."""

    mongo: infrastructure.MongoSettings
    secrets: keys.SecretSettings
    logs: telemetry.LogSettings


class BadSettings(Exception):
    """Some variables cannot be accepted; the message has one line for each, with its name."""


GROUPS: dict[str, type[fields.Group]] = {
    "discord": discord_settings.DiscordSettings,
    "oauth": discord_settings.OAuthSettings,
    "limiter": budgets.LimiterSettings,
    "redis": infrastructure.RedisSettings,
    "mongo": infrastructure.MongoSettings,
    "indexing": indexing_settings.IndexingSettings,
    "secrets": keys.SecretSettings,
    "service": processes.ServiceSettings,
    "workers": processes.WorkerSettings,
    "exporter": processes.ExporterSettings,
    "logs": telemetry.LogSettings,
    "traces": telemetry.TraceSettings,
}


def _problem(kind: str, message: str) -> str:
    return "must be set" if kind == "missing" else message.removeprefix("Value error, ")


def problems_of(group: type[fields.Group], error: pydantic.ValidationError) -> list[str]:
    """Return what is wrong with a group, by variable name; no value is shown."""
    return [
        f"{fields.variable(group, str(item['loc'][0]))}: {_problem(item['type'], item['msg'])}"
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
