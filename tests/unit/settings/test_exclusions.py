"""Settings that exclude each other: refused at boot, in one line that names both."""

import operator
from collections.abc import Iterator, Mapping
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies

from indexing import settings
from indexing.settings import display, loading

REQUIRED = {"DISCORD_BOT_TOKEN": "the-bot-token", "INDEXER_CREDENTIAL_KEYS": "a" * 43}


@pytest.fixture(autouse=True)
def environment() -> Iterator[pytest.MonkeyPatch]:
    """An environment with the required secrets and no other setting."""
    with pytest.MonkeyPatch.context() as patch:
        for group in settings.GROUPS.values():
            for field in group.model_fields:
                patch.delenv(settings.variable(group, field), raising=False)
        for name, value in REQUIRED.items():
            patch.setenv(name, value)
        yield patch


def problems_with(variables: Mapping[str, str]) -> list[str]:
    """Return the lines with which the environment is refused, none when it is accepted."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        try:
            settings.load()
        except settings.BadSettings as bad:
            return str(bad).splitlines()
    return []


EXCLUDING = [
    # A turn's lease, a turn, two calls: 40 > 5 + 2 * 10.
    ({"INDEXING_TURN_LEASE": "25"}, ("INDEXING_TURN_LEASE", "INDEXING_TURN_TIME")),
    ({"INDEXING_TURN_TIME": "20"}, ("INDEXING_TURN_LEASE", "INDEXING_TURN_TIME")),
    ({"DISCORD_TIMEOUT": "17.5"}, ("INDEXING_TURN_LEASE", "DISCORD_TIMEOUT")),
    # A guild's lease, one call: 25 > 10.
    ({"INDEXING_GUILD_LEASE": "10"}, ("INDEXING_GUILD_LEASE", "DISCORD_TIMEOUT")),
    ({"DISCORD_TIMEOUT": "26", "INDEXING_TURN_LEASE": "60"}, ("INDEXING_GUILD_LEASE", "DISCORD_TIMEOUT")),
    # The circuit breaker stops bulk calls first: 0.05 <= 0.1.
    ({"LIMITER_STOP_ALL": "0.04"}, ("LIMITER_STOP_ALL", "LIMITER_STOP_BULK")),
    ({"LIMITER_STOP_BULK": "0.2"}, ("LIMITER_STOP_ALL", "LIMITER_STOP_BULK")),
    # The interactive lane gets the rest: 0.2 + 0.02 < 1.
    ({"LIMITER_REFRESH_SHARE": "0.8"}, ("LIMITER_REFRESH_SHARE", "LIMITER_BACKGROUND_SHARE")),
    (
        {"LIMITER_BACKGROUND_SHARE": "0.9", "LIMITER_REFRESH_SHARE": "0.2"},
        ("LIMITER_REFRESH_SHARE", "LIMITER_BACKGROUND_SHARE"),
    ),
    # Roles are read again before they are no longer trusted: 2 days <= 7 days.
    ({"INDEXING_ROLES_HARD_AGE": "172799"}, ("INDEXING_ROLES_HARD_AGE", "INDEXING_ROLES_MAX_AGE")),
    ({"INDEXING_ROLES_MAX_AGE": "604801"}, ("INDEXING_ROLES_HARD_AGE", "INDEXING_ROLES_MAX_AGE")),
    # One process, one port each.
    ({"INDEXER_LISTEN": "127.0.0.1:9464"}, ("INDEXER_METRICS_PORT", "INDEXER_LISTEN")),
    ({"INDEXER_METRICS_PORT": "50051"}, ("INDEXER_METRICS_PORT", "INDEXER_LISTEN")),
    ({"INDEXER_PROBE_PORT": "50051"}, ("INDEXER_PROBE_PORT", "INDEXER_LISTEN")),
    ({"INDEXER_PROBE_PORT": "9464"}, ("INDEXER_PROBE_PORT", "INDEXER_METRICS_PORT")),
    # Half of a pair.
    ({"DISCORD_CLIENT_ID": "7"}, ("DISCORD_CLIENT_SECRET", "DISCORD_CLIENT_ID")),
    ({"DISCORD_CLIENT_SECRET": "hunter2"}, ("DISCORD_CLIENT_SECRET", "DISCORD_CLIENT_ID")),
    ({"INDEXER_TLS_CERT": "/crt"}, ("INDEXER_TLS_KEY", "INDEXER_TLS_CERT")),
    ({"INDEXER_TLS_KEY": "/key"}, ("INDEXER_TLS_KEY", "INDEXER_TLS_CERT")),
    ({"INDEXER_TLS_CLIENT_CA": "/ca"}, ("INDEXER_TLS_CLIENT_CA", "INDEXER_TLS_CERT")),
]


@pytest.mark.parametrize(("variables", "names"), EXCLUDING, ids=" ".join)
def test_settings_are_refused_by_both_names_when_they_exclude_each_other(
    variables: dict[str, str], names: tuple[str, str]
) -> None:
    """One line, under the first name; whichever of the two was changed."""
    (line,) = problems_with(variables)

    assert line.startswith(f"{names[0]}: ")
    assert names[1] in line
    assert "hunter2" not in line


ACCEPTED = [
    {"INDEXING_TURN_LEASE": "25.1"},
    {"INDEXING_GUILD_LEASE": "10.1"},
    {"INDEXING_TURN_LEASE": "12", "INDEXING_GUILD_LEASE": "3.1", "DISCORD_TIMEOUT": "3"},
    {"LIMITER_STOP_ALL": "0.05"},
    {"LIMITER_BACKGROUND_SHARE": "0.5", "LIMITER_REFRESH_SHARE": "0.49"},
    {"INDEXING_ROLES_HARD_AGE": "172800"},
    {"INDEXING_ROLES_MAX_AGE": "0", "INDEXING_ROLES_HARD_AGE": "0"},
    {"INDEXER_METRICS_PORT": "0", "INDEXER_LISTEN": "127.0.0.1:0"},
    {"INDEXER_METRICS_PORT": "0", "INDEXER_PROBE_PORT": "0"},
    {"WORKERS_METRICS_PORT": "9464"},
]


@pytest.mark.parametrize("variables", [{}, *ACCEPTED], ids=lambda value: " ".join(value) or "defaults")
def test_settings_are_accepted_when_they_stand_at_the_edge_of_a_rule(variables: dict[str, str]) -> None:
    """Defaults first of all."""
    assert problems_with(variables) == []


def test_both_values_are_shown_when_settings_exclude_each_other() -> None:
    """An operator sees what to change without looking up a default."""
    assert problems_with({"INDEXING_TURN_LEASE": "12", "INDEXING_GUILD_LEASE": "9"}) == [
        "INDEXING_TURN_LEASE: 12.0 must exceed INDEXING_TURN_TIME (5.0) plus twice DISCORD_TIMEOUT (10.0)",
        "INDEXING_GUILD_LEASE: 9.0 must exceed DISCORD_TIMEOUT (10.0)",
    ]


def test_excluding_settings_are_reported_when_another_setting_of_their_group_is_invalid(
    environment: pytest.MonkeyPatch,
) -> None:
    """All problems at once; only a rule whose own setting is invalid cannot be checked."""
    environment.delenv("DISCORD_BOT_TOKEN")
    invalid = {"INDEXING_TURN_WIDTH": "many", "INDEXING_GUILD_LEASE": "0", "LIMITER_GLOBAL_CREDIT": "7"}

    lines = problems_with({"INDEXING_TURN_LEASE": "12", "LIMITER_STOP_BULK": "0.2", **invalid})

    assert sorted(line.partition(":")[0] for line in lines) == [
        "DISCORD_BOT_TOKEN",
        "INDEXING_GUILD_LEASE",
        "INDEXING_TURN_LEASE",
        "INDEXING_TURN_WIDTH",
        "LIMITER_GLOBAL_CREDIT",
        "LIMITER_STOP_ALL",
    ]


def test_excluding_settings_are_reported_when_settings_are_listed(environment: pytest.MonkeyPatch) -> None:
    """`indexer settings` says what a boot would say, and lists the values all the same."""
    environment.setenv("INDEXING_GUILD_LEASE", "9")

    lines, problems = display.list_settings()

    assert problems == ["INDEXING_GUILD_LEASE: 9.0 must exceed DISCORD_TIMEOUT (10.0)"]
    assert "INDEXING_GUILD_LEASE=9.0" in map(str, lines)


def test_rules_of_groups_that_a_process_does_not_read_do_not_count(environment: pytest.MonkeyPatch) -> None:
    """The exporter and key rotation start whatever the leases are."""
    environment.setenv("INDEXING_GUILD_LEASE", "9")

    assert settings.load_exporter().discord.timeout == 10.0
    assert settings.load_keys().mongo.database == "indexer"


SECONDS = strategies.sampled_from(["0.5", "3", "5", "9.5", "10", "12", "25", "40", "60", "inf"])
SHARES = strategies.sampled_from(["0.01", "0.05", "0.1", "0.5", "0.9"])
PORTS = strategies.sampled_from(["0", "9464", "50051", "50052"])
DRAWN = {
    **dict.fromkeys(("DISCORD_TIMEOUT", "INDEXING_TURN_TIME", "INDEXING_TURN_LEASE", "INDEXING_GUILD_LEASE"), SECONDS),
    **dict.fromkeys(("INDEXING_ROLES_MAX_AGE", "INDEXING_ROLES_HARD_AGE"), SECONDS),
    **dict.fromkeys(("LIMITER_STOP_BULK", "LIMITER_STOP_ALL"), SHARES),
    **dict.fromkeys(("LIMITER_BACKGROUND_SHARE", "LIMITER_REFRESH_SHARE"), SHARES),
    **dict.fromkeys(("INDEXER_METRICS_PORT", "INDEXER_PROBE_PORT"), PORTS),
}


@hypothesis.given(strategies.fixed_dictionaries({}, optional=DRAWN))
def test_every_rule_holds_when_settings_load(variables: dict[str, str]) -> None:
    """Whatever the environment is; and the programs' own table of rules is kept."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        try:
            loaded = settings.load()
        except settings.BadSettings:
            return

    indexing, limiter, service = loaded.indexing, loaded.limiter, loaded.service
    assert indexing.turn_lease > indexing.turn_time + 2 * loaded.discord.timeout
    assert indexing.guild_lease > loaded.discord.timeout
    assert limiter.limiter_stop_bulk <= limiter.limiter_stop_all
    assert limiter.limiter_background_share + limiter.limiter_refresh_share < 1
    assert indexing.roles_max_age <= indexing.roles_hard_age
    ports = [port for port in (50051, service.metrics_port, service.probe_port) if port]
    assert len(ports) == len(set(ports))
    for rule in loading.RULES:
        values: list[Any] = [operator.attrgetter(name)(loaded) for name in rule.settings]
        assert rule.holds(*values)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_final_newline_is_dropped(environment: pytest.MonkeyPatch, end: str) -> None:
    """Secrets come from files that editors end with one; Discord would refuse every call."""
    environment.setenv("DISCORD_BOT_TOKEN", f"the-bot-token{end}")
    environment.setenv("GLOBAL_BUDGET", f"40/1{end}")

    config = settings.load()

    assert config.discord.bot_token.get_secret_value() == "the-bot-token"
    assert config.limiter.global_budget.capacity == 40


@pytest.mark.parametrize("token", ["the bot\ntoken", "two words", "tab\t", "nul\x01"])
def test_a_token_is_refused_by_name_when_it_is_not_one_word(token: str) -> None:
    """It cannot be sent in a header; its text is not shown."""
    (line,) = problems_with({"DISCORD_BOT_TOKEN": token})

    assert line.startswith("DISCORD_BOT_TOKEN")
    assert token not in line
