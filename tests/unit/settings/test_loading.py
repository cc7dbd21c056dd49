"""Settings from the environment: every problem at once, by name, and no secret shown."""

import base64
import traceback
from typing import Any

import pydantic
import pytest

from indexing import settings

BOT_TOKEN = "the-bot-token"
KEY = base64.urlsafe_b64encode(b"k" * 32).decode()
OTHER_KEY = base64.urlsafe_b64encode(b"o" * 32).decode().rstrip("=")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment with the required secrets and no other setting."""
    for group in settings.GROUPS.values():
        for field in group.model_fields:
            monkeypatch.delenv(settings.variable(group, field), raising=False)
    monkeypatch.setenv("DISCORD_BOT_TOKEN", BOT_TOKEN)
    monkeypatch.setenv("INDEXER_CREDENTIAL_KEYS", KEY)
    return monkeypatch


def problems() -> list[str]:
    """Return the lines with which the environment is refused."""
    with pytest.raises(settings.BadSettings) as bad:
        settings.load()
    return str(bad.value).splitlines()


def test_the_defaults_hold_when_only_secrets_are_set() -> None:
    """The documented budgets and Discord's address."""
    loaded = settings.load()

    assert loaded.discord.api_base == "https://discord.com/api/v10"
    assert (str(loaded.limiter.global_budget), str(loaded.limiter.user_budget)) == ("50/1", "5/5")
    assert (loaded.limiter.global_budget_user_tokens, loaded.limiter.user_budget_bot_reads) == (True, True)
    assert loaded.secrets.keys == (b"k" * 32,)


def test_documented_variables_are_read_when_they_are_set(environment: pytest.MonkeyPatch) -> None:
    """These names are a promise to operators."""
    wanted = {
        "DISCORD_API_BASE": "http://127.0.0.1:8080/api/v10/",
        "DISCORD_BOT_TOKEN": "another",
        "REDIS_URL": "rediss://example.org/3",
        "MONGODB_URL": "mongodb+srv://example.org",
        "MONGODB_DATABASE": "my-index_2",
        "INDEXER_LISTEN": "[::1]:6000",
        "INDEXER_METRICS_PORT": "0",
        "WORKERS_METRICS_PORT": "65535",
        "WORKERS_METRICS_HOST": "::1",
        "GLOBAL_BUDGET": "20/1.5",
        "USER_BUDGET": "3/10",
        "GLOBAL_BUDGET_USER_TOKENS": "0",
        "USER_BUDGET_BOT_READS": "0",
        "INDEXER_CREDENTIAL_KEYS": f"{OTHER_KEY}, {KEY}",
    }
    for name, value in wanted.items():
        environment.setenv(name, value)

    loaded = settings.load()

    assert loaded.discord.api_base == "http://127.0.0.1:8080/api/v10"
    assert loaded.discord.bot_token.get_secret_value() == "another"
    assert loaded.redis.url.get_secret_value() == "rediss://example.org/3"
    assert loaded.mongo.url.get_secret_value() == "mongodb+srv://example.org"
    assert loaded.mongo.database == "my-index_2"
    assert (loaded.service.listen, loaded.service.metrics_port) == ("[::1]:6000", 0)
    assert loaded.workers.metrics_address == ("::1", 65535)
    assert loaded.limiter.global_budget == settings.Rate(capacity=20, window=1.5)
    assert loaded.limiter.user_budget == settings.Rate(capacity=3, window=10.0)
    assert (loaded.limiter.global_budget_user_tokens, loaded.limiter.user_budget_bot_reads) == (False, False)
    assert loaded.secrets.keys == (b"o" * 32, b"k" * 32)


def test_all_problems_are_reported_at_once_when_there_are_many(environment: pytest.MonkeyPatch) -> None:
    """Of every group, each with the name of its variable."""
    environment.delenv("DISCORD_BOT_TOKEN")
    bad = {
        "DISCORD_API_BASE": "http://discord.example.org",
        "REDIS_URL": "http://127.0.0.1",
        "MONGODB_DATABASE": "no spaces",
        "INDEXER_LISTEN": "50051",
        "WORKERS_THREADS": "0",
        "USER_BUDGET": "5 per 5",
        "INDEXING_TURN_WIDTH": "many",
        "LOG_LEVEL": "loud",
    }
    for name, value in bad.items():
        environment.setenv(name, value)

    found = problems()

    assert sorted(line.partition(":")[0] for line in found) == sorted([*bad, "DISCORD_BOT_TOKEN"])
    assert "DISCORD_BOT_TOKEN: must be set" in found
    assert "DISCORD_API_BASE: must be https, or http on a loopback address" in found


