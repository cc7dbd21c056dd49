"""Channels that Discord lists without their content (flag 1 << 17): what was known of them is hidden."""

import pytest

from indexing.domain import model, ports
from indexing.usecases import read_channels
from tests import fake_backend, stored, values

pytestmark = pytest.mark.clockwork
GUILD = values.GUILD
PURPOSE = ports.Purpose(model.Lane.REFRESH, None, "test", 1.0)
GOOD = [
    values.channel(1, name="open"),
    values.channel(2, name="staff", overwrites=(values.denied(GUILD),), position=1),
    values.channel(3, name="also open", position=2),
]


def redacted(channel_id: int) -> model.Channel:
    """Return a channel as it comes when its content is withheld: open to everybody, under another name."""
    return values.channel(channel_id, name="___hidden___", flags=model.OBFUSCATED | 16)


async def read(backend: fake_backend.FakeBackend, *rows: model.Channel) -> read_channels.FetchResult | None:
    """Let the guild be read, when Discord lists these channels."""

    async def began() -> None:
        """Do nothing."""

    backend.discord.channels[GUILD] = list(rows)
    backend.clock.advance(1.0)
    guild = (await backend.guilds.get([GUILD]))[GUILD]
    return await backend.channel_fetcher.fetch(read_channels.FetchRequest(guild, backend.clock(), began), PURPOSE)


@pytest.fixture
async def backend() -> fake_backend.FakeBackend:
    """A guild that was read once, in the open."""
    made = fake_backend.make()
    await made.guilds.upsert_guilds([values.user_guild()], {GUILD})
    await read(made, *GOOD)
    return made


async def test_a_known_channel_is_hidden_when_a_listing_has_it_redacted(backend: fake_backend.FakeBackend) -> None:
    """It usually has become private: Discord redacts what our bot may not view. The listing changes the structure."""
    result = await read(backend, GOOD[0], redacted(2), GOOD[2])

    assert result == read_channels.FetchResult([GOOD[0], GOOD[2]], changed=True)
    assert await stored.list_channels(backend.guilds, [GUILD]) == [GOOD[0], GOOD[2]]
    assert {key: reason for key, (_, reason) in backend.guilds.gone.items()} == {2: "HIDDEN_OR_DELETED"}


async def test_all_channels_are_hidden_when_a_second_listing_redacts_them_too(
    backend: fake_backend.FakeBackend,
) -> None:
    """Like a listing that lacks them: most of a guild's channels are hidden only if Discord says so twice."""
    await read(backend, *(redacted(row.channel_id) for row in GOOD))

    assert await stored.list_channels(backend.guilds, [GUILD]) == []
    assert backend.discord.asked(GUILD) == 3


async def test_a_redacted_channel_is_not_stored_when_nothing_was_known_of_it(backend: fake_backend.FakeBackend) -> None:
    """Its name and overwrites are not real: it would be shown to everybody."""
    result = await read(backend, *GOOD, redacted(4))

    assert result == read_channels.FetchResult(GOOD, changed=False)
    assert await stored.list_channels(backend.guilds, [GUILD]) == GOOD


async def test_a_gone_channel_stays_gone_when_a_listing_has_it_redacted(
    backend: fake_backend.FakeBackend,
) -> None:
    """A redacted row does not restore a hidden channel."""
    await read(backend, *GOOD[:2])

    await read(backend, *GOOD[:2], redacted(3))

    assert await stored.list_channels(backend.guilds, [GUILD]) == GOOD[:2]
    assert set(backend.guilds.gone) == {3}


async def test_a_new_guild_has_no_channels_when_all_are_redacted() -> None:
    """And it counts as read."""
    backend = fake_backend.make()
    await backend.guilds.upsert_guilds([values.user_guild()], {GUILD})

    result = await read(backend, redacted(1))

    assert result is not None
    assert result.channels == []
    assert await stored.list_channels(backend.guilds, [GUILD]) == []


async def test_a_channel_counts_again_when_it_is_not_redacted_any_more(backend: fake_backend.FakeBackend) -> None:
    """The next good row takes the place of the old one."""
    await read(backend, redacted(1), *GOOD[1:])
    renamed = values.channel(1, name="renamed")

    await read(backend, renamed, *GOOD[1:])

    assert await stored.list_channels(backend.guilds, [GUILD]) == [renamed, *GOOD[1:]]
