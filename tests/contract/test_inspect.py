"""The inspection command prints one stored guild or user, although the documents are packed."""

import json

import pydantic
import pytest

from indexer_service import inspect
from indexing import settings
from indexing.store import credentials, database, guilds, users
from tests import clockwork, stored, values
from tests.contract import conftest

GUILD = 7


@pytest.fixture
def config(mongodb_url: str, database: database.Database) -> settings.MigrationConfig:
    """Settings for the test's database."""
    mongo = settings.MongoSettings(url=pydantic.SecretStr(mongodb_url), database=database.name)
    return settings.MigrationConfig(mongo, settings.LogSettings())


async def test_a_guild_is_printed_with_its_channels(
    database: database.Database, config: settings.MigrationConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the roles and members that are allowed and denied VIEW_CHANNEL."""
    store = guilds.Guilds(database)
    await store.upsert_guilds([values.user_guild(GUILD, name="one")], {GUILD})
    fence = await store.acquire_lease(GUILD, now=1.0, until=9.0, fetched_before=0.0)
    assert fence is not None
    listed = [values.channel(5, GUILD, overwrites=[values.denied(3)])]
    assert await stored.channels(store, GUILD, fence=fence, channels=listed, now=clockwork.START)

    assert await inspect.inspect(config, "guild", GUILD) == 0

    shown = json.loads(capsys.readouterr().out)
    assert (shown["guild_id"], shown["name"], shown["fetched_at"]) == ("7", "one", clockwork.START)
    assert [(row["channel_id"], row["view_channel"]) for row in shown["channels"]] == [("5", {"roles_deny": ["3"]})]


async def test_a_user_is_printed_without_their_tokens(
    database: database.Database, config: settings.MigrationConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command needs no key."""
    store = users.Users(database, credentials.Vault((conftest.KEY,)))
    await store.put_credential(values.USER, values.credential())
    await stored.guild_list(store, values.USER, [values.user_guild(GUILD)], clockwork.START)

    assert await inspect.inspect(config, "user", values.USER) == 0

    out = capsys.readouterr().out
    assert [row["guild_id"] for row in json.loads(out)["guilds"]] == ["7"]
    assert values.credential().access_token not in out
    assert "credential" not in out


async def test_the_exit_code_is_1_when_nothing_is_stored(
    config: settings.MigrationConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message is one line."""
    assert await inspect.inspect(config, "guild", 12) == 1
    assert capsys.readouterr().err == "no guild 12 is stored in documents\n"