@pytest.mark.parametrize(
    "url",
    [
        "http://discord.com/api/v10",
        "http://127.0.0.1.example.org",
        "http://localhost@example.org",
        "ftp://127.0.0.1",
        "127.0.0.1:8080",
        "https://",
        "",
    ],
)
def test_base_url_is_refused_when_tokens_would_travel_in_clear_text(environment: pytest.MonkeyPatch, url: str) -> None:
    """Only https, or http on loopback, and always with a host."""
    environment.setenv("DISCORD_API_BASE", url)

    assert problems()[0].startswith("DISCORD_API_BASE: ")


@pytest.mark.parametrize(
    "url", ["https://discord.com/api/v10", "http://localhost:1", "http://[::1]:8080/api", "http://127.0.0.1"]
)
def test_a_base_url_is_accepted_when_it_is_private(environment: pytest.MonkeyPatch, url: str) -> None:
    """Including the simulator's, on loopback."""
    environment.setenv("DISCORD_API_BASE", url)

    assert settings.load().discord.api_base == url


@pytest.mark.parametrize("text", ["", "50", "0/1", "50/0", "-5/5", "5/5/5", "5 / 5", "50/1e3", "100001/1"])
def test_a_budget_is_refused_when_it_is_no_rate(environment: pytest.MonkeyPatch, text: str) -> None:
    """Calls and seconds, both above 0."""
    environment.setenv("GLOBAL_BUDGET", text)

    assert problems()[0].startswith("GLOBAL_BUDGET: ")


@pytest.mark.parametrize(
    "text", ["", "recency=1", "{", "[" * 100_000, "[]", "1", '{"recency": -1}', '{"recency": NaN}', '{"unknown": 1}']
)
def test_rank_weights_are_refused_when_they_are_no_weights(environment: pytest.MonkeyPatch, text: str) -> None:
    """JSON with known names and nothing below 0; anything else is one problem among the others."""
    environment.setenv("INDEXING_RANK_WEIGHTS", text)

    assert [line.partition(":")[0] for line in problems()] == ["INDEXING_RANK_WEIGHTS"]


def test_rank_weights_are_read_when_they_are_json(environment: pytest.MonkeyPatch) -> None:
    """Weights that are not named keep their defaults."""
    environment.setenv("INDEXING_RANK_WEIGHTS", '{"recency": 0.5}')

    assert settings.load().indexing.rank_weights == settings.RankWeights(recency=0.5)


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param("", id="empty"),
        pytest.param(",", id="no-key-between-commas"),
        pytest.param("c2hvcnQ", id="short"),
        pytest.param(f"{KEY},tooShort", id="second-short"),
        pytest.param("?" * 43, id="not-base64url"),
        pytest.param("ä" * 43, id="not-ascii"),
        pytest.param("a" * 45, id="bad-length"),
    ],
)
def test_keys_are_refused_when_one_is_not_32_bytes(environment: pytest.MonkeyPatch, keys: str) -> None:
    """A short key is weak; the line gives the number of the bad key."""
    environment.setenv("INDEXER_CREDENTIAL_KEYS", keys)

    assert problems()[0].startswith("INDEXER_CREDENTIAL_KEYS: ")


def test_no_secret_is_shown_when_settings_are_printed(environment: pytest.MonkeyPatch) -> None:
    """Neither token nor passwords nor keys, in repr and str."""
    environment.setenv("REDIS_URL", "redis://:hunter2@127.0.0.1")
    environment.setenv("MONGODB_URL", "mongodb://me:hunter3@127.0.0.1")

    loaded = settings.load()

    shown = repr(loaded) + str(loaded) + repr(loaded.secrets) + str(loaded.redis.model_dump())
    assert not [secret for secret in (BOT_TOKEN, KEY, "hunter2", "hunter3") if secret in shown]


