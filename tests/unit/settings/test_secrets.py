"""No secret is ever shown. Secrets are found by their type, so that a new one is tested as well."""

import re
import subprocess
import sys
import traceback
import types
import typing

import pydantic
import pytest

from indexing import settings
from indexing.settings import display

MARK = "hunter-5f3c9a"
SECRET_NAME = re.compile(r"token|secret|key|password|credential")
NO_SECRET = re.compile(r"file|path|dir")


def is_secret(annotation: object) -> bool:
    """Return whether a field can hold a secret, at any depth of its type."""
    if annotation in {pydantic.SecretStr, pydantic.SecretBytes}:
        return True
    return any(is_secret(inner) for inner in typing.get_args(annotation))


FIELDS = [
    pytest.param(group, name, id=settings.variable(group, name))
    for group in settings.GROUPS.values()
    for name, field in group.model_fields.items()
    if is_secret(field.annotation)
]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without any setting."""
    for group in settings.GROUPS.values():
        for name in group.model_fields:
            monkeypatch.delenv(settings.variable(group, name), raising=False)
    return monkeypatch


@pytest.mark.parametrize(("group", "name"), FIELDS)
def test_a_secret_is_not_shown_when_its_group_is_printed(group: typing.Any, name: str) -> None:  # noqa: ANN401 -- any group
    """Neither in repr and str, nor as a printed dictionary or JSON, nor inside another object."""
    made = group.model_construct(**{name: pydantic.SecretStr(MARK)})

    shown = [
        repr(made),
        str(made),
        repr(made.model_dump()),
        made.model_dump_json(),
        repr(types.SimpleNamespace(a=made)),
    ]

    assert getattr(made, name).get_secret_value() == MARK
    assert MARK not in "".join(shown)


@pytest.mark.parametrize(("group", "name"), FIELDS)
def test_a_secret_is_not_shown_when_settings_are_refused_or_listed(
    environment: pytest.MonkeyPatch,
    group: typing.Any,  # noqa: ANN401 -- as above
    name: str,
) -> None:
    """Whether the value itself or another one is invalid; problems name the variable."""
    environment.setenv(settings.variable(group, name), MARK)
    environment.setenv("LOG_LEVEL", f"no-level-{MARK}")

    with pytest.raises(settings.BadSettings) as bad:
        settings.load()
    lines, problems = display.list_settings()

    assert MARK not in "".join(traceback.format_exception(bad.value)) + repr(bad.value)
    assert MARK not in "".join(map(str, lines)) + "".join(map(repr, lines)) + "".join(problems)
    assert any(line.startswith("LOG_LEVEL: ") for line in problems)


def test_setting_has_a_secret_type_when_its_name_says_secret() -> None:
    """A plain string would be printed."""
    plain = [
        settings.variable(group, name)
        for group in settings.GROUPS.values()
        for name, field in group.model_fields.items()
        if SECRET_NAME.search(name) and not NO_SECRET.search(name) and not is_secret(field.annotation)
        if field.annotation in {str, bytes} or str in typing.get_args(field.annotation)
    ]

    assert plain == []


def test_every_variable_is_listed_when_settings_are_shown(environment: pytest.MonkeyPatch) -> None:
    """With its value, and whether that is the default; for a secret only whether it is set."""
    environment.setenv("DISCORD_BOT_TOKEN", MARK)
    environment.setenv("INDEXER_CREDENTIAL_KEYS", "a" * 43)
    environment.setenv("USER_BUDGET", "7/3")
    environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"https://me:{MARK}@otel.example.org/v1")

    lines, problems = display.list_settings()

    assert problems == []
    every = [settings.variable(group, name) for group in settings.GROUPS.values() for name in group.model_fields]
    assert [line.variable for line in lines] == every
    shown = {line.variable: str(line) for line in lines}
    assert shown["USER_BUDGET"] == "USER_BUDGET=7/3"
    assert shown["GLOBAL_BUDGET"] == "GLOBAL_BUDGET=50/1  # default"
    assert shown["DISCORD_BOT_TOKEN"] == "DISCORD_BOT_TOKEN=(secret, set)"
    assert shown["OTEL_EXPORTER_OTLP_ENDPOINT"] == "OTEL_EXPORTER_OTLP_ENDPOINT=https://(secret)@otel.example.org/v1"
    assert MARK not in "".join(shown.values())


@pytest.mark.parametrize(
    "program",
    [("-m", "indexer_service", "settings"), ("-m", "indexer_client.cli", "settings")],
    ids=["python -m indexer_service settings", "indexer settings"],
)
def test_settings_command_reports_problems_when_settings_are_invalid(program: tuple[str, ...]) -> None:
    """Problems on standard error, by variable; valid settings are shown as well, and the exit code is 2."""
    environment = {"PATH": "/usr/bin", "DISCORD_BOT_TOKEN": MARK, "WORKERS_THREADS": MARK, "PYTHONPATH": "."}

    ran = subprocess.run(
        [sys.executable, *program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ran.returncode == 2
    assert "DISCORD_BOT_TOKEN=(secret, set)" in ran.stdout.splitlines()
    assert {line.partition(":")[0] for line in ran.stderr.splitlines()} == {
        "WORKERS_THREADS",
        "INDEXER_CREDENTIAL_KEYS",
    }
    assert MARK not in ran.stdout + ran.stderr
