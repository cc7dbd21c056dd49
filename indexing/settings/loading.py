"""Reads a process's settings groups, checks the rules between groups, and reports every problem at once."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import pydantic
import pydantic_settings

from indexing.settings import discord as discord_settings
from indexing.settings import fields, infrastructure, processes
from indexing.settings import gateway as gateway_settings
from indexing.settings import indexing as indexing_settings


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """The groups of service and workers: the service uses `service`, the workers use `workers`, both use the rest."""

    discord: discord_settings.DiscordSettings
    oauth: discord_settings.OAuthSettings
    limiter: discord_settings.LimiterSettings
    redis: infrastructure.RedisSettings
    mongo: infrastructure.MongoSettings
    indexing: indexing_settings.IndexingSettings
    secrets: infrastructure.SecretSettings
    service: processes.ServiceSettings
    workers: processes.WorkerSettings
    gateway: gateway_settings.GatewaySettings
    logs: infrastructure.LogSettings
    traces: infrastructure.TraceSettings
    audit: infrastructure.AuditSettings


@dataclasses.dataclass(frozen=True, slots=True)
class ExporterConfig:
    """The groups of the exporter, which needs no key to any credential."""

    discord: discord_settings.DiscordSettings
    limiter: discord_settings.LimiterSettings
    redis: infrastructure.RedisSettings
    mongo: infrastructure.MongoSettings
    exporter: processes.ExporterSettings
    logs: infrastructure.LogSettings


@dataclasses.dataclass(frozen=True, slots=True)
class KeysConfig:
    """The groups of the key rotation."""

    mongo: infrastructure.MongoSettings
    secrets: infrastructure.SecretSettings
    logs: infrastructure.LogSettings


@dataclasses.dataclass(frozen=True, slots=True)
class MigrationConfig:
    """The groups of the migration."""

    mongo: infrastructure.MongoSettings
    logs: infrastructure.LogSettings


@dataclasses.dataclass(frozen=True, slots=True)
class StopsConfig:
    """The groups of the commands that show and lift stops of the limiter."""

    discord: discord_settings.DiscordSettings
    limiter: discord_settings.LimiterSettings
    redis: infrastructure.RedisSettings
    mongo: infrastructure.MongoSettings
    logs: infrastructure.LogSettings
    audit: infrastructure.AuditSettings


class BadSettings(Exception):
    """Some variables cannot be accepted; the message has one line for each problem, which begins with the variable."""


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
    "gateway": gateway_settings.GatewaySettings,
    "logs": infrastructure.LogSettings,
    "traces": infrastructure.TraceSettings,
    "audit": infrastructure.AuditSettings,
}


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """
    What must hold between settings of different groups; a rule inside one group is a validator of that group.

    Attributes:
        settings: Each as `group.field`; the first is the one that a problem is reported under.
        holds: Takes the values of `settings`, in their order.
        message: What the first must be. {1} stands for the variable and value of the second, and so on.
    """

    settings: tuple[str, ...]
    holds: Callable[..., bool]
    message: str


RULES = (
    Rule(
        ("indexing.turn_lease", "indexing.turn_time", "discord.timeout"),
        lambda lease, turn, call: lease > turn + 2 * call,
        "must exceed {1} plus twice {2}",
    ),
    Rule(
        ("indexing.guild_lease", "discord.timeout"),
        lambda lease, call: lease > call,
        "must exceed {1}",
    ),
)


def load() -> Settings:
    """
    Read all settings of service and workers from the environment.

    Raises:
        BadSettings: With every problem of every group, by variable name; no secret is shown.
    """
    return Settings(**_load_groups(Settings))


def load_exporter() -> ExporterConfig:
    """Read the exporter's settings from the environment; see `load`."""
    return ExporterConfig(**_load_groups(ExporterConfig))


def load_keys() -> KeysConfig:
    """Read the key rotation's settings from the environment; see `load`."""
    return KeysConfig(**_load_groups(KeysConfig))


def load_migration() -> MigrationConfig:
    """Read the migration's settings from the environment; see `load`."""
    return MigrationConfig(**_load_groups(MigrationConfig))


def load_stops() -> StopsConfig:
    """Read the settings of the commands about stops from the environment; see `load`."""
    return StopsConfig(**_load_groups(StopsConfig))


def _load_groups(
    config: type[Settings | ExporterConfig | KeysConfig | MigrationConfig | StopsConfig],
) -> dict[str, Any]:
    groups, problems = read_groups(field.name for field in dataclasses.fields(config))
    if problems:
        raise BadSettings("\n".join(problems))
    return groups


def read_groups(names: Iterable[str]) -> tuple[dict[str, Any], list[str]]:
    """Read groups of `GROUPS`; returns the valid ones by name, and every problem of all of them, one line each."""
    wanted = list(names)
    groups: dict[str, Any] = {}
    problems: list[str] = []
    for name in wanted:
        try:
            groups[name] = GROUPS[name]()
        except pydantic.ValidationError as error:
            problems += list_group_problems(GROUPS[name], error)
    return groups, problems + _list_broken_rules(wanted, groups)


def list_group_problems(group: type[fields.Group], error: pydantic.ValidationError) -> list[str]:
    """Return what is wrong with a group, one line each, by variable name; a refused value is not shown."""
    return [
        f"{fields.variable(group, str(item['loc'][0]))}: {_message_of(item['type'], item['msg'])}"
        for item in error.errors(include_input=False, include_url=False)
    ]


def _message_of(kind: str, message: str) -> str:
    return "must be set" if kind == "missing" else message.removeprefix("Value error, ")


def _list_broken_rules(wanted: list[str], groups: dict[str, Any]) -> list[str]:
    """Return a line for each rule that is broken; a rule about an invalid value cannot be checked."""
    problems = []
    for rule in RULES:
        named = [tuple(each.split(".")) for each in rule.settings]
        if not all(group in wanted for group, _ in named):
            continue
        values = [_value_of(group, field, groups) for group, field in named]
        if None not in values and not rule.holds(*values):
            variables = [fields.variable(GROUPS[group], field) for group, field in named]
            shown = [f"{variable} ({value})" for variable, value in zip(variables, values, strict=True)]
            problems.append(f"{variables[0]}: {values[0]} {rule.message.format(*shown)}")
    return problems


def _value_of(name: str, field: str, groups: dict[str, Any]) -> Any:  # noqa: ANN401 -- of any setting
    """Return a setting's value, also when another one of its group is invalid; None when it is invalid itself."""
    if name in groups:
        return getattr(groups[name], field)
    declared = GROUPS[name].model_fields[field]
    given = pydantic_settings.EnvSettingsSource(GROUPS[name])()
    try:
        return pydantic.TypeAdapter(declared.rebuild_annotation()).validate_python(given.get(field, declared.default))
    except pydantic.ValidationError:
        return None
