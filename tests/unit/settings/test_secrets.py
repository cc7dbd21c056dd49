"""No secret is ever shown. Secrets are found by their type, so that a new one is tested as well."""

import base64
import pathlib
import re
import subprocess
import sys
import traceback
import types
import typing

import pydantic
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf import hkdf

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
            monkeypatch.delenv(f"{settings.variable(group, name)}_FILE", raising=False)
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


GOOD = {
    "DISCORD_BOT_TOKEN": MARK,
    "DISCORD_CLIENT_SECRET": MARK,
    "REDIS_URL": f"redis://:{MARK}@127.0.0.1",
    "MONGODB_URL": f"mongodb://me:{MARK}@127.0.0.1",
    "INDEXER_CREDENTIAL_KEYS": "b" * 43,
}
"""A valid value of each secret."""


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"], ids=["bare", "newline", "windows"])
def test_every_secret_is_read_from_a_file_when_one_is_named(
    environment: pytest.MonkeyPatch, tmp_path: pathlib.Path, ending: str
) -> None:
    """As Kubernetes mounts them; a newline at the end does not belong to the secret."""
    environment.setenv("DISCORD_CLIENT_ID", "app")
    for variable, value in GOOD.items():
        (tmp_path / variable).write_bytes((value + ending).encode())
        environment.setenv(f"{variable}_FILE", str(tmp_path / variable))

    loaded = settings.load()

    assert {field.id for field in FIELDS} == set(GOOD)
    assert {
        "DISCORD_BOT_TOKEN": loaded.discord.bot_token.get_secret_value(),
        "DISCORD_CLIENT_SECRET": loaded.oauth.client_secret.get_secret_value(),
        "REDIS_URL": loaded.redis.url.get_secret_value(),
        "MONGODB_URL": loaded.mongo.url.get_secret_value(),
        "INDEXER_CREDENTIAL_KEYS": loaded.secrets.credential_keys.get_secret_value(),
    } == GOOD


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param(None, "cannot be read (No such file or directory)", id="missing"),
        pytest.param(b"", "is empty", id="empty"),
        pytest.param(b"\n \n", "is empty", id="blank"),
        pytest.param(b"\xff\xfe", "is not text in UTF-8", id="binary"),
        pytest.param(b"x" * 70_000, "is longer than 65536 bytes", id="long"),
        pytest.param(f"{MARK}\nmore".encode(), "must not contain spaces", id="two lines"),
    ],
)
def test_a_secrets_file_is_refused_by_name_when_it_cannot_be_used(
    environment: pytest.MonkeyPatch, tmp_path: pathlib.Path, content: bytes | None, problem: str
) -> None:
    """Nothing of the content is shown."""
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    environment.setenv("DISCORD_BOT_TOKEN_FILE", str(path))
    environment.setenv("INDEXER_CREDENTIAL_KEYS", "b" * 43)

    with pytest.raises(settings.BadSettings) as bad:
        settings.load()

    (line,) = str(bad.value).splitlines()
    assert line.startswith("DISCORD_BOT_TOKEN: ")
    assert problem in line
    assert MARK not in line


@pytest.mark.parametrize("given", [MARK, f"https://me:{MARK}@host/x", f"/no-folder/{MARK}"])
def test_a_problem_does_not_show_what_the_variable_holds_when_that_may_be_the_secret(
    environment: pytest.MonkeyPatch, given: str
) -> None:
    """In place of the path of its file."""
    environment.setenv("DISCORD_BOT_TOKEN_FILE", given)
    environment.setenv("INDEXER_CREDENTIAL_KEYS", "b" * 43)

    with pytest.raises(settings.BadSettings, match="the file that it names cannot be read") as bad:
        settings.load()

    assert MARK not in str(bad.value)