def test_no_secret_is_shown_when_settings_are_refused(environment: pytest.MonkeyPatch) -> None:
    """Not even the refused value, neither in the message nor in the traceback."""
    environment.setenv("REDIS_URL", "http://:hunter2@127.0.0.1")
    environment.setenv("MONGODB_URL", "me:hunter3@127.0.0.1")
    environment.setenv("INDEXER_CREDENTIAL_KEYS", "hunter4")

    with pytest.raises(settings.BadSettings) as bad:
        settings.load()

    shown = "".join(traceback.format_exception(bad.value))
    assert len(str(bad.value).splitlines()) == 3
    assert "hunter" not in shown


def test_settings_cannot_be_changed_when_they_are_loaded() -> None:
    """They are frozen."""
    loaded = settings.load()

    with pytest.raises(pydantic.ValidationError):
        loaded.indexing.turn_width = 9  # type: ignore[misc]  # that is the point


def test_plain_http_is_accepted_when_discord_insecure_is_set(environment: pytest.MonkeyPatch) -> None:
    """A simulator in a private network has no certificate; the bot's token is sent there only on request."""
    environment.setenv("DISCORD_API_BASE", "http://simulator:8080/api/v10")
    environment.setenv("DISCORD_INSECURE", "1")

    assert settings.load().discord.api_base == "http://simulator:8080/api/v10"


@pytest.mark.parametrize(
    ("given", "line"),
    [
        pytest.param(["CERT"], "INDEXER_TLS_KEY: must be set, because INDEXER_TLS_CERT is", id="no-key"),
        pytest.param(["KEY"], "INDEXER_TLS_KEY: needs INDEXER_TLS_CERT as well", id="no-certificate"),
        pytest.param(["CLIENT_CA"], "INDEXER_TLS_CLIENT_CA: needs INDEXER_TLS_CERT as well", id="authority-alone"),
    ],
)
def test_half_of_tls_is_refused_when_the_rest_is_missing(
    environment: pytest.MonkeyPatch, given: list[str], line: str
) -> None:
    """An operator who sets one file expects TLS, so the service must not start without it."""
    for name in given:
        environment.setenv(f"INDEXER_TLS_{name}", "/etc/indexer/file")

    assert problems() == [line]


def test_private_key_is_refused_when_it_is_pasted_instead_of_its_path(environment: pytest.MonkeyPatch) -> None:
    """It would be printed with the settings; the refusal does not repeat it."""
    environment.setenv("INDEXER_TLS_KEY", "-----BEGIN PRIVATE KEY-----\nhunter5\n")

    assert problems() == ["INDEXER_TLS_KEY: must be the path of a file, not its content"]


def test_service_is_not_guarded_when_tls_or_tokens_are_missing() -> None:
    """Tokens without TLS can be overheard, and a server certificate does not authenticate callers."""
    tls: dict[str, Any] = {"tls_cert": "/crt", "tls_key": "/key", "tls_client_ca": "/ca"}
    found = [
        settings.ServiceSettings(**given).guarded
        for given in ({}, tls, {"service_tokens_file": "/tokens"}, {"service_tokens_file": "", **tls})
    ]

    assert found == [False] * 4
    assert settings.ServiceSettings(**tls, service_tokens_file="/tokens").guarded


@pytest.mark.parametrize(
    ("variables", "address"),
    [
        pytest.param({}, ("127.0.0.1", 9464), id="loopback"),
        pytest.param({"INDEXER_LISTEN": "[::]:50051"}, ("", 9464), id="all-addresses"),
        pytest.param({"INDEXER_LISTEN": "[::1]:50051"}, ("127.0.0.1", 9464), id="loopback-of-ipv6"),
        pytest.param({"INDEXER_METRICS_HOST": "10.0.0.1"}, ("10.0.0.1", 9464), id="given"),
    ],
)
def test_metrics_are_served_where_calls_are_when_no_address_is_given(
    variables: dict[str, str], address: tuple[str, int], environment: pytest.MonkeyPatch
) -> None:
    """A service that only this machine can reach opens no other port to the network."""
    for name, value in variables.items():
        environment.setenv(name, value)

    assert settings.load().service.metrics_address == address
