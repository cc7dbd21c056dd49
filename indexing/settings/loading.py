"""
Reads the groups that a process needs, and tells all problems at once.

The settings as they are in force, for operators: every variable with its value, and no secret.
"""

import dataclasses
import re
from typing import Any

import pydantic

from indexing.settings import discord as discord_settings
from indexing.settings import fields, infrastructure, processes
from indexing.settings import indexing as indexing_settings


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """All groups. The service reads `service`, the workers read `workers`, both read the rest."""

    discord: discord_settings.DiscordSettings
    oauth: discord_settings.OAuthSettings
    limiter: discord_settings.LimiterSettings
    redis: infrastructure.RedisSettings
    mongo: infrastructure.MongoSettings
    indexing: indexing_settings.IndexingSettings
    secrets: infrastructure.SecretSettings
    service: processes.ServiceSettings
    workers: processes.WorkerSettings
    logs: infrastructure.LogSettings
    traces: infrastructure.TraceSettings


@dataclasses.dataclass(frozen=True, slots=True)
class ExporterConfig:
    """What the exporter reads: no key to any credential is among it."""

    discord: discord_settings.DiscordSettings
    limiter: discord_settings.LimiterSettings
    redis: infrastructure.RedisSettings
    mongo: infrastructure.MongoSettings
    exporter: processes.ExporterSettings
    logs: infrastructure.LogSettings


@dataclasses.dataclass(frozen=True, slots=True)
class KeysConfig:
    """What rotating keys reads."""

    mongo: infrastructure.MongoSettings
    secrets: infrastructure.SecretSettings
    logs: infrastructure.LogSettings


class BadSettings(Exception):
    """Some variables cannot be accepted; the message has one line for each, with its name."""


GROUPS: dict[str, type[fields.Group]] = {
    "discord": discord_settings.DiscordSettings,
    "oauth": discord_settings.OAuthSettings,
    "limiter": discord_settings.LimiterSettings,
    "redis": infrastructure.RedisSettings,
    "mongo": infrastructure.MongoSettings,
    "indexing": indexing_settings.IndexingSettings,
    "secrets": infrastructure.SecretSettings,
    "service": processes.ServiceSettings,
    "workers": processes.WorkerSettings,
    "exporter": processes.ExporterSettings,
    "logs": infrastructure.LogSettings,
    "traces": infrastructure.TraceSettings,
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


WITH_PASSWORD = re.compile(r"//[^/@\s]*@")
"""The part of a URL that names a user and his password."""


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """
    One variable.

    Attributes:
        value: As it is in force; of a secret only whether it is there.
        given: Whether it comes from the environment; else it is the default.
    """

    variable: str
    value: str
    given: bool

    def __str__(self) -> str:
        return f"{self.variable}={self.value}{'' if self.given else '  # default'}"


def read() -> tuple[list[Line], list[str]]:
    """Return the variables of all groups that can be accepted, and the problems of the others, by variable name."""
    lines: list[Line] = []
    problems: list[str] = []
    for group in GROUPS.values():
        try:
            lines += _lines(group())
        except pydantic.ValidationError as error:
            problems += problems_of(group, error)
    return lines, problems


def _lines(group: Any) -> list[Line]:  # noqa: ANN401 -- any of the groups
    given = group.model_fields_set
    return [
        Line(fields.variable(type(group), name), _shown(getattr(group, name)), name in given)
        for name in type(group).model_fields
    ]


def _shown(value: object) -> str:
    if isinstance(value, pydantic.SecretStr):
        return "(secret, set)" if value.get_secret_value() else "(secret, empty)"
    if isinstance(value, list | tuple | set | frozenset | dict) and "SecretStr" in repr(value):
        return "(secret, set)"
    return WITH_PASSWORD.sub("//(secret)@", str(value))