def test_a_secret_is_refused_when_variable_and_file_are_set(
    environment: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    """Neither wins silently."""
    (tmp_path / "secret").write_text(MARK)
    environment.setenv("DISCORD_BOT_TOKEN", MARK)
    environment.setenv("DISCORD_BOT_TOKEN_FILE", str(tmp_path / "secret"))
    environment.setenv("INDEXER_CREDENTIAL_KEYS", "b" * 43)

    with pytest.raises(settings.BadSettings) as bad:
        settings.load()

    assert str(bad.value) == "DISCORD_BOT_TOKEN: must not be set together with DISCORD_BOT_TOKEN_FILE"


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ("A" * 43, "key 1 is all zeros"),
        (f"{'b' * 43},{'A' * 43}=", "key 2 is all zeros"),
        (f"{'b' * 43}=\n{'c' * 43}=", "key 1 is not base64url"),
        (f"{'b' * 40}!{'b' * 3}", "key 1 is not base64url"),
        (f"{'b' * 43}===", "key 1 is not base64url"),
        ("c2hvcnQ=", "key 1 must have 32 bytes, not 5"),
        ("b" * 64, "key 1 must have 32 bytes, not 48"),
    ],
)
def test_a_weak_key_is_refused_by_name(environment: pytest.MonkeyPatch, keys: str, problem: str) -> None:
    """By its place in the list; the key is not shown."""
    environment.setenv("INDEXER_CREDENTIAL_KEYS", keys)
    environment.setenv("DISCORD_BOT_TOKEN", MARK)

    with pytest.raises(settings.BadSettings) as bad:
        settings.load()

    assert str(bad.value).startswith(f"INDEXER_CREDENTIAL_KEYS: {problem}")
    assert "AAAA" not in str(bad.value)


def test_each_purpose_has_keys_of_its_own_when_keys_are_separate() -> None:
    """Values of either kind stay readable, whichever is written."""
    text = f"{'b' * 43},{'c' * 43}"
    shared, separate = (settings.SecretSettings(credential_keys=text, separate_keys=on) for on in (False, True))

    purposes = ("credentials", "page tokens", "requests")
    firsts = {separate.keys_for(purpose)[0] for purpose in purposes}

    assert len(firsts | set(shared.keys)) == len(purposes) + 2
    assert {shared.keys_for(purpose)[0] for purpose in purposes} == {shared.keys[0]}
    for purpose in purposes:
        assert set(shared.keys_for(purpose)) == set(separate.keys_for(purpose))
        assert len(set(shared.keys_for(purpose))) == 4


def test_the_derived_key_is_hkdf_when_keys_are_separate() -> None:
    """RFC 5869 with SHA-256, as another implementation has it: stored values depend on it."""
    key = b"k" * settings.KEY_BYTES
    secret = settings.SecretSettings(credential_keys=base64.urlsafe_b64encode(key).decode(), separate_keys=True)

    expected = hkdf.HKDF(hashes.SHA256(), 32, salt=None, info=b"discord-channel-indexer credentials").derive(key)

    assert secret.keys_for("credentials")[0] == expected


@pytest.mark.parametrize(
    ("variable", "value", "shown"),
    [
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            f"https://traces.example.org/v1?api_key={MARK}&x={MARK}#top",
            "https://traces.example.org/v1?api_key=(secret)&x=(secret)#top",
        ),
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            f"https://me:{MARK}@traces.example.org/?;token={MARK}",
            "https://(secret)@traces.example.org/?;token=(secret)",
        ),
        (
            "INDEXING_INSTALL_URL",
            "https://discord.com/oauth2/authorize?client_id=7&scope=bot&permissions=1024",
            "https://discord.com/oauth2/authorize?client_id=7&scope=bot&permissions=1024",
        ),
    ],
)
def test_the_query_of_a_url_is_masked_when_settings_are_listed(
    environment: pytest.MonkeyPatch, variable: str, value: str, shown: str
) -> None:
    """Except for what a bot's invitation needs."""
    environment.setenv(variable, value)

    lines, _ = display.list_settings()

    assert f"{variable}={shown}" in map(str, lines)
